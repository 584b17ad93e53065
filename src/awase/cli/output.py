"""What a person sees: tables on stdout, progress on stderr."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from awase.clip import Score

PIPED = 200  # columns where nobody watches
_STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def table(title: str, caption: str = "") -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title or None, caption=caption or None, title_justify="left", caption_justify="left", box=box.SIMPLE
    )


def show(*things: Any) -> None:
    """Prints tables and text as wide as they are when piped, as wide as the terminal otherwise.

    Rendered first and written here, because rich would end the process where the reader has gone."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console(width=width(), emoji=False)
    with console.capture() as rendered:
        for thing in things:
            segments = console.render(thing)
            console.print(Segments(Segment(visible(part.text), part.style, part.control) for part in segments), end="")
    print(rendered.get(), end="", flush=True)


def width() -> int:
    """Columns that a table may take."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED


def visible(text: str) -> str:
    """Without the characters that would steer a terminal or turn the direction of writing; ends of lines are kept."""
    return _STEERING.sub("", text)


def print_json(value: Any) -> None:
    """One object on one line, as readable as stdout allows: names of files need not be valid Unicode."""
    line = json.dumps(value, ensure_ascii=False)
    print(line if can_show(line) else json.dumps(value), flush=True)


def can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def print_scores(
    picture: str, scores: Sequence[Score], runs_on: str, first: str = "label", cosines: bool = True
) -> None:
    """cosines: whether they are of the two encoders and so say something; a learned classifier's do not."""
    from rich.markup import escape

    shown = table(escape(picture))
    shown.add_column(first, overflow="fold")
    shown.add_column("probability", justify="right")
    shown.add_column("")
    if cosines:
        shown.add_column("similarity", justify="right")
    block = "█" if can_show("█") else "#"
    for score in scores:
        row = [escape(score.label), f"{100 * score.probability:.1f} %", block * round(20 * score.probability)]
        shown.add_row(*row, *([f"{score.similarity:.3f}"] if cosines else []))
    show(shown, f"[dim]{escape(runs_on)}[/dim]")


def progress() -> Progress:
    """Count, rate and time left, on stderr; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
