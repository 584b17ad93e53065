"""Losses of contrastive training, each a pure function of vectors. All vectors are of unit length, scales are positive
factors (already exponentiated), and a result is a mean in nats.

They know nothing of towers, data or optimisers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive(pictures: Tensor, sentences: Tensor, scale: Tensor, same: Tensor | None = None) -> Tensor:
    """The symmetric softmax loss of CLIP (InfoNCE). Radford et al., 2021 (arXiv:2103.00020), figure 3.

    pictures, sentences: (B, D); row i of one belongs to row i of the other. With S = scale * pictures @ sentences.T
    it is the mean of both cross entropies, rows to the diagonal and columns to the diagonal; at equal S it is ln B.

    same: (B,) int64, rows with equal numbers belong together as well (two pictures with the same caption). Their
    probability is then shared out evenly, as in UniCL (Yang et al., 2022, arXiv:2204.03610, equation 2)."""
    scores = scale * pictures @ sentences.T
    if same is None:
        target = torch.arange(len(scores), device=scores.device)
        return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
    together = (same[:, None] == same).to(scores.dtype)
    shares = together / together.sum(1, keepdim=True)
    return (F.cross_entropy(scores, shares) + F.cross_entropy(scores.T, shares)) / 2


def class_names(
    pictures: Tensor, names: Tensor, labels: Tensor, set_of_picture: Tensor, set_of_name: Tensor, scale: Tensor
) -> Tensor:
    """Cross entropy of each picture over the class names of its own labelled set: many small sets in one batch, with
    no name of one set a rival to those of another (a "lake" seen from above is no mistake among landscapes).

    pictures (B, D), names (C, D), labels (B,) int64 into names; the sets are numbers, (B,) and (C,)."""
    scores = scale * pictures @ names.T
    elsewhere = set_of_picture[:, None] != set_of_name
    return F.cross_entropy(scores.masked_fill(elsewhere, float("-inf")), labels)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(reference || softmax(logits)), the mean over B rows: how far an answer has moved from one that was right.

    logits (B, C); reference (B, C) probabilities. Hinton et al., 2015 (arXiv:1503.02531)."""
    return F.kl_div(logits.log_softmax(-1), reference, reduction="batchmean")
