"""Deep prompts: learned tokens in the first layers of both towers, new ones in each layer; all weights stay.

In the image tower as VPT has them (Jia et al., 2022, arXiv:2203.12119), in the text tower as MaPLe has them (Khattak
et al., 2023, arXiv:2210.03117), but each tower has its own, where MaPLe makes one's from the other's. The text tower's
belong to the learned word of `prompts`: wherever it stands in a sentence, each layer sees it anew, and
sentences without it are as they were.

The context begins as the hand-written prompt's words, and its deeper rows as what the layers make of these; so in a
causal text tower the first step starts from zero-shot. Prompts of the image tower begin as small noise."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.checkpoints.derived import TOKENS, Changes, derive
from awase.encoding.families import TextTransformer, VisionTransformer
from awase.encoding.prompts import SLOT
from awase.encoding.towers import Towers, load_towers
from awase.errors import UsageError
from awase.learning.adaptation.both_towers import class_vectors
from awase.learning.adaptation.method import Report, adapter_of, refuse, silent
from awase.learning.adaptation.objective import Rule, class_loss, distance, drawn
from awase.learning.adaptation.pictures import seen
from awase.learning.adaptation.prompts import PromptTuning
from awase.learning.adaptation.sentences import Sentences, sentence_vectors, tokenised, tokenizer_with
from awase.learning.adaptation.task import Task
from awase.learning.adaptation.training import foreign, learn
from awase.learning.loop import Losses, Schedule

SPREAD = 0.02


@dataclass(frozen=True)
class DeepPrompts:
    name: ClassVar[str] = "deep-prompt"

    layers: int = 9
    """First layers of each tower that have prompts; all, where a tower has fewer."""
    tokens: int = 4
    """Prompts in each layer of the image tower; 0 leaves it as it is. The text tower has those of the context."""
    pull: float = 1.0
    """Weight of the distance from the hand-written prompts."""
    steps: int = 500
    rate: float = 2.5e-3
    batch: int = 32
    views: int = 4
    """Random views of each picture, beside the picture itself."""
    literal: str = "<context>"
    """What the learned word is called in sentences."""

    def __post_init__(self) -> None:
        if (
            min(self.steps, self.views, self.pull, self.tokens) < 0
            or self.rate <= 0
            or min(self.batch, self.layers) < 1
        ):
            raise UsageError(f"steps, views, pull and tokens from 0, rate above 0, batch and layers from 1: {self}")

    def refusal(self, clip: Clip, task: Task) -> str | None:
        architecture = clip.checkpoint.architecture
        if reason := foreign(clip):
            return reason
        if not isinstance(architecture.text, TextTransformer) and not isinstance(architecture.image, VisionTransformer):
            return f"neither tower of {architecture.name} has Transformer layers; use prompt, which needs none"
        if any(getattr(architecture.text, "deep", ())) or any(getattr(architecture.image, "prompts", ())):
            return "this model has deep prompts already; learn on its base"
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        """folder: where an interrupted run is kept and goes on."""
        refuse(self, clip, task)
        table = clip.checkpoint.load()[TOKENS]
        template, rows = PromptTuning(literal=self.literal).start(clip, task, table)
        changes = Changes({self.literal: rows}, weights=self.start(clip, task, template, rows))
        if self.steps:
            changes = self._learned(clip, task, template, changes, report, folder)
        return adapter_of(self, clip, task, changes=changes, templates=(template,))

    def start(self, clip: Clip, task: Task, template: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The prompts of both towers before the first step, by the names of their tensors."""
        architecture, found = clip.checkpoint.architecture, {}
        image, text = architecture.image, architecture.text
        if isinstance(image, VisionTransformer) and self.tokens:
            shape = min(self.layers, image.layers), self.tokens, image.width
            chance = np.random.default_rng(task.seed)
            found["image.prompts"] = chance.normal(0, SPREAD, shape).astype(np.float32)
        if isinstance(text, TextTransformer) and min(self.layers, text.layers) > 1:
            sentences = _sentences(clip, task, template, Changes({self.literal: rows}))
            tower = load_towers(clip.checkpoint).text
            found["text.deep"] = rows_in_layers(tower, sentences, rows, min(self.layers, text.layers) - 1)
        return found

    def _learned(
        self, clip: Clip, task: Task, template: str, changes: Changes, report: Report, folder: Path | None
    ) -> Changes:
        towers = load_towers(derive(clip.checkpoint, changes)).requires_grad_(False)
        rows = nn.Parameter(torch.from_numpy(changes.words[self.literal].copy()))
        table: Any = towers.text.tokens
        known = table.weight[: -len(rows)]  # the new rows learn beside it
        towers.text.tokens = nn.Embedding(len(known), known.shape[1], _weight=known, _freeze=True)
        prompts = {name: towers.get_parameter(name) for name in changes.weights}
        for prompt in prompts.values():
            prompt.requires_grad_(True)
        losses = self._losses(clip, task, towers, _sentences(clip, task, template, changes), rows, report)
        schedule = Schedule(self.steps, self.rate, decay=0.0)
        learn({"context": rows, **prompts}, losses, schedule, clip, task, self, report, folder)
        weights = {name: prompt.detach().numpy().copy() for name, prompt in prompts.items()}
        return Changes({self.literal: rows.detach().numpy()}, weights=weights)

    def _losses(
        self, clip: Clip, task: Task, towers: Towers, sentences: Sentences, rows: Tensor, report: Report
    ) -> Callable[[int], Losses]:
        learned = [name for name, weight in towers.named_parameters() if weight.requires_grad]
        pictures = seen(clip, task, self.views, towers, learned, report)
        labels, anchors = (torch.from_numpy(a) for a in (task.train.targets[pictures.kept], class_vectors(clip, task)))

        def losses(_step: int) -> Losses:
            classes, some = sentence_vectors(towers.text, sentences, rows), drawn(len(labels), self.batch)
            parts = {"classes": class_loss(pictures[some], classes, labels[some], Rule.of(towers))}
            return parts | ({"pull": self.pull * distance(classes, anchors)} if self.pull else {})

        return losses


def rows_in_layers(tower: Any, sentences: Sentences, rows: np.ndarray, layers: int) -> np.ndarray:
    """(layers, M, w): what the first layers make of the learned word's M tokens, as a mean over the sentences."""
    known, found = tower.tokens.num_embeddings, []
    with torch.no_grad():
        table = torch.cat([tower.tokens.weight, torch.from_numpy(rows)])
        x = table[sentences.ids] + tower.positions[: sentences.ids.shape[1]]
        for block in list(tower.blocks)[:layers]:
            x = block(x, tower.causal)
            found.append(torch.stack([x[sentences.ids == known + m].mean(0) for m in range(len(rows))]))
    return torch.stack(found).numpy()


def _sentences(clip: Clip, task: Task, template: str, changes: Changes) -> Sentences:
    tokenizer = tokenizer_with(clip, changes.words)
    return tokenised(tokenizer, [template.replace(SLOT, name) for name in task.names[task.language]], whole=True)
