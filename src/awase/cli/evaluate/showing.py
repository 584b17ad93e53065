"""What an evaluation prints and keeps: one JSON object or a table on stdout, notices on stderr, a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from awase.cli.options import notice
from awase.cli.output import print_json, progress, show, table

if TYPE_CHECKING:
    from awase.clip import Clip
    from awase.evaluation.results import Result
    from awase.evaluation.runs import Run


class Move(Protocol):
    """Moves a bar: how much is done, of how much, and what is being done."""

    def __call__(self, done: int, total: int, doing: str = ...) -> None: ...


NOTHING: Mapping[str, Any] = MappingProxyType({})


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, metavar="RUN", help="folder for results.json, tables, charts, report.html")
    group.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run_of(given: argparse.Namespace, clip: Clip) -> Run | None:
    """The folder of --out, opened before anything is evaluated: it may not take the results of this model."""
    from awase.evaluation.runs import open_run

    return open_run(given.out, clip.stamp()) if given.out else None


def deliver(
    given: argparse.Namespace, clip: Clip, run: Run | None, result: Result, also: Mapping[str, Any] = NOTHING
) -> int:
    """Prints a result, keeps it in a run, and returns the exit code: 1 where pictures could not be read.

    also: what the JSON object holds besides."""
    from awase.evaluation.runs import key_of, plain

    for note in result.notes:
        notice(note)
    if run:
        run.add(key_of(result), result)
        notice(f"report: {run.finish()}")
    if given.json:
        print_json(plain(result.to_json() | dict(also)))
    else:
        show_result(result, clip.runs_on)
    return 1 if has_unreadable(result) else 0


def has_unreadable(result: Result) -> bool:
    from awase.evaluation.vectors import UNREADABLE

    return any(note.startswith(UNREADABLE) for note in result.notes)


def show_result(result: Result, runs_on: str) -> None:
    from rich.markup import escape

    from awase.evaluation.words import task_name, variant_of, word_for, written, written_interval

    said = f"{task_name(result.task)}: {result.data}, {result.split}, {variant_of(result)}, {result.n:,} items"
    shown = table(escape(said))
    shown.add_column("")
    for column in ("value", "95 % interval", "n"):
        shown.add_column(column, justify="right")
    for name, figure in result.figures.items():
        word = word_for(name)
        value, interval = written(figure.value, word.share), written_interval(figure.interval, word.share)
        shown.add_row(escape(word.name), value, interval or "–", f"{figure.n:,}")
    show(shown, f"[dim]{escape(runs_on)}[/dim]")


@contextmanager
def watching(what: str) -> Iterator[Move]:
    """A bar on stderr, and what moves it."""
    with progress() as bar:
        task = bar.add_task(what, total=None, rate="")

        def move(done: int, total: int, doing: str = what) -> None:
            bar.update(task, completed=done, total=total, description=doing)

        yield move
