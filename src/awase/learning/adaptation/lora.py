"""LoRA: both towers learn by low-rank changes of some of their matrices (Hu et al., 2021, arXiv:2106.09685).

For few labelled pictures as CLIP-LoRA has it (Zanella & Ben Ayed, 2024, arXiv:2405.18541): rank 2, queries, keys and
values of every layer of both towers, the classes' prompts encoded anew at every step, no validation. Pictures with
sentences teach retrieval by the contrastive loss. The result is merged into the weights, so it runs in every engine at
the base's speed, and `peft` can read it (`encoding.checkpoints.peft`).

Towers without attention take it in their other matrices and 1 x 1 kernels: `matrices` says which."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, Literal

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.checkpoints.derived import Changes
from awase.encoding.families import Architecture
from awase.encoding.towers import load_towers
from awase.errors import UsageError
from awase.learning.adaptation.both_towers import task_loss
from awase.learning.adaptation.low_rank import attach, learned, matrices, parameters_of
from awase.learning.adaptation.method import Report, adapter_of, refuse, silent
from awase.learning.adaptation.task import Pairs, Task
from awase.learning.adaptation.training import foreign, learn
from awase.learning.loop import Schedule

ATTENTION = ("*.blocks.*.attention.qkv.weight/?", "image.attnpool.[qkvc]_proj.weight")
OF_NGRAMS = ("text.mix.weight", "text.dense.*", "text.projection.weight")
OF_EFFICIENTNET = ("image.projection.weight", "image.classifier.weight")


@dataclass(frozen=True)
class Lora:
    name: ClassVar[str] = "lora"

    towers: Literal["both", "image", "text"] = "both"
    matrices: tuple[str, ...] | None = None
    """Patterns of tensors' names ("*.mlp.*", "*.attention.qkv.weight/[qv]"); None takes what suits the family."""
    rank: int = 2
    alpha: float = 1.0
    """A change counts alpha / sqrt(rank), as in CLIP-LoRA's code and rsLoRA."""
    dropout: float = 0.25
    """Part of a matrix's inputs that its change does not see in a step."""
    steps: int = 500
    rate: float | None = None
    """None takes CLIP-LoRA's 2e-4, and 5e-4 where nothing in a tower's blocks learns, as in the bundled model: 2e-3
    learns more there, and forgets more."""
    decay: float = 0.01
    batch: int = 32
    views: int = 4
    """Random views of each picture, beside the picture itself."""

    def __post_init__(self) -> None:
        too_slow = self.rate is not None and self.rate <= 0
        if self.rank < 1 or self.batch < 2 or min(self.steps, self.views) < 0 or too_slow:
            raise UsageError(f"rank from 1, batch from 2, steps and views from 0, rate above 0: {self}")
        if self.towers not in ("both", "image", "text") or not 0 <= self.dropout < 1:
            raise UsageError(f"towers are 'both', 'image' or 'text', dropout is in [0, 1): {self}")

    def refusal(self, clip: Clip, task: Task | Pairs) -> str | None:
        architecture = clip.checkpoint.architecture
        if reason := foreign(clip):
            return reason
        if not self.chosen(architecture):
            return f"no matrix of {architecture.name} has a name like {self.matrices}, of tower {self.towers}"
        return None

    def chosen(self, architecture: Architecture) -> list[str]:
        """Names of what learns."""
        patterns = self.matrices or (*ATTENTION, *OF_NGRAMS, *OF_EFFICIENTNET)
        own = [name for name in matrices(architecture) if any(fnmatchcase(name, pattern) for pattern in patterns)]
        return [name for name in own if self.towers in ("both", name.partition(".")[0])]

    def fit(self, clip: Clip, task: Task | Pairs, report: Report = silent, folder: Path | None = None) -> Adapter:
        """folder: where an interrupted run is kept and goes on."""
        refuse(self, clip, task)
        names = self.chosen(clip.checkpoint.architecture)
        towers = load_towers(clip.checkpoint).requires_grad_(False)
        loss = task_loss(clip, task, towers, names, self.views, self.batch, report)
        changes = attach(towers, names, self.rank, self.alpha / math.sqrt(self.rank), self.dropout, task.seed)
        if self.steps:
            schedule = Schedule(self.steps, self.rate or rate_for(names), self.decay, betas=(0.9, 0.999))
            learn(parameters_of(changes), lambda _: {"loss": loss()}, schedule, clip, task, self, report, folder)
        return adapter_of(self, clip, task, changes=Changes(low_rank=learned(changes)))


def rate_for(names: Collection[str]) -> float:
    """Where no block learns, only a few layers at the end do: they bear, and with few steps need, a higher rate."""
    return 2e-4 if any(".blocks." in name for name in names) else 5e-4
