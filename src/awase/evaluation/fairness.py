"""Does a model serve groups of people or pictures alike? Rates per group, and how a ranking favours groups.

Groups come from the data (`Labelled.groups`): attribute -> the value of each picture. Skew and NDKL: Geyik, Ambler &
Kenthapadi, 2019 (arXiv:1905.01989), as used for CLIP by Berg et al., 2022 (arXiv:2203.11933).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from awase.evaluation.intervals import proportion
from awase.evaluation.results import Figure

ABSENT = 1e-6  # the share that a group which does not occur is taken to have, for its logarithm
GROUP = " = "  # between an attribute and its value in the name of a figure
SMALLEST = 10  # pictures below which a group, or those that a class was given to, is too few to be compared


def group_figures(
    items: Mapping[str, np.ndarray], groups: Mapping[str, Sequence[str]], measure: str = "top1"
) -> dict[str, Figure]:
    """Rate of `items["correct"]` in each group ("top1, sex = woman") and, for each attribute, the gap between its best
    and its worst group. items["picture"]: (N,) which picture each item is. Pictures without a value are in no group.
    Groups below SMALLEST pictures make no gap, unless fewer than two are larger.

    The gap's interval is Newcombe's for two proportions (1998, method 10). With more than two groups the two were
    chosen by looking, and the gap is overstated."""
    figures: dict[str, Figure] = {}
    for attribute, values in groups.items():
        members, correct = np.asarray(values)[items["picture"]], np.asarray(items["correct"], bool)
        rates = {value: _rate(correct[members == value]) for value in sorted(set(members.tolist()) - {""})}
        figures |= {f"{measure}, {attribute}{GROUP}{value}": rate for value, rate in rates.items()}
        large = [rate for rate in rates.values() if rate.n >= SMALLEST]
        compared = large if len(large) > 1 else list(rates.values())
        if len(compared) > 1:
            best, worst = (choose(compared, key=lambda rate: rate.value) for choose in (max, min))
            figures[f"{measure}, {attribute}: gap"] = _gap(best, worst)
    return figures


def skew_rows(
    items: Mapping[str, np.ndarray], groups: Mapping[str, Sequence[str]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """For each attribute and each class that at least SMALLEST pictures were taken for: which group is over- and
    under-represented among them (Skew), and NDKL with the surest first. The reference is each group's share of all.
    Pictures without a value are in no group."""
    rows = []
    for attribute, values in groups.items():
        members = np.asarray(values)[items["picture"]]
        valued = members != ""
        reference = shares(members[valued])
        for index in np.unique(items["predicted"][valued]):
            chosen = np.flatnonzero((items["predicted"] == index) & valued)
            if len(chosen) < SMALLEST:
                continue
            ranked = members[chosen[np.argsort(-items["probability"][chosen], kind="stable")]]
            found = skew(ranked, reference)
            most, least = max(found, key=lambda group: found[group]), min(found, key=lambda group: found[group])
            rows.append(
                {
                    "attribute": attribute,
                    "predicted": names[index],
                    "n": len(chosen),
                    "max_skew": found[most],
                    "most": most,
                    "min_skew": found[least],
                    "least": least,
                    "ndkl": ndkl(ranked, reference),
                }
            )
    return rows


def shares(members: np.ndarray) -> dict[str, float]:
    """Group -> its share of (N,) members."""
    values, counts = np.unique(members, return_counts=True)
    return {str(value): int(count) / len(members) for value, count in zip(values, counts, strict=True)}


def skew(ranked: np.ndarray, reference: Mapping[str, float], k: int | None = None) -> dict[str, float]:
    """Skew@k: for each group, the logarithm of its share of the first k over its share in `reference`; 0 is parity.

    ranked: (N,) group of each item, best first. MaxSkew and MinSkew are the largest and smallest of these."""
    top = shares(ranked[:k])
    return {group: math.log(max(top.get(group, 0.0), ABSENT) / share) for group, share in reference.items()}


def ndkl(ranked: np.ndarray, reference: Mapping[str, float]) -> float:
    """Divergence of the shares among the first 1, 2, ... N of a ranking from `reference`, in nats, the i-th weighed by
    1 / log2(i + 1): 0 where every beginning has the reference's shares."""
    places = np.arange(1, len(ranked) + 1)
    weights = 1 / np.log2(places + 1)
    divergence = np.zeros(len(ranked))
    for group, share in reference.items():
        found = np.cumsum(ranked == group) / places
        divergence += found * np.log(np.maximum(found, ABSENT) / share)
    return float((weights * divergence).sum() / weights.sum())


def _rate(correct: np.ndarray) -> Figure:
    right, n = int(correct.sum()), len(correct)
    return Figure(right / n, proportion(right, n), n)


def _gap(best: Figure, worst: Figure) -> Figure:
    (low, high), (worst_low, worst_high) = best.interval or (0, 1), worst.interval or (0, 1)
    value = best.value - worst.value
    down = math.hypot(best.value - low, worst_high - worst.value)
    up = math.hypot(high - best.value, worst.value - worst_low)
    return Figure(value, (value - down, value + up), best.n + worst.n)
