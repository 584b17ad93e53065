"""A `Checkpoint` from what a reader found: settings, files and how their tensors are named. Nothing is read yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from awase.encoding.checkpoints import names
from awase.encoding.checkpoints.checkpoint import Checkpoint, named, settings_of
from awase.encoding.checkpoints.folder import fingerprint
from awase.encoding.checkpoints.names import Entry, Table
from awase.encoding.checkpoints.stored import Weights
from awase.encoding.families import (
    Architecture,
    EfficientNetLite,
    ModifiedResNet,
    TextTransformer,
    VisionTransformer,
)
from awase.errors import CheckpointError

MOST_LAYERS = 1000


@dataclass(frozen=True)
class Found:
    """Where a checkpoint's tensors lie. source: as the user named it; layout: see `Checkpoint`; folder: of the
    tokenizer's files."""

    source: str
    layout: str
    folder: Path | None
    files: list[Path]
    weights: Weights


def checkpoint(
    found: Found,
    architecture: Architecture,
    table: Table,
    ignored: Iterable[str] = (),
    external: dict[str, str] | None = None,
) -> Checkpoint:
    """Checks every name and shape against the table, and remembers how to load them.

    external: awase's name -> the file's name of the tensors of towers that another library owns."""
    architecture = named(architecture)
    refuse_absurd(architecture, found.source)
    listed = names.entries(architecture, table)
    passed = external or {}
    names.check(listed, found.weights, found.source, architecture.name, {*ignored, *passed.values()})

    stamp = fingerprint(found.files, settings_of(architecture))
    return Checkpoint(
        architecture, stamp, found.source, found.layout, found.folder, partial(_load, listed, passed, found.weights)
    )


def _load(listed: list[Entry], passed: dict[str, str], weights: Weights) -> dict[str, np.ndarray]:
    return names.read(listed, weights) | {own: weights[name].read() for own, name in passed.items()}


def refuse_absurd(architecture: Architecture, source: str) -> None:
    """Refuses a number of layers that no file could hold, before their names are listed one by one, a number of
    heads that does not share out the width, and pictures without a pixel or made smaller in place of larger."""
    size, enlarge = architecture.preprocessing.size, architecture.preprocessing.enlarge
    if size < 1 or (enlarge is not None and enlarge < 1):
        raise CheckpointError(f"{source} asks for pictures of {size} pixels, enlarged {enlarge} times; 1 is the least")
    counts: list[int] = []
    for tower in (architecture.image, architecture.text):
        heads, width = getattr(tower, "heads", 1), getattr(tower, "features", getattr(tower, "width", 0))
        if heads < 1 or width % heads:
            raise CheckpointError(
                f"{source} asks for {heads} heads in a tower {width} wide; heads must divide the width"
            )
        if isinstance(tower, VisionTransformer | TextTransformer):
            counts.append(tower.layers)
        elif isinstance(tower, ModifiedResNet):
            counts.extend(tower.blocks)
        elif isinstance(tower, EfficientNetLite):
            counts.extend(stage[0] for stage in tower.stages)
    if max(counts, default=0) > MOST_LAYERS:
        raise CheckpointError(f"{source} asks for {max(counts)} layers; awase reads up to {MOST_LAYERS}")
