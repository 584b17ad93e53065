"""Stretches of training that start alike, and the mean of what they leave."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.learning.averaging import Average
from awase.learning.loop import train
from awase.learning.pretraining.bundled.prepared import Prepared
from awase.learning.pretraining.bundled.recipe import Phase, Recipe
from awase.learning.pretraining.bundled.space import Space
from awase.learning.pretraining.bundled.step import Step

Weights = dict[str, Tensor]


def ends_from(seed: int, checkpoint: Checkpoint, data: Prepared, recipe: Recipe) -> Iterator[Weights]:
    """What each of the recipe's ends leaves, or the phases where it has none."""
    torch.manual_seed(seed)
    space = Space(checkpoint, data, recipe)
    chance = chance_of(seed, 0)
    for phase in recipe.phases:
        learn(space, phase, recipe, seed, chance)
    start = copied(space.trained(tower=True))
    for number, phase in enumerate(recipe.ends):
        yield end_of(phase, start, space, recipe, seed, 1 + number)
    if not recipe.ends:
        yield start


def rounds_from(start: Weights, space: Space, recipe: Recipe) -> Weights:
    """The mean of `start` and of the ends of all rounds."""
    found, seeds = [start], itertools.cycle(recipe.seeds)
    stretch = itertools.count(1 + len(recipe.ends))
    for ends in recipe.rounds:
        so_far = mean(found)
        found += [end_of(phase, so_far, space, recipe, next(seeds), next(stretch)) for phase in ends]
    return mean(found)


def end_of(phase: Phase, start: Weights, space: Space, recipe: Recipe, seed: int, stretch: int) -> Weights:
    """What the phase makes of the weights `start`."""
    assign(space, start)
    learn(space, phase, recipe, seed, chance_of(seed, stretch))
    return copied(space.trained(tower=True))


def chance_of(seed: int, stretch: int) -> np.random.Generator:
    """What a stretch of training draws its batches by: the phases are number 0, ends and rounds follow."""
    return np.random.default_rng([seed, stretch])


def learn(space: Space, phase: Phase, recipe: Recipe, seed: int, chance: np.random.Generator) -> None:
    """Runs one phase; the weights change in place, to their moving average."""
    space.set_mixture(phase)
    weights = space.trained(phase.tower)
    average = Average(weights, recipe.average)
    train(weights, Step(space, phase, chance), phase.schedule, report, seed=seed, average=average)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(average.tensors[name])


def report(step: int, told: dict[str, float]) -> None:
    """One JSON line on stderr for every twentieth step."""
    if step % 20 == 0:
        print(json.dumps({"step": step, **{name: round(value, 4) for name, value in told.items()}}), file=sys.stderr)


@torch.no_grad()
def assign(space: Space, weights: Weights) -> None:
    """Sets the weights that there are."""
    trained = space.trained(tower=True)
    for name, weight in weights.items():
        trained[name].copy_(weight)


def mean(left: Sequence[Weights]) -> Weights:
    return {name: torch.stack([one[name] for one in left]).mean(0) for name in left[0]}


def copied(weights: Mapping[str, Tensor]) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}
