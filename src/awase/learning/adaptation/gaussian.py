"""Gaussian discriminant analysis: classes as Gaussians of one covariance, in closed form, beside the classes' names.

    logits = s f.t + alpha (f.P m_c - m_c.P m_c / 2)      m_c the mean of a class, P the precision of what is left

Wang et al., 2024 (arXiv:2402.04087). P = D ((N - 1) S + tr(S) I)^-1 with the covariance S of D numbers round the means
of N pictures (Kubokawa & Srivastava, 2008), which exists with fewer pictures than numbers. alpha is the best of a
geometric row on what was held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.heads import Head
from awase.errors import UsageError
from awase.evaluation.logistic import Linear
from awase.evaluation.probes import Features
from awase.learning.adaptation.holding_out import answers_at, best_step, rounds
from awase.learning.adaptation.method import Report, head_adapter, scale_unit, silent
from awase.learning.adaptation.task import Task


@dataclass(frozen=True)
class Gaussian:
    name: ClassVar[str] = "gaussian"

    alphas: tuple[float, ...] = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
    """What the Gaussians' weight is chosen from, told for a scale of 100."""

    def __post_init__(self) -> None:
        if not self.alphas or min(self.alphas) < 0:
            raise UsageError(f"alphas from 0, one at least: {self}")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support, words = task.rows(clip, progress=report), task.zero_shot(clip)
        held_out = rounds(support, task.validation_rows(clip), task.seed)
        unit = scale_unit(clip)

        def learn(kept: np.ndarray) -> list[Head]:
            linear = discriminant(support[kept], len(task.keys))
            return [_beside(words, linear, alpha * unit) for alpha in self.alphas]

        paths, path = [learn(kept) for kept, _ in held_out], learn(np.ones(len(support), bool))
        best = best_step(paths, held_out, len(path) // 2)
        found = answers_at(best, paths, held_out)
        return head_adapter(self, clip, task, path[best], found, {"alpha": self.alphas[best]})


def discriminant(support: Features, classes: int, ridge: float = 1.0) -> Linear:
    """(N, D) rows of every class -> the Gaussians' linear classifier, weights (D, C). ridge: multiplies tr(S)."""
    rows = support.rows.astype(np.float64)
    means = np.stack([rows[support.targets == label].mean(axis=0) for label in range(classes)])  # (C, D)
    rest = rows - means[support.targets]
    spread = float((rest**2).sum()) / max(len(rows) - 1, 1)  # tr(S)
    if spread <= 0:  # one picture of each class: nothing is left round the means
        spread = float(means.var(axis=0).sum()) or 1.0
    weights = rows.shape[1] * _solved(rest, ridge * spread, means.T)
    return Linear(weights, -(means * weights.T).sum(axis=1) / 2)


def _solved(rest: np.ndarray, ridge: float, right: np.ndarray) -> np.ndarray:
    """(R'R + ridge I)^-1 right for (N, D) R; by N equations where those are fewer than D (Woodbury's identity)."""
    count, width = rest.shape
    if count >= width:
        return np.linalg.solve(rest.T @ rest + ridge * np.eye(width), right)
    inside = np.linalg.solve(rest @ rest.T + ridge * np.eye(count), rest @ right)
    return np.asarray((right - rest.T @ inside) / ridge)


def _beside(words: Head, linear: Linear, alpha: float) -> Head:
    """The logits above over 1 + alpha: it changes no answer and keeps them of a size that a temperature can correct."""
    share = 1 / (1 + alpha)
    weights = (share * words.weights + (1 - share) * linear.weights).astype(np.float32)
    return Head(words.keys, words.names, "vectors", weights, ((1 - share) * linear.bias).astype(np.float32))
