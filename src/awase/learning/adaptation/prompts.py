"""Prompt tuning: the words around the class names learn, both towers stay as they are.

CoOp (Zhou et al., 2022, arXiv:2109.01134) learns the embeddings v of M tokens in "v_1 ... v_M cat." by the cross
entropy over the classes. KgCoOp (Yao et al., 2023, arXiv:2303.13283) adds the distance of each class from where its
hand-written prompt puts it, which is what keeps classes that were not seen.

The context begins as the words of the hand-written prompt ("a photo of a"), so the first step starts from zero-shot. It
is a learned word like any other: "<context> cat." works in every engine and beside any class name. Of several templates
the first is where it begins. CoOp's stochastic gradient descent over 200 epochs is AdamW over 500 steps here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.checkpoints.derived import TOKENS, Changes
from awase.encoding.prompts import SLOT
from awase.encoding.tokenizers import Tokenizer
from awase.encoding.tokenizers.words import ids_after_a_word
from awase.encoding.towers import load_towers
from awase.errors import UsageError
from awase.learning.adaptation.both_towers import class_vectors
from awase.learning.adaptation.method import Report, adapter_of, refuse, silent
from awase.learning.adaptation.objective import Rule, class_loss, distance, drawn
from awase.learning.adaptation.pictures import seen
from awase.learning.adaptation.sentences import sentence_vectors, tokenised, tokenizer_with
from awase.learning.adaptation.task import Task
from awase.learning.adaptation.training import foreign, learn
from awase.learning.loop import Losses, Schedule


@dataclass(frozen=True)
class PromptTuning:
    name: ClassVar[str] = "prompt"

    tokens: int | None = None
    """Tokens that learn, from random values; None takes those of the hand-written prompt as they are."""
    pull: float = 1.0
    """Weight of the distance from the hand-written prompts (KgCoOp takes 8); 0 is CoOp."""
    steps: int = 500
    rate: float = 0.1
    """Of AdamW, for embeddings with a spread of one: it is multiplied by that of the model's token table."""
    batch: int = 32
    """Pictures in a step."""
    views: int = 4
    """Random views of each picture, beside the picture itself."""
    literal: str = "<context>"
    """What the learned word is called in sentences."""

    def __post_init__(self) -> None:
        if min(self.steps, self.views, self.pull) < 0 or self.rate <= 0 or self.batch < 1:
            raise UsageError(f"steps, views and pull from 0, rate above 0, batch from 1: {self}")
        if self.tokens is not None and self.tokens < 1:
            raise UsageError(f"{self.tokens} tokens: at least one learns, or None for the hand-written prompt's")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return foreign(clip)

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        """folder: where an interrupted run is kept and goes on."""
        refuse(self, clip, task)
        table = clip.checkpoint.load()[TOKENS]
        template, start = self.start(clip, task, table)
        rows = nn.Parameter(torch.from_numpy(start.copy()))
        if self.steps:
            losses = self._losses(clip, task, template, rows, report)
            schedule = Schedule(self.steps, self.rate * float(table.std()), decay=0.0)
            learn({"context": rows}, losses, schedule, clip, task, self, report, folder)
        changes = Changes(words={self.literal: rows.detach().numpy()})
        return adapter_of(self, clip, task, changes=changes, templates=(template,))

    def start(self, clip: Clip, task: Task, table: np.ndarray) -> tuple[str, np.ndarray]:
        """The template with the learned word in it, and the (M, w) embeddings that it begins with."""
        before, _, after = task.templates[0].partition(SLOT)
        ids = ids_of_context(clip.tokenizer, before, after)
        template = f"{SLOT}{self.literal}"
        if before.strip():
            template = f"{self.literal}{before[len(before.rstrip()) :]}{SLOT}{after}"
        if self.tokens is None and ids:
            return template, table[ids]
        chance = np.random.default_rng(task.seed)
        drawn = chance.normal(0, table.std(), (self.tokens or 4, table.shape[1]))
        return template, drawn.astype(np.float32)

    def _losses(
        self, clip: Clip, task: Task, template: str, rows: nn.Parameter, report: Report
    ) -> Callable[[int], Losses]:
        names = task.names[task.language]
        tokenizer = tokenizer_with(clip, {self.literal: rows.detach().numpy()})
        sentences = tokenised(tokenizer, [template.replace(SLOT, name) for name in names], whole=True)
        towers = load_towers(clip.checkpoint).requires_grad_(False)
        pictures = seen(clip, task, self.views, towers, (), report)
        labels = torch.from_numpy(task.train.targets[pictures.kept])
        anchors = torch.from_numpy(class_vectors(clip, task))

        def losses(_step: int) -> Losses:
            classes = sentence_vectors(towers.text, sentences, rows)
            some = drawn(len(labels), self.batch)
            parts = {"classes": class_loss(pictures[some], classes, labels[some], Rule.of(towers))}
            return parts | ({"pull": self.pull * distance(classes, anchors)} if self.pull else {})

        return losses


def ids_of_context(tokenizer: Tokenizer, before: str, after: str) -> list[int]:
    """The ids of the words before the class name; of those after it, where none stand before."""
    if before.strip():
        return tokenizer.bare([before.rstrip()])[0]
    return ids_after_a_word(tokenizer.bare, after) if after.strip() else []
