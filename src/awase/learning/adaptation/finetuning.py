"""Full fine-tuning: all weights of both towers learn, for those who have much data, and held near where they began.

FLYP (Goyal et al., 2023, arXiv:2212.00638): the loss of pretraining goes on, with the classes' prompts as sentences.
L2-SP (Li et al., 2018, arXiv:1802.01483): half the squared distance from the starting weights is added. Whatever is
forgotten otherwise, going back part of the way wins most of it back: `adapter.on(clip, alpha=0.5)` is WiSE-FT
(Wortsman et al., 2022, arXiv:2109.01903).

What stays: token embeddings, of which few examples touch a handful; statistics of batch norms; and of an
EfficientNet-lite all before its last blocks, which a processor trains too slowly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.checkpoints.derived import TOKENS, Changes
from awase.encoding.families import Architecture, EfficientNetLite
from awase.encoding.towers import Towers, load_towers
from awase.errors import UsageError
from awase.learning.adaptation.both_towers import task_loss
from awase.learning.adaptation.method import Report, adapter_of, refuse, silent
from awase.learning.adaptation.pictures import first_block
from awase.learning.adaptation.task import Pairs, Task
from awase.learning.adaptation.training import foreign, learn
from awase.learning.loop import Losses, Schedule


@dataclass(frozen=True)
class FullTuning:
    name: ClassVar[str] = "full"

    towers: Literal["both", "image", "text"] = "both"
    steps: int = 100
    rate: float | None = None
    """None takes FLYP's 1e-5, and for an EfficientNet-lite, of which little learns in few steps, 3e-4."""
    decay: float = 0.1
    pull: float = 0.0
    """Weight of half the squared distance from the starting weights (L2-SP)."""
    batch: int = 32
    views: int = 1
    """Random views of each picture, beside the picture itself."""
    last_blocks: int = 6
    """Of an EfficientNet-lite, how many of the last blocks learn; where they have twins, these alone."""

    def __post_init__(self) -> None:
        too_slow = self.rate is not None and self.rate <= 0
        if min(self.steps, self.views, self.pull, self.last_blocks) < 0 or too_slow or self.batch < 2:
            raise UsageError(f"steps, views, pull and last_blocks from 0, rate above 0, batch from 2: {self}")
        if self.towers not in ("both", "image", "text"):
            raise UsageError(f"towers are 'both', 'image' or 'text', not {self.towers!r}")

    def refusal(self, clip: Clip, task: Task | Pairs) -> str | None:
        return foreign(clip)

    def fit(self, clip: Clip, task: Task | Pairs, report: Report = silent, folder: Path | None = None) -> Adapter:
        """folder: where an interrupted run is kept and goes on."""
        refuse(self, clip, task)
        towers = load_towers(clip.checkpoint).requires_grad_(False)
        weights = self.chosen(towers)
        for weight in weights.values():
            weight.requires_grad_(True)
        loss = task_loss(clip, task, towers, list(weights), self.views, self.batch, report)
        start = {name: weight.detach().clone() for name, weight in weights.items()} if self.pull else {}

        def losses(_step: int) -> Losses:
            parts = {"loss": loss()}
            return parts | ({"pull": self.pull * distance_of_weights(weights, start)} if start else {})

        if self.steps:
            convolutions = isinstance(towers.architecture.image, EfficientNetLite)
            rate = self.rate or (3e-4 if convolutions else 1e-5)
            schedule = Schedule(self.steps, rate, self.decay, betas=(0.9, 0.999))
            learn(weights, losses, schedule, clip, task, self, report, folder)
        tuned = {name: weight.detach().numpy().copy() for name, weight in weights.items()}
        return adapter_of(self, clip, task, changes=Changes(weights=tuned))

    def chosen(self, towers: Towers) -> dict[str, nn.Parameter]:
        """Name -> what learns: parameters of the towers, and the scale."""
        weights = {}
        for name, weight in towers.named_parameters():
            ours = self.towers in ("both", name.partition(".")[0]) or name.startswith("logit")
            if ours and name != TOKENS and not self._is_early(name, towers.architecture):
                weights[name] = weight
        return weights

    def _is_early(self, name: str, architecture: Architecture) -> bool:
        """Whether a tensor lies before the last blocks of an EfficientNet-lite, or beside their twins."""
        image = architecture.image
        if not isinstance(image, EfficientNetLite) or not name.startswith("image."):
            return False
        beside = image.twins > 0 and name.startswith(("image.blocks.", "image.top."))
        return beside or first_block([name]) < len(list(image.blocks())) - self.last_blocks


def distance_of_weights(weights: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Tensor:
    """Half the squared distance; its gradient at the start is zero."""
    return 0.5 * torch.stack([(weight - start[name]).square().sum() for name, weight in weights.items()]).sum()
