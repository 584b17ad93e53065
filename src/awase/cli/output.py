"""What a person sees: tables on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from awase.clip import Score


def table(title: str, caption: str = "") -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title or None, caption=caption or None, title_justify="left", caption_justify="left", box=box.SIMPLE
    )


def show(*things: Any) -> None:
    """Prints tables and text as wide as they are when piped, as wide as the terminal otherwise."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    for thing in things:
        console.print(thing)


def print_json(value: Any) -> None:
    """One object on one line, as readable as stdout allows: names of files need not be valid Unicode."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value)
    print(line, flush=True)


def print_scores(picture: str, scores: Sequence[Score], runs_on: str, first: str = "label") -> None:
    from rich.markup import escape

    shown = table(escape(picture))
    shown.add_column(first, overflow="fold")
    shown.add_column("probability", justify="right")
    shown.add_column("")
    shown.add_column("similarity", justify="right")
    for score in scores:
        bar = "█" * round(20 * score.probability)
        shown.add_row(escape(score.label), f"{100 * score.probability:.1f} %", bar, f"{score.similarity:.3f}")
    show(shown, f"[dim]{escape(runs_on)}[/dim]")


def progress() -> Progress:
    """Count, rate and time left, on stderr; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
