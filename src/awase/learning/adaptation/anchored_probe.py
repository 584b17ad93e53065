"""A linear probe that is added to zero-shot classification, and held near it.

    logit_c = share * s cos(v, t_c)  +  w_c . f + b_c

v, t: vectors of the picture and of the class's name, s the model's scale; f: pooled features before the projection,
which hold more than v does. Only w and b are learned, by logistic regression with an L2 penalty on w: the more it
weighs, the more the names alone decide, as in L2-SP (Li, Grandvalet & Davoine, 2018, arXiv:1802.01483). Share and
penalty are chosen on what was held out; share 0 is the plain linear probe, for classes whose names say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.heads import Head
from awase.errors import UsageError
from awase.evaluation.logistic import PROMISE, ROUGHLY, Linear, regression
from awase.evaluation.probes import Features, strength_of, sweep
from awase.learning.adaptation.holding_out import Answers, judged, rounds
from awase.learning.adaptation.linear_probe import UNSURE
from awase.learning.adaptation.method import Report, head_adapter, silent
from awase.learning.adaptation.task import Task


@dataclass(frozen=True)
class AnchoredProbe:
    name: ClassVar[str] = "anchored-probe"

    shares: tuple[float, ...] = (1.0, 0.5, 0.25, 0.0)
    """How much of zero-shot classification's logits is kept; the first, where nothing can be held out."""

    def __post_init__(self) -> None:
        if not self.shares or not 0 <= min(self.shares) <= max(self.shares) < np.inf:
            raise UsageError(f"shares from 0, one at least: {self}")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        support, names = task.rows(clip, "both", report), task.zero_shot(clip)
        held_out = rounds(support, task.validation_rows(clip, "both"), task.seed)
        problems = [_Anchored(support[kept], names) for kept, _ in held_out]

        def answers(share: float, exponent: int) -> list[Answers]:
            linear = [problem.linear(share, exponent, ROUGHLY) for problem in problems]
            return [(one.logits(held.rows), held.targets) for one, (_, held) in zip(linear, held_out, strict=True)]

        def strength_for(share: float) -> int:
            return sweep(lambda exponent: judged(answers(share, exponent)))

        tried = [(share, strength_for(share)) for share in self.shares if held_out]
        share, exponent = max(tried, key=lambda one: judged(answers(*one)), default=(self.shares[0], UNSURE))
        precise = Features(support.rows.astype(np.float64), support.targets)
        linear = _Anchored(precise, names).linear(share, exponent, PROMISE)
        weights, bias = (np.asarray(part, np.float32) for part in (linear.weights, linear.bias))
        head = Head(task.keys, task.names, "both", weights, bias)
        figures = {"share": share, "strength": strength_of(exponent)}
        return head_adapter(self, clip, task, head, answers(share, exponent), figures)


class _Anchored:
    """Pictures to learn from: rows of features and vectors, (N, F + D)."""

    def __init__(self, support: Features, names: Head) -> None:
        width = support.rows.shape[1] - names.width
        self.names, self.known = names, names.logits(support.rows[:, width:])
        self.regression = regression(support.rows[:, :width], support.targets, len(names.keys))

    def linear(self, share: float, exponent: int, promise: float) -> Linear:
        """Logits of such rows: the share of the names, and what is learned beside it."""
        solution = self.regression.fit(strength_of(exponent), promise=promise, before=share * self.known)
        learned = self.regression.linear(solution)
        return Linear(np.concatenate([learned.weights, share * self.names.weights]), learned.bias)
