"""The loss of one step: pictures against sentences and class names, and sentences against themselves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from awase.learning.loop import Losses
from awase.learning.losses import class_names, contrastive, divergence
from awase.learning.pretraining.bundled.prepared import Batch, Sampler
from awase.learning.pretraining.bundled.recipe import Phase
from awase.learning.pretraining.bundled.space import Space

CONCEPTS_EVERY = 8  # steps; between them the concepts stay as the text tower named them last


class Step:
    """The loss of a step of one phase, as the training loop asks for it."""

    def __init__(self, space: Space, phase: Phase, chance: np.random.Generator) -> None:
        self.space, self.phase, self.chance = space, phase, chance
        numbers = phase.named, phase.sets, phase.others, phase.japanese
        self.sampler = Sampler(space.data, phase.pairs, *numbers, chance)
        self.concepts = space.concepts()

    def __call__(self, step: int) -> Losses:
        if step % CONCEPTS_EVERY == 0:
            self.concepts = self.space.concepts()
        return self.of_pictures(self.sampler()) | self.of_sentences()

    def of_pictures(self, batch: Batch) -> dict[str, Tensor]:
        space, phase, data = self.space, self.phase, self.space.data
        crops = data.draw_crops(len(batch.pictures), phase.small, self.chance)
        tuned = frozen = data.draw("features", batch.pictures, crops)
        if phase.tower:
            tuned = space.tuned(data.draw("maps", batch.pictures, crops))
        left_out = torch.from_numpy(self.chance.random(len(crops)) < phase.left_out)
        vectors, logits = space.pictures(frozen, tuned, self.concepts, phase.dropout, left_out)
        clear = space.knows(data.draw("features", batch.pictures, np.zeros_like(crops))).softmax(-1)
        paired = len(batch.pictures) - len(batch.labels)
        scales = {name: scale.exp() for name, scale in space.scales.items()}
        sets = batch.set_of_picture, batch.set_of_name
        named = class_names(vectors[paired:], space.sentences(batch.names), batch.labels, *sets, scales["names"])
        parts = {
            "pairs": contrastive(vectors[:paired], space.sentences(batch.sentences), scales["pairs"]),
            "names": phase.named_weight * named,
            "concepts": phase.concept_weight * F.cross_entropy(logits[paired:], self.right(batch, clear[paired:])),
        }
        if phase.unnamed_weight:
            rows = [i for i, row in enumerate(batch.pictures[:paired]) if data.train[row]["set"] in phase.unnamed]
            parts["unnamed"] = phase.unnamed_weight * F.cross_entropy(logits[rows], self.padded(clear[rows]))
        if phase.clear_weight:
            parts["clear"] = phase.clear_weight * divergence(space.knows(tuned), clear)
        return parts

    def right(self, batch: Batch, known: Tensor) -> Tensor:
        """(N, K) probabilities: the class of each labelled picture, and in part what the backbone knew (N, 1000)."""
        part = self.phase.known_part
        return (1 - part) * F.one_hot(batch.concepts, len(self.concepts)) + part * self.padded(known)

    def padded(self, known: Tensor) -> Tensor:
        """(N, 1000) -> (N, K): nought for what the backbone did not know."""
        return F.pad(known, (0, len(self.concepts) - known.shape[1]))

    def of_sentences(self) -> dict[str, Tensor]:
        space, phase, data = self.space, self.phase, self.space.data
        parts: dict[str, Tensor] = {}
        if phase.translated:
            both = torch.from_numpy(data.translations[self.chance.choice(len(data.translations), phase.translated)])
            english, japanese = space.sentences(both[:, 0]), space.sentences(both[:, 1])
            told = contrastive(english, japanese, space.scales["translations"].exp())
            parts["translations"] = phase.translated_weight * told
        if phase.restrained:
            ids = torch.from_numpy(self.chance.choice(len(data.sums), phase.restrained))
            cosines = (space.encoded(ids) * space.before[ids]).sum(-1)
            parts["restraint"] = phase.restraint_weight * (1 - cosines.mean())
        return parts
