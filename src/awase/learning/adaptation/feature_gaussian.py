"""Gaussian discriminant analysis on the features before the projection: the pictures alone, the names take no part.

`gaussian` has the formula. Features hold more than vectors do, and many of them are large in few pictures only; a power
below 1 evens that out (Perronnin, Sánchez & Mensink, 2010). Power and ridge are chosen on what was held out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.heads import Head, raised
from awase.errors import UsageError
from awase.evaluation.probes import Features
from awase.learning.adaptation.gaussian import discriminant
from awase.learning.adaptation.holding_out import answers_at, best_step, rounds
from awase.learning.adaptation.method import Report, head_adapter, silent
from awase.learning.adaptation.task import Task


@dataclass(frozen=True)
class FeatureGaussian:
    name: ClassVar[str] = "gaussian-features"

    powers: tuple[float, ...] = (0.5, 1.0)
    ridges: tuple[float, ...] = (1.0, 0.1, 0.3, 3.0)
    """Multiples of the ridge of Wang et al.; the first of each is taken where nothing can be held out."""

    def __post_init__(self) -> None:
        if not self.powers or not self.ridges or not 0 < min(self.powers) <= max(self.powers) <= 1:
            raise UsageError(f"powers above 0 and up to 1, and ridges, one of each at least: {self}")
        if min(self.ridges) <= 0:
            raise UsageError(f"ridges above 0: {self}")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support = task.rows(clip, "features", report)
        held_out = rounds(support, task.validation_rows(clip, "features"), task.seed)
        choices = list(product(self.powers, self.ridges))

        def learn(kept: np.ndarray) -> list[Head]:
            return [self._head(task, support[kept], power, ridge) for power, ridge in choices]

        paths, path = [learn(kept) for kept, _ in held_out], learn(np.ones(len(support), bool))
        best = best_step(paths, held_out, 0)
        power, ridge = choices[best]
        found = answers_at(best, paths, held_out)
        return head_adapter(self, clip, task, path[best], found, {"power": power, "ridge": ridge})

    def _head(self, task: Task, support: Features, power: float, ridge: float) -> Head:
        linear = discriminant(Features(raised(support.rows, power), support.targets), len(task.keys), ridge)
        width = len(linear.weights)  # over it logits are of a size that a temperature can correct
        weights, bias = (np.asarray(part / width, np.float32) for part in (linear.weights, linear.bias))
        return Head(task.keys, task.names, "features", weights, bias, power=power)
