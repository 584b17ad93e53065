"""Learning from other models' answers: a student's table of likenesses against that of one or several teachers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from awase.learning.distributed import gather
from awase.learning.losses.softmax import divergence


@dataclass(frozen=True)
class Teacher:
    """A teacher's vectors of the same pairs, row for row, of whatever width, and the scale of its cosines."""

    pictures: Tensor
    sentences: Tensor
    scale: float | Tensor


def affinity(pictures: Tensor, sentences: Tensor, scale: Tensor, teachers: Sequence[Teacher]) -> Tensor:
    """How far the student's answers are from its teachers': the mean over teachers, and over both directions, of
    KL(softmax of the teacher's scores || softmax of the student's). Wu et al., 2023 (TinyCLIP's affinity mimicking,
    arXiv:2309.12314, equation 3) and Vasu et al., 2024 (MobileCLIP, arXiv:2311.17049, section 4); their cross entropy
    is this and the teachers' entropy, which no student can change.

    pictures, sentences (B, D), row for row a pair; there is at least one teacher. The pairs' own loss is not in it."""
    student = _both_ways(pictures, sentences, scale)
    found = []
    for teacher in teachers:
        with torch.no_grad():
            taught = _both_ways(teacher.pictures, teacher.sentences, teacher.scale)
        found += [divergence(own, right.softmax(-1)) for own, right in zip(student, taught, strict=True)]
    return torch.stack(found).mean()


def _both_ways(pictures: Tensor, sentences: Tensor, scale: float | Tensor) -> tuple[Tensor, Tensor]:
    """Scores of these pictures with everyone's sentences, and the other way round."""
    return scale * pictures @ gather(sentences).T, scale * sentences @ gather(pictures).T
