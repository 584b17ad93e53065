"""Stretches of training, several side by side where none needs what another leaves, and the mean of what they leave."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from awase.encoding.checkpoints import open_checkpoint
from awase.encoding.engines.machine import machine
from awase.learning.averaging import Average
from awase.learning.loop import train
from awase.learning.pretraining.bundled.prepared import Prepared
from awase.learning.pretraining.bundled.recipe import Phase, Recipe
from awase.learning.pretraining.bundled.space import Space
from awase.learning.pretraining.bundled.step import Step

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stretch:
    """Phases that follow one another on the same weights.

    seed, number: together they say what is drawn; the phases are number 0, ends and rounds follow. start: the weights
    that it begins with; where None, those that were prepared, with heads drawn by the seed."""

    phases: tuple[Phase, ...]
    seed: int
    number: int
    start: Weights | None = None


Run = Callable[[Sequence[Stretch]], list[Weights]]


def phases_and_ends(recipe: Recipe, run: Run) -> Weights:
    """The mean, over the seeds, of what the recipe's ends leave, or its phases where it has no ends."""
    starts = run([Stretch(recipe.phases, seed, 0) for seed in recipe.seeds])
    ends = [
        Stretch((phase,), seed, number, start)
        for seed, start in zip(recipe.seeds, starts, strict=True)
        for number, phase in enumerate(recipe.ends, 1)
    ]
    return mean(run(ends) if ends else starts)


def rounds_from(start: Weights, recipe: Recipe, run: Run) -> Weights:
    """The mean of `start` and of the ends of all rounds."""
    found, seeds = [start], itertools.cycle(recipe.seeds)
    numbers = itertools.count(1 + len(recipe.ends))
    for ends in recipe.rounds:
        so_far = mean(found)
        found += run([Stretch((phase,), next(seeds), next(numbers), so_far) for phase in ends])
    return mean(found)


def side_by_side(prepared: Path, recipe: Recipe, workers: int) -> Run:
    """How to run stretches: so many at a time, each in a process with its part of the cores; one at a time, in this
    process. What they leave does not depend on it but for rounding, which depends on how many cores each has."""
    one = partial(trained, prepared=prepared, recipe=recipe)

    def run(stretches: Sequence[Stretch]) -> list[Weights]:
        count = min(workers, len(stretches))
        if count <= 1:
            return [one(stretch) for stretch in stretches]
        others = multiprocessing.active_children()
        spawned = multiprocessing.get_context("spawn")  # a fork of a process that has run torch may hang
        with ProcessPoolExecutor(count, spawned, begin, (max(1, machine().cores // count),)) as pool:
            try:
                running = [pool.submit(one, stretch) for stretch in stretches]
                for ended in as_completed(running):
                    ended.result()  # raises what went wrong there
                return [stretch.result() for stretch in running]
            except BaseException:  # the rest may have an hour to go, for nothing
                for process in set(multiprocessing.active_children()).difference(others):
                    process.terminate()
                raise

    return run


def begin(threads: int) -> None:
    """What a process does before its first stretch. It ends with the one that it works for, however that ends."""
    torch.set_num_threads(threads)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def trained(stretch: Stretch, prepared: Path, recipe: Recipe) -> Weights:
    """What a stretch leaves."""
    torch.manual_seed(stretch.seed)
    space = Space(open_checkpoint(prepared / "start"), Prepared(prepared), recipe)
    if stretch.start is not None:
        assign(space, stretch.start)
    chance = np.random.default_rng([stretch.seed, stretch.number])
    for phase in stretch.phases:
        space.set_mixture(phase)
        weights = space.trained(phase.tower)
        average, step = Average(weights, recipe.average), Step(space, phase, chance)
        train(weights, step, phase.schedule, partial(report, stretch), seed=stretch.seed, average=average)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(average.tensors[name])
    return copied(space.trained(tower=True))


def report(stretch: Stretch, step: int, told: dict[str, float]) -> None:
    """One JSON line on stderr for every twentieth step."""
    if step % 20 == 0:
        which = {"seed": stretch.seed, "stretch": stretch.number, "step": step}
        sys.stderr.write(json.dumps(which | {name: round(value, 4) for name, value in told.items()}) + "\n")


@torch.no_grad()
def assign(space: Space, weights: Weights) -> None:
    """Sets the weights that there are."""
    into = space.trained(tower=True)
    for name, weight in weights.items():
        into[name].copy_(torch.from_numpy(weight))


def mean(left: Sequence[Weights]) -> Weights:
    return {name: np.asarray(np.mean([one[name] for one in left], axis=0)) for name in left[0]}


def copied(weights: Mapping[str, Tensor]) -> Weights:
    return {name: weight.detach().numpy().copy() for name, weight in weights.items()}
