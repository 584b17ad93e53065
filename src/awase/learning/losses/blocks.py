"""CLIP's loss without its matrix of scores: the scores are computed block by block, summed up and forgotten, and once
more for the gradient. Exact; memory grows with the batch, not with its square. Cheng et al., 2024 (arXiv:2410.17243).

The loss of a row is lse_i - S_ii. What is kept from the first pass are the log-sum-exps of rows and columns; with them
a block of the gradient is exp(S - lse of its rows) + exp(S - lse of its columns), whatever the other blocks are.
Under torchrun a process goes over its own pictures and all sentences once; the columns' sums are put together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from awase.learning.distributed import gather_pairs_first, rank, world

BLOCK = {"cpu": 1024, "cuda": 4096}
"""Rows and columns of a block: small enough for a processor's cache, large enough to keep a GPU busy."""


def contrastive_in_blocks(
    pictures: Tensor, sentences: Tensor, scale: Tensor, groups: Tensor | None = None, block: int | None = None
) -> Tensor:
    """`contrastive`, value and gradients, to rounding, without its matrix. Products are computed in the vectors' own
    precision, sums in float32 or better. block: rows and columns of scores at a time."""
    count = len(pictures)
    everyone = gather_pairs_first(sentences, count)
    all_groups = None if groups is None else gather_pairs_first(groups, count)
    size = block or BLOCK.get(pictures.device.type, BLOCK["cpu"])
    blocks = _Blocks(count, len(everyone), size, rank() * count, groups, all_groups)
    with torch.autocast(pictures.device.type, enabled=False):
        loss: Tensor = _InBlocks.apply(pictures, everyone, scale, blocks)  # type: ignore[no-untyped-call]
    return loss


@dataclass(frozen=True)
class _Blocks:
    """How the matrix of scores is cut: `rows` pictures of this process, `columns` sentences of all, of which number
    `first` is the first picture's own."""

    rows: int
    columns: int
    size: int
    first: int
    groups: Tensor | None
    all_groups: Tensor | None

    def scores(self, pictures: Tensor, sentences: Tensor, scale: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Block by block: which rows, which columns, their scores; false negatives at -inf."""
        for i in self._cuts(self.rows):
            for j in self._cuts(self.columns):
                block = exact(pictures[i] @ sentences[j].T).mul_(scale)
                if self.groups is not None and self.all_groups is not None:
                    alike = self.groups[i, None] == self.all_groups[j]
                    self.own(alike, i, j).fill_(False)
                    block.masked_fill_(alike, -math.inf)
                yield i, j, block

    def own(self, block: Tensor, i: slice, j: slice) -> Tensor:
        """A view of a block's entries of pictures and their own sentences; empty where the diagonal passes it by."""
        low, high = max(i.start, j.start - self.first), min(i.stop, j.stop - self.first)
        rows, columns = slice(low - i.start, max(high, low) - i.start), slice(max(low + self.first - j.start, 0), None)
        return block[rows, columns].diagonal()

    def _cuts(self, count: int) -> Iterator[slice]:
        return (slice(start, min(start + self.size, count)) for start in range(0, count, self.size))


class _InBlocks(torch.autograd.Function):
    """The gradient by sentences is this process's part; the one of `gather` adds it up."""

    @staticmethod
    def forward(context: Any, pictures: Tensor, sentences: Tensor, scale: Tensor, blocks: _Blocks) -> Tensor:
        rows = exact(pictures).new_full((len(pictures),), -math.inf)
        columns = exact(pictures).new_full((len(sentences),), -math.inf)
        for i, j, block in blocks.scores(pictures, sentences, scale):
            rows[i] = torch.logaddexp(rows[i], block.logsumexp(1))
            columns[j] = torch.logaddexp(columns[j], block.logsumexp(0))
        columns = _over_processes(columns)
        columns[len(pictures) * world() :] = math.inf  # rivals have no part of their own: exp(S - inf) = 0
        context.save_for_backward(pictures, sentences, scale, rows, columns)
        context.blocks = blocks
        own = slice(blocks.first, blocks.first + len(pictures))
        right = scale * (exact(pictures) * sentences[own]).sum(1)
        return ((rows + columns[own]) / 2 - right).mean()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pictures, sentences, scale, rows, columns = context.saved_tensors
        by_picture, by_sentence = (torch.zeros_like(exact(vectors)) for vectors in (pictures, sentences))
        for i, j, block in context.blocks.scores(pictures, sentences, scale):
            pull = (block - rows[i, None]).exp_() + block.sub_(columns[j]).exp_()
            context.blocks.own(pull, i, j).sub_(2)
            pull = pull.to(pictures.dtype)
            by_picture[i] += pull @ sentences[j]
            by_sentence[j] += pull.T @ pictures[i]
        part = gradient / (2 * len(pictures))
        by_scale = (part * (by_picture * pictures).sum()).to(scale.dtype)
        by_picture.mul_(part * scale)
        by_sentence.mul_(part * scale)
        return by_picture.to(pictures.dtype), by_sentence.to(sentences.dtype), by_scale, None


def exact(x: Tensor) -> Tensor:
    """In float32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _over_processes(columns: Tensor) -> Tensor:
    """The log-sum-exps over all processes' rows, from those over one's own."""
    if world() == 1:
        return columns
    highest = columns.clone()
    distributed.all_reduce(highest, distributed.ReduceOp.MAX)
    raised = (columns - highest).exp_()
    distributed.all_reduce(raised)
    return highest + raised.log_()
