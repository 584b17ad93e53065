"""LP++: a linear probe with a share of the names in it, by full gradient descent with steps from the curvature.

    logit_c = w_c . f + a_c (t_c . f)       w, a learned; t the names' unit vectors

Huang et al., 2024 (arXiv:2404.02285). w starts at the sum of the class's pictures, a at 250 times how well names and
pictures agree; w's rate is 4 N / the largest eigenvalue of F'F, and a moves every tenth epoch. The best epoch, of every
tenth, is chosen on what was held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip, unit
from awase.encoding.heads import Head
from awase.errors import UsageError
from awase.evaluation.logistic import cross_entropy
from awase.evaluation.probes import Features
from awase.learning.adaptation.holding_out import answers_at, best_step, rounds
from awase.learning.adaptation.method import Report, head_adapter, scale_unit, silent
from awase.learning.adaptation.task import Task

EVERY = 10  # epochs between two steps of a, and between two of which the best is chosen


@dataclass(frozen=True)
class LpPlus:
    name: ClassVar[str] = "lp++"

    epochs: int = 300
    momentum: float = 0.9
    names: float = 250.0
    """What the mean agreement of names and pictures is multiplied by, to give the names' first share."""

    def __post_init__(self) -> None:
        if self.epochs < 0 or not 0 <= self.momentum < 1 or self.names < 0:
            raise UsageError(f"epochs and names from 0, momentum in [0, 1): {self}")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support, words = task.rows(clip, progress=report), unit(task.zero_shot(clip).weights.T).T
        held_out = rounds(support, task.validation_rows(clip), task.seed)

        def learn(kept: np.ndarray) -> list[Head]:
            path = self.path(support[kept], words, scale_unit(clip))
            return [Head(task.keys, task.names, "vectors", weights) for weights in path]

        paths, path = [learn(kept) for kept, _ in held_out], learn(np.ones(len(support), bool))
        best = best_step(paths, held_out, len(path) - 1)
        found = answers_at(best, paths, held_out)
        return head_adapter(self, clip, task, path[best], found, {"epoch": float(EVERY * best)})

    def path(self, support: Features, words: np.ndarray, relative: float = 1.0) -> Iterator[np.ndarray]:
        """(N, D) unit rows and the names' (D, C) unit vectors -> weights (D, C) at the start and every tenth epoch.
        relative: the model's scale to the paper's 100."""
        rows, count = support.rows.astype(np.float64), len(support)
        hot = np.eye(words.shape[1])[support.targets]
        w, a = rows.T @ hot, np.full(words.shape[1], relative * self.names * agreement(support, words))
        rate_w = 4 * count / max(float(np.linalg.eigvalsh(_smaller_gram(rows))[-1]), 1e-12)
        rate_a = count / (4 * max(float(((rows @ words) ** 2).sum(axis=0).max()), 1e-12))
        speed_w = np.zeros_like(w)
        for epoch in range(self.epochs + 1):
            if epoch % EVERY == 0:
                yield np.asarray(w + a * words, np.float32)
            _, residuals = cross_entropy(rows @ (w + a * words), support.targets)
            speed_w = self.momentum * speed_w + rows.T @ residuals
            if epoch % EVERY == EVERY - 1:
                a = a - rate_a * ((rows @ words) * residuals).sum(axis=0)
            w = w - rate_w * speed_w


def agreement(support: Features, words: np.ndarray) -> float:
    """The mean over classes of how well the class's pictures agree with its name, a cosine."""
    own = (support.rows @ words)[np.arange(len(support)), support.targets]
    sizes = np.bincount(support.targets, minlength=words.shape[1])
    means = np.bincount(support.targets, own, minlength=words.shape[1]) / np.maximum(sizes, 1)
    return float(means[sizes > 0].mean())


def _smaller_gram(rows: np.ndarray) -> np.ndarray:
    """A square matrix with the largest eigenvalue of F'F."""
    return np.asarray(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
