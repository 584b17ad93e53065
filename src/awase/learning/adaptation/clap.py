"""CLAP and ZS-LP: a linear classifier that starts from the classes' names and is held near them where they know better.

    minimise  mean_i cross-entropy(s cos(f_i, w_c), y_i)  +  mean_c pull_c |w_c - t_c|^2       over prototypes w (C, D)

from w = t, the names' vectors. pull_c is the mean probability that zero-shot classification gives the right class in
the training pictures of class c; without a pull it is ZS-LP. Silva-Rodriguez et al., 2024 (arXiv:2312.12730), sections
4.1 and 4.2, with the settings of their code: no validation is needed, and none is used but for the temperature.

They leave t as long as CLIP's tower makes it, about 10 = sqrt(100), the root of the scale. Here t is sqrt(s) long for
any model's scale s, so that rate and pull mean the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.heads import Head
from awase.encoding.scoring import softmax
from awase.errors import UsageError
from awase.evaluation.logistic import cross_entropy
from awase.evaluation.probes import Features
from awase.learning.adaptation.augmentation import affordable
from awase.learning.adaptation.holding_out import answers_of, rounds
from awase.learning.adaptation.method import Report, head_adapter, silent
from awase.learning.adaptation.task import Task


@dataclass(frozen=True)
class Clap:
    name: ClassVar[str] = "clap"

    pull: bool = True
    """Whether prototypes are held near the names' vectors; without, it is ZS-LP."""
    views: int = 20
    """Random views of each picture, fewer where pictures are many; 0 takes the pictures as they are."""
    epochs: int = 300
    rate: float = 0.1
    """Of stochastic gradient descent, falling by half a cosine after a first epoch at 1e-5."""
    momentum: float = 0.9
    batch: int = 256

    def __post_init__(self) -> None:
        if min(self.views, self.epochs) < 0 or self.rate <= 0 or not 0 <= self.momentum < 1 or self.batch < 1:
            raise UsageError(f"views and epochs from 0, rate above 0, momentum in [0, 1), batch from 1: {self}")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support, start = task.rows(clip, progress=report), task.zero_shot(clip)
        views = affordable(self.views, len(support))
        seen = task.views(clip, views, progress=report) if views else support.rows[None]
        validation = task.validation_rows(clip)

        def learn(kept: np.ndarray) -> Head:
            weights = self.learn(_stacked(seen[:, kept], support.targets[kept]), start.weights, task.seed)
            return Head(task.keys, task.names, "vectors", weights)

        head = learn(np.ones(len(support), bool))
        if validation is not None:  # enough for a temperature, and it was learned for already
            return head_adapter(self, clip, task, head, [(head.logits(validation.rows), validation.targets)], {})
        return head_adapter(self, clip, task, head, answers_of(learn, rounds(support, None, task.seed)), {})

    def learn(self, support: Features, start: np.ndarray, seed: int) -> np.ndarray:
        """(M, D) unit rows and (D, C) starting weights, all of length s -> (D, C) weights of length s."""
        scale = float(np.linalg.norm(start, axis=0).mean())
        anchors = start / math.sqrt(scale)  # (D, C), of length sqrt(s)
        pull = self.pulls(support, start) if self.pull else np.zeros(start.shape[1])
        prototypes, speed = anchors.astype(np.float32), np.zeros_like(anchors, np.float32)
        chance = np.random.default_rng(seed)
        for epoch in range(self.epochs):
            rate = np.float32(self._rate(epoch))
            order = chance.permutation(len(support))
            for begin in range(0, len(order), self.batch):
                slope = _slope(prototypes, support[order[begin : begin + self.batch]], scale)
                slope += (2 * pull / len(pull) * (prototypes - anchors)).astype(np.float32)
                speed = np.float32(self.momentum) * speed + slope
                prototypes = prototypes - rate * speed
        return np.asarray(scale * prototypes / np.linalg.norm(prototypes, axis=0), np.float32)

    def pulls(self, support: Features, start: np.ndarray) -> np.ndarray:
        """(C,): how far zero-shot classification can be trusted in each class."""
        true = softmax(support.rows @ start)[np.arange(len(support)), support.targets]
        classes = start.shape[1]
        sizes = np.bincount(support.targets, minlength=classes)
        return np.asarray(np.bincount(support.targets, true, minlength=classes) / np.maximum(sizes, 1))

    def _rate(self, epoch: int) -> float:
        return 1e-5 if epoch == 0 else self.rate * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))


@dataclass(frozen=True)
class ZsLp(Clap):
    """The same without a pull."""

    name: ClassVar[str] = "zs-lp"

    pull: bool = False


def _stacked(views: np.ndarray, targets: np.ndarray) -> Features:
    """(V, N, D) views -> Features of all V * N."""
    return Features(views.reshape(-1, views.shape[-1]), np.tile(targets, len(views)))


def _slope(prototypes: np.ndarray, support: Features, scale: float) -> np.ndarray:
    """(D, C): the derivative of the mean cross entropy of s cos(f, w) to w, which is across w."""
    lengths = np.linalg.norm(prototypes, axis=0)
    units = prototypes / lengths
    _, residuals = cross_entropy(scale * (support.rows @ units), support.targets)
    slope = scale * (support.rows.T @ residuals)
    return np.asarray((slope - units * (units * slope).sum(axis=0)) / lengths, np.float32)
