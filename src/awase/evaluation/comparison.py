"""Is one model better than another, or one setting of it, on the same data? Paired, item by item.

What both results have in common are items that each got right or not (or ranked, or scored); the difference of the
means gets a bootstrap interval by resampling the same items for both. Where items are right or wrong, each on its own,
McNemar's exact test decides as well: with few items the bootstrap finds differences too easily, so the interval is as
wide as the wider of the two, and a win is called only where both call it. Across many sets: wins, ties and losses, a
tie being a difference whose interval holds 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from awase.errors import DataError
from awase.evaluation.intervals import Interval, exact_difference, mcnemar, paired_bootstrap
from awase.evaluation.results import Result

RANKS = {"text_to_picture": "rank_text_to_picture", "picture_to_text": "rank_picture_to_text"}
"""Ranks count as their reciprocals, so that more is better."""
ITEMS = ("correct", *RANKS, "clip_score")  # what two results are compared by
IDENTITIES = ("choice", "pair", "picture")  # which item of the data a row is


@dataclass(frozen=True)
class Comparison:
    """`a` less `b` on the n items that both have. tasks: of a and of b, which differ where zero-shot is compared with a
    probe. p: of no difference, by bootstrap. mcnemar: the exact p, None where items are not right or wrong each on its
    own. verdict: of a."""

    tasks: tuple[str, str]
    data: str
    split: str
    models: tuple[str, str]
    measure: str
    values: tuple[float, float]
    difference: float
    interval: Interval
    p: float
    mcnemar: float | None
    n: int

    @property
    def task(self) -> str:
        return self.tasks[0]

    @property
    def verdict(self) -> str:
        """ "win", "loss", or "tie" where the interval of the difference holds 0."""
        low, high = self.interval
        return "win" if low > 0 else "loss" if high < 0 else "tie"


def comparisons(a: Result, b: Result) -> Iterator[Comparison]:
    """One for each measure that both have items of: retrieval has two, from sentence to picture and back.

    Raises DataError where the two rest on different data or have no items in common."""
    _same_data(a, b)
    found = [_outcomes(result) for result in (a, b)]
    if not (shared := [name for name in ITEMS if name in found[0] and name in found[1]]):
        raise DataError(f"{a.task} and {b.task} of {a.data} have no items in common; compare results of the same task")
    for measure in shared:
        yield _compared(a, b, measure, found[0][measure], found[1][measure])


def compare(a: Result, b: Result) -> Comparison:
    """The first of `comparisons`."""
    return next(comparisons(a, b))


def tally(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """How many of the comparisons `a` wins, ties and loses."""
    verdicts = [comparison.verdict for comparison in comparisons]
    return {name: verdicts.count(name) for name in ("win", "tie", "loss")}


def gaps(zero_shot: Sequence[Result], probes: Sequence[Result], figure: str = "top1") -> list[dict[str, Any]]:
    """The CLIP paper's figure 5: for each set in both, zero-shot less linear probe with its interval, largest first.

    A set that has changed between the two is left out."""
    by_set = {(probe.data, probe.split, _hash(probe.provenance)): probe for probe in probes}
    rows = []
    for result in zero_shot:
        probe = by_set.get((result.data, result.split, _hash(result.provenance)))
        if probe is None or figure not in result.figures or figure not in probe.figures:
            continue
        found = compare(result, probe)
        low, high = found.interval
        rows.append(
            {
                "data": result.data,
                "zero_shot": found.values[0],
                "probe": found.values[1],
                "difference": found.difference,
                "low": low,
                "high": high,
                "n": found.n,
            }
        )
    return sorted(rows, key=lambda row: -row["difference"])


# ---- parts ----------------------------------------------------------------------------------------------------------


def _same_data(a: Result, b: Result) -> None:
    hashes = [_hash(result.provenance) for result in (a, b)]
    if hashes[0] != hashes[1] or (a.data, a.split) != (b.data, b.split):
        raise DataError(
            f"{a.data}, {a.split} ({hashes[0][:12]}) and {b.data}, {b.split} ({hashes[1][:12]}) are different data; "
            "two models are compared on the same pictures and labels only"
        )


def _hash(provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("data", {}).get("sha256", "unknown"))


def _compared(a: Result, b: Result, measure: str, left: np.ndarray, right: np.ndarray) -> Comparison:
    rows_a, rows_b, clusters = _aligned(a, b, measure)
    left, right = left[rows_a].astype(np.float64), right[rows_b].astype(np.float64)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise DataError(f"{a.data}: {measure} of an item is not a number; make the runs again")
    found = paired_bootstrap(left, right, clusters)
    decided = clusters is None and all(np.isin(values, (0, 1)).all() for values in (left, right))
    (low, high), p = found.interval, None
    if decided:
        exact, p = exact_difference(left > 0, right > 0), mcnemar(left > 0, right > 0)
        low, high = min(low, exact[0]), max(high, exact[1])
    return Comparison(
        tasks=(a.task, b.task),
        data=a.data,
        split=a.split,
        models=(a.model, b.model),
        measure=measure,
        values=(float(left.mean()), float(right.mean())),
        difference=found.value,
        interval=(low, high),
        p=found.p,
        mcnemar=p,
        n=len(left),
    )


def _outcomes(result: Result) -> dict[str, np.ndarray]:
    ranked = {name: 1 / result.items[rank] for name, rank in RANKS.items() if rank in result.items}
    return dict(result.items) | ranked


def _aligned(a: Result, b: Result, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows of each that are the same items of the data, and the items' clusters where a picture may own several."""
    if measure == "text_to_picture":  # captions, in the data's order
        owners = a.items["caption_owner"]
        if not np.array_equal(owners, b.items["caption_owner"]):
            raise DataError(f"{a.data}: the two were measured on different captions; evaluate both again")
        every = np.arange(len(owners))
        return every, every, owners
    identity = next(name for name in IDENTITIES if name in a.items and name in b.items)
    common, rows_a, rows_b = np.intersect1d(a.items[identity], b.items[identity], return_indices=True)
    if not len(common):
        raise DataError(f"{a.data}: the two have no {identity} in common")
    own = identity == "picture" or "picture" not in a.items
    return rows_a, rows_b, None if own else a.items["picture"][rows_a]
