"""Tip-Adapter-F: a cache whose keys learn, from the mean of each picture's views (Zhang et al., 2022, section 3.3).

AdamW (rate 1e-3, epsilon 1e-4, decay 0.01, falling by half a cosine) on the cross entropy of

    z = s f.t + alpha A V,  A = exp(-beta (1 - f.K'))        so that   dK = alpha beta ((dz V') * A)' f

Each epoch looks at the next view of every picture. Training starts from Tip-Adapter at its best alpha and beta (the
paper has others for each set); the best epoch, and alpha and beta once more, are chosen on what was held out, where the
paper's code looked at test pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.heads import Cache, Head, closeness
from awase.errors import UsageError
from awase.evaluation.logistic import cross_entropy
from awase.learning.adaptation.augmentation import affordable
from awase.learning.adaptation.cache import Grid, keys_of, look
from awase.learning.adaptation.holding_out import best_step, rounds
from awase.learning.adaptation.method import Report, head_adapter, scale_unit, silent
from awase.learning.adaptation.task import Task

DECAY, EPSILON, BETAS = 0.01, 1e-4, (0.9, 0.999)


@dataclass(frozen=True)
class TipAdapterF:
    name: ClassVar[str] = "cache-trained"

    views: int = 10
    """Random views that a key begins as the mean of, and that train it in turn; fewer where pictures are many."""
    grid: Grid = field(default_factory=Grid)
    epochs: int = 20
    rate: float = 1e-3
    batch: int = 256

    def __post_init__(self) -> None:
        if self.views < 1 or self.epochs < 0 or self.rate <= 0 or self.batch < 1:
            raise UsageError(f"views and batch from 1, epochs from 0, rate above 0: {self}")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support, words = task.rows(clip, progress=report), task.zero_shot(clip)
        seen, unit = task.views(clip, affordable(self.views, len(support)), progress=report), scale_unit(clip)
        held_out = rounds(support, task.validation_rows(clip), task.seed)

        keys, values = keys_of(seen), np.eye(len(task.keys), dtype=np.float32)[support.targets]
        looked_at = [look(words, Cache(keys[kept], values[kept], 1.0, 1.0), held) for kept, held in held_out]
        alpha, beta = self.grid.best(looked_at, unit)

        def learn(kept: np.ndarray) -> list[Head]:
            start = replace(words, cache=Cache(keys[kept], values[kept], alpha, beta))
            return list(self.path(start, seen[:, kept], support.targets[kept], task.seed))

        paths, path = [learn(kept) for kept, _ in held_out], learn(np.ones(len(support), bool))
        best = best_step(paths, held_out, len(path) - 1)
        looked_at = [look(words, _cache(tried[best]), held) for tried, (_, held) in zip(paths, held_out, strict=True)]
        alpha, beta = self.grid.best(looked_at, unit)
        head = replace(words, cache=replace(_cache(path[best]), alpha=alpha, beta=beta))
        found = [(one.logits(alpha, beta), one.targets) for one in looked_at]
        return head_adapter(self, clip, task, head, found, {"alpha": alpha, "beta": beta, "epoch": float(best)})

    def path(self, start: Head, views: np.ndarray, targets: np.ndarray, seed: int) -> Iterator[Head]:
        """(V, N, D) views and (N,) classes -> the head at the start and after each epoch."""
        yield start
        cache = _cache(start)
        optimiser = AdamW(cache.keys)
        chance, batches = np.random.default_rng(seed), -(-len(targets) // self.batch)
        for epoch in range(self.epochs):
            rows, order = views[epoch % len(views)], chance.permutation(len(targets))
            for number in range(batches):
                some = order[number * self.batch : (number + 1) * self.batch]
                done = (epoch * batches + number) / (self.epochs * batches)
                slope = key_slope(replace(start, cache=cache), rows[some], targets[some])
                cache = replace(cache, keys=optimiser.step(slope, self.rate * 0.5 * (1 + math.cos(math.pi * done))))
            yield replace(start, cache=cache)


def key_slope(head: Head, rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(K, D): the derivative of the mean cross entropy to the keys of the head's cache."""
    cache = _cache(head)
    _, residuals = cross_entropy(head.logits(rows), targets)
    near = closeness(rows, cache.keys, cache.beta)
    return np.asarray(cache.alpha * cache.beta * ((residuals @ cache.values.T) * near).T @ rows, np.float32)


class AdamW:
    """Loshchilov & Hutter, 2019 (arXiv:1711.05101), algorithm 2."""

    def __init__(self, values: np.ndarray) -> None:
        self.values: np.ndarray = values.astype(np.float32)
        self._mean: np.ndarray = np.zeros_like(self.values)
        self._square: np.ndarray = np.zeros_like(self.values)
        self._steps = 0

    def step(self, slope: np.ndarray, rate: float) -> np.ndarray:
        """The values after one more step."""
        self._steps += 1
        self._mean = BETAS[0] * self._mean + (1 - BETAS[0]) * slope
        self._square = BETAS[1] * self._square + (1 - BETAS[1]) * slope**2
        mean = self._mean / (1 - BETAS[0] ** self._steps)
        square = self._square / (1 - BETAS[1] ** self._steps)
        moved = (1 - rate * DECAY) * self.values - rate * mean / (np.sqrt(square) + EPSILON)
        self.values = moved.astype(np.float32)
        return self.values


def _cache(head: Head) -> Cache:
    if head.cache is None:
        raise UsageError("a head without a cache has no keys to learn")
    return head.cache
