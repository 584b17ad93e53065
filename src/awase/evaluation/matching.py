"""Two runs side by side: the results that ask the same of the same data, each pair compared item by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from awase.errors import DataError
from awase.evaluation.comparison import RANKS, Comparison, comparisons, tally
from awase.evaluation.results import SCHEMA, Figure, Result
from awase.evaluation.runs import read_run
from awase.evaluation.summary import mean_figure
from awase.evaluation.words import MEASURES, TASKS, task_name, variant_of, variants_of, written, written_interval


@dataclass(frozen=True)
class Pair:
    """One comparison, and the language or column in which both sides were asked."""

    variant: str
    found: Comparison

    @property
    def share(self) -> bool:
        """Whether its values are written in per cent."""
        return MEASURES[self.found.measure].share

    @property
    def what(self) -> str:
        """ "Retrieval, sentence → picture", "Zero-shot classification against linear probe"."""
        (task, other), ranked = self.found.tasks, self.found.measure in RANKS
        against = f" against {task_name(other).lower()}" if other != task else ""
        return task_name(task) + against + (f", {MEASURES[self.found.measure].way}" if ranked else "")

    def words(self) -> tuple[str, ...]:
        """What, set, language, A, B, A less B, interval, p, n and verdict, as they are written."""
        found = self.found
        a, b, less = (written(value, self.share) for value in (*found.values, found.difference))
        p = found.p if found.mcnemar is None else found.mcnemar
        said = "< 0.001" if p < 0.001 else f"{p:.3f}"
        where = self.what, f"{found.data}, {found.split}", self.variant
        return *where, a, b, less, written_interval(found.interval, self.share), said, f"{found.n:,}", found.verdict

    def to_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "task": found.task,
            "against": found.tasks[1],
            "data": found.data,
            "split": found.split,
            "in": self.variant,
            "measure": found.measure,
            "a": found.values[0],
            "b": found.values[1],
            "difference": found.difference,
            "low": found.interval[0],
            "high": found.interval[1],
            "p": found.p,
            "mcnemar": found.mcnemar,
            "n": found.n,
            "verdict": found.verdict,
        }


@dataclass(frozen=True)
class RunComparison:
    """Run A against run B. names: what the two are called. remarks: what could not be compared, and why."""

    runs: tuple[str, str]
    models: tuple[str, str]
    names: tuple[str, str]
    pairs: Sequence[Pair]
    remarks: Sequence[str] = ()

    def tasks(self) -> dict[tuple[str, str], list[Pair]]:
        """(what, language) -> its pairs, largest difference first."""
        order = {task: place for place, task in enumerate(TASKS)}
        found: dict[tuple[str, str], list[Pair]] = {}
        for pair in sorted(self.pairs, key=lambda one: (order.get(one.found.task, 99), one.what, one.variant)):
            found.setdefault((pair.what, pair.variant), []).append(pair)
        return {key: sorted(pairs, key=lambda pair: -pair.found.difference) for key, pairs in found.items()}

    def tallies(self) -> Iterator[str]:
        """A line for each task and language: wins, ties and losses of A."""
        for (what, variant), pairs in self.tasks().items():
            count = tally([pair.found for pair in pairs])
            said = f"A wins {count['win']}, ties {count['tie']}, loses {count['loss']} of {len(pairs)} sets"
            yield f"{what}, {variant}: {said}; A less B {mean_difference(pairs)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "runs": self.runs,
            "models": self.models,
            "names": self.names,
            "summary": [
                {"task": pairs[0].found.task, "measure": pairs[0].found.measure, "in": variant, "sets": len(pairs)}
                | tally([pair.found for pair in pairs])
                | {"difference": mean(pairs).value, "interval": mean(pairs).interval}
                for (_, variant), pairs in self.tasks().items()
            ],
            "comparisons": [pair.to_json() for pair in self.pairs],
            "remarks": list(self.remarks),
        }


def mean(pairs: Sequence[Pair]) -> Figure:
    """The mean of the differences, each set counted once."""
    return mean_figure([Figure(pair.found.difference, pair.found.interval, pair.found.n) for pair in pairs])


def mean_difference(pairs: Sequence[Pair]) -> str:
    """ "1.2 % on average (0.3–2.1 %)"."""
    figure, share = mean(pairs), pairs[0].share
    return f"{written(figure.value, share)} on average ({written_interval(figure.interval, share)})"


def compare_runs(a: Path, b: Path, names: tuple[str, str] | None = None) -> RunComparison:
    """Every result of A with that of B which asks the same; zero-shot with a linear probe where B has only that.
    Templates may differ where each run has a set once in one language; where it has it in several, equal ones meet.
    names: what the two are called; None is their models, or the folders where both have the same.

    Raises DataError where a folder is no run and where nothing can be compared."""
    left, right = read_run(a), read_run(b)
    called_a, called_b = names or (str(a), str(b))
    pairs, remarks = [], []
    for result, variant in zip(left, variants_of(left), strict=True):
        if _is_in_zero_shot(result, left, right):
            continue
        other = _partner(result, left, right) or _probe_of(result, right)
        if other is None:
            remarks.append(f"only in {called_a}: {result.task}, {result.data}, {result.split}, {variant}")
            continue
        try:
            pairs += [Pair(variant, found) for found in comparisons(result, other)]
        except DataError as problem:
            remarks.append(str(problem))
    if not pairs:
        nothing = f"{called_a} and {called_b} have no result that can be compared"
        raise DataError("; ".join([nothing, *remarks[:3]]))
    models = left[0].model, right[0].model
    called = models if not names and models[0] != models[1] else (called_a, called_b)
    return RunComparison((str(a), str(b)), models, called, pairs, remarks)


def _asked(result: Result) -> tuple[str, str, str, str]:
    return result.task, result.data, result.split, variant_of(result)


def _partner(result: Result, left: Sequence[Result], right: Sequence[Result]) -> Result | None:
    """The one of B that asks what `result` of A asks: where each run has one, that, whatever its templates, else the
    one at its place among those of equal templates. None where these are not as many on both sides."""
    mine, theirs = ([one for one in side if _asked(one) == _asked(result)] for side in (left, right))
    if len(mine) > 1 or len(theirs) > 1:
        mine, theirs = ([one for one in side if _alike(one, result)] for side in (mine, theirs))
    place = [one is result for one in mine].index(True)
    return theirs[place] if len(mine) == len(theirs) else None


def _alike(one: Result, other: Result) -> bool:
    return one.settings.get("templates") == other.settings.get("templates")


def _is_in_zero_shot(result: Result, left: Sequence[Result], right: Sequence[Result]) -> bool:
    """Whether zero-shot of both runs compares what this result would: calibration has its items, answer by answer."""
    if result.task != "calibration":
        return False
    wanted = ("zero-shot", *_asked(result)[1:])
    twins = [one for one in left if _asked(one) == wanted and _alike(one, result)]
    return any(_partner(one, left, right) is not None for one in twins)


def _probe_of(result: Result, right: Sequence[Result]) -> Result | None:
    probe = ("linear-probe", result.data, result.split)
    return next((one for one in right if _asked(one)[:3] == probe), None) if result.task == "zero-shot" else None
