"""How near training comes to what the machine can do: multiplications and additions of a step, as torch counts them in
a forward and a backward pass, against the rate of one large matrix product in the same precision. Williams, Waterman
and Patterson, 2009 (the roofline, doi:10.1145/1498765.1498785). What is computed twice counts as work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from awase.learning.half import Half, Precision

SECONDS, RUNS = 0.3, 3  # spent on products; of each size
SIDES = (256, 512, 1024, 2048, 4096, 8192)  # a GPU is busy with large ones only


class Speed:
    """Call it once a step; losses: of any one step, over `weights`, which are left as they were."""

    def __init__(
        self,
        losses: Callable[[], Mapping[str, Tensor]],
        weights: Mapping[str, Tensor],
        device: str,
        precision: Precision,
    ) -> None:
        self.device = torch.device(device)
        half = Half(precision).computing(self.device)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []), half:
            self._shortest = _work_of(losses, weights) / _products_per_second(self.device)
        self._before: float | None = None

    def __call__(self) -> Tensor:
        """Which part of the machine's peak was reached since the last call, 1 at best; 0 the first time."""
        now, before = time.perf_counter(), self._before
        self._before = now
        return torch.tensor(0.0 if before is None else self._shortest / (now - before), device=self.device)


def _work_of(losses: Callable[[], Mapping[str, Tensor]], weights: Mapping[str, Tensor]) -> float:
    """Multiplications and additions of one step, forward and backward."""
    statistics = {name: weight.clone() for name, weight in weights.items() if not weight.requires_grad}
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward([part for part in losses().values() if part.requires_grad])
    for name, weight in weights.items():
        if name in statistics:
            weight.copy_(statistics[name])
        weight.grad = None
    return float(counter.get_total_flops())


def _products_per_second(device: torch.device) -> float:
    """Multiplications and additions of matrix products, the best of all sizes that the time allows."""
    best, end = 0.0, time.perf_counter() + SECONDS
    for side in SIDES:
        matrix = torch.rand(side, side, device=device)
        for _ in range(RUNS):
            started = time.perf_counter()
            (matrix @ matrix)[0, 0].item()  # which waits for the device
            best = max(best, 2 * side**3 / (time.perf_counter() - started))
        if time.perf_counter() > end:
            break
    return best
