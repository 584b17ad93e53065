"""How far pairs are from their best rivals, and the pull on pairs alone that widens it. Chen et al., 2024
(arXiv:2310.00927): the softmax stops pulling once the gap is a few times 1 / scale, so a small temperature leaves small
margins; a term on the pairs outside it does not stop."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from awase.learning.losses.alike import alike_others


def pull(pictures: Tensor, sentences: Tensor) -> Tensor:
    """The mean squared distance of pairs, 2 - 2 cos for unit vectors: to be added to a contrastive loss with a small
    weight. Alone it is least where all vectors are one. Chen et al., 2024, section 6."""
    return (pictures - sentences[: len(pictures)]).square().sum(-1).mean()


def margins(pictures: Tensor, sentences: Tensor, groups: Tensor | None = None) -> Tensor:
    """(B,): each picture's cosine to its own sentence less that to the best of the others, in [-2, 2]; below 0 the pair
    is not found. Sentences may be more than pictures; those of the same group (int64, one a sentence) are no rivals."""
    cosines = pictures @ sentences.T
    own = torch.arange(len(pictures), device=pictures.device)
    rivals = cosines.clone()
    rivals[own, own] = -math.inf
    if groups is not None:
        rivals.masked_fill_(alike_others(groups[: len(pictures)], groups, own), -math.inf)
    return cosines.diagonal() - rivals.amax(1)
