"""Every method beside the others: few-shot accuracy over numbers of shots and draws, as a table and a chart.

A cell is one method, number of shots and seed. It is kept when it is done, so that a run that was killed goes on. What
is measured on is a test split, or else validation pictures that no draw has for choosing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from awase import __version__
from awase.clip import Clip
from awase.datasets.hashing import data_hash
from awase.datasets.labelled import Labelled
from awase.datasets.splits import kind_of
from awase.errors import AwaseError, DataError, UsageError
from awase.evaluation.plots import Mark, Row, axis_for, rows_chart, standalone
from awase.evaluation.probes import FEW_FOR_VALIDATION, draw
from awase.evaluation.runs import as_csv, plain, slug, write, write_json
from awase.evaluation.zero_shot import zero_shot
from awase.learning.adaptation.method import Report, silent
from awase.learning.adaptation.methods import method
from awase.learning.adaptation.task import Task, classes, few, not_drawn

SCHEMA = 1
FAILED = "failed: "
LOOKS = ("s0", "s1", "win", "loss", "tie")  # colours of the chart, one for each number of shots


@dataclass(frozen=True)
class Plan:
    """What is compared: names of methods, numbers of pictures of each class, and how many draws of them."""

    methods: tuple[str, ...]
    shots: tuple[int, ...] = (1, 4, 16)
    seeds: int = 3
    language: str | None = None
    templates: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.methods or not self.shots or min(self.shots) < 1 or self.seeds < 1:
            raise UsageError(f"a method, a number of shots from 1 and a seed are the least to compare: {self}")
        for name in self.methods:
            method(name)

    @property
    def cells(self) -> int:
        """How many fits that is."""
        return len(self.methods) * len(self.shots) * self.seeds


@dataclass(frozen=True)
class Cell:
    """One method on one draw. accuracy: of n pictures, None where there is none; why: the method does not apply, or
    FAILED and how. seconds: of fitting."""

    method: str
    shots: int
    seed: int
    accuracy: float | None
    n: int
    seconds: float
    why: str = ""


def compare_methods(
    clip: Clip,
    train: Labelled,
    validation: Labelled,
    plan: Plan,
    folder: Path,
    test: Labelled | None = None,
    report: Report = silent,
) -> list[Cell]:
    """Fits and measures every cell that `folder` does not hold yet, and writes table.csv, comparison.json, chart.svg.

    Raises UsageError where the folder holds a comparison of other data or another model, or `test` is no test split."""
    if test is not None and (kind_of(test.split) in ("train", "val") or test.split in (train.split, validation.split)):
        raise UsageError(
            f"{test.name}: the split {test.split!r} is for learning or choosing, so figures on it flatter; measure on "
            "a test split, or name none: then on validation pictures that no draw has"
        )
    _open(folder, clip, plan, [data for data in (train, validation, test) if data is not None])
    cells: list[Cell] = []
    for seed in range(plan.seeds):
        measured = test if test is not None else not_drawn(validation, seed)
        if measured is None:
            raise DataError(
                f"{validation.name}: a draw takes all validation pictures, at most {FEW_FOR_VALIDATION} of each class, "
                "to choose on, and leaves none to measure on; measure on a test split"
            )
        for name, (shots, task) in product(plan.methods, _tasks(train, validation, plan, seed)):
            report(len(cells), plan.cells, f"{name}, {shots} shots, seed {seed}")
            cells.append(_cell(clip, task, name, shots, measured, folder))
    rows = table(cells)
    write(folder / "table.csv", as_csv(rows))
    said = {"data": train.name, "measured_on": test.split if test else f"{validation.split}, what is not drawn"}
    write_json(folder / "comparison.json", {"schema": SCHEMA, **said, "rows": rows, "cells": [vars(c) for c in cells]})
    write(folder / "chart.svg", standalone(chart(rows, chance=1 / len(train.keys))))
    return cells


def table(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A row for each method and number of shots, the methods in the order of their best mean. deviation: over seeds."""
    rows: list[dict[str, Any]] = []
    for name, shots in dict.fromkeys((cell.method, cell.shots) for cell in cells):
        mine = [cell for cell in cells if (cell.method, cell.shots) == (name, shots)]
        found = [cell.accuracy for cell in mine if cell.accuracy is not None]
        mean = float(np.mean(found)) if found else None
        deviation = float(np.std(found, ddof=1)) if len(found) > 1 else None
        seconds = float(np.mean([cell.seconds for cell in mine]))
        rows.append({"method": name, "shots": shots, "accuracy": mean, "deviation": deviation, "seeds": len(found),
                     "n": mine[0].n, "seconds": seconds, "why": mine[0].why})  # fmt: skip

    def best(name: Any) -> float:
        return max(row["accuracy"] or 0.0 for row in rows if row["method"] == name)

    return sorted(rows, key=lambda row: (-best(row["method"]), row["method"], row["shots"]))


def chart(rows: Sequence[Mapping[str, Any]], chance: float) -> str:
    """A row for each method, a dot for each number of shots, its line one deviation to each side."""
    shots = sorted({row["shots"] for row in rows})
    looks = {count: LOOKS[i % len(LOOKS)] for i, count in enumerate(shots)}
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        marks = []
        for row in rows:
            if row["method"] == name and row["accuracy"] is not None:
                mean, off = row["accuracy"], row["deviation"] or 0.0
                says = f"{name}, {row['shots']} shots: {mean:.1%} ± {off:.1%}"
                marks.append(Mark(mean, (mean - off, mean + off), looks[row["shots"]], says))
        lines.append(Row(name, marks, chance))
    return rows_chart(lines, axis_for(lines, whole=True), [(looks[count], f"{count} shots") for count in shots])


# ---- cells -----------------------------------------------------------------------------------------------------------


def _tasks(train: Labelled, validation: Labelled, plan: Plan, seed: int) -> list[tuple[int, Task]]:
    """The task of each number of shots, each a part of the largest, with which its vectors are made."""
    most = max(plan.shots)
    largest = classes(train, validation, most, seed, plan.language, plan.templates)
    drawn, tasks = np.flatnonzero(_drawn(train, most, seed)), []
    for shots in plan.shots:
        part = largest.part(np.isin(drawn, np.flatnonzero(_drawn(train, shots, seed))))
        tasks.append((shots, replace(part, validation=few(validation, min(shots, FEW_FOR_VALIDATION), seed))))
    return tasks


def _drawn(data: Labelled, shots: int, seed: int) -> np.ndarray:
    return draw(data.targets, lambda count: min(shots, count), seed)


def _cell(clip: Clip, task: Task, name: str, shots: int, measured: Labelled, folder: Path) -> Cell:
    kept = folder / "cells" / f"{slug(name)}_{shots}_{task.seed}.json"
    if kept.is_file():
        return _read(kept)
    started, made = time.perf_counter(), method(name)
    if reason := made.refusal(clip, task):
        return Cell(name, shots, task.seed, None, len(measured), 0.0, reason)
    training = folder / "training" / kept.stem
    try:
        adapted = made.fit(clip, task, folder=training).on(clip)
        seconds = time.perf_counter() - started
        found = zero_shot(adapted, measured, task.language).figures["top1"]
        cell = Cell(name, shots, task.seed, found.value, found.n, seconds)
    except AwaseError as problem:
        cell = Cell(name, shots, task.seed, None, len(measured), time.perf_counter() - started, f"{FAILED}{problem}")
    if not cell.why:  # a failure is tried again by the next run
        write_json(kept, vars(cell))
        shutil.rmtree(training, ignore_errors=True)
    return cell


def _read(kept: Path) -> Cell:
    try:
        return Cell(**json.loads(kept.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as problem:
        raise DataError(f"{kept} is damaged ({problem}); remove it and give the command again") from problem


def _open(folder: Path, clip: Clip, plan: Plan, splits: Sequence[Labelled]) -> None:
    known = folder / "compared.json"
    data = [data_hash(split) for split in splits]
    asked = {"data": data, "language": plan.language, "templates": plan.templates}
    stamp = plain({"schema": SCHEMA, "awase": __version__, "model": clip.stamp(), **asked})
    if known.is_file():
        before = json.loads(known.read_text("utf-8"))
        if different := [part for part in stamp if before.get(part) != stamp[part]]:
            raise UsageError(
                f"{folder} holds another comparison: its {' and '.join(different)} differ from this one's; "
                "give another folder"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty and holds no comparison; give a new folder")
    else:
        write_json(known, stamp)
