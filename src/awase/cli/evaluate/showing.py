"""What an evaluation prints and keeps: one JSON object or a table on stdout, notices on stderr, a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from awase.cli.options import limits_from, notice, open_clip
from awase.cli.output import print_json, progress, show, table

if TYPE_CHECKING:
    from awase.clip import Clip
    from awase.evaluation.backbones import Backbone
    from awase.evaluation.results import Result
    from awase.evaluation.runs import Run


class Move(Protocol):
    """Moves a bar: how much is done, of how much, and what is being done."""

    def __call__(self, done: int, total: int, doing: str = ...) -> None: ...


NOTHING: Mapping[str, Any] = MappingProxyType({})
MOST_GROUPS = 12  # figures of single groups of pictures that a table on the terminal has


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, metavar="RUN", help="folder for results.json, tables, charts, report.html")
    group.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def open_model(given: argparse.Namespace, name: str) -> Clip | Backbone:
    """A model or a backbone by its name, run as the flags say; an adapter's folder is the bundled model with it."""
    from awase.adapter_files import DESCRIPTION
    from awase.evaluation.backbones import is_backbone, open_backbone

    if is_backbone(name):
        return open_backbone(name, given.threads, limits_from(given))
    adapted = (Path(name) / DESCRIPTION).is_file()
    which = {"model": None, "adapter": [name]} if adapted else {"model": name, "adapter": []}
    return open_clip(argparse.Namespace(**vars(given) | which))


def run_of(given: argparse.Namespace, model: Clip | Backbone) -> Run | None:
    """The folder of --out, opened before anything is evaluated: it may not take the results of this model."""
    from awase.evaluation.provenance import stamp_of
    from awase.evaluation.runs import open_run

    return open_run(given.out, stamp_of(model)) if given.out else None


def deliver(
    given: argparse.Namespace,
    model: Clip | Backbone,
    run: Run | None,
    result: Result,
    also: Mapping[str, Any] = NOTHING,
) -> int:
    """Prints a result, keeps it in a run, and returns the exit code: 1 where pictures could not be read.

    also: what the JSON object holds besides."""
    from awase.evaluation.runs import key_of, plain

    for note in result.notes:
        notice(note)
    if given.json:
        print_json(plain(result.to_json() | dict(also)))
    else:
        show_result(result, model.runs_on)
    if run:
        key = key_of(result)
        if run.replaces(key, result):
            notice(
                f"{run.folder}: this replaces a former result of other data or words, {key}; another --out keeps both"
            )
        run.add(key, result)
        notice(f"report: {run.finish()}")
    return 1 if has_unreadable(result) else 0


def has_unreadable(result: Result) -> bool:
    """Whether pictures that the data name are damaged or not there."""
    from awase.datasets.assembling import ABSENT
    from awase.evaluation.vectors import UNREADABLE

    def tells(note: str) -> bool:
        return note.startswith(UNREADABLE) or (note.startswith("left out: ") and ABSENT in note)

    return any(map(tells, result.notes))


def show_result(result: Result, runs_on: str) -> None:
    from rich.markup import escape

    from awase.evaluation.fairness import GROUP
    from awase.evaluation.markup import counted
    from awase.evaluation.words import PART, task_name, variant_of, word_for, written, written_interval

    n = counted(result.n, "item")
    said = f"{task_name(result.task)}: {result.data}, {result.split}, {variant_of(result)}, {n}"
    shown = table("")
    shown.add_column("")
    for column in ("value", "95 % interval", "n"):
        shown.add_column(column, justify="right")
    groups = [name for name in result.figures if PART in name and GROUP in name]
    left_out = set(groups if len(groups) > MOST_GROUPS else ())
    for name, figure in result.figures.items():
        if name in left_out:
            continue
        word = word_for(name)
        value, interval = written(figure.value, word.share), written_interval(figure.interval, word.share)
        shown.add_row(escape(word.name), value, interval or "–", f"{figure.n:,}")
    more = f"{len(left_out)} figures of single groups stand in --json and --out. " if left_out else ""
    show(escape(said), shown, f"[dim]{more}{escape(runs_on)}[/dim]")


@contextmanager
def watching(what: str) -> Iterator[Move]:
    """A bar on stderr, and what moves it."""
    with progress() as bar:
        task = bar.add_task(what, total=None, rate="")

        def move(done: int, total: int, doing: str = what) -> None:
            bar.update(task, completed=done, total=total, description=doing)

        yield move
