"""Logistic regression with an L2 penalty, by L-BFGS: what a linear probe is.

    minimise  sum_i cross-entropy(x_i W + b, y_i)  +  strength / 2 * |W|^2      over W (F, C) and b (C,)

The objective of scikit-learn's LogisticRegression with C = 1 / strength; the bias is not penalised. Where a picture may
have several classes the cross-entropy is the sum over classes of each against the rest: C such regressions in one.

Three things leave the minimum where it is and bring it near. The features are centred, for the free bias takes the
shift up. They are turned to their principal axes, which no length notices; with fewer pictures than features only the
pictures' span is kept, for W has no part outside it. There the curvature is nearly diagonal, and L-BFGS starts from
that diagonal.

Along a line the logits are linear in the step: a line search costs no product with the features, and an iteration two.
It knows nothing of pictures, models or of how a strength is chosen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from awase.encoding.scoring import sigmoid, softmax

MEMORY = 10  # pairs of steps and gradients that L-BFGS remembers, as scikit-learn's
ITERATIONS = 1000  # at most, as in the CLIP paper
PROMISE = 1e-7  # stop when the next step promises to lower the mean loss by less than this, in nats
ROUGHLY = 1e-6  # the same where strengths are only told from each other
SUFFICIENT, STEEP = 1e-4, 0.9  # the constants of Wolfe's two conditions
LINE_TRIALS = 20


@dataclass(frozen=True)
class Linear:
    """Scores of C classes as a linear function of F features. weights: (F, C). bias: (C,)."""

    weights: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, F) features -> (N, C)."""
        return np.asarray(features @ self.weights + self.bias)


@dataclass(frozen=True)
class Regression:
    """N pictures made ready to be fitted at any strength. Make one with `regression`.

    points: (N, R + 1) float32 (or float64, as the features are), those on their R principal axes and a column of ones,
    whose weights are the bias.
    variances: (R + 1,), of the columns. axes: (F, R). centre: (F,). targets: (N,) classes, or (N, C) bool. A solution
    is (R + 1, C)."""

    points: np.ndarray
    variances: np.ndarray
    axes: np.ndarray
    centre: np.ndarray
    targets: np.ndarray
    classes: int

    def fit(self, strength: float, promise: float = PROMISE, before: np.ndarray | None = None) -> np.ndarray:
        """The solution at a strength > 0, begun from zero; as close as `promise` says.

        before: (N, C) logits that are known already, to which those of the solution are added."""
        weights = np.zeros((self.points.shape[1], self.classes), self.points.dtype)
        penalty = np.full((len(weights), 1), strength / len(self.points), self.points.dtype)
        penalty[-1] = 0
        logits = np.zeros((len(self.points), self.classes), self.points.dtype)
        if before is not None:
            logits += before
        loss, residuals = self.loss(logits)
        loss += dot(penalty * weights, weights) / 2
        gradient = self.points.T @ residuals + penalty * weights
        memory = Memory(self.curvature(logits) + penalty)
        for _ in range(ITERATIONS):
            direction = -memory.solve(gradient)
            slope = dot(gradient, direction)
            if -slope / 2 < promise:
                break
            line = Line(self, logits, self.points @ direction, weights, direction, penalty)
            step, loss, residuals = line.search(loss, slope)
            if step == 0:  # float32 can go no lower
                break
            weights, logits = weights + step * direction, logits + step * line.along
            last, gradient = gradient, self.points.T @ residuals + penalty * weights
            memory.remember(step * direction, gradient - last)
        return weights

    def loss(self, logits: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean over pictures, in nats, and its derivative to the (N, C) logits."""
        return (cross_entropy if self.targets.ndim == 1 else binary_cross_entropy)(logits, self.targets)

    def curvature(self, logits: np.ndarray) -> np.ndarray:
        """(R + 1, C): the diagonal of the mean loss's second derivative, as if p (1 - p) and x^2 were independent."""
        p = (softmax if self.targets.ndim == 1 else sigmoid)(logits)
        return np.asarray(np.outer(self.variances, (p * (1 - p)).mean(axis=0)), self.points.dtype)

    def linear(self, solution: np.ndarray) -> Linear:
        """The solution as a function of the features as they were given."""
        weights = self.axes @ solution[:-1]
        return Linear(weights, solution[-1] - self.centre @ weights)


@dataclass(frozen=True)
class Line:
    """The loss along a direction from a solution: logits + step * along, weights + step * direction."""

    problem: Regression
    logits: np.ndarray
    along: np.ndarray
    weights: np.ndarray
    direction: np.ndarray
    penalty: np.ndarray

    def search(self, loss: float, slope: float) -> tuple[float, float, np.ndarray]:
        """A step that meets Wolfe's conditions, the loss there and its residuals (N, C); step 0 where none is lower."""
        low, high, step = 0.0, np.inf, 1.0
        for _ in range(LINE_TRIALS):
            found, residuals, its_slope = self.at(step)
            if found > loss + SUFFICIENT * step * slope:
                high = step
            elif its_slope < STEEP * slope:
                low = step
            else:
                return step, found, residuals
            step = (low + high) / 2 if high < np.inf else 2 * step
        return 0.0, loss, residuals

    def at(self, step: float) -> tuple[float, np.ndarray, float]:
        there = self.weights + step * self.direction
        loss, residuals = self.problem.loss(self.logits + step * self.along)
        pull = self.penalty * there
        return loss + dot(pull, there) / 2, residuals, dot(residuals, self.along) + dot(pull, self.direction)


class Memory:
    """The inverse of the second derivative as L-BFGS knows it (Nocedal & Wright, 2006, algorithm 7.4)."""

    def __init__(self, curvature: np.ndarray) -> None:
        self.inverse = 1 / np.maximum(curvature, 1e-12)
        self.scale = 1.0
        self.pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=MEMORY)

    def remember(self, step: np.ndarray, change: np.ndarray) -> None:
        """change: of the gradient over the step."""
        product = dot(step, change)
        if product > 0:
            self.scale = product / dot(change, self.inverse * change)
            self.pairs.append((step, change, product))

    def solve(self, gradient: np.ndarray) -> np.ndarray:
        rest, shares = gradient.copy(), []
        for step, change, product in reversed(self.pairs):
            share = dot(step, rest) / product
            rest -= share * change
            shares.append(share)
        rest *= self.scale * self.inverse
        for (step, change, product), share in zip(self.pairs, reversed(shares), strict=True):
            rest += (share - dot(change, rest) / product) * step
        return rest


def regression(features: np.ndarray, targets: np.ndarray, classes: int) -> Regression:
    """(N, F) features and (N,) classes, or (N, C) whether a picture is of each, ready to be fitted."""
    features = np.asarray(features, np.float64 if features.dtype == np.float64 else np.float32)
    centre = features.mean(axis=0, dtype=np.float64).astype(features.dtype)
    points, axes = features - centre, np.eye(features.shape[1], dtype=features.dtype)
    if len(points) < points.shape[1]:
        axes, triangle = np.linalg.qr(points.T)
        points = triangle.T
    variances, turn = np.linalg.eigh(points.T @ points / len(points))
    points = np.concatenate([points @ turn, np.ones((len(points), 1), np.float32)], axis=1)
    return Regression(points, np.append(np.maximum(variances, 0), 1), axes @ turn, centre, targets, classes)


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """(N, C) logits and (N,) classes -> the mean loss in nats and its derivative to the logits, (N, C)."""
    rows = np.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    chosen = shifted[rows, targets]
    residuals = np.exp(shifted, out=shifted)
    total = residuals.sum(axis=1, keepdims=True)
    loss = float((np.log(total[:, 0]) - chosen).mean(dtype=np.float64))
    residuals /= total
    residuals[rows, targets] -= 1
    residuals /= len(logits)
    return loss, residuals


def binary_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """(N, C) logits and (N, C) booleans -> the mean over pictures of the sum over classes, in nats, and its derivative
    to the logits, (N, C)."""
    loss = float((np.logaddexp(0, logits) - targets * logits).sum(dtype=np.float64)) / len(logits)
    return loss, np.asarray((sigmoid(logits) - targets) / len(logits), logits.dtype)


def dot(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b))
