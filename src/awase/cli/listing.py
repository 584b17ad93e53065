"""What a person sees of an answer: a table of the relevant, one of the weak, and the pictures themselves if asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.output import can_show, show, table, width
from awase.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from awase.tasks.search.answer import Answer, ClauseScore, Hit
    from awase.tasks.search.query import Clause
    from awase.tasks.search.store import Store

BAR, HEADING = 8, 14  # characters
NUMBERS, DATE, NAMES = 26, 13, 28  # columns that number and score, the date, and at least the names of pictures take
PERHAPS, NOTHING = "weak: perhaps not what was asked for", "nothing relevant; nearest to it:"
WIDE = 100  # columns from which there is room for dates


def show_answer(answer: Answer, store: Store, runs_on: str, preview: bool) -> None:
    """Prints a page of hits."""
    from rich.text import Text

    from awase.encoding.finding import printable

    if preview and not sys.stdout.isatty():
        raise UsageError("--preview draws in a terminal, and the output goes elsewhere; --json or --files suit a pipe")
    numbers = {hit.id: number for number, hit in enumerate(answer, answer.before + 1)}
    relevant = [hit for hit in answer if hit.relevance == "relevant"]
    weak = [hit for hit in answer if hit.relevance == "weak"]
    for hits, title in ((relevant, ""), (weak, PERHAPS if answer.relevant else NOTHING)):
        if hits:
            show(_table(hits, numbers, title))
        if hits and preview:
            from awase.cli.previews import show_pictures

            names = [f"{numbers[hit.id]}  {printable(os.path.basename(hit.path))}" for hit in hits]
            show_pictures(names, store.thumbnails([hit.id for hit in hits]))
    for line in _closing(answer, runs_on):
        show(Text(line, style="dim"))


def _table(hits: Sequence[Hit], numbers: dict[int, int], title: str) -> Table:
    from rich.markup import escape

    weak = bool(title)
    headings = [_heading(its.clause) for its in hits[0].clauses]
    apart = len(headings) > 1 and _is_room_for(headings)
    shown = table(title)
    shown.show_header = not weak or apart
    shown.add_column("#", justify="right", style="dim")
    shown.add_column("score", justify="left", no_wrap=True)
    for heading in headings if apart else []:
        shown.add_column(escape(heading), justify="right", style="dim")
    shown.add_column("picture", overflow="fold", ratio=1)
    if width() >= WIDE:
        shown.add_column("date", style="dim", no_wrap=True)
    for hit in hits:
        parts = [f"{100 * _fulfilled(its):.0f} %" for its in hit.clauses] if apart else []
        dates = [hit.row.moment[:10]] if width() >= WIDE else []
        shown.add_row(str(numbers[hit.id]), _score(hit.score, weak), *parts, _picture(hit), *dates)
    return shown


def _is_room_for(headings: Sequence[str]) -> bool:
    """Whether a column for each clause leaves room for the names of pictures."""
    from rich.cells import cell_len

    taken = NUMBERS + (DATE if width() >= WIDE else 0) + sum(cell_len(heading) + 3 for heading in headings)
    return width() - taken >= NAMES


def _fulfilled(its: ClauseScore) -> float:
    """That the picture is as the heading says: under "without people", that there are none."""
    return 1 - its.probability if its.clause.negative else its.probability


def _score(score: float, weak: bool) -> str:
    block, empty = ("█", "·") if can_show("█·") else ("#", " ")
    full = round(BAR * score)
    colour = "yellow" if weak else "green"
    return f"{100 * score:3.0f} [{colour}]{block * full}[/{colour}][dim]{empty * (BAR - full)}[/dim]"


def _picture(hit: Hit) -> str:
    """The name, a link, with its folder before it (below it where there is little room), and how many are alike."""
    from rich.markup import escape

    from awase.encoding.finding import printable

    folder, name = os.path.split(printable(_near(hit.path)))
    copies = f" [cyan]+{len(hit.duplicates)} alike[/cyan]" if hit.duplicates else ""
    link = Path(hit.path).as_uri() if hit.path.isprintable() else ""
    linked = (f"[link={link}]{escape(name)}[/link]" if link else escape(name)) + copies
    if not folder:
        return linked
    return (
        f"[dim]{escape(folder + os.sep)}[/dim]{linked}" if width() >= WIDE else f"{linked}\n[dim]{escape(folder)}[/dim]"
    )


def _near(path: str) -> str:
    """A path from here or from home, where that is shorter."""
    for start, sign in ((os.getcwd(), ""), (os.path.expanduser("~"), "~" + os.sep)):
        if path.startswith(os.path.join(start, "")) and len(start) > 1:
            return sign + path[len(start) + 1 :]
    return path


def _heading(clause: Clause) -> str:
    text = os.path.basename(clause.text) if clause.kind == "picture" else clause.text
    return "without " * clause.negative + (text if len(text) <= HEADING else text[: HEADING - 1] + "…")


def _closing(answer: Answer, runs_on: str) -> list[str]:
    several = len(answer.query.clauses) > 1 or answer.query.filters
    read = [f"read as {answer.query}"] if several else []
    if not answer.among:
        return [*read, "no picture of the library passes these filters"]
    count = f"{answer.relevant:,} relevant among {answer.among:,} pictures"
    more = "; --cursor next shows more" if answer.cursor else ""
    return [*read, f"{count}{more}", runs_on]
