"""How well a score ranks the pictures of a class before the others: area under the ROC curve, average precision.

Means over classes, with intervals. Each class comes as (N,) scores and (N,) booleans, one at a time, so that no N x C
matrix is needed. Classes to which all pictures belong, or none, have neither measure and are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from awase.evaluation.intervals import proportion_with_error
from awase.evaluation.results import Figure

DRAWS = 200  # enough for a standard error
DRAWS_AT_ONCE = 2**21  # numbers of one block of drawn weights: 16 MB
ELEVEN = np.linspace(0, 1, 11)  # recalls of VOC 2007's measure

Column = tuple[np.ndarray, np.ndarray]


def roc_area(columns: Iterable[Column]) -> Figure | None:
    """The mean over classes of the probability that one of its pictures scores higher than another; ties count half.

    The error is DeLong, DeLong & Clarke-Pearson's (1988), carried through the mean over classes: each picture's part in
    every area is known, and pictures are independent. A picture that is alone on its side shows no spread; it is taken
    to have the mean spread of the other classes' pictures on that side. No interval where none has any to show."""
    areas, parts, smallest = [], np.zeros(0), []
    spreads: tuple[list[float], list[float]] = [], []  # of the pictures of a class, and of the others
    for scores, positive in columns:
        sizes = int(positive.sum()), int((~positive).sum())
        if not all(sizes):
            continue
        placements = _placements(scores, positive)
        area = float(placements[positive].mean())
        away = placements - area
        for its, spread, size in zip((positive, ~positive), spreads, sizes, strict=True):
            if size > 1:
                spread.append(float((away[its] ** 2).sum()) / (size - 1))
                away[its] /= np.sqrt(size * (size - 1))
        parts = away if not len(parts) else parts + away
        areas.append(area)
        smallest.append(min(sizes))
    if not areas:
        return None
    value, count = float(np.mean(areas)), len(areas)
    if not all(spreads):
        return Figure(value, None, len(parts))
    alone = sum((count - len(spread)) * float(np.mean(spread)) for spread in spreads)
    error = float(np.sqrt((parts**2).sum() + alone)) / count
    return Figure(value, proportion_with_error(value, error, float(np.sum(smallest))), len(parts))


def _placements(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(N,): of a picture of the class, the share of others below it; of another, the share of the class above it."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # of runs of equal scores
    inside = np.add.reduceat(positive[order].astype(np.int64), starts)
    outside = np.diff(np.append(starts, len(scores))) - inside
    below = (np.cumsum(outside) - outside / 2) / outside.sum()
    above = (inside.sum() - np.cumsum(inside) + inside / 2) / inside.sum()
    run = np.repeat(np.arange(len(starts)), inside + outside)
    placements = np.empty(len(scores))
    placements[order] = np.where(positive[order], below[run], above[run])
    return placements


def average_precision(columns: Iterable[Column], seed: int = 0) -> dict[str, Figure]:
    """Means over classes: "map", the precision at each picture of the class, averaged (every threshold, equal scores at
    one), and "map_11_point", the highest precision from recall 0, 0.1, ... 1 on (Everingham et al., 2010).

    The errors come from DRAWS bootstrap samples of the pictures, the same for every class. A sample repeats pictures,
    which raises average precision; its spread is used, and not its place. The interval is for sets of this size:
    average precision is higher in small ones."""
    rng, weights = np.random.default_rng(seed), np.empty((0, 0))
    found = []
    for scores, positive in columns:
        if not positive.any():
            continue
        if not len(weights):
            n = len(scores)
            drawn = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
            weights = np.concatenate([np.ones((1, n), np.int64), drawn]).astype(np.uint16)
        found.append(_precisions(scores, positive, weights))
    if not found:
        return {}
    each = np.stack(found)  # (C, 2, 1 + DRAWS)
    figures = {}
    for index, name in enumerate(("map", "map_11_point")):
        values = np.nanmean(each[:, index], axis=0)  # a draw may hold no picture of a class
        error, value = float(values[1:].std(ddof=1)), float(values[0])
        figures[name] = Figure(value, proportion_with_error(value, error, len(found)), weights.shape[1])
    return figures


def mean_average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """ "map" of (N, C) scores and booleans without an interval: for choosing among many. NaN where no class has any."""
    once = np.ones((1, len(scores)), np.uint16)
    filled = np.flatnonzero(positive.any(axis=0))
    each = [_precisions(scores[:, c], positive[:, c], once)[0, 0] for c in filled]
    return float(np.mean(each)) if each else float("nan")


def _precisions(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(2, B) average precision at all points and at eleven, for (B, N) counts of each picture; NaN where a row of
    `weights` holds no picture of the class."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))
    step = max(1, DRAWS_AT_ONCE // len(scores))
    return np.concatenate(
        [_precisions_of(weights[i : i + step][:, order], positive[order], ends) for i in range(0, len(weights), step)],
        axis=1,
    )


def _precisions_of(counts: np.ndarray, positive: np.ndarray, ends: np.ndarray) -> np.ndarray:
    taken = np.cumsum(counts, axis=1, dtype=np.float64)[:, ends]
    hits = np.cumsum(counts * positive, axis=1, dtype=np.float64)[:, ends]
    total = hits[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = np.where(taken > 0, hits / taken, 0.0), hits / total
    all_points = (np.diff(recall, axis=1, prepend=0) * precision).sum(axis=1)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # from each recall on
    eleven = np.zeros(len(counts))
    for level in ELEVEN:
        first = np.minimum((recall < level - 1e-12).sum(axis=1), len(ends) - 1)
        eleven += highest[np.arange(len(counts)), first] / len(ELEVEN)
    return np.stack([all_points, np.where(total[:, 0] > 0, eleven, np.nan)])
