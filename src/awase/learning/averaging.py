"""A moving average of the weights, which usually is the better model than the last ones. Polyak and Juditsky, 1992."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from awase.errors import UsageError


class Average:
    """average += (1 - decay) * (weight - average) after each step; decay grows at the start, as
    (1 + step) / (10 + step), so that the first weights are forgotten sooner."""

    @torch.no_grad()
    def __init__(self, weights: Mapping[str, Tensor], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"a moving average's decay is in [0, 1), not {decay}")
        self.weights, self.decay = weights, decay
        self.tensors = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Takes in the weights as they are after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in self.weights.items():
            if weight.is_floating_point():
                self.tensors[name].lerp_(weight.detach(), 1 - decay)
            else:  # a counter has no mean
                self.tensors[name].copy_(weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts the weights are the average: to measure it, or to write it down."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self.weights.items():
            held = weight.detach().clone()
            weight.copy_(self.tensors[name])
            self.tensors[name] = held
