"""Large batches on small machines, each step exactly the one that a larger machine would take.

in_chunks    gradient caching: a tower sees a batch in parts, the loss sees it whole
recompute    activation checkpointing: a block's inner values are forgotten and computed again

Both pay for memory with one more forward pass, in which everything random falls as it did the first time. Batch
normalisation in its training form is the exception, as it makes a picture's vector hang on the others beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from awase.errors import UsageError


def in_chunks(encode: Callable[..., Tensor], inputs: Sequence[Tensor], size: int) -> Tensor:
    """`encode(*inputs)` (B, ...) with memory for `size` rows, however large B is. Gao et al., 2021 (GradCache,
    arXiv:2101.06983): first every part's vectors without a graph; once the loss has given their gradients, each part
    again, with its graph, which is back-propagated and dropped before the next.

    inputs: tensors of B rows each. Gradients equal those of `encode` on one part after the other with all graphs kept,
    dropout included; without dropout also those of one call, to rounding."""
    if size < 1:
        raise UsageError(f"a part of a batch has one row or more, not {size}")
    parts = zip(*(torch.split(rows, size) for rows in inputs), strict=True)
    return torch.cat([checkpoint(encode, *part, use_reentrant=False) for part in parts])


def recompute(tower: nn.Module) -> None:
    """From now on the tower's blocks keep their inputs only, and compute the rest again in backward. Chen et al., 2016
    (arXiv:1604.06174). Raises UsageError for a tower with no blocks, or with running statistics, which a second
    computation would move twice."""
    blocks = [block for module in tower.modules() if isinstance(module, nn.ModuleList) for block in module]
    if not blocks:
        raise UsageError(f"{type(tower).__name__} has no list of blocks that could be computed again")
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for block in blocks for module in block.modules()):
        raise UsageError(
            f"{type(tower).__name__} has batch normalisation: computing it twice would count batches twice"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
