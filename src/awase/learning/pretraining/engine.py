"""One pretraining run, from a recipe to a model in awase's own layout.

    OUT/step-*, log.jsonl     the state and the log of the loop: the same call goes on where it stopped
    OUT/evaluations.jsonl     what was measured on the way
    OUT/unreadable.jsonl      pictures that could not be read
    OUT/orders/               of epochs whose hard negatives were mined
    OUT/tensorboard/          the curves for TensorBoard, where that is installed
    OUT/wandb/                the same for Weights & Biases, where the recipe asks for it
    OUT/model/                the model, at the end
    OUT/run.html              the run on a page, with its curves

Every process of a torchrun calls `pretrain`; the first one writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from awase.encoding.checkpoints import Checkpoint, write_checkpoint
from awase.errors import AwaseError, PictureError, UsageError
from awase.learning.distributed import rank, wait_for_all, world
from awase.learning.loop import Average, Keeping, TrainingFailed, layerwise, train
from awase.learning.pretraining.mining import Miner
from awase.learning.pretraining.page import write_page
from awase.learning.pretraining.pairs import Pairs
from awase.learning.pretraining.recipe import Recipe
from awase.learning.pretraining.speed import Speed
from awase.learning.pretraining.starting import Started, learned, started
from awase.learning.pretraining.step import Step, teacher_of
from awase.learning.pretraining.tensorboard import Curves
from awase.learning.pretraining.watching import (
    EVALUATIONS,
    UNREADABLE,
    Alarms,
    evaluate,
    note_evaluation,
    refuse_missing,
)
from awase.learning.pretraining.weights_and_biases import SentCurves, refuse_absent
from awase.learning.schedule import Schedule
from awase.loading import checkpoint_of, load

Report = Callable[[int, dict[str, float]], None]
MODEL = "model"
MOST_LOG_SCALE = 30.0  # either way; a scale of cosines is some tens, so its logarithm some units
OUT_OF_MEMORY = (
    "the memory of {} does not hold a step of {:,} pairs: loss.part encodes fewer at a time with the same gradients "
    "and model.recompute forgets inner values, in a run that goes on too; in a new one "
    'loss.kind = "blocks" holds no matrix of scores, and data.batch can be lower'
)
FREE = {"model": ("recompute", "compile"), "loss": ("part",), "data": ("threads",)}
"""Settings by table that may change while a run is going on: they say what a step takes, not what it computes."""


def pretrain(recipe: Recipe, out: Path, report: Report = lambda step, told: None) -> Path:
    """Trains a model, or goes on with a run that was stopped, and gives the folder that holds it.

    report: as for `train`. Known failures on the way are warnings. Raises UsageError where settings do not fit together
    or OUT holds another run, DataError where too many pictures cannot be read, TrainingFailed."""
    device = device_of(recipe.device)
    if recipe.shard and world() == 1:
        raise UsageError("shard = true splits weights among several processes, and this is one: start it by torchrun")
    refuse_missing(recipe.watch)
    refuse_absent(recipe.watch.wandb)
    start = started(recipe.model, recipe.seed, device, recipe.shard)
    _refuse_sizes(recipe.data.sizes, start)
    tell = _Unreadable(out / UNREADABLE)
    rule, steps = start.towers.architecture.preprocessing, recipe.schedule.steps
    pairs = Pairs(recipe.data, start.tokenizer, rule, recipe.seed, steps, recipe.loss.swapped, tell)
    teachers = [teacher_of(checkpoint_of(name), device) for name in recipe.loss.teachers]
    step_of = Step(start.towers, recipe.loss, teachers, device, recipe.model.compile)
    weights = learned(start.towers)
    average = None if recipe.average is None else Average(weights, recipe.average)
    settings = _settings(recipe, pairs)
    mine = Miner(pairs, step_of, out, _identity(recipe, settings)) if recipe.data.mined else None
    watcher = _Watcher(recipe, out, start, average, report)
    try:
        counted = not (recipe.shard or recipe.model.compile)  # torch cannot count there
        first = partial(_losses, pairs, step_of, None, None, 0)
        speed = Speed(first, weights, device, recipe.precision) if counted else None
        train(
            weights,
            partial(_losses, pairs, step_of, mine, speed),
            _schedule(recipe, weights),
            watcher,
            seed=recipe.seed,
            precision=recipe.precision,
            average=average,
            keeping=Keeping(out, recipe.keep, settings=settings),
            describe=pairs.names,
        )
    except RuntimeError as problem:  # torch has a class of its own for a GPU's memory alone
        if isinstance(problem, torch.OutOfMemoryError) or "can't allocate memory" in str(problem):
            raise AwaseError(OUT_OF_MEMORY.format(device, recipe.data.batch)) from problem
        raise
    finally:
        pairs.close()
        watcher.close()
    watcher.finish()
    return out / MODEL


def _losses(pairs: Pairs, step_of: Step, mine: Miner | None, speed: Speed | None, step: int) -> dict[str, Tensor]:
    if mine:
        mine(step)
    parts = step_of(pairs(step))
    return {**parts, "peak": speed()} if speed else parts


def device_of(wanted: str) -> str:
    """What "auto" stands for on this machine. Raises UsageError for a device that it does not have."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there.get(wanted.split(":")[0], False):
        raise UsageError(f"device {wanted!r} is not there; there are {', '.join(d for d, p in there.items() if p)}")
    return wanted


def _refuse_sizes(sizes: Sequence[int], start: Started) -> None:
    own, patch = start.towers.architecture.preprocessing.size, getattr(start.towers.architecture.image, "patch_size", 1)
    if odd := [size for size in (*sizes, own) if size % patch]:
        raise UsageError(f"pictures of {odd[0]} pixels do not divide into the tower's patches of {patch}")
    if large := [size for size in sizes if size > own]:
        raise UsageError(f"data.sizes: {large[0]} is larger than the tower's own {own}, which comes last")


def _schedule(recipe: Recipe, weights: Mapping[str, Any]) -> Schedule:
    if recipe.model.shrink == 1:
        return recipe.schedule
    factors = layerwise(weights, recipe.model.shrink)
    if not factors:
        raise UsageError("shrink is for towers that are a list of blocks, and no such block learns here")
    return dataclasses.replace(recipe.schedule, factors={**factors, **recipe.schedule.factors})


def _settings(recipe: Recipe, pairs: Pairs) -> dict[str, Any]:
    """What must not change while a run is going on; how it is watched and on what it runs may."""
    whole = dataclasses.asdict(recipe)
    fixed = {name: {k: v for k, v in whole[name].items() if k not in free} for name, free in FREE.items()}
    there = [f"{len(source):,} in {source.name}, {source.contents()}" for source in pairs.sources]
    return {**fixed, "average": recipe.average, "pictures and sentences": there}


def _identity(recipe: Recipe, settings: Mapping[str, Any]) -> str:
    """The same for runs that take the same steps."""
    whole = {**settings, "schedule": dataclasses.asdict(recipe.schedule), "seed": recipe.seed, "of": recipe.precision}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]


def _spoiled(made: Checkpoint) -> str:
    """What is wrong with weights that have run away; empty where nothing is."""
    tensors = made.load()
    if nameless := [name for name, values in tensors.items() if not np.isfinite(values).all()]:
        return f"{nameless[0]} holds numbers that are not finite"
    scale = float(tensors["logit_scale"])
    return "" if abs(scale) < MOST_LOG_SCALE else f"the logarithm of its scale of cosines is {scale:g}"


class _Unreadable:
    """Notes each picture that cannot be read, once; called by several threads. A disk that refuses is a warning."""

    def __init__(self, file: Path) -> None:
        self.file, self._known, self._lock = file, set[str](), threading.Lock()

    def __call__(self, error: PictureError) -> None:
        with self._lock:
            if error.source in self._known:
                return
            self._known.add(error.source)
            with _warned_of(self.file):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"picture": error.source, "reason": error.reason}) + "\n")


@contextmanager
def _warned_of(file: Path) -> Iterator[None]:
    """A disk that refuses a file beside the run is a warning: training goes on."""
    try:
        yield
    except OSError as problem:
        warnings.warn(f"{file} could not be written ({problem.strerror}); training goes on", stacklevel=4)


class _Watcher:
    """Hears of every step: raises alarms, evaluates when it is time, and at the end writes the model and the page."""

    def __init__(self, recipe: Recipe, out: Path, start: Started, average: Average | None, report: Report) -> None:
        self.recipe, self.out, self.start, self.average, self.report = recipe, out, start, average, report
        self.curves = Curves(out / "tensorboard")
        self.sent = SentCurves(out, recipe.watch.wandb, dataclasses.asdict(recipe))
        contrastive = recipe.loss.kind != "sigmoid" and not recipe.loss.teachers
        self.alarms = Alarms(recipe.data.batch, recipe.loss.limit, contrastive)

    def __call__(self, step: int, told: dict[str, float]) -> None:
        self.report(step, told)
        if rank() == 0:
            self.curves(step, told)
            self.sent(step, told)
        for alarm in self.alarms.hear(step, told) if rank() == 0 else []:
            warnings.warn(alarm, stacklevel=2)
        every, done = self.recipe.watch.every, step + 1
        if every and done % every == 0 and done < self.recipe.schedule.steps:
            self._measure(done, self._checkpoint(done))

    def close(self) -> None:
        self.curves.close()
        self.sent.close()

    def finish(self) -> None:
        """Writes the model and the page; measures the model, unless an earlier call has done so."""
        if not (self.out / MODEL).exists():
            steps = self.recipe.schedule.steps
            checkpoint = self._checkpoint(steps)
            self._measure(steps, checkpoint)
            if rank() == 0:
                write_checkpoint(checkpoint, self.out / MODEL, "awase")
        if rank() == 0:
            write_page(self.out, self.recipe)
        wait_for_all()

    def _checkpoint(self, done: int) -> Checkpoint:
        """The model as it would be written after so many steps; every process must ask. Raises TrainingFailed for
        weights that nobody could use."""
        with self.average.in_place() if self.average else nullcontext():
            found = self.start.checkpoint(f"{self.out} after {done} steps")
        if spoiled := _spoiled(found):
            raise TrainingFailed(
                f"{found.source}: {spoiled}, so this is no model: a lower schedule.rate, or a longer schedule.rise, "
                "usually helps, in a new run"
            )
        return found

    def _measure(self, done: int, checkpoint: Checkpoint) -> None:
        """Evaluates the model after so many steps; the others wait for the first process."""
        watch = self.recipe.watch
        if rank() == 0 and (watch.retrieval or watch.zero_shot):
            clip = load(checkpoint, engine="torch:" + device_of(self.recipe.device))
            found = evaluate(clip, watch)
            with _warned_of(self.out / EVALUATIONS):
                note_evaluation(self.out, done, found)
        wait_for_all()
