"""The training loop: ask for a loss, step, report. It knows nothing of pictures, sentences or towers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from awase.errors import AwaseError, UsageError

Losses = Mapping[str, Tensor]


class TrainingFailed(AwaseError):
    """A loss or a gradient became infinite or not a number."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. AdamW with one cycle: a linear rise, then half a cosine down to nothing."""

    steps: int
    """Updates of the weights."""
    rate: float
    """The highest learning rate."""
    decay: float = 0.02
    """Weight decay of matrices and kernels. Gains, biases and scales never decay."""
    rise: float = 0.1
    """Part of the steps in which the rate rises."""
    clip: float = 1.0
    """Largest norm of the gradient of all weights together; a longer one is shortened."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rate <= 0 or not 0 <= self.rise <= 1 or self.clip <= 0:
            raise UsageError(f"a schedule needs steps, rate and clip above 0 and a rise in [0, 1]; given: {self}")

    def at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rising = self.rise * self.steps
        if step < rising:
            return self.rate * (step + 1) / (rising + 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (self.steps - rising)))


def train(
    weights: Mapping[str, nn.Parameter],
    losses: Callable[[int], Losses],
    schedule: Schedule,
    report: Callable[[int, dict[str, float]], None],
) -> None:
    """Changes `weights` in place, step by step, to make the sum of `losses(step)` smaller.

    losses: the parts of the loss, already weighted, by name; what is random in them is theirs. report: is told the
    parts, the rate and the seconds since the start, after each step. Raises TrainingFailed, naming step and part,
    before a loss or gradient that is not finite reaches the weights."""
    optimiser = torch.optim.AdamW(_groups(weights, schedule.decay), lr=schedule.rate, betas=(0.9, 0.98))
    started = time.perf_counter()
    for step in range(schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.at(step)
        parts = losses(step)
        told = {name: float(part.detach()) for name, part in parts.items()}
        _refuse_infinite(told, step)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(weights.values(), schedule.clip))
        _refuse_infinite({"gradient": norm}, step)
        optimiser.step()
        report(step, {**told, "rate": schedule.at(step), "seconds": time.perf_counter() - started})


def _groups(weights: Mapping[str, nn.Parameter], decay: float) -> list[dict[str, object]]:
    decayed = [weight for weight in weights.values() if weight.ndim > 1]
    kept = [weight for weight in weights.values() if weight.ndim <= 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": kept, "weight_decay": 0.0}]


def _refuse_infinite(values: Mapping[str, float], step: int) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingFailed(
                f"step {step}: {name} is {value}; the weights are as they were before it. "
                "A lower rate or a smaller clip usually helps."
            )
