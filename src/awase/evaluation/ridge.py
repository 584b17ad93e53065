"""Least squares onto classes with a ridge, and what it says of each picture when that picture is left out.

Leaving out is exact and costs nothing: the residual of a picture left out is its residual over 1 - its leverage (Allen,
1974; Hastie, Tibshirani & Friedman, 2009, equation 7.64). So each picture is judged by a classifier that never saw its
label. Works on vectors of any model; knows nothing of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from awase.encoding.scoring import softmax
from awase.errors import DataError

STRENGTHS = np.geomspace(1e-3, 1e2, 11)  # times the largest variance along one direction
SCALES = (2.0, 4.0, 8.0, 16.0, 32.0)  # what scores, which are near 0 and 1, are multiplied by before the softmax


@dataclass(frozen=True)
class Ridge:
    """A classifier whose strength and scale were chosen by the likelihood of the labels that were left out. It answers
    as if all classes were equally frequent.

    left_out: (N, C) probabilities of each picture's classes from all other pictures."""

    left_out: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    scale: float

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(M, F) -> (M, C), of pictures that were not fitted on."""
        return softmax(self.scale * (rows @ self.weights + self.bias))


def fit_ridge(rows: np.ndarray, targets: np.ndarray, classes: int) -> Ridge:
    """rows: (N, F). targets: (N,) classes. Raises DataError for fewer than two pictures or classes."""
    if len(rows) < 2 or len(np.unique(targets)) < 2:
        raise DataError("a classifier needs pictures of two classes at least")
    centre = rows.mean(axis=0, dtype=np.float64)
    u, singular, axes = np.linalg.svd(rows - centre, full_matrices=False)
    wanted = np.eye(classes)[targets]
    wanted = wanted - wanted.mean(axis=0)
    turned, every = u.T @ wanted, np.arange(len(rows))
    best: tuple[float, float, float, np.ndarray] | None = None
    for strength in STRENGTHS * singular[0] ** 2 / len(rows):
        kept = singular**2 / (singular**2 + strength)
        leverage = (u**2 * kept).sum(axis=1) + 1 / len(rows)
        left_out = wanted - (wanted - (u * kept) @ turned) / np.maximum(1 - leverage, 1e-9)[:, None]
        for scale in SCALES:
            probabilities = softmax(scale * left_out)
            loss = -float(np.log(np.maximum(probabilities[every, targets], 1e-12)).mean())
            if best is None or loss < best[0]:
                best = loss, float(strength), scale, probabilities
    assert best is not None  # there are strengths and scales
    _, strength, scale, probabilities = best
    weights = (axes.T * (singular / (singular**2 + strength))) @ turned
    return Ridge(probabilities, weights, -centre @ weights, scale)
