"""Low-rank changes of a tower's matrices while they learn (LoRA; Hu et al., 2021, arXiv:2106.09685).

A weight W is read as W + factor * b @ a wherever the tower uses it, and only a and b learn; b starts at zero, so that
the first step starts from the base. It knows nothing of data or losses."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from awase.encoding.checkpoints.derived import THIRDS, LowRank
from awase.encoding.families import Architecture

NOT_LAYERS = ("tokens.weight", "positions", "positional_embedding", "concepts")


def matrices(architecture: Architecture) -> list[str]:
    """Names of all that can take a low-rank change: matrices and 1 x 1 kernels, attention's in its thirds."""
    names: list[str] = []
    for name, shape in architecture.tensors().items():
        if len(shape) < 2 or set(shape[2:]) - {1} or name.endswith(NOT_LAYERS):
            continue
        names += [f"{name}/{third}" for third in THIRDS] if name.endswith("qkv.weight") else [name]
    return names


class LowRankChange(nn.Module):
    """One matrix or third of one. a (R, I) starts as torch starts a linear layer, b (O, R) at zero."""

    def __init__(self, shape: Sequence[int], rank: int, factor: float, dropout: float, chance: torch.Generator):
        super().__init__()
        outputs, inputs = shape
        self.factor, self.dropout = factor, dropout
        self.a = nn.Parameter(torch.empty(rank, inputs).uniform_(-1, 1, generator=chance) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self) -> Tensor:
        """(O, I). In a weight, dropout can leave out only whole inputs of a: the same ones for all of a step."""
        kept = F.dropout(torch.ones(self.a.shape[1]), self.dropout, self.training)
        return self.factor * self.b @ (self.a * kept)


class _Changed(nn.Module):
    """W -> W with its changes added, each to all rows or to a third of them."""

    def __init__(self, changes: Mapping[str, LowRankChange]) -> None:
        super().__init__()
        self.changes = nn.ModuleDict(changes)

    def forward(self, weight: Tensor) -> Tensor:
        if "whole" in self.changes:
            return weight + self.changes["whole"]().view_as(weight)
        third = len(weight) // len(THIRDS)
        nothing = torch.zeros(third, weight.shape[1])
        added = [self.changes[name]() if name in self.changes else nothing for name in THIRDS]
        return weight + torch.cat(added)


def attach(
    towers: nn.Module, names: Sequence[str], rank: int, factor: float, dropout: float, seed: int
) -> dict[str, LowRankChange]:
    """Makes `towers` use changed weights from now on. Name -> the change, whose a and b are what may learn."""
    chance = torch.Generator().manual_seed(seed)
    changes: dict[str, LowRankChange] = {}
    by_tensor: dict[str, dict[str, LowRankChange]] = {}
    for name in names:
        tensor, _, third = name.partition("/")
        weight = towers.get_parameter(tensor)
        rows = len(weight) // len(THIRDS) if third else len(weight)
        changes[name] = LowRankChange((rows, weight.shape[1]), rank, factor, dropout, chance)
        by_tensor.setdefault(tensor, {})[third or "whole"] = changes[name]
    for tensor, parts in by_tensor.items():
        module, _, attribute = tensor.rpartition(".")
        parametrize.register_parametrization(towers.get_submodule(module), attribute, _Changed(parts))
    return changes


def parameters_of(changes: Mapping[str, LowRankChange]) -> dict[str, nn.Parameter]:
    return {f"{name}.{part}": getattr(change, part) for name, change in changes.items() for part in ("a", "b")}


def learned(changes: Mapping[str, LowRankChange]) -> dict[str, LowRank]:
    def numpy(tensor: Tensor) -> np.ndarray:
        return tensor.detach().numpy().copy()

    return {name: LowRank(numpy(its.a), numpy(its.b), its.factor) for name, its in changes.items()}
