"""What adaptation makes smaller: the surprise at a picture's own class among all classes, or at its own sentence among
the others of the batch, by the scoring rule of the model's family.

    softmax    cross entropy; for pairs in both directions            Radford et al., 2021 (arXiv:2103.00020)
    sigmoid    every class or sentence judged alone                   Zhai et al., 2023 (arXiv:2303.15343)

Pure functions of unit vectors; a result is a mean over B pictures, in nats."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from awase.encoding.towers import Towers
from awase.learning.losses import contrastive


@dataclass(frozen=True)
class Rule:
    """How a cosine becomes a logit, as tensors that may learn: scale * cosine, + bias in sigmoid families."""

    scale: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, towers: Towers) -> Rule:
        return cls(towers.logit_scale.exp(), towers.logit_bias)


def class_loss(pictures: Tensor, classes: Tensor, labels: Tensor, rule: Rule) -> Tensor:
    """pictures (B, D), classes (C, D), labels (B,) int64."""
    cosines = pictures @ classes.T
    if rule.bias is None:
        return F.cross_entropy(rule.scale * cosines, labels)
    return _judged_alone(rule.scale * cosines + rule.bias, F.one_hot(labels, len(classes)))


def pair_loss(pictures: Tensor, sentences: Tensor, rule: Rule) -> Tensor:
    """pictures and sentences (B, D): row i of one belongs to row i of the other."""
    if rule.bias is None:
        return contrastive(pictures, sentences, rule.scale)
    return _judged_alone(rule.scale * pictures @ sentences.T + rule.bias, torch.eye(len(pictures)))


def distance(vectors: Tensor, anchors: Tensor) -> Tensor:
    """Mean of 1 - cosine, row by row: how far (M, D) unit vectors are from where they started."""
    return (1 - (vectors * anchors).sum(-1)).mean()


def drawn(count: int, size: int) -> Tensor:
    """`size` of `count` rows, none twice (all, where there are fewer), by torch's generator, which the loop seeds."""
    return torch.randperm(count)[:size]


def _judged_alone(logits: Tensor, own: Tensor) -> Tensor:
    return -F.logsigmoid(logits * (2 * own - 1)).sum(1).mean()
