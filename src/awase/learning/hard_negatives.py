"""Rivals that are hard to tell from the right answer, from the vectors of an earlier epoch: batches in which every pair
meets its nearest others teach more than random ones. Robinson et al., 2021 (arXiv:2010.04592); nearest-neighbour
pictures as in Yuksekgonul et al., 2023 (arXiv:2210.01936). Captions with a word exchanged are `evaluation.exchanges`.

Knows vectors alone, nothing of batches or towers."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

from awase.errors import UsageError

ROWS = 1024  # of scores at a time


@torch.no_grad()
def hardest(pictures: Tensor, sentences: Tensor, groups: Tensor, count: int) -> Tensor:
    """(N, count) int64: for each picture the pairs whose sentences are most like it, the most alike first.

    pictures, sentences (N, D) unit vectors, row for row a pair. groups (N,) int64: pairs that say the same are nobody's
    rivals. The whole matrix of scores is never held. Raises UsageError where some picture has fewer rivals."""
    most = int(torch.unique(groups, return_counts=True)[1].max())
    if not 0 < count <= len(pictures) - most:
        raise UsageError(f"{len(pictures)} pairs, {most} of which say the same, have no {count} hard negatives each")
    found = []
    for start in range(0, len(pictures), ROWS):
        scores = pictures[start : start + ROWS] @ sentences.T
        scores.masked_fill_(groups[start : start + ROWS, None] == groups, -math.inf)
        found.append(scores.topk(count, dim=1).indices)
    return torch.cat(found)


def order_by_likeness(rivals: Tensor, batch: int, generator: torch.Generator, begun: int = 0) -> Tensor:
    """(N,) int64: an order of N pairs in which hard rivals stand in one batch. From a random pair on, a batch takes in
    its members' nearest rivals (N, count) that are left, and random pairs where none are. Every pair comes once. begun:
    so many pairs of the first batch came before."""
    waiting = deque(torch.randperm(len(rivals), generator=generator).tolist())
    near, taken = rivals.tolist(), [False] * len(rivals)
    order: list[int] = []
    queue: deque[int] = deque()
    while len(order) < len(rivals):
        if (begun + len(order)) % batch == 0:
            queue.clear()
        chosen = queue.popleft() if queue else waiting.popleft()
        if not taken[chosen]:
            taken[chosen] = True
            order.append(chosen)
            queue.extend(near[chosen])
    return torch.tensor(order)
