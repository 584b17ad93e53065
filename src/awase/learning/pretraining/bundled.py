"""The bundled model: heads on frozen towers, then the image tower's last blocks with them.

    python -m awase.learning.pretraining.bundled recipes/bundled.toml WORK OUT

WORK is what recipes/prepare_bundled.py made; OUT becomes awase's own folder. How it is stored: `compact`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding.checkpoints import open_checkpoint
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.towers import load_towers
from awase.encoding.towers.efficientnet import EfficientNetLite
from awase.encoding.towers.ngrams import NgramEncoder
from awase.errors import UsageError
from awase.learning.loop import Losses, Schedule, train
from awase.learning.losses import class_names, contrastive, divergence
from awase.learning.pretraining.compact import write_compact
from awase.learning.pretraining.prepared import Prepared, Sampler
from awase.learning.pretraining.products import LastBlocks

AT_A_TIME = 64  # pictures; the maps of more leave the processor's caches, and a step takes twice as long


@dataclass(frozen=True)
class Phase:
    """One stretch of training. Both heads always learn."""

    schedule: Schedule
    pairs: dict[str, int]
    """Pictures with sentences in a step, of each set."""
    named: int
    """Pictures of labelled sets in a step."""
    others: int = 0
    """Sentences of other pictures in a step, as further rivals."""
    named_weight: float = 0.6
    """Weight of the class names' loss beside the contrastive one."""
    dropout: float = 0.6
    """Part of the features that is left out before the projection."""
    tower: bool = False
    """Whether the image tower's blocks after the prepared maps learn too."""
    divergence_weight: float = 0.0
    """Weight of the divergence of the classifier's answers from those of the frozen tower."""


@dataclass(frozen=True)
class Recipe:
    """Everything that is chosen. The phases follow one another on the same weights."""

    phases: tuple[Phase, ...]
    concept_gain: float = 1.2
    """Length of the mixture of concepts beside the free unit direction."""
    way: float = 1.0
    """Part of the way from the frozen tower to the trained one that is gone in the end: what lies between two such sets
    of weights keeps most of both. Wortsman et al., 2022 (arXiv:2109.01903), equation 1."""
    seed: int = 0
    bfloat16: bool = False
    """Compute the trained blocks in bfloat16: several times faster on a processor with AMX, slower on others."""


def read_recipe(file: Path) -> Recipe:
    """Raises UsageError for a setting that does not exist or does not fit."""
    values = tomllib.loads(file.read_text("utf-8"))
    try:
        phases = tuple(Phase(Schedule(**phase.pop("schedule")), **phase) for phase in values.pop("phases"))
        return Recipe(phases, **values)
    except (TypeError, KeyError) as problem:
        raise UsageError(f"{file}: {problem}; the settings are the fields of Recipe, Phase and Schedule") from problem


class Space:
    """Both towers as far as they are trained here, over pictures and sentences that are frozen up to there."""

    def __init__(self, checkpoint: Checkpoint, data: Prepared, recipe: Recipe) -> None:
        towers = load_towers(checkpoint)
        self.image, self.text = cast(EfficientNetLite, towers.image), cast(NgramEncoder, towers.text)
        self.data, self.gain = data, recipe.concept_gain
        self.last_blocks = LastBlocks(self.image, data.first, data.side)
        # The logarithms of two scales: a caption is told from hundreds, a class name from a few of its set.
        self.scales = nn.ParameterDict({name: towers.logit_scale.detach().clone() for name in ("pairs", "names")})

    def sentences(self, ids: Tensor) -> Tensor:
        """(..., D) unit vectors of prepared sentences."""
        return F.normalize(self.text.projection(self.data.sentences[ids]), dim=-1)

    def concepts(self) -> Tensor:
        """(1000, D): what the classifier can name, by its names in both languages, in the space as it is now."""
        both = torch.stack([self.sentences(ids) for ids in self.data.concepts.values()])
        return F.normalize(both.sum(0), dim=-1)

    def features(self, maps: Tensor) -> Tensor:
        """Maps (B, P, C) -> (B, F) through the last blocks as they are now."""
        return torch.cat([cast(Tensor, self.last_blocks(part)) for part in torch.split(maps, AT_A_TIME)])

    def pictures(self, features: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """Features (B, F) -> unit vectors (B, D), and the classifier's logits (B, 1000). The same formula as the
        tower's own, but with concepts that follow the text tower as it learns."""
        logits = cast(Tensor, self.image.classifier(features))
        free = F.normalize(self.image.projection(F.dropout(features, dropout)), dim=-1)
        return F.normalize(free + self.gain * logits.softmax(-1) @ self.concepts(), dim=-1), logits

    def trained(self, tower: bool) -> dict[str, nn.Parameter]:
        modules = {"image.projection": self.image.projection, "text.projection": self.text.projection}
        weights = {f"{part}.{name}": w for part, module in modules.items() for name, w in module.named_parameters()}
        weights |= {f"scales.{name}": w for name, w in self.scales.items()}
        return weights | (dict(self.last_blocks.named_parameters()) if tower else {})


def learn(space: Space, phase: Phase, chance: np.random.Generator, bfloat16: bool) -> None:
    """Runs one phase; the weights change in place."""
    data = space.data
    sampler = Sampler(data, phase.pairs, phase.named, phase.others, chance)

    def losses(step: int) -> Losses:
        batch = sampler()
        paired = len(batch.pictures) - len(batch.labels)
        crops = chance.integers(data.crops, size=len(batch.pictures))
        features = frozen = data.draw("features", batch.pictures, crops)
        if phase.tower:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                features = space.features(data.draw("maps", batch.pictures, crops))
        vectors, logits = space.pictures(features, phase.dropout)
        pairs = contrastive(vectors[:paired], space.sentences(batch.sentences), space.scales["pairs"].exp())
        sets = batch.set_of_picture, batch.set_of_name
        names = space.sentences(batch.names)
        named = class_names(vectors[paired:], names, batch.labels, *sets, space.scales["names"].exp())
        parts = {"pairs": pairs, "names": phase.named_weight * named}
        if phase.tower:
            before = space.image.classifier(frozen).softmax(-1).detach()
            parts["divergence"] = phase.divergence_weight * divergence(logits, before)
        return parts

    train(space.trained(phase.tower), losses, phase.schedule, report)


def report(step: int, told: dict[str, float]) -> None:
    """One JSON line on stderr for every twentieth step."""
    if step % 20 == 0:
        print(json.dumps({"step": step, **{name: round(value, 4) for name, value in told.items()}}), file=sys.stderr)


@torch.no_grad()
def go_back(weights: dict[str, nn.Parameter], start: dict[str, Tensor], way: float) -> None:
    """Sets weights to start + way * (weights - start)."""
    for name, weight in weights.items():
        weight.copy_(torch.lerp(start[name], weight, way))


@torch.no_grad()
def calibrated(space: Space, scales: Tensor) -> float:
    """The scale of cosines that surprises least on the labelled sets' validation pictures: least mean over the sets,
    and over both languages, of the mean negative log likelihood, with the simple template. Guo et al., 2017
    (arXiv:1706.04599)."""
    data = space.data
    maps = data.stored("val", "maps", 0)
    batches = (torch.tensor(maps[i : i + AT_A_TIME]).float() for i in range(0, len(maps), AT_A_TIME))
    vectors, _ = space.pictures(torch.cat([space.features(batch) for batch in batches]))
    surprise = torch.zeros(len(scales))
    for name in dict.fromkeys(row["set"] for row in data.val):
        classes = data.classes[name]
        mine = [i for i, row in enumerate(data.val) if row["set"] == name]
        labels = torch.tensor([list(classes).index(data.val[i]["class"]) for i in mine])
        for language in ("en", "ja"):
            names = space.sentences(torch.tensor([sentences[language][-1] for sentences in classes.values()]))
            cosines = vectors[mine] @ names.T
            surprise += torch.stack([F.cross_entropy(scale * cosines, labels) for scale in scales])
    return float(scales[surprise.argmin()])


@torch.no_grad()
def finished(space: Space, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Every tensor of the model: the concepts as the text tower names them now, the scale calibrated."""
    trained = {f"image.{name}": weight for name, weight in space.image.state_dict().items()}
    trained |= {f"text.{name}": weight for name, weight in space.text.state_dict().items()}
    trained |= {"image.concepts": space.concepts(), "image.concept_gain": torch.tensor(space.gain)}
    trained["logit_scale"] = torch.tensor(calibrated(space, torch.arange(5, 60, 0.5))).log()
    return {name: trained[name].numpy() for name in checkpoint.architecture.tensors()}


def make(recipe: Recipe, prepared: Path, out: Path) -> None:
    """Trains and writes the model. Deterministic by the recipe's seed on one machine."""
    torch.manual_seed(recipe.seed)
    chance = np.random.default_rng(recipe.seed)
    checkpoint = open_checkpoint(prepared / "start")
    space = Space(checkpoint, Prepared(prepared), recipe)
    blocks = dict(space.last_blocks.named_parameters())
    start = {name: weight.detach().clone() for name, weight in blocks.items()}
    for phase in recipe.phases:
        learn(space, phase, chance, recipe.bfloat16)
    go_back(blocks, start, recipe.way)
    write_compact(checkpoint, finished(space, checkpoint), out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("recipe", type=Path, help="a TOML file: recipes/bundled.toml")
    parser.add_argument("prepared", type=Path, help="the folder that recipes/prepare_bundled.py made")
    parser.add_argument("out", type=Path, help="the model's folder")
    parser.add_argument("--seed", type=int, help="another seed than the recipe's")
    parser.add_argument("--quick", action="store_true", help="two steps of each phase: a trial run")
    given = parser.parse_args()
    recipe = read_recipe(given.recipe)
    changes: dict[str, Any] = {} if given.seed is None else {"seed": given.seed}
    if given.quick:
        changes["phases"] = tuple(quick(phase) for phase in recipe.phases)
    make(dataclasses.replace(recipe, **changes), given.prepared, given.out)


def quick(phase: Phase) -> Phase:
    """The same in two steps."""
    return dataclasses.replace(phase, schedule=dataclasses.replace(phase.schedule, steps=2))


if __name__ == "__main__":
    main()
