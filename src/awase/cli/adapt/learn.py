"""awase adapt learn: from a data set to an adapter, and what it cost elsewhere."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
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
    from awase.learning.adaptation.retention import Panel, Probe
    from awase.learning.adaptation.task import Pairs, Task


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("learn", help="learn from a data set (the word may be left out)")
    add_data_flags(parser)
    parser.add_argument(
        "--method",
        default="auto",
        metavar="M",
        help="auto (default), linear-probe, clap, zs-lp, lp++, gaussian, gaussian-features, cache, cache-trained, "
        "prompt, deep-prompt, lora, inversion, full",
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

    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        raise UsageError(f"{given.out} already exists and is not empty; name a new folder")
    clip, (task, target), probes = open_clip(given), _task(given), _probes(given)
    folder = given.out.with_name(f".{given.out.name}.training")  # where an interrupted run goes on
    with watching("learning") as move:
        choice = _learned(given, clip, task, move, folder)
        panel = _panel(given, clip, task, target, probes, choice, move)
    write_adapter(choice.adapter, given.out)
    shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        _print(given, choice, panel)
    else:
        _show(given, choice, panel)
    return 0


def _task(given: argparse.Namespace) -> tuple[Task | Pairs, Probe | None]:
    """What is learned from, and what before and after are measured on: validation pictures, with --shots those that are
    not drawn."""
    from awase.encoding.pictures import find_pictures
    from awase.learning.adaptation.task import Pairs, classes, not_drawn

    if given.word:
        from awase.learning.adaptation.inversion import concept

        pictures = find_pictures([given.data])
        if not pictures:
            raise DataError(f"{given.data} holds no pictures of the thing that {given.word} shall mean")
        return concept(pictures, given.word, given.seed), None
    if given.captions or not holds_classes(given):
        pairs = Pairs(*open_captioned_splits(given), given.seed)
        return pairs, pairs.validation
    train, validation = open_labelled_splits(given)
    template = [given.template] if given.template else None
    task = classes(train, validation, given.shots, given.seed, given.language, template)
    return task, not_drawn(validation, given.seed) if validation and given.shots else validation


def _learned(given: argparse.Namespace, clip: Clip, task: Task | Pairs, move: Move, folder: Path) -> Choice:
    from awase.learning.adaptation.choose import Choice, choose
    from awase.learning.adaptation.methods import FOR_SENTENCES, method
    from awase.learning.adaptation.task import Pairs

    name = "inversion" if given.word and given.method == "auto" else given.method
    if given.coarse and name != "inversion":
        raise UsageError("--coarse goes with --method inversion or --word")
    if name == "auto":
        return choose(clip, task, given.open, move, folder)
    if isinstance(task, Pairs) and name not in FOR_SENTENCES and not given.word:
        raise UsageError(
            f"{name} learns classes, and here are sentences; {' and '.join(FOR_SENTENCES)} learn from those"
        )
    made = method(name, **({"coarse": given.coarse} if given.coarse else {}))
    return Choice(name, "as asked for", (), made.fit(clip, task, move, folder))  # type: ignore[arg-type] # as checked


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

    if target is None:
        notice("there are no validation pictures to see before and after on")
        return None
    probes = named or (found_beside(given.data) if choice.adapter.changes else [])
    move(0, 1, "before and after")
    train = task.train if isinstance(task, Task) else None
    panel = retention(clip, choice.adapter.on(clip), target, probes, train)
    if given.curve and choice.adapter.changes:
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


def _print(given: argparse.Namespace, choice: Choice, panel: Panel | None) -> None:
    from awase.evaluation.runs import plain

    told = {"adapter": str(given.out), "method": choice.name, "reason": choice.reason}
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
        _show_panel(panel)
    show(escape(f"{choice.name}: {choice.reason}"), escape(f"written: {given.out}; use it with --adapter {given.out}"))


def _show_panel(panel: Panel) -> None:
    from rich.markup import escape

    shown = table("before and after")
    for column in ("", "set", "measure", "before", "after", "change", "95 % interval", "n"):
        shown.add_column(column, justify="left" if column in ("", "set", "measure") else "right")
    for row in panel.rows:
        between = "" if row.interval is None else f"{100 * row.interval[0]:+.1f} to {100 * row.interval[1]:+.1f}"
        values = (f"{100 * row.before:.1f}", f"{100 * row.after:.1f}", f"{100 * row.difference:+.1f}", between)
        shown.add_row(row.where, escape(row.data), row.measure.replace("_", " "), *values, f"{row.n:,}")
    show(shown)
    for step in panel.curve:
        show(f"alpha {step.alpha:g}: target {100 * step.target:.1f} %, kept elsewhere {100 * step.kept:.1f} %")
    if safe := panel.safe_step:
        show(f"the largest step that keeps 98 %: alpha {safe.alpha:g} (awase adapt merge DIR --alpha {safe.alpha:g})")
    for note in panel.notes:
        notice(note)
    show(f"[{panel.light}]●[/{panel.light}] {escape(panel.reason)}")
