"""The training loop: ask for a loss, step, report, and keep what is needed to go on after a kill. It knows nothing of
pictures, sentences or towers.

What is random in a step depends on the seed and the step's number alone: the loop seeds torch's generator before each
step, and `losses(step)` chooses its data by (seed, step). So a run that was killed goes on from its weights, the
optimiser's memory and the number of the step, bit for bit, and every process knows its share without asking."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from awase.errors import UsageError
from awase.learning import distributed
from awase.learning.averaging import Average
from awase.learning.guard import GRADIENT, Guard, TrainingFailed
from awase.learning.half import Half, Precision
from awase.learning.interrupts import interrupts_noted
from awase.learning.keeping import Keeper, Keeping
from awase.learning.schedule import Schedule, layerwise

__all__ = ["Average", "Keeping", "Losses", "Precision", "Schedule", "TrainingFailed", "layerwise", "train"]

Losses = Mapping[str, Tensor]
Report = Callable[[int, dict[str, float]], None]
KEPT_NOWHERE = Keeping()


def train(
    weights: Mapping[str, Tensor],
    losses: Callable[[int], Losses],
    schedule: Schedule,
    report: Report = lambda step, told: None,
    *,
    seed: int = 0,
    precision: Precision = "fp32",
    average: Average | None = None,
    keeping: Keeping = KEPT_NOWHERE,
    describe: Callable[[int], str] | None = None,
) -> None:
    """Changes `weights` in place, step by step, to make the sum of `losses(step)` smaller.

    weights: parameters by name; plain tensors among them (running statistics) are not trained but kept with them.
    losses: the parts of the loss, already weighted, by name, each the mean over this process's share; a part that needs
    no gradient (a scale, a spread) is only told. report: is told the parts as means over all processes, the gradient's
    norm, the rate and the seconds since the start, after each step. seed: from 0 up. precision: what `losses` is
    computed in; weights stay float32. average: follows the weights. describe: names a step's pictures, for messages.

    A step whose loss or gradient is not finite does not reach the weights: it is told as a warning, and after
    `schedule.patience` in a row TrainingFailed says what happened. With a folder in `keeping` the same call goes on
    where an earlier one stopped (UsageError where the folder holds another run), and Ctrl-C ends the step, keeps the
    state and raises KeyboardInterrupt saying how to go on."""
    trained = {name: weight for name, weight in weights.items() if isinstance(weight, nn.Parameter)}
    statistics = [weight for name, weight in weights.items() if name not in trained]
    if not trained or seed < 0:
        raise UsageError(f"training needs a weight to train and a seed from 0 up; given: {len(trained)}, {seed}")
    optimiser = schedule.optimiser(trained)
    half, guard = Half(precision), Guard(schedule.patience, describe)
    settings = {"seed": seed, "precision": precision, "schedule": asdict(schedule)}
    with (
        Keeper(keeping, settings, weights, optimiser, average) as keeper,
        interrupts_noted(keeping.folder is not None) as stop_asked,
        _own_chance(trained),
    ):
        started = time.perf_counter()
        for step in range(keeper.restored(half, guard), schedule.steps):
            rate = schedule.set_rates(optimiser, step)
            before = [statistic.clone() for statistic in statistics]
            parts = _forward(step, losses, half, seed, optimiser)
            norm = _backward(parts, trained, half, schedule.clip)
            told, (stop, keep) = _agreed(parts, norm, (stop_asked(), keeper.due(step + 1)))
            if not all(map(math.isfinite, told.values())):  # before the guard may end it all
                for statistic, value in zip(statistics, before, strict=True):
                    statistic.copy_(value)
            overflowed = half.overflowed(told)
            half.settle(overflowed)
            if not overflowed and guard.admits(step, told):
                optimiser.step()
                distributed.average(statistics)
                if average is not None:
                    average.follow(step)
            told |= {"rate": rate, "seconds": time.perf_counter() - started}
            report(step, told)
            keeper.note(step, told)
            last = step + 1 == schedule.steps
            if keep or stop or last:
                keeper.keep(step + 1, half, guard, final=stop or last)
            if stop and not last:
                where = f"{step + 1} steps of {schedule.steps} are kept in {keeping.folder}"
                raise KeyboardInterrupt(f"{where}; the same call goes on from there")


def _own_chance(trained: Mapping[str, Tensor]) -> AbstractContextManager[None]:
    """Leaves the caller's generators as they were."""
    devices = {weight.device for weight in trained.values() if weight.device.type == "cuda"}
    return torch.random.fork_rng(devices=list(devices))


def _forward(
    step: int, losses: Callable[[int], Losses], half: Half, seed: int, optimiser: torch.optim.Optimizer
) -> Losses:
    optimiser.zero_grad(set_to_none=True)
    device = optimiser.param_groups[0]["params"][0].device
    mixed = np.random.SeedSequence([seed, step, distributed.rank()]).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed[0]))
    with half.computing(device):
        return losses(step)


def _backward(parts: Losses, trained: Mapping[str, Tensor], half: Half, clip: float) -> Tensor:
    """Leaves the gradients of the mean loss in `.grad`, their norm at most `clip`; gives the norm before that."""
    wanted = [part for part in parts.values() if part.requires_grad]
    if not wanted:
        raise UsageError(f"no part of the loss depends on a weight: {', '.join(parts) or 'there are none'}")
    (sum(wanted, torch.zeros_like(wanted[0])) * half.factor).backward()  # type: ignore[no-untyped-call]
    distributed.average_gradients(trained.values())
    found = [weight for weight in trained.values() if weight.grad is not None]
    kinds = [[weight for weight in found if isinstance(weight, DTensor) is sharded] for sharded in (False, True)]
    norms = [_norm_of(weights, half) for weights in kinds if weights]  # the kinds cannot be computed with in one call
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    for weights in kinds:
        nn.utils.clip_grads_with_norm_(weights, clip, norm)
    return norm


def _norm_of(weights: Sequence[Tensor], half: Half) -> Tensor:
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    half.undo(gradients)
    norm = nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _agreed(parts: Losses, norm: Tensor, wishes: Sequence[bool]) -> tuple[dict[str, float], list[bool]]:
    """The parts and the gradient's norm as means over processes, and which wishes any process has. The one place where
    the loop waits for the device and for the other processes."""
    numbers = torch.stack([*(part.detach().float() for part in parts.values()), norm.float()])
    asked = torch.tensor(wishes, dtype=torch.float32).to(numbers.device)
    *values, stop, keep = distributed.mean(torch.cat([numbers, asked])).tolist()
    return dict(zip([*parts, GRADIENT], values, strict=True)), [stop > 0, keep > 0]
