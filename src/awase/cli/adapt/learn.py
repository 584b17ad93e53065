"""awase adapt learn: from a data set to an adapter, and what it cost elsewhere."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.adapt.splits import add_data_flags, holds_classes, open_captioned_splits, open_labelled_splits
from awase.cli.evaluate.showing import Move, watching
from awase.cli.options import add_model_flags, add_picture_flags, notice, open_clip, positive
from awase.cli.output import print_json, show, table
from awase.errors import DataError, UsageError

if TYPE_CHECKING:
    from awase.clip import Clip
    from awase.learning.adaptation.choose import Choice
    from awase.learning.adaptation.method import Method
    from awase.learning.adaptation.retention import Panel, Probe
    from awase.learning.adaptation.task import Pairs, Task


CHANGE_WEIGHTS = ("lora", "full")


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("learn", help="learn from a data set (the word may be left out)")
    add_data_flags(parser)
    parser.add_argument(
        "--method",
        default="auto",
        metavar="M",
        help="auto (default), zero-shot, cache, cache-trained, clap, zs-lp, lp++, gaussian, gaussian-features, "
        "linear-probe, anchored-probe, prompt, deep-prompt, lora, inversion, full",
    )
    parser.add_argument("--shots", type=positive, metavar="K", help="only K pictures of each class, drawn")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of all that is drawn (0)")
    parser.add_argument("--open", action="store_true", help="auto: names that are not learned have to work afterwards")
    parser.add_argument("--captions", metavar="C", help="learn from sentences, of this column")
    parser.add_argument("--word", metavar="W", help='a new word for the one thing that DATA shows, such as "<mug>"')
    parser.add_argument("--coarse", metavar="W", help="inversion: an existing word for the kind of thing")
    parser.add_argument(
        "--probe",
        action="append",
        metavar="DATA",
        help="set that shows what was forgotten; may repeat (default: up to three that lie beside DATA)",
    )
    parser.add_argument("--curve", action="store_true", help="also measure steps between the old and the new weights")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the adapter, a new one")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.adapter_files import write_adapter
    from awase.learning.adaptation.methods import method

    if not given.out.name:
        raise UsageError(f"--out {given.out} is the folder that you are in; name a new one")
    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        raise UsageError(f"{given.out} already exists and is not empty; name a new folder")
    name = _name(given)
    made = None if name == "auto" else method(name, **({"coarse": given.coarse} if given.coarse else {}))
    clip, (task, target), probes = open_clip(given), _task(given, name), _probes(given)
    with watching("learning") as move:
        with _training_folder(given.out) as folder:
            choice = _learned(given, clip, task, made, move, folder)
            write_adapter(choice.adapter, given.out)
        try:
            panel = _panel(given, clip, task, target, probes, choice, move)
        except KeyboardInterrupt as stopped:
            raise KeyboardInterrupt(
                f"{given.out} is written and whole; what it cost elsewhere was not measured to the end"
            ) from stopped
    if given.json:
        _print(given, choice, panel, sorted(task.unreadable))
    else:
        _show(given, choice, panel)
    return 1 if task.unreadable else 0


def _name(given: argparse.Namespace) -> str:
    """The method's name, where it goes with the other flags."""
    name = str(given.method)
    if given.word is not None and name not in ("auto", "inversion"):
        raise UsageError(f"--word is learned by inversion, and --method {name} was given; leave one of the two out")
    name = "inversion" if given.word is not None else name
    if given.coarse and name != "inversion":
        raise UsageError("--coarse goes with --method inversion or --word")
    if given.open and name != "auto":
        raise UsageError(f"--open tells auto what to choose among, and it is {name} that learns; leave --open out")
    if given.curve and name not in ("auto", *CHANGE_WEIGHTS):
        raise UsageError(
            f"--curve goes back from weights that changed, and {name} changes none; leave it out, or take "
            f"{' or '.join(CHANGE_WEIGHTS)}"
        )
    return name


@contextmanager
def _training_folder(out: Path) -> Iterator[Path]:
    """Where an interrupted run goes on; gone when all is done. Made first, so that a disk that refuses is told at
    once."""
    folder = out.with_name(f".{out.name}.training")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"{out} cannot be written ({problem.strerror}: {problem.filename}); name another") from problem
    try:
        yield folder
    except BaseException:
        with suppress(OSError):  # it holds what was done
            folder.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _task(given: argparse.Namespace, name: str) -> tuple[Task | Pairs, Probe | None]:
    """What is learned from, and what before and after are measured on: validation pictures, with --shots those that are
    not drawn."""
    from awase.encoding.pictures import find_pictures
    from awase.learning.adaptation.methods import FOR_SENTENCES
    from awase.learning.adaptation.task import Pairs, classes, not_drawn

    if given.word is not None:
        from awase.learning.adaptation.inversion import concept

        pictures = find_pictures([given.data])
        if not pictures:
            raise DataError(f"{given.data} holds no pictures of the thing that {given.word} shall mean")
        return concept(pictures, given.word, given.seed), None
    if given.captions or not holds_classes(given):
        pairs = Pairs(*open_captioned_splits(given), given.seed)
        if given.shots:
            raise UsageError("--shots draws pictures of each class, and sentences are learned here; leave --shots out")
        if name != "auto" and name not in FOR_SENTENCES:
            raise UsageError(
                f"{name} learns classes, and here are sentences; {' and '.join(FOR_SENTENCES)} learn from those"
            )
        return pairs, pairs.validation
    train, validation = open_labelled_splits(given)
    template = [given.template] if given.template else None
    task = classes(train, validation, given.shots, given.seed, given.language, template)
    return task, not_drawn(validation, given.seed) if validation and given.shots else validation


def _learned(
    given: argparse.Namespace, clip: Clip, task: Task | Pairs, made: Method | None, move: Move, folder: Path
) -> Choice:
    from awase.learning.adaptation.choose import Choice, choose

    if made is None:
        return choose(clip, task, given.open, move, folder)
    adapter = made.fit(clip, task, move, folder / made.name)  # type: ignore[arg-type] # `_task` has looked
    return Choice(made.name, "as asked for", (), adapter)


def _panel(
    given: argparse.Namespace,
    clip: Clip,
    task: Task | Pairs,
    target: Probe | None,
    named: list[Probe],
    choice: Choice,
    move: Move,
) -> Panel | None:
    from awase.learning.adaptation.retention import curve, found_beside, retention
    from awase.learning.adaptation.task import Task

    changes = choice.adapter.changes
    towers_learned = bool(changes.low_rank or changes.weights)
    curved = given.curve and target is not None and towers_learned and not changes.words
    if given.curve and not curved:
        notice("there is no curve: it needs validation pictures, and weights that changed (lora, full)")
    if target is None and not towers_learned:
        notice("no validation pictures to see before and after on; the towers did not learn and are as they were")
        return None
    adapted, train = choice.adapter.on(clip), task.train if isinstance(task, Task) else None
    probes = named or (found_beside(given.data) if changes else [])
    panel = retention(clip, adapted, target, probes, train, move)
    if curved and target is not None:
        panel = replace(panel, curve=tuple(curve(clip, choice.adapter, target, probes, move)))
    return panel


def _probes(given: argparse.Namespace) -> list[Probe]:
    """Those that are named; a wrong name is told before any work is done."""
    from awase.datasets import find_sets
    from awase.learning.adaptation.retention import open_probe

    probes = []
    for place in given.probe or ():
        opened = [probe for found in find_sets(place)[:1] if (probe := open_probe(found))]
        if not opened:
            raise DataError(f"{place} holds no data set to probe with")
        probes += opened
    return probes


# ---- what is told ----------------------------------------------------------------------------------------------------


def _print(given: argparse.Namespace, choice: Choice, panel: Panel | None, left_out: list[str]) -> None:
    from awase.evaluation.runs import plain

    told = {"adapter": str(given.out), "method": choice.name, "reason": choice.reason, "left_out": left_out}
    tried = [vars(one) for one in choice.tried]
    panel_told = panel and panel.to_json()
    print_json(plain({**told, "tried": tried, "record": choice.adapter.record, "retention": panel_told}))


def _show(given: argparse.Namespace, choice: Choice, panel: Panel | None) -> None:
    from rich.markup import escape

    if choice.tried:
        shown = table("tried on pictures that were held out")
        for column in ("method", "right", "95 % interval", "to zero-shot", "n"):
            shown.add_column(column, justify="left" if column == "method" else "right")
        for one in choice.tried:
            low, high = one.interval
            between = f"{100 * low:.1f} to {100 * high:.1f} %"
            shown.add_row(one.name, f"{100 * one.accuracy:.1f} %", between, f"{100 * one.gain:+.1f}", str(one.n))
        show(shown)
    if panel:
        _show_panel(panel, given.out)
    flags = " ".join(f"--adapter {folder}" for folder in (*given.adapter, given.out))
    show(escape(f"{choice.name}: {choice.reason}"), escape(f"written: {given.out}; use it with {flags}"))


def _show_panel(panel: Panel, out: Path) -> None:
    from rich.markup import escape

    shown = table("before and after, %")
    shown.add_column("")
    for column in ("before", "after", "change", "95 % interval", "n"):
        shown.add_column(column, justify="right")
    for (where, data), rows in groupby(panel.rows, key=lambda row: (row.where, row.data)):
        shown.add_row(escape(f"{where}: {data}"))
        for row in rows:
            values = (f"{100 * row.before:.1f}", f"{100 * row.after:.1f}", f"{100 * row.difference:+.1f}")
            low, high = row.interval
            between = f"{100 * low:+.1f} to {100 * high:+.1f}"
            shown.add_row(f"  {row.measure.replace('_', ' ')}", *values, between, f"{row.n:,}")
    show(shown)
    for step in panel.curve:
        show(f"alpha {step.alpha:g}: target {100 * step.target:.1f} %, kept elsewhere {100 * step.kept:.1f} %")
    if safe := panel.safe_step:
        how = f" (awase adapt merge {out} --alpha {safe.alpha:g} --out MODEL)" if 0 < safe.alpha < 1 else ""
        show(escape(f"the largest step that keeps 98 %: alpha {safe.alpha:g}{how}"))
    for note in panel.notes:
        notice(note)
    show(f"[{panel.light}]● {panel.light}[/{panel.light}]: {escape(panel.reason)}")
