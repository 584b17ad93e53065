"""A batch -> the parts of the loss. It knows nothing of where batches come from, or of what is done with the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from awase.encoding.checkpoints import Checkpoint
from awase.encoding.families import Preprocessing
from awase.encoding.tokenizers import Tokenizer, open_tokenizer
from awase.encoding.towers import Towers, load_towers, normalise
from awase.errors import UsageError
from awase.learning import losses
from awase.learning.distributed import rank
from awase.learning.large_batches import in_chunks
from awase.learning.losses import Teacher
from awase.learning.pretraining.pairs import Batch, padded
from awase.learning.pretraining.recipe import Loss
from awase.learning.pretraining.starting import follows

PARTS = "pairs", "taught", "pull"  # of the loss; all else that a step tells is only looked at


class Step:
    """Encodes a batch with the towers as they are and compares. compiled: whether torch compiles the towers."""

    def __init__(self, towers: Towers, loss: Loss, teachers: list[Taught], device: str, compiled: bool = False) -> None:
        if (loss.kind == "sigmoid") != (towers.logit_bias is not None):
            raise UsageError(
                f"the model scores by {towers.architecture.scoring}, so loss.kind cannot be {loss.kind!r}: a new model "
                'has its rule by model.architecture.scoring = "softmax" or "sigmoid", a checkpoint has its own'
            )
        if loss.part is not None and any(follows(towers, name) for name, _ in towers.named_buffers()):
            raise UsageError("part is for towers without batch normalisation, which would see parts and not the batch")
        self.towers, self.loss, self.teachers, self.device = towers, loss, teachers, device
        self.rule = towers.architecture.preprocessing
        self._look: Callable[..., dict[str, Tensor]] = torch.compile(towers.image) if compiled else towers.image
        self._read: Callable[..., Tensor] = torch.compile(towers.text) if compiled else towers.text
        if loss.fixed_scale is not None:
            with torch.no_grad():
                towers.logit_scale.fill_(math.log(loss.fixed_scale))
            towers.logit_scale.requires_grad_(False)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        pixels, ids, ends, groups = (x.to(self.device) for x in (batch.pixels, batch.ids, batch.ends, batch.groups))
        pictures = self._encoded(self.pictures, pixels)
        sentences = self._encoded(self.sentences, ids, ends)
        taught = [teacher(batch, self.device) for teacher in self.teachers]
        with torch.autocast(pixels.device.type, enabled=False):  # bfloat16 rounds a score of 100 x cosine by tenths
            return self._compared(pictures, sentences, groups, taught)

    def _compared(
        self, pictures: Tensor, sentences: Tensor, groups: Tensor, taught: Sequence[Teacher]
    ) -> dict[str, Tensor]:
        scale = losses.clamped(self.towers.logit_scale, self.loss.limit)
        weight = 1 - self.loss.taught if taught else 1.0
        parts = {"pairs": weight * self.contrast(pictures, sentences, scale, groups)}
        if taught:
            own = sentences[: len(pictures)]
            parts["taught"] = self.loss.taught * losses.affinity(pictures, own, scale, taught)
        if self.loss.pull:
            parts["pull"] = self.loss.pull * losses.pull(pictures, sentences)
        return {**parts, "scale": scale.detach(), "likeness": _likeness(pictures.detach())}

    def pictures(self, pixels: Tensor) -> Tensor:
        """Bytes (B, S, S, 3) -> unit vectors (B, D), float32."""
        return F.normalize(self._look(normalise(pixels, self.rule))["vectors"].float(), dim=-1)

    def sentences(self, ids: Tensor, ends: Tensor) -> Tensor:
        return F.normalize(self._read(ids, ends).float(), dim=-1)

    def _encoded(self, encode: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return encode(*inputs) if self.loss.part is None else in_chunks(encode, inputs, self.loss.part)

    def contrast(self, pictures: Tensor, sentences: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
        """The loss of pairs that the recipe names."""
        loss = self.loss
        if loss.alike == "right":
            return losses.contrastive_among_groups(pictures, sentences, scale, groups, groups)
        if loss.alike == "rivals":
            groups = _only_false_ones(groups, len(pictures))
        which = groups if loss.alike == "left out" or loss.swapped else None
        if loss.kind == "sigmoid":
            assert self.towers.logit_bias is not None
            return losses.sigmoid(pictures, sentences, scale, self.towers.logit_bias, which)
        if loss.kind == "blocks":
            return losses.contrastive_in_blocks(pictures, sentences, scale, which)
        return losses.contrastive(pictures, sentences, scale, which, loss.smoothing)


def loss_of(told: Mapping[str, float]) -> float:
    """The whole loss of a step, from what is told of it."""
    return sum(told.get(part, 0.0) for part in PARTS)


def _likeness(vectors: Tensor) -> Tensor:
    """The mean cosine of two different rows: near 1, the features have collapsed."""
    count = len(vectors)
    return (vectors.sum(0).square().sum() - count) / max(count * (count - 1), 1)


def _only_false_ones(groups: Tensor, count: int) -> Tensor:
    """Every pair a group of its own; a false caption that came out equal to its true one stays with it."""
    own = rank() * count + torch.arange(count, device=groups.device)
    false = groups[count:]
    return torch.cat([own, torch.where(false == groups[: len(false)], own[: len(false)], -1 - own[: len(false)])])


@dataclass(frozen=True)
class Taught:
    """A teacher's towers, which look at the same pictures and read the same sentences."""

    towers: Towers
    tokenizer: Tokenizer

    @torch.no_grad()
    def __call__(self, batch: Batch, device: str) -> Teacher:
        rule: Preprocessing = self.towers.architecture.preprocessing
        pixels = batch.pixels.to(device)
        if pixels.shape[1] != rule.size:
            moved = pixels.permute(0, 3, 1, 2).float()
            resized = F.interpolate(moved, (rule.size, rule.size), mode="bicubic", antialias=True)
            pixels = resized.clamp(0, 255).round().byte().permute(0, 2, 3, 1)
        ids, ends = (x.to(device) for x in padded(self.tokenizer, batch.sentences))
        vectors = self.towers.image(normalise(pixels, rule))["vectors"], self.towers.text(ids, ends)
        pictures, sentences = (F.normalize(x.float(), dim=-1) for x in vectors)
        return Teacher(pictures, sentences, self.towers.logit_scale.exp())


def teacher_of(checkpoint: Checkpoint, device: str) -> Taught:
    towers = load_towers(checkpoint).to(device).requires_grad_(False)
    return Taught(towers, open_tokenizer(checkpoint.architecture.text_rule, checkpoint.folder))
