"""From a recipe and a prepared folder to the model as it is stored."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from awase.encoding.checkpoints import open_checkpoint
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.errors import UsageError
from awase.learning.pretraining.bundled.compact import as_stored, write_compact
from awase.learning.pretraining.bundled.prepared import Prepared
from awase.learning.pretraining.bundled.recipe import Recipe
from awase.learning.pretraining.bundled.space import AT_A_TIME, Space
from awase.learning.pretraining.bundled.stretches import (
    Weights,
    assign,
    copied,
    phases_and_ends,
    rounds_from,
    side_by_side,
)


def make(recipe: Recipe, prepared: Path, out: Path, begin: Checkpoint | None = None, workers: int = 1) -> None:
    """Trains and writes the model. Deterministic by the recipe's seeds on one machine.

    begin: a model that an earlier run made, in the place of what the phases and their ends would leave.
    workers: so many stretches of training run at once. Raises UsageError for a `begin` of another architecture, or
    where the recipe has no rounds to go on with."""
    data = Prepared(prepared)
    checkpoint = open_checkpoint(prepared / "start")
    space = Space(checkpoint, data, recipe)
    run = side_by_side(prepared, recipe, workers)
    if begin is None:
        start = phases_and_ends(recipe, run)
    else:
        refuse_unfit(begin, checkpoint, recipe)
        start = copied(space.trained(tower=True)) | trained_weights_of(begin, data, recipe)
    assign(space, rounds_from(start, recipe, run))
    space.set_mixture([*recipe.phases, *recipe.ends, *itertools.chain(*recipe.rounds)][-1])
    write_compact(checkpoint, finished(space, checkpoint, recipe), out)


def refuse_unfit(made: Checkpoint, start: Checkpoint, recipe: Recipe) -> None:
    if not recipe.rounds:
        raise UsageError("the recipe has no rounds to go on with from a model")
    if dataclasses.replace(made.architecture, name=start.architecture.name) != start.architecture:
        raise UsageError(f"{made.source} is of another architecture than what was prepared, and cannot be gone on from")


def trained_weights_of(made: Checkpoint, data: Prepared, recipe: Recipe) -> Weights:
    """What was trained of a model, but for the scales of its losses, which no model keeps."""
    space = Space(made, data, recipe)
    space.read_learned()
    return {name: weight for name, weight in copied(space.trained(tower=True)).items() if not name.startswith("scales")}


@torch.no_grad()
def finished(space: Space, checkpoint: Checkpoint, recipe: Recipe) -> dict[str, np.ndarray]:
    """Every tensor of the model, rounded as it will be stored: the concepts as that text tower names them, the scale
    calibrated with those weights."""
    space.kind_weight = recipe.kind_weight
    space.write_learned()
    trained: dict[str, Tensor] = {}
    for side, tower in (("image", space.image), ("text", space.text)):
        trained |= {f"{side}.{name}": weight for name, weight in tower.state_dict().items()}
    for name, weight in trained.items():
        weight.copy_(torch.from_numpy(as_stored(name, weight.numpy())))
    space.read_learned()
    trained |= {"image.concepts": space.concepts(), "image.concept_gain": torch.tensor(space.gain)}
    trained["logit_scale"] = torch.tensor(calibrated(space, torch.arange(5, 60, 0.5))).log()
    return {name: trained[name].numpy() for name in checkpoint.architecture.tensors()}


@torch.no_grad()
def calibrated(space: Space, scales: Tensor) -> float:
    """The scale of cosines that surprises least on the labelled sets' validation pictures: least mean over the sets,
    and over both languages, of the mean negative log likelihood, with the simple template. Guo et al., 2017
    (arXiv:1706.04599)."""
    data, concepts = space.data, space.concepts()
    maps, features = (data.stored("val", kind, 0) for kind in ("maps", "features"))
    parts = [slice(i, i + AT_A_TIME) for i in range(0, len(maps), AT_A_TIME)]
    read = [(torch.tensor(features[part]).float(), torch.tensor(maps[part]).float()) for part in parts]
    vectors = torch.cat([space.pictures(frozen, space.tuned(x), concepts)[0] for frozen, x in read])
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
