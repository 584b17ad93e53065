"""Is one model better than another, or one setting of it, on the same data? Paired, item by item.

What both results have in common are items that each got right or not (or scored); the difference of the means gets a
bootstrap interval by resampling the same items for both, and McNemar's exact test where items are right or wrong.
Across many sets: wins, ties and losses, a tie being a difference whose interval holds 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from awase.errors import DataError
from awase.evaluation.intervals import Interval, mcnemar, paired_bootstrap
from awase.evaluation.results import Result

ITEMS = ("correct", "reciprocal_rank", "clip_score")  # what two results are compared by, the first that both have
IDENTITIES = (
    "choice",
    "pair",
    "picture",
)  # which item of the data a row is


@dataclass(frozen=True)
class Comparison:
    """`a` less `b` on the n items that both have. p: of no difference, by bootstrap. mcnemar: the exact p, None where
    items are not right or wrong. verdict: of a."""

    task: str
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
    def verdict(self) -> str:
        """ "win", "loss", or "tie" where the interval of the difference holds 0."""
        low, high = self.interval
        return "win" if low > 0 else "loss" if high < 0 else "tie"


def compare(a: Result, b: Result) -> Comparison:
    """Raises DataError where the two rest on different data or have no items in common."""
    _same_data(a, b)
    measure, left, right = _shared(a, b)
    rows_a, rows_b, clusters = _aligned(a, b, measure)
    left, right = left[rows_a].astype(np.float64), right[rows_b].astype(np.float64)
    found = paired_bootstrap(left, right, clusters)
    decided = all(np.isin(values, (0, 1)).all() for values in (left, right))
    return Comparison(
        task=a.task,
        data=a.data,
        split=a.split,
        models=(a.model, b.model),
        measure=measure,
        values=(float(left.mean()), float(right.mean())),
        difference=found.value,
        interval=found.interval,
        p=found.p,
        mcnemar=mcnemar(left > 0, right > 0) if decided and clusters is None else None,
        n=len(left),
    )


def tally(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """How many of the comparisons `a` wins, ties and loses."""
    verdicts = [comparison.verdict for comparison in comparisons]
    return {name: verdicts.count(name) for name in ("win", "tie", "loss")}


def gaps(zero_shot: Sequence[Result], probes: Sequence[Result], figure: str = "top1") -> list[dict[str, Any]]:
    """The CLIP paper's figure 5: for each set in both, zero-shot less linear probe with its interval, largest first.

    Raises DataError for a set that was measured on other data by the other."""
    by_set = {(probe.data, probe.split): probe for probe in probes}
    rows = []
    for result in zero_shot:
        probe = by_set.get((result.data, result.split))
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


def _shared(a: Result, b: Result) -> tuple[str, np.ndarray, np.ndarray]:
    """What both are compared by. Retrieval's ranks count as their reciprocals, so that more is better."""
    found = [_outcomes(result) for result in (a, b)]
    for name in ITEMS:
        if name in found[0] and name in found[1]:
            return name, found[0][name], found[1][name]
    raise DataError(f"{a.task} and {b.task} of {a.data} have no items in common; compare results of the same task")


def _outcomes(result: Result) -> dict[str, np.ndarray]:
    found = dict(result.items)
    if "rank_text_to_picture" in found:
        found["reciprocal_rank"] = 1 / found["rank_text_to_picture"]
    return found


def _aligned(a: Result, b: Result, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows of each that are the same items of the data, and the items' clusters where a picture may own several."""
    if measure == "reciprocal_rank":  # captions, in the data's order
        owners = a.items["caption_owner"]
        if not np.array_equal(owners, b.items["caption_owner"]):
            raise DataError(f"{a.data}: the two were measured on different captions; evaluate both again")
        every = np.arange(len(owners))
        return every, every, owners
    identity = next(name for name in IDENTITIES if name in a.items and name in b.items)
    common, rows_a, rows_b = np.intersect1d(a.items[identity], b.items[identity], return_indices=True)
    if not len(common):
        raise DataError(f"{a.data}: the two have no {identity} in common")
    return rows_a, rows_b, None if identity == "picture" else a.items["picture"][rows_a]
