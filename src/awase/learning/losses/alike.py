"""Pairs that say the same: several captions of one picture, equal captions, pictures of one class. The softmax loss
takes them for mistakes (false negatives: Chen et al., 2024, arXiv:2310.00927); here they are right answers, and with
`contrastive(groups=...)` they are left out."""

from __future__ import annotations

import torch
from torch import Tensor

from awase.learning.distributed import gather


def alike_others(groups: Tensor, all_groups: Tensor, own: Tensor) -> Tensor:
    """(B, N) bool: which of N are of the same group as each of B, but not its own partner at `own` (B,)."""
    same = groups[:, None] == all_groups
    same[torch.arange(len(groups), device=groups.device), own] = False
    return same


def contrastive_among_groups(
    pictures: Tensor, sentences: Tensor, scale: Tensor, group_of_picture: Tensor, group_of_sentence: Tensor
) -> Tensor:
    """The softmax loss with every pair of one group a right answer. Yang et al., 2022 (UniCL, arXiv:2204.03610),
    equations 3 and 4.

    pictures (B, D), sentences (M, D), groups int64 (B,) and (M,). A picture's part is the mean of -log softmax over the
    sentences of its group, a sentence's likewise; what has no partner at all (a hard negative caption) has no part of
    its own and is a rival only. With B = M and every group of two it is `contrastive`. With the captions of B pictures
    in a row, K each, and the picture's number as the group, it is the loss for several captions a picture.

    Under torchrun each picture, and each sentence, needs a partner in some process; shares are equally large."""
    all_pictures, all_sentences = gather(pictures), gather(sentences)
    rows = _towards_group(scale * pictures @ all_sentences.T, group_of_picture, gather(group_of_sentence))
    columns = _towards_group(scale * sentences @ all_pictures.T, group_of_sentence, gather(group_of_picture))
    return (rows + columns) / 2


def _towards_group(scores: Tensor, groups: Tensor, all_groups: Tensor) -> Tensor:
    same = groups[:, None] == all_groups
    right = (scores.log_softmax(1) * same).sum(1) / same.sum(1).clamp(min=1)
    return -right.sum() / same.any(1).sum()
