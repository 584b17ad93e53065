"""Tip-Adapter: the training pictures themselves are the classifier, beside the classes' names. Nothing is trained.

    logits = s f.t + alpha exp(-beta (1 - f.K')) V      K the mean of each picture's views, of unit length; V its class

Zhang et al., 2022 (arXiv:2207.09519). alpha and beta are the best of a grid on what was held out. The paper's code sets
the ends of its own by hand for each data set; here they are far, and steps are ratios. alpha is told for a scale s of
100, as in the paper, and goes with the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip, unit
from awase.encoding.heads import Cache, Head
from awase.errors import UsageError
from awase.evaluation.probes import Features
from awase.learning.adaptation.augmentation import affordable
from awase.learning.adaptation.holding_out import judged, rounds
from awase.learning.adaptation.method import Report, head_adapter, scale_unit, silent
from awase.learning.adaptation.task import Task

ALPHAS, BETAS = 30, 60  # values on each axis of the grid, from LEAST
LEAST = 0.1


@dataclass(frozen=True)
class Grid:
    """What alpha and beta are chosen from: 30 and 60 values from 0.1 to the most, each a fixed ratio above the last."""

    alpha: float = 1.17
    """Where nothing can be held out to choose it on."""
    beta: float = 1.0
    """The same."""
    most_alpha: float = 24.0
    most_beta: float = 56.0

    def __post_init__(self) -> None:
        if min(self.alpha, self.beta) < 0 or min(self.most_alpha, self.most_beta) < LEAST:
            raise UsageError(f"alpha and beta from 0, the most that is tried from {LEAST}: {self}")

    def best(self, looked_at: Sequence[LookedAt], unit: float) -> tuple[float, float]:
        """The alpha, a multiple of `unit`, and the beta with which most pictures are answered rightly; of equals those
        with the smaller loss. The ones given, where nothing was held out."""
        if not looked_at:
            return self.alpha * unit, self.beta
        alphas = np.geomspace(LEAST, self.most_alpha, ALPHAS) * unit
        betas = np.geomspace(LEAST, self.most_beta, BETAS)
        right = np.sum([one.right(alphas, betas) for one in looked_at], axis=0)
        alike = [(float(alphas[a]), float(betas[b])) for a, b in np.argwhere(right == right.max())]
        return max(alike, key=lambda pair: judged([(one.logits(*pair), one.targets) for one in looked_at]))


@dataclass(frozen=True)
class LookedAt:
    """Held-out pictures beside a cache. plain: (n, C) logits without it. cosines: (n, K) with its keys. values: (K, C).
    targets: (n,)."""

    plain: np.ndarray
    cosines: np.ndarray
    values: np.ndarray
    targets: np.ndarray

    def logits(self, alpha: float, beta: float) -> np.ndarray:
        return np.asarray(self.plain + alpha * np.exp(-beta * (1 - self.cosines)) @ self.values)

    def right(self, alphas: np.ndarray, betas: np.ndarray) -> np.ndarray:
        """(A, B): how many pictures are answered rightly with each alpha and beta."""
        right = np.zeros((len(alphas), len(betas)), int)
        for b, beta in enumerate(betas):
            near = np.exp(-beta * (1 - self.cosines)) @ self.values
            for a, alpha in enumerate(alphas):
                right[a, b] = int(((self.plain + alpha * near).argmax(axis=1) == self.targets).sum())
        return right


@dataclass(frozen=True)
class TipAdapter:
    name: ClassVar[str] = "cache"

    views: int = 10
    """Random views that a key is the mean of, fewer where pictures are many; 0 takes the picture as it is."""
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        if self.views < 0:
            raise UsageError(f"{self.views} views: from 0")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support, words = task.rows(clip, progress=report), task.zero_shot(clip)
        views = affordable(self.views, len(support))
        keys = keys_of(task.views(clip, views, progress=report) if views else support.rows[None])
        held_out = rounds(support, task.validation_rows(clip), task.seed)

        values = np.eye(len(task.keys), dtype=np.float32)[support.targets]
        looked_at = [look(words, Cache(keys[kept], values[kept], 1.0, 1.0), held) for kept, held in held_out]
        alpha, beta = self.grid.best(looked_at, scale_unit(clip))
        found = [(one.logits(alpha, beta), one.targets) for one in looked_at]
        head = replace(words, cache=Cache(keys, values, alpha, beta))
        return head_adapter(self, clip, task, head, found, {"alpha": alpha, "beta": beta})


def look(words: Head, cache: Cache, held: Features) -> LookedAt:
    return LookedAt(words.logits(held.rows), held.rows @ cache.keys.T, cache.values, held.targets)


def keys_of(views: np.ndarray) -> np.ndarray:
    """(V, N, D) views -> (N, D) keys: their means, of unit length."""
    means: np.ndarray = views.mean(axis=0)
    return unit(means)
