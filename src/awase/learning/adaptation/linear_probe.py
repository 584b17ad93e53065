"""Linear probe: logistic regression on frozen features, from nothing but the pictures (Radford et al., 2021, A.3).

The L2 strength is chosen as in the CLIP paper, among 97 from 1e-6 to 1e6 (`evaluation.probes`), on validation pictures
or those held out in turn. The classes' names take no part, so with few pictures it starts behind all other methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.heads import Head, Reads
from awase.evaluation.logistic import PROMISE, ROUGHLY, Linear, regression
from awase.evaluation.probes import Features, strength_of, sweep
from awase.learning.adaptation.holding_out import Answers, judged, rounds
from awase.learning.adaptation.method import Report, head_adapter, silent
from awase.learning.adaptation.task import Task

UNSURE = 0  # exponent of the strength where nothing can be held out: a strength of 1 is scikit-learn's default


@dataclass(frozen=True)
class LinearProbe:
    name: ClassVar[str] = "linear-probe"

    reads: Reads = "features"
    """What it is fitted on: pooled features before the projection, as in the paper, or vectors of the shared space."""

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support = task.rows(clip, self.reads, report)
        held_out = rounds(support, task.validation_rows(clip, self.reads), task.seed)
        problems = [regression(support.rows[kept], support.targets[kept], len(task.keys)) for kept, _ in held_out]

        def answers(exponent: int) -> list[Answers]:
            solved = [problem.linear(problem.fit(strength_of(exponent), promise=ROUGHLY)) for problem in problems]
            return [(one.logits(held.rows), held.targets) for one, (_, held) in zip(solved, held_out, strict=True)]

        best = sweep(lambda exponent: judged(answers(exponent))) if held_out else UNSURE
        linear = fitted(support, len(task.keys), strength_of(best))
        head = Head(task.keys, task.names, self.reads, linear.weights, linear.bias)
        return head_adapter(self, clip, task, head, answers(best), {"strength": strength_of(best)})


def fitted(support: Features, classes: int, strength: float, promise: float = PROMISE) -> Linear:
    """scikit-learn's LogisticRegression(C=1 / strength) on (N, F) rows, in double precision.

    promise: in nats, as for `Regression.fit`. No finer than the fits that chose the strength need it be: where that is
    weak the loss is flat, and to go on to its very end is worse on new pictures."""
    problem = regression(support.rows.astype(np.float64), support.targets, classes)
    linear = problem.linear(problem.fit(strength, promise))
    return Linear(linear.weights.astype(np.float32), linear.bias.astype(np.float32))
