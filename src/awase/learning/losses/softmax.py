"""The symmetric softmax loss of CLIP, and its relatives over class names."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from awase.learning.distributed import gather, gather_pairs_first, rank, world
from awase.learning.losses.alike import alike_others


def contrastive(
    pictures: Tensor, sentences: Tensor, scale: Tensor, groups: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """The symmetric softmax loss of CLIP (InfoNCE). Radford et al., 2021 (arXiv:2103.00020), figure 3.

    pictures (B, D), sentences (B + E, D): row i of one belongs to row i of the other, and the last E sentences to no
    picture here; they are further rivals for the pictures to be told from, as the hard negatives of Yuksekgonul et al.,
    2023 (arXiv:2210.01936) are. With S = scale * pictures @ sentences.T it is the mean of two cross entropies to the
    diagonal: rows of S, and columns of its square part. At equal S and E = 0 it is ln B.

    groups (B + E,), int64: pairs of one group say the same, so that they are no rivals of one another (false negatives
    are left out). smoothing: part of the target that is spread evenly over a row's rivals and the right answer;
    Szegedy et al., 2016 (arXiv:1512.00567)."""
    count = len(pictures)
    all_sentences = gather_pairs_first(sentences, count)
    own = rank() * count + torch.arange(count, device=pictures.device)
    rows = scale * pictures @ all_sentences.T
    columns = rows[:, :count].T if world() == 1 else scale * sentences[:count] @ gather(pictures).T
    if groups is not None:
        all_groups = gather_pairs_first(groups, count)
        rows = rows.masked_fill(alike_others(groups[:count], all_groups, own), -math.inf)
        columns = columns.masked_fill(alike_others(groups[:count], all_groups[: columns.shape[1]], own), -math.inf)
    return (_towards(rows, own, smoothing) + _towards(columns, own, smoothing)) / 2


def _towards(scores: Tensor, own: Tensor, smoothing: float) -> Tensor:
    """Cross entropy to the smoothed right answers; rivals of score -inf are left out of the smoothing too."""
    right = F.cross_entropy(scores, own)
    if not smoothing:
        return right
    there = scores.isfinite()
    even = -(scores.log_softmax(1).masked_fill(~there, 0).sum(1) / there.sum(1)).mean()
    return (1 - smoothing) * right + smoothing * even


def clamped(log_scale: Tensor, most: float = 100.0) -> Tensor:
    """exp(log_scale), where a parameter above ln(most) is first set back to it, as CLIP's is after each step: unlike a
    clamp in the graph, that lets its gradient bring it down again. Radford et al., 2021, section 2.5."""
    with torch.no_grad():
        log_scale.clamp_(max=math.log(most))
    return log_scale.exp()


def class_names(
    pictures: Tensor, names: Tensor, labels: Tensor, set_of_picture: Tensor, set_of_name: Tensor, scale: Tensor
) -> Tensor:
    """Cross entropy of each picture over the class names of its own labelled set: many small sets in one batch, with
    no name of one set a rival to those of another (a "lake" seen from above is no mistake among landscapes).

    pictures (B, D), names (C, D), labels (B,) int64 into names; the sets are numbers, (B,) and (C,)."""
    scores = scale * pictures @ names.T
    elsewhere = set_of_picture[:, None] != set_of_name
    return F.cross_entropy(scores.masked_fill(elsewhere, -math.inf), labels)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(reference || softmax(logits)), the mean over B rows: how far an answer has moved from one that was right.

    logits (B, C); reference (B, C) probabilities. Hinton et al., 2015 (arXiv:1503.02531)."""
    return F.kl_div(logits.log_softmax(-1), reference, reduction="batchmean")
