"""Computing a loss in half precision: the weights stay float32, matrix products are done in bf16 or fp16.

fp16's smallest numbers are too large for gradients, so the loss is multiplied before backward and the gradients divided
after it. Micikevicius et al., 2018 (arXiv:1710.03740), section 3.2, with the schedule of torch's own scaler."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from awase.errors import UsageError
from awase.learning.guard import GRADIENT

Precision = Literal["fp32", "bf16", "fp16"]
KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GROW_AFTER = 2000
"""Good steps after which the factor is doubled."""


@dataclass
class Half:
    """A precision, and for fp16 the factor by which losses are multiplied."""

    precision: Precision
    factor: float = 0.0
    good: int = 0
    """Steps since the factor changed."""

    def __post_init__(self) -> None:
        if self.precision not in KINDS:
            raise UsageError(f"precision is one of {', '.join(KINDS)}, not {self.precision!r}")
        if not self.factor:
            self.factor = 2.0**16 if self.precision == "fp16" else 1.0

    def computing(self, device: torch.device) -> torch.autocast:
        """The context in which losses are computed."""
        return torch.autocast(device.type, KINDS[self.precision], enabled=self.precision != "fp32")

    def undo(self, gradients: Iterable[Tensor]) -> None:
        """Divides gradients by the factor."""
        if self.factor != 1:
            for gradient in gradients:
                gradient.div_(self.factor)

    def overflowed(self, told: Mapping[str, float]) -> bool:
        """Whether a step's gradient is not finite because the factor was too large: its loss is. No fault of the
        step's."""
        loss = (value for name, value in told.items() if name != GRADIENT)
        return self.factor > 1 and not math.isfinite(told[GRADIENT]) and all(map(math.isfinite, loss))

    def settle(self, overflowed: bool) -> None:
        """Sets the factor for the next step."""
        if self.precision != "fp16":
            return
        self.good = 0 if overflowed else self.good + 1
        if overflowed:
            self.factor /= 2
        elif self.good == GROW_AFTER:
            self.factor, self.good = 2 * self.factor, 0
