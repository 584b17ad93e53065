"""Small pictures in a terminal: by its own graphics where `textual-image` (awase[preview]) knows them, kitty's or sixel
as xterm, iTerm2, WezTerm and others have it; else two pixels a character, in colours, which any terminal shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from awase.cli.output import width

if TYPE_CHECKING:
    from PIL import Image

CELLS, LINES = 24, 12  # of one picture, in characters; two pixels stand above each other in one


def show_pictures(names: Sequence[str], thumbnails: Sequence[bytes | None]) -> None:
    """Draws pictures in rows, each over its name, which is printable; one without a thumbnail is only named."""
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    console = Console(width=width(), emoji=False)
    per_row = max(1, width() // (CELLS + 2))
    drawn = [
        Group(_drawn(picture), Text(name, no_wrap=True, overflow="ellipsis"))
        for name, picture in zip(names, thumbnails, strict=True)
    ]
    for start in range(0, len(drawn), per_row):
        row = Table.grid(padding=(0, 2, 1, 0))
        for _ in range(per_row):
            row.add_column(width=CELLS)
        row.add_row(*drawn[start : start + per_row])
        console.print(row)


def _drawn(jpeg: bytes | None) -> Any:
    from PIL import Image
    from rich.text import Text

    if jpeg is None:
        return Text("(no thumbnail)", style="dim")
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
        picture = opened.convert("RGB")
    scale = min(CELLS / picture.width, 2 * LINES / picture.height)
    columns, lines = max(1, round(picture.width * scale)), max(1, round(picture.height * scale / 2))
    if (graphics := _graphics()) is not None:
        return graphics(picture, width=columns, height=lines)
    return _half_blocks(picture.resize((columns, 2 * lines)))


@cache
def _graphics() -> Any:
    """What draws real pictures in this terminal, or None: its own fallback fails where a terminal tells no sizes."""
    try:
        chosen = import_module("textual_image.renderable").Image  # asks the terminal what it can
    except ImportError:
        return None
    return chosen if chosen.__module__.endswith((".tgp", ".sixel")) else None


def _half_blocks(picture: Image.Image) -> Any:
    """Each character is two pixels: its upper half in the colour of the one, its ground in that of the other."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    text = Text()
    pixels = picture.load()
    assert pixels is not None
    for y in range(0, picture.height, 2):
        for x in range(picture.width):
            above, below = (Color.from_rgb(*pixels[x, y + half][:3]) for half in (0, 1))  # type: ignore[index]
            text.append("▀", Style(color=above, bgcolor=below))
        text.append("\n")
    text.right_crop(1)
    return text
