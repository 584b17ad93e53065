"""The figures that stand for a run: for each task and language the mean over its data sets, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from awase.evaluation.results import Figure, Result
from awase.evaluation.words import (
    TASKS,
    headline_of,
    task_name,
    variant_of,
    variants_of,
    word_for,
    written,
    written_interval,
)


@dataclass(frozen=True)
class Headline:
    """One task in one language. figure: the mean over the sets, each counted once; its n is the number of items in all.
    sets: how many sets the mean is over. names: the figures that went in (a set is reported by its own metric)."""

    task: str
    variant: str
    figure: Figure
    sets: int
    names: tuple[str, ...]

    def words(self) -> tuple[str, ...]:
        """Task, language, number of sets, figure, value, interval and n, as they are written."""
        found = [word_for(name) for name in self.names]
        share = all(word.share for word in found)
        value, interval = written(self.figure.value, share), written_interval(self.figure.interval, share)
        named = " and ".join(word.name for word in found)
        return task_name(self.task), self.variant, f"{self.sets:,}", named, value, interval, f"{self.figure.n:,}"

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "in": self.variant,
            "sets": self.sets,
            "figures": list(self.names),
            "value": self.figure.value,
            "interval": self.figure.interval,
            "n": self.figure.n,
        }


def headlines(results: Iterable[Result]) -> list[Headline]:
    """In the order of `TASKS`, English first. A set that was asked in several templates counts once in each."""
    groups: dict[tuple[str, str], dict[str, list[Figure]]] = {}
    given = list(results)
    for result, variant in zip(given, variants_of(given), strict=True):
        if (name := headline_of(result)) and math.isfinite(result.figures[name].value):
            group = groups.setdefault((result.task, variant), {})
            group.setdefault(name, []).append(result.figures[name])
    found = []
    for (task, variant), by_name in groups.items():
        figures = [figure for several in by_name.values() for figure in several]
        found.append(Headline(task, variant, mean_figure(figures), len(figures), tuple(by_name)))
    order = {task: place for place, task in enumerate(TASKS)}
    return sorted(found, key=lambda headline: (order.get(headline.task, len(order)), headline.variant))


def on_shared_sets(results: Sequence[Result]) -> list[Headline]:
    """The same over the sets that a task was done on in every language, for tasks where languages have different sets:
    only these means can be laid side by side."""
    sets: dict[str, dict[str, set[tuple[str, str]]]] = {}
    for result in results:
        sets.setdefault(result.task, {}).setdefault(variant_of(result), set()).add((result.data, result.split))
    shared = {task: set.intersection(*its.values()) for task, its in sets.items()}
    uneven = {task for task, its in sets.items() if any(one != shared[task] for one in its.values())}
    kept = [r for r in results if r.task in uneven and (r.data, r.split) in shared[r.task]]
    return headlines(kept)


def mean_figure(figures: Sequence[Figure]) -> Figure:
    """The mean of figures of different items, each weighing the same, and its interval: ends at the mean minus and plus
    the root of the squared distances of each figure's own ends, over their number (Zou and Donner, 2008, "MOVER", which
    keeps intervals that are not symmetric so). No interval where one of the figures has none."""
    k = len(figures)
    value = sum(figure.value for figure in figures) / k
    ends = [
        (figure.value - figure.interval[0], figure.interval[1] - figure.value) for figure in figures if figure.interval
    ]
    interval = None
    if len(ends) == k:
        below, above = (math.sqrt(sum(end[side] ** 2 for end in ends)) / k for side in (0, 1))
        interval = value - below, value + above
    return Figure(value, interval, sum(figure.n for figure in figures))
