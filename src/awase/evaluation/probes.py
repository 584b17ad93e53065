"""Linear classifiers on frozen features: the protocol of the CLIP paper (Radford et al., 2021, appendix A.3).

The L2 strength is one of 97 from 1e-6 to 1e6, eight to a decade: seven starts two decades apart are fitted, then the
interval round the peak of validation accuracy (of equals, the lower loss) is halved until neighbours are compared. The
classifier is fitted again on training and validation pictures together. scikit-learn's C is 1 / strength. Where a
picture may have several classes, each is told from the rest, and mean average precision takes the place of accuracy.

Every fit begins at zero, as in the paper. At weak strengths the loss is flat, and L-BFGS stops near where it began:
from zero that is a small solution, from another fit whatever that one had learned, which is worse on new pictures.

Few shots (Zhou et al., 2022, arXiv:2109.01134): n training pictures of each class and min(n, 4) for validation, drawn
anew by each seed, the pictures of fewer shots among those of more; no second fit. Works on features of any backbone;
knows nothing of pictures or models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from awase.errors import DataError
from awase.evaluation.logistic import ROUGHLY, Linear, binary_cross_entropy, cross_entropy, regression
from awase.evaluation.ranking import mean_average_precision

A_DECADE = 8  # strengths; an exponent counts eighths of a decade
WEAKEST, STRONGEST = -6 * A_DECADE, 6 * A_DECADE
START = 2 * A_DECADE  # between the first seven
HELD_OUT = 5  # a fifth of the training pictures chooses the strength where there is no validation split
FEW_FOR_VALIDATION = 4


@dataclass(frozen=True)
class Features:
    """rows: (N, F) float32. targets: (N,) int64 classes, or (N, C) bool where a picture may have several."""

    rows: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, chosen: np.ndarray) -> Features:
        return Features(self.rows[chosen], self.targets[chosen])

    def __add__(self, other: Features) -> Features:
        return Features(np.concatenate([self.rows, other.rows]), np.concatenate([self.targets, other.targets]))


@dataclass(frozen=True)
class Probe:
    """A fitted classifier and how its strength was chosen. tried: strength -> validation accuracy, or mean average
    precision, weakest first."""

    linear: Linear
    strength: float
    tried: dict[float, float]


def fit_probe(train: Features, classes: int, validation: Features | None = None, seed: int = 0) -> Probe:
    """A classifier from all of `train`. Without `validation`, a fifth of each class of `train` (of all pictures, where
    they have several classes) chooses the strength.

    Raises DataError where fewer than two classes have training pictures, or a feature is not a number."""
    if validation is None:
        classes_of = train.targets if train.targets.ndim == 1 else np.zeros(len(train), np.int64)
        last = draw(classes_of, lambda count: max(count // HELD_OUT, min(1, count - 1)), seed)
        if not last.any():
            raise DataError("no class has two training pictures, so none is left to choose the strength on")
        train, validation = train[~last], train[last]
    best, tried = _chosen(train, classes, validation)
    return Probe(_fitted(train + validation, classes, best), strength_of(best), tried)


def fit_few_shot_probe(
    train: Features, classes: int, shots: int, seed: int, validation: Features | None = None
) -> Probe:
    """A classifier from `shots` pictures of each class; all, where a class has fewer. Without `validation`, pictures of
    `train` that were not drawn choose the strength. Raises DataError where there are none."""
    drawn = draw(train.targets, lambda count: min(shots, count), seed)
    rest = train[~drawn] if validation is None else validation
    few = draw(rest.targets, lambda count: min(shots, FEW_FOR_VALIDATION, count), seed)
    if not few.any():
        raise DataError(f"beside {shots} training pictures of each class none are left to choose the strength on")
    best, tried = _chosen(train[drawn], classes, rest[few])
    return Probe(_fitted(train[drawn], classes, best), strength_of(best), tried)


def sweep(score: Callable[[int], tuple[float, float]]) -> int:
    """The exponent at which `score` peaks, by at most 15 evaluations, the strongest first; of equals the strongest."""
    scores = {exponent: score(exponent) for exponent in range(STRONGEST, WEAKEST - 1, -START)}
    step = START // 2
    while step:
        peak = max(scores, key=lambda exponent: (scores[exponent], exponent))
        for exponent in (peak + step, peak - step):
            if WEAKEST <= exponent <= STRONGEST:
                scores[exponent] = score(exponent)
        step //= 2
    return max(scores, key=lambda exponent: (scores[exponent], exponent))


def _chosen(train: Features, classes: int, validation: Features) -> tuple[int, dict[float, float]]:
    """(the best exponent, what `_merit` says of each strength that was tried)."""
    _check(train)
    problem = regression(train.rows, train.targets, classes)
    tried: dict[float, float] = {}

    def score(exponent: int) -> tuple[float, float]:
        linear = problem.linear(problem.fit(strength_of(exponent), promise=ROUGHLY))
        tried[strength_of(exponent)], loss = _merit(linear, validation)
        return tried[strength_of(exponent)], -loss

    return sweep(score), dict(sorted(tried.items()))


def _merit(linear: Linear, validation: Features) -> tuple[float, float]:
    """Accuracy, or mean average precision where pictures have several classes; and the loss."""
    logits, targets = linear.logits(validation.rows), validation.targets
    if targets.ndim == 2:
        return mean_average_precision(logits, targets), binary_cross_entropy(logits, targets)[0]
    return float((logits.argmax(axis=1) == targets).mean()), cross_entropy(logits, targets)[0]


def _fitted(data: Features, classes: int, exponent: int) -> Linear:
    problem = regression(data.rows, data.targets, classes)
    return problem.linear(problem.fit(strength_of(exponent)))


def strength_of(exponent: int) -> float:
    return float(10.0 ** (exponent / A_DECADE))


def draw(targets: np.ndarray, how_many: Callable[[int], int], seed: int) -> np.ndarray:
    """(N,) bool: of each class `how_many(its pictures)`, drawn so that more of a seed hold fewer of that seed."""
    order = np.random.default_rng(seed).permutation(len(targets))
    drawn = np.zeros(len(targets), bool)
    for label in np.unique(targets):
        its = order[targets[order] == label]
        drawn[its[: how_many(len(its))]] = True
    return drawn


def _check(train: Features) -> None:
    present = len(np.unique(train.targets)) if train.targets.ndim == 1 else int(train.targets.any(axis=0).sum())
    if present < 2:
        raise DataError(f"a classifier needs training pictures of two classes at least; here are {present}")
    if not np.isfinite(train.rows).all():
        row = int(np.flatnonzero(~np.isfinite(train.rows).all(axis=1))[0])
        raise DataError(f"the features of training picture {row} are not all numbers (NaN or infinity)")
