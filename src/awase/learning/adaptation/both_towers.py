"""The loss of a task through both towers while parts of them learn: what LoRA and fine-tuning share.

Labelled pictures: the class among the prompts of all classes, encoded anew at every step where the text tower learns,
each step with one of the task's sentences (Goyal et al., 2023, arXiv:2212.00638, without counting a class as its own
rival). Pictures with sentences: each picture's own sentence among those of the batch, and the other way round."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from awase.clip import Clip
from awase.encoding.prompts import SLOT
from awase.encoding.towers import Towers
from awase.learning.adaptation.method import Report, silent
from awase.learning.adaptation.objective import Rule, class_loss, drawn, pair_loss
from awase.learning.adaptation.pictures import Seen, seen
from awase.learning.adaptation.sentences import Sentences, sentence_vectors, tokenised
from awase.learning.adaptation.task import Pairs, Task

Loss = Callable[[], Tensor]


def task_loss(
    clip: Clip,
    task: Task | Pairs,
    towers: Towers,
    learned: Collection[str],
    views: int,
    batch: int,
    report: Report = silent,
) -> Loss:
    """A function that draws a batch by torch's generator and gives its loss. learned: names of tensors that learn."""
    pictures = seen(clip, task, views, towers, learned, report)
    texts_learn = any(name.startswith("text.") for name in learned)
    if isinstance(task, Pairs):
        return _pairs(clip, task, towers, pictures, batch)
    return _classes(clip, task, towers, pictures, texts_learn, batch)


def _classes(clip: Clip, task: Task, towers: Towers, pictures: Seen, texts_learn: bool, batch: int) -> Loss:
    labels = torch.from_numpy(task.train.targets[pictures.kept])
    names = task.names[task.language]
    prompts = [[template.replace(SLOT, name) for name in names] for template in task.templates]
    sentences = [tokenised(clip.tokenizer, every) for every in prompts] if texts_learn else []
    frozen = torch.from_numpy(class_vectors(clip, task))

    def loss() -> Tensor:
        some = drawn(len(labels), batch)
        classes = sentence_vectors(towers.text, _one_of(sentences)) if texts_learn else frozen
        return class_loss(pictures[some], classes, labels[some], Rule.of(towers))

    return loss


def class_vectors(clip: Clip, task: Task) -> np.ndarray:
    """(C, D) unit vectors: where the task's own sentences put the classes."""
    vectors = task.zero_shot(clip).weights.T
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _one_of(sentences: list[Sentences]) -> Sentences:
    return sentences[int(torch.randint(len(sentences), ()))]


def _pairs(clip: Clip, task: Pairs, towers: Towers, pictures: Seen, batch: int) -> Loss:
    sentences = tokenised(clip.tokenizer, task.train.captions)
    of_picture = [np.flatnonzero(task.train.owners == picture) for picture in pictures.kept]
    told = [row for row, own in enumerate(of_picture) if len(own)]

    def loss() -> Tensor:
        some = [told[i] for i in drawn(len(told), batch).tolist()]
        picked = [int(of_picture[row][torch.randint(len(of_picture[row]), ())]) for row in some]
        vectors = sentence_vectors(towers.text, sentences[torch.tensor(picked)])
        return pair_loss(pictures[torch.tensor(some)], vectors, Rule.of(towers))

    return loss
