"""Textual inversion: a new word for what a few pictures show, usable in any sentence, search included.

One token's embedding v learns, everything else stays (Gal et al., 2022, arXiv:2208.01618; in CLIP's own space as
PALAVRA and SEARLE have it: Cohen et al., 2022, arXiv:2204.01694; Baldrati et al., 2023, arXiv:2303.15247):

    minimise  mean_k (1 - cos(f_k, t(v)))  +  rivals * surprise at the word among common things
              +  pull * (1 - cos(t(v), t(coarse)))            t(.): a sentence, in a template drawn at every step

It begins as the coarse word that the thing belongs to ("mug"), which the pull keeps it near, so that it goes on meaning
a mug in sentences. Pictures with classes give each class a word of its own; the other words are rivals too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from awase.adapter import Adapter
from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.encoding import prompts
from awase.encoding.checkpoints.derived import TOKENS, Changes
from awase.encoding.pictures import Picture
from awase.encoding.prompts import SLOT
from awase.encoding.tokenizers import Tokenizer
from awase.encoding.tokenizers.words import ANY_WORD, ids_after_a_word
from awase.encoding.towers import load_towers
from awase.errors import UsageError
from awase.learning.adaptation.method import Report, adapter_of, refuse, silent
from awase.learning.adaptation.objective import Rule, class_loss, distance, drawn
from awase.learning.adaptation.pictures import seen
from awase.learning.adaptation.sentences import Sentences, sentence_vectors, tokenised, tokenizer_with
from awase.learning.adaptation.task import Pairs, Task
from awase.learning.adaptation.training import foreign, learn
from awase.learning.loop import Losses, Schedule

TEMPLATES = 8


def concept(pictures: Sequence[Picture], word: str, seed: int = 0) -> Pairs:
    """Pictures of one thing and the word that it shall have, as what `TextualInversion` learns from."""
    owners = np.arange(len(pictures))
    return Pairs(Captioned(word, "train", pictures, [word] * len(pictures), owners), seed=seed)


@dataclass(frozen=True)
class Lesson:
    """W words to be learned. coarse: the existing words that they begin as. targets: (N,) the word of each picture, -1
    for none."""

    words: tuple[str, ...]
    coarse: tuple[str, ...]
    targets: np.ndarray
    language: str

    @property
    def order(self) -> list[int]:
        """Places of the words in the order of their ids."""
        return sorted(range(len(self.words)), key=self.words.__getitem__)


@dataclass(frozen=True)
class TextualInversion:
    name: ClassVar[str] = "inversion"

    coarse: str | None = None
    """An existing word for the kind of thing; of pictures with classes, None takes each class's own name."""
    pull: float = 0.1
    """Weight of the distance from the coarse word's sentence."""
    rivals: float = 0.1
    """Weight of the surprise at the word, among the other new words and common things."""
    steps: int = 300
    rate: float = 0.1
    """Of AdamW, for embeddings with a spread of one: it is multiplied by that of the model's token table."""
    batch: int = 32
    views: int = 4
    """Random views of each picture, beside the picture itself."""

    def __post_init__(self) -> None:
        if min(self.steps, self.views, self.pull, self.rivals) < 0 or self.rate <= 0 or self.batch < 1:
            raise UsageError(f"steps, views, pull and rivals from 0, rate above 0, batch from 1: {self}")

    def refusal(self, clip: Clip, task: Task | Pairs) -> str | None:
        return foreign(clip)

    def fit(self, clip: Clip, task: Task | Pairs, report: Report = silent, folder: Path | None = None) -> Adapter:
        """folder: where an interrupted run is kept and goes on."""
        refuse(self, clip, task)
        lesson = self.lesson(task)
        table = clip.checkpoint.load()[TOKENS]
        start = np.concatenate([row_of(clip.tokenizer, table, coarse) for coarse in lesson.coarse])
        rows = nn.Parameter(torch.from_numpy(start.copy()))
        if self.steps:
            losses = self._losses(clip, task, lesson, rows, report)
            schedule = Schedule(self.steps, self.rate * float(table.std()), decay=0.0)
            learn({"words": rows}, losses, schedule, clip, task, self, report, folder)
        learned = rows.detach().numpy()
        changes = Changes(words={word: learned[[i]] for i, word in enumerate(lesson.words)})
        adapter = adapter_of(self, clip, task, changes=changes)
        return adapter if isinstance(task, Pairs) else replace(adapter, names={task.language: lesson.words})

    def lesson(self, task: Task | Pairs) -> Lesson:
        if isinstance(task, Task):
            names = task.names[task.language]
            words = tuple(f"<{key}>" for key in task.keys)
            return Lesson(words, tuple(self.coarse or name for name in names), task.train.targets, task.language)
        words = tuple(dict.fromkeys(task.train.captions))
        targets = np.full(len(task.train), -1)
        targets[task.train.owners] = [words.index(caption) for caption in task.train.captions]
        coarse = self.coarse or ANY_WORD
        return Lesson(words, (coarse,) * len(words), targets, prompts.language_of(coarse))

    def _losses(
        self, clip: Clip, task: Task | Pairs, lesson: Lesson, rows: nn.Parameter, report: Report
    ) -> Callable[[int], Losses]:
        towers = load_towers(clip.checkpoint).requires_grad_(False)
        pictures = seen(clip, task, self.views, towers, (), report)
        labels = torch.from_numpy(lesson.targets[pictures.kept])
        told = torch.nonzero(labels >= 0)[:, 0]
        wordings = [wording(clip, lesson, template, rows) for template in templates_of(lesson.language)]
        rule = Rule.of(towers)

        def losses(_step: int) -> Losses:
            said = wordings[int(torch.randint(len(wordings), ()))]
            words = sentence_vectors(towers.text, said.sentences, rows[lesson.order])
            some = told[drawn(len(told), self.batch)]
            seen_now, theirs = pictures[some], labels[some]
            parts = {"likeness": distance(seen_now, words[theirs])}
            if self.rivals:
                parts["rivals"] = self.rivals * class_loss(seen_now, torch.cat([words, said.things]), theirs, rule)
            if self.pull:
                parts["pull"] = self.pull * distance(words, said.coarse)
            return parts

        return losses


@dataclass(frozen=True)
class Wording:
    """One template: the sentences with the new words, and vectors of those with the coarse words (W, D) and with common
    things (B, D)."""

    sentences: Sentences
    coarse: Tensor
    things: Tensor


def templates_of(language: str) -> Sequence[str]:
    """TEMPLATES of the language's sentences, of all kinds."""
    every = prompts.templates("ensemble", language)
    return every[:: max(1, len(every) // TEMPLATES)][:TEMPLATES]


def wording(clip: Clip, lesson: Lesson, template: str, rows: Tensor) -> Wording:
    tokenizer = tokenizer_with(clip, {word: rows[[0]].detach().numpy() for word in lesson.words})

    def said(words: Sequence[str]) -> list[str]:
        return [template.replace(SLOT, word) for word in words]

    things = [thing for thing in prompts.background("things", lesson.language) if thing not in lesson.coarse]
    vectors = [torch.from_numpy(clip.encode_texts(said(words))) for words in (lesson.coarse, things)]
    return Wording(tokenised(tokenizer, said(lesson.words), whole=True), *vectors)


def row_of(tokenizer: Tokenizer, table: np.ndarray, word: str) -> np.ndarray:
    """(1, w): the embedding of a word inside a sentence; of one that has several tokens, their mean."""
    ids = ids_after_a_word(tokenizer.bare, f" {word}")
    if not ids:
        raise UsageError(f"the coarse word {word!r} has no token in this model's vocabulary; choose another")
    return np.asarray(table[ids].mean(axis=0, keepdims=True), np.float32)
