"""Losses of contrastive training, each a pure function of vectors. All vectors are of unit length, scales are positive
factors (already exponentiated), and a result is a mean in nats.

They know nothing of towers, data or optimisers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive(pictures: Tensor, sentences: Tensor, scale: Tensor) -> Tensor:
    """The symmetric softmax loss of CLIP (InfoNCE). Radford et al., 2021 (arXiv:2103.00020), figure 3.

    pictures (B, D), sentences (B + E, D): row i of one belongs to row i of the other, and the last E sentences to no
    picture here; they are further rivals for the pictures to be told from. With S = scale * pictures @ sentences.T it
    is the mean of two cross entropies to the diagonal: rows of S, and columns of its square part. At equal S and E = 0
    it is ln B."""
    scores = scale * pictures @ sentences.T
    own = torch.arange(len(pictures), device=pictures.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores[:, : len(own)].T, own)) / 2


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
