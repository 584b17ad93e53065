"""The sigmoid loss of SigLIP: every picture and sentence is a question of its own, yes or no. It needs no sum over the
batch, so the shards of sentences go round a ring and no process ever holds more than one of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from awase.learning.distributed import shifted, world
from awase.learning.losses.alike import alike_others


def sigmoid(pictures: Tensor, sentences: Tensor, scale: Tensor, bias: Tensor, groups: Tensor | None = None) -> Tensor:
    """-(1/B) sum over i, j of log sigmoid(z_ij (scale * cos_ij + bias)), z = 1 where j is i's own and -1 elsewhere.
    Zhai et al., 2023 (arXiv:2303.15343), equation 1 and figure 1.

    pictures, sentences (B, D), row for row a pair. groups (B,), int64: other pairs of the same group are left out."""
    own = torch.arange(len(pictures), device=pictures.device)
    scores = scale * pictures @ sentences.T + bias
    cost = F.softplus(scores) - torch.diag(scores.diagonal())  # -log sigmoid(-x) = softplus(x); softplus(x) - x is yes
    if groups is not None:
        cost = cost.masked_fill(alike_others(groups, groups, own), 0)
    total, others = cost.sum(), groups
    for _ in range(world() - 1):
        sentences = shifted(sentences)
        cost = F.softplus(scale * pictures @ sentences.T + bias)
        if groups is not None and others is not None:
            others = shifted(others)
            cost = cost.masked_fill(groups[:, None] == others, 0)
        total = total + cost.sum()
    return total / len(pictures)
