"""A pretraining run as data: what is trained, on what, how. A TOML file has these fields as its tables and keys;
`--set schedule.rate=1e-3` changes one of them. A setting that does not exist is an error."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from awase.encoding.pictures import DEFAULT_LIMITS
from awase.errors import UsageError
from awase.learning.half import Precision
from awase.learning.schedule import Schedule


@dataclass(frozen=True)
class Model:
    """What is trained: a checkpoint's towers, or new ones."""

    checkpoint: str | None = None
    """A folder or file, relative to the recipe or to where one stands, or a hub name: weights, sizes and tokenizer."""
    architecture: str | Mapping[str, Any] | None = None
    """Sizes of new towers with CLIP's tokenizer, in place of a checkpoint: a published name ("ViT-B-32"), or a table as
    `config.json` of awase's own layout has it."""
    scratch: bool = False
    """Random weights in place of the checkpoint's."""
    locked: tuple[str, ...] = ()
    """Beginnings of weights' names that do not learn: "image." is LiT (Zhai et al., 2022, arXiv:2111.07991)."""
    shrink: float = 1.0
    """What a block's rate is multiplied by for each block that follows it; below 1 early layers learn more slowly."""
    left_out: float = 0.0
    """Part of the patches that is not looked at in training (FLIP)."""
    recompute: bool = False
    """Whether blocks forget their inner values and compute them again: less memory, a third more time."""
    compile: bool = False
    """Whether torch compiles the towers."""

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.architecture is None):
            raise UsageError("a model is a checkpoint or an architecture: give one of the two")
        if not 0 <= self.left_out < 1 or not 0 < self.shrink <= 1:
            raise UsageError(f"left_out lies in [0, 1) and shrink in (0, 1]; given: {self.left_out}, {self.shrink}")


@dataclass(frozen=True)
class PairSet:
    """Pictures with sentences, in any layout that `open_captioned` reads, or with classes."""

    path: str
    """A folder, an archive, a folder inside one, a table or WebDataset shards, relative to the recipe; or an address of
    shards (https://, s3://) that `awase data shard` wrote."""
    split: str | None = None
    """Which of its splits; left out, the training split, or everything where data are not divided."""
    columns: tuple[str, ...] = ("captions",)
    """Where sentences are taken from; a picture has one of its own, from any of them, at a time."""
    classes: tuple[str, ...] = ()
    """Languages in which classes are named, in place of columns: a sentence is a template with the picture's class."""
    weight: float | None = None
    """Part of a batch relative to the other sets'; left out, the number of its pictures."""

    def __post_init__(self) -> None:
        if not self.columns and not self.classes:
            raise UsageError(
                f"{self.path}: sentences come from columns, or from the names of classes; given is neither"
            )
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise UsageError(f"{self.path}: a set's weight is above 0, not {self.weight}")


@dataclass(frozen=True)
class Data:
    """What a step sees."""

    sets: tuple[PairSet, ...]
    batch: int
    """Pairs in a step, of all processes together."""
    crop: float = 0.9
    """Least part of a picture's area that a random crop keeps; 1 takes the tower's own square."""
    sizes: tuple[int, ...] = ()
    """Sides of pictures in equal parts of the run, last the tower's own; none is the tower's own throughout."""
    mined: bool = False
    """Whether, from a set's second epoch on, pairs that the model confuses come in one batch."""
    bad: float = 0.01
    """Part of the pictures that may be unreadable; each is named and another taken in its place."""
    max_pixels: int = DEFAULT_LIMITS.pixels
    """Pixels of the largest picture that is opened; what is larger counts as unreadable."""
    threads: int = 4
    """Pictures that are decoded at a time, in each process."""

    def __post_init__(self) -> None:
        if not self.sets or self.batch < 2 or self.threads < 1 or self.max_pixels < 1:
            given = f"{len(self.sets)}, {self.batch}, {self.threads}, {self.max_pixels}"
            raise UsageError(f"data needs sets, a batch of 2 or more, threads and max_pixels; given: {given}")
        if not 0 < self.crop <= 1 or not 0 <= self.bad < 1 or any(size < 1 for size in self.sizes):
            given = f"{self.crop}, {self.bad}, {list(self.sizes)}"
            raise UsageError(f"crop lies in (0, 1], bad in [0, 1) and sizes above 0; given: {given}")


@dataclass(frozen=True)
class Loss:
    """What pulls pairs together and pushes others apart."""

    kind: Literal["softmax", "blocks", "sigmoid"] = "softmax"
    """CLIP's loss, the same without its matrix of scores, or SigLIP's."""
    alike: Literal["rivals", "left out", "right"] = "rivals"
    """What pairs with equal sentences are to one another."""
    smoothing: float = 0.0
    """Part of the target that is spread over all."""
    swapped: bool = False
    """Whether each caption brings a false one that differs in a word or two as a further rival for its picture."""
    pull: float = 0.0
    """Weight of the pairs' own squared distance."""
    teachers: tuple[str, ...] = ()
    """Checkpoints whose likenesses are learned too."""
    taught: float = 1.0
    """Weight of the teachers' part; the pairs' own has the rest of 1."""
    most_scale: float = 100.0
    """The largest scale of cosines that a step computes with."""
    fixed_scale: float | None = None
    """A scale that does not learn."""
    part: int | None = None
    """Pairs at a time, with the gradients of the whole batch (gradient caching)."""

    def __post_init__(self) -> None:
        if self.kind != "softmax" and (self.smoothing or self.alike == "right"):
            raise UsageError(f'smoothing and alike = "right" are for kind = "softmax", not {self.kind!r}')
        if self.alike == "right" and (self.smoothing or self.swapped):
            raise UsageError('alike = "right" goes with neither smoothing nor swapped')
        if self.kind == "sigmoid" and self.swapped:
            raise UsageError('swapped is for kind = "softmax" or "blocks"')
        if self.part is not None and self.part < 1:
            raise UsageError(f"a part of a batch has one pair or more, not {self.part}")
        if not (0 <= self.smoothing < 1 and 0 <= self.taught <= 1 and 0 <= self.pull < math.inf):
            given = f"{self.smoothing}, {self.taught}, {self.pull}"
            raise UsageError(f"smoothing lies in [0, 1), taught in [0, 1], pull from 0 up; given: {given}")
        scales = (self.most_scale, 1.0 if self.fixed_scale is None else self.fixed_scale)
        if not all(0 < scale < math.inf for scale in scales):
            raise UsageError(f"most_scale and fixed_scale are above 0; given: {self.most_scale}, {self.fixed_scale}")

    @property
    def limit(self) -> float:
        """What the scale stays below; one that is fixed has no limit."""
        return math.inf if self.fixed_scale is not None else self.most_scale


@dataclass(frozen=True)
class Watch:
    """What is looked at on the way."""

    every: int = 0
    """Steps between two evaluations; 0 evaluates at the end only."""
    retrieval: tuple[str, ...] = ()
    """Captioned sets, "PATH" or "PATH:SPLIT"; the validation split if not told."""
    zero_shot: tuple[str, ...] = ()
    """Labelled sets, likewise."""
    wandb: str | None = None
    """Project of Weights & Biases that the curves are sent to; none sends nothing."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise UsageError(f"watch.every counts steps, from 0: {self.every}")


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    model: Model
    data: Data
    schedule: Schedule
    loss: Loss = field(default_factory=Loss)
    watch: Watch = field(default_factory=Watch)
    seed: int = 0
    precision: Precision = "fp32"
    device: str = "auto"
    """"cpu", "cuda", "mps", or the best there is."""
    average: float | None = None
    """Decay of a moving average of the weights, which is then the model that is written; none writes the last ones."""
    shard: bool = False
    """Under torchrun: whether weights are split among the processes (FSDP2) rather than held by each."""
    keep: float = 300.0
    """Seconds between two states on disk: as much work as a kill may cost."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or not 0 <= self.keep < math.inf:
            raise UsageError(f"the seed and keep are from 0 up, the seed below 2**63; given: {self.seed}, {self.keep}")

    def quick(self) -> Recipe:
        """The same run in four steps of eight pairs from each set: to see that it works."""
        sets = tuple(dataclasses.replace(one, weight=1.0) for one in self.data.sets)
        data = dataclasses.replace(self.data, sets=sets, batch=8 * len(sets))
        return dataclasses.replace(self, schedule=dataclasses.replace(self.schedule, steps=4), data=data)


def read_recipe(file: Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a TOML file; changes: "table.key=value", a TOML value or a bare word. Paths become absolute. Raises
    UsageError for what does not exist, does not fit or is no TOML."""
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageError(f"{file} cannot be read as a recipe: {problem}") from problem
    for change in changes:
        _apply(values, change)
    recipe: Recipe = _built(Recipe, values, str(file))
    sets = tuple(dataclasses.replace(one, path=_below(file, one.path)) for one in recipe.data.sets)
    retrieval, zero_shot = (
        tuple(_below(file, path) for path in paths) for paths in (recipe.watch.retrieval, recipe.watch.zero_shot)
    )
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, checkpoint=_beside(file, recipe.model.checkpoint)),
        data=dataclasses.replace(recipe.data, sets=sets),
        loss=dataclasses.replace(recipe.loss, teachers=tuple(str(_beside(file, one)) for one in recipe.loss.teachers)),
        watch=dataclasses.replace(recipe.watch, retrieval=retrieval, zero_shot=zero_shot),
    )


def _beside(file: Path, checkpoint: str | None) -> str | None:
    """A checkpoint that lies beside the recipe, absolute; any other name as it is, as it may be one of the hub."""
    if checkpoint is None:
        return None
    there = file.resolve().parent / checkpoint
    return str(there) if there.exists() else checkpoint


def _below(file: Path, path: str) -> str:
    return path if "://" in path or path.startswith("hub:") else str(file.resolve().parent / path)


def _apply(values: dict[str, Any], change: str) -> None:
    where, equals, text = change.partition("=")
    if not equals:
        raise UsageError(f"--set {change}: expected TABLE.KEY=VALUE, for example schedule.rate=1e-3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, key = where.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise UsageError(f"--set {change}: {table} is no table")
    values[key] = value


def _built(kind: Any, values: Any, where: str) -> Any:
    """A dataclass, or a value of one of its fields, from what TOML gave."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return values
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, values, where)
    if origin is tuple and isinstance(values, list):
        if inside[-1] is not ... and len(values) != len(inside):
            raise UsageError(f"{where} is {values!r}; expected {len(inside)} values")
        return tuple(_built(inside[0], value, f"{where}[{i}]") for i, value in enumerate(values))
    if origin is collections.abc.Mapping and isinstance(values, dict):
        return {key: _built(inside[1], value, f"{where}.{key}") for key, value in values.items()}
    if origin in (typing.Union, types.UnionType):
        fitting = [option for option in inside if _fits(option, values)]
        if fitting:
            return _built(fitting[0], values, where)
    elif _fits(kind, values):
        return float(values) if kind is float else values
    raise UsageError(f"{where} is {values!r}; expected {_said(kind)}")


def _dataclass(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise UsageError(f"{where} is {values!r}; expected a table")
    hints = typing.get_type_hints(kind)
    if unknown := [key for key in values if key not in hints]:
        raise UsageError(f"{where}: there is no setting {unknown[0]!r}; there are {', '.join(hints)}")
    needed = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in values]:
        raise UsageError(f"{where}: {missing[0]} is missing")
    given = {key: _built(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    try:
        return kind(**given)
    except UsageError as problem:
        raise UsageError(f"{where}: {problem}") from problem


def _fits(kind: Any, value: Any) -> bool:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return value in inside
    if origin is tuple:
        return isinstance(value, list)
    if kind is type(None):
        return False
    if origin is not None:  # a mapping
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _said(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_said(option) for option in typing.get_args(kind) if option is not type(None))
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", tuple: "a list"}
    return simple.get(typing.get_origin(kind) or kind, "a table")
