"""How long and how fast: steps, learning rates of every weight at every step, and the optimiser that they feed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from awase.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101) with a linear rise, then half a cosine down or a plain."""

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
    shape: Literal["cosine", "constant"] = "cosine"
    """What the rate does after the rise: falls along half a cosine, or stays."""
    least: float = 0.0
    """Part of the rate that is left at the end of the cosine."""
    betas: tuple[float, float] = (0.9, 0.98)
    """How slowly the means of the gradient and of its square forget."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Beginning of weights' names -> what their rate is multiplied by; the longest beginning counts (`layerwise`)."""
    patience: int = 5
    """Steps in a row that may be passed over because a loss or gradient is not finite; one more, and training stops."""

    def __post_init__(self) -> None:
        fits = {
            "steps": (self.steps >= 1, "1 or more"),
            "rate": (0 < self.rate < math.inf, "above 0"),
            "decay": (0 <= self.decay < math.inf, "from 0 up"),
            "rise": (0 <= self.rise <= 1, "from 0 to 1"),
            "clip": (self.clip > 0, "above 0"),
            "least": (0 <= self.least <= 1, "from 0 to 1"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "each from 0 to below 1"),
            "patience": (self.patience >= 0, "from 0 up"),
        }
        for name, (fit, wanted) in fits.items():
            if not fit:
                raise UsageError(f"a schedule needs {name} {wanted}, not {getattr(self, name)}")
        if self.shape not in ("cosine", "constant"):
            raise UsageError(f"the shape of a schedule is cosine or constant, not {self.shape!r}")
        if not all(0 < factor < math.inf for factor in self.factors.values()):
            raise UsageError(
                f"factors of a rate are above 0 (a weight that shall not learn is not trained): {self.factors}"
            )

    def at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rising = self.rise * self.steps
        if step < rising:
            return self.rate * (step + 1) / (rising + 1)
        if self.shape == "constant":
            return self.rate
        fallen = 0.5 * (1 + math.cos(math.pi * (step - rising) / (self.steps - rising)))
        return self.rate * (self.least + (1 - self.least) * fallen)

    def factor(self, name: str) -> float:
        """What the rate of the weight of this name is multiplied by."""
        fitting = [beginning for beginning in self.factors if name.startswith(beginning)]
        return self.factors[max(fitting, key=len)] if fitting else 1.0

    def optimiser(self, weights: Mapping[str, Tensor]) -> torch.optim.AdamW:
        """Over all of `weights`. Raises UsageError for a factor that no weight has."""
        if idle := [b for b in self.factors if not any(name.startswith(b) for name in weights)]:
            raise UsageError(f"no weight's name begins with {idle[0]!r}; there are {', '.join(list(weights)[:8])}, ...")
        groups: dict[tuple[bool, float, bool], list[Tensor]] = {}
        for name, weight in weights.items():  # sharded and whole tensors cannot be stepped in one call
            kind = weight.ndim > 1, self.factor(name), isinstance(weight, DTensor)
            groups.setdefault(kind, []).append(weight)
        given: list[dict[str, Any]] = [
            {"params": members, "weight_decay": self.decay if decays else 0.0, "factor": factor}
            for (decays, factor, _), members in groups.items()
        ]
        fused = all(weight.device.type in ("cpu", "cuda") for weight in weights.values())
        return torch.optim.AdamW(given, lr=self.rate, betas=self.betas, fused=fused)

    def set_rates(self, optimiser: torch.optim.Optimizer, step: int) -> float:
        """Sets the rates of a step; gives the one that has no factor."""
        rate = self.at(step)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        return rate


def layerwise(names: Iterable[str], shrink: float) -> dict[str, float]:
    """Factors of the rate that shrink with the distance from a tower's end: block i of L learns at shrink ** (L - i),
    what lies before the blocks (counted as block -1) at shrink ** (L + 1), all after them at 1. Clark et al., 2020
    (arXiv:2003.10555), as BEiT uses it (arXiv:2106.08254)."""
    names = list(names)
    blocks = [match for name in names if (match := re.match(r"(.*\bblocks\.)(\d+)\.", name))]
    counts: dict[str, int] = {}
    for match in blocks:
        counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
    factors = {f"{start}{i}.": shrink ** (count - i) for start, count in counts.items() for i in range(count)}
    for start, count in counts.items():
        tower = start.removesuffix("blocks.")
        first = re.compile(re.escape(tower) + r"(patch|class_token|positions|tokens|pre_norm|stem)\b")
        factors |= {name: shrink ** (count + 1) for name in names if first.match(name)}
    return factors
