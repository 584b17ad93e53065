"""Two runs side by side: the results that ask the same of the same data, each pair compared item by item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from awase.errors import DataError
from awase.evaluation.comparison import Comparison, compare, tally
from awase.evaluation.results import SCHEMA, Figure, Result
from awase.evaluation.runs import read_run
from awase.evaluation.summary import mean_figure
from awase.evaluation.words import MEASURES, TASKS, task_name, variant_of, written, written_interval


@dataclass(frozen=True)
class Pair:
    """One comparison, and the language or column in which both sides were asked."""

    variant: str
    found: Comparison

    @property
    def share(self) -> bool:
        """Whether its values are written in per cent."""
        return MEASURES[self.found.measure].share

    def words(self) -> tuple[str, ...]:
        """Task, set, language, A, B, A less B, interval, p, n and verdict, as they are written."""
        found = self.found
        a, b, less = (written(value, self.share) for value in (*found.values, found.difference))
        p = found.p if found.mcnemar is None else found.mcnemar
        said = "< 0.001" if p < 0.001 else f"{p:.3f}"
        where = task_name(found.task), _called(found), self.variant
        return *where, a, b, less, written_interval(found.interval, self.share), said, f"{found.n:,}", found.verdict

    def to_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "task": found.task,
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
    """Run A against run B. remarks: what could not be compared, and why."""

    runs: tuple[str, str]
    models: tuple[str, str]
    pairs: Sequence[Pair]
    remarks: Sequence[str] = ()

    def tasks(self) -> dict[tuple[str, str], list[Pair]]:
        """(task, language) -> its pairs, largest difference first."""
        found: dict[tuple[str, str], list[Pair]] = {}
        for pair in sorted(self.pairs, key=lambda pair: -pair.found.difference):
            found.setdefault((pair.found.task, pair.variant), []).append(pair)
        order = {task: place for place, task in enumerate(TASKS)}
        return dict(sorted(found.items(), key=lambda one: (order.get(one[0][0], len(order)), one[0])))

    def tallies(self) -> Iterator[str]:
        """A line for each task and language: wins, ties and losses of A."""
        for (task, variant), pairs in self.tasks().items():
            count = tally([pair.found for pair in pairs])
            said = f"A wins {count['win']}, ties {count['tie']}, loses {count['loss']} of {len(pairs)} sets"
            yield f"{task_name(task)}, {variant}: {said}; A less B {mean_difference(pairs)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "runs": self.runs,
            "models": self.models,
            "summary": [
                {"task": task, "in": variant, "sets": len(pairs)}
                | tally([pair.found for pair in pairs])
                | {"difference": mean(pairs).value, "interval": mean(pairs).interval}
                for (task, variant), pairs in self.tasks().items()
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


def compare_runs(a: Path, b: Path) -> RunComparison:
    """Every result of A with that of B which asks the same; zero-shot with a linear probe where B has only that.

    Raises DataError where a folder is no run and where nothing can be compared."""
    left, right = read_run(a), read_run(b)
    there = {_asked(result): result for result in right}
    pairs, remarks = [], []
    for result in left:
        if result.task == "calibration" and ("zero-shot", *_asked(result)[1:]) in there:
            continue  # its items are those of zero-shot, answer by answer
        other = there.get(_asked(result)) or _probe_of(result, there)
        if other is None:
            remarks.append(f"only in {a}: {result.task}, {result.data}, {result.split}, {variant_of(result)}")
            continue
        try:
            pairs.append(Pair(variant_of(result), compare(result, other)))
        except DataError as problem:
            remarks.append(str(problem))
    if not pairs:
        raise DataError("; ".join([f"{a} and {b} have no result that can be compared", *remarks[:3]]))
    return RunComparison((str(a), str(b)), (left[0].model, right[0].model), pairs, remarks)


def _asked(result: Result) -> tuple[str, str, str, str]:
    return result.task, result.data, result.split, variant_of(result)


def _probe_of(result: Result, there: dict[tuple[str, str, str, str], Result]) -> Result | None:
    probe = ("linear-probe", result.data, result.split)
    return (
        next((other for key, other in there.items() if key[:3] == probe), None) if result.task == "zero-shot" else None
    )


def _called(found: Comparison) -> str:
    return f"{found.data}, {found.split}"
