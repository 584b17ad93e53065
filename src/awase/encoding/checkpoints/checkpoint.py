"""A checkpoint: an architecture, weights that are read only when asked for, and where its tokenizer lies."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from awase.encoding.families import Architecture, ModifiedResNet, Shape, VisionTransformer, in_words
from awase.encoding.published import PUBLISHED
from awase.errors import CheckpointError, TensorMismatch

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Origin:
    """What a checkpoint was derived from. fingerprint: of the one whose weights lie in a file. same_pictures: whether
    the image tower is still that one's."""

    fingerprint: str
    same_pictures: bool


@dataclass(frozen=True)
class Checkpoint:
    """What a reader found. `load()` gives float32 tensors under awase's own names (`Architecture.tensors()`).

    source: a path or a hub name, for messages. layout: "openai", "open_clip", "huggingface", "awase" or "memory".
    fingerprint: SHA-256 (hex) of the weights and of every setting that takes part in a vector; it stands for them in
    every cache and stamp. folder: where the tokenizer's files lie, if the checkpoint brings its own. origin: of one
    that an adapter changed.
    It can be pickled, as a description of where the weights lie (one in memory: with them)."""

    architecture: Architecture
    fingerprint: str
    source: str
    layout: str
    folder: Path | None
    load: Callable[[], dict[str, np.ndarray]]
    origin: Origin | None = None


def in_memory(
    architecture: Architecture, tensors: Tensors, source: str = "memory", folder: Path | None = None
) -> Checkpoint:
    """A checkpoint from tensors under awase's own names; raises TensorMismatch where they do not fit."""
    check_tensors(architecture, tensors, source)
    names = tensors if architecture.external else architecture.tensors()
    held = {name: np.ascontiguousarray(tensors[name], np.float32).reshape(np.shape(tensors[name])) for name in names}
    digest = hashlib.sha256(settings_of(architecture).encode())
    for name, values in held.items():
        digest.update(name.encode())
        digest.update(values.tobytes())
    return Checkpoint(architecture, digest.hexdigest(), source, "memory", folder, partial(dict, held))


def settings_of(architecture: Architecture) -> str:
    """Everything of an architecture that takes part in a vector, as text: all but its name and its languages."""
    return in_words(dataclasses.replace(architecture, name="", languages=()))


def named(architecture: Architecture) -> Architecture:
    """The same, under the name of the published family whose sizes it has, or under a description of its sizes."""

    def sizes(one: Architecture) -> tuple[object, ...]:
        towers = [dataclasses.asdict(tower) for tower in (one.image, one.text)]
        return one.dimension, *({key: v for key, v in t.items() if key != "activation"} for t in towers)

    wanted = sizes(architecture)
    for name, published in PUBLISHED.items():
        if sizes(published) == wanted:
            return dataclasses.replace(architecture, name=name)
    return dataclasses.replace(architecture, name=_description(architecture))


def _description(architecture: Architecture) -> str:
    image = architecture.image
    if isinstance(image, VisionTransformer):
        family = "ViT" if image.pooling == "class" else "SigLIP"
        return f"{family}-{image.width}x{image.layers}-{image.patch_size}-{image.image_size}"
    if isinstance(image, ModifiedResNet):
        return f"RN{3 * sum(image.blocks) + 2}-{image.width}-{image.image_size}"
    return f"{getattr(image, 'model', type(image).__name__)}-{image.image_size}"


def check_tensors(architecture: Architecture, tensors: Tensors, source: str) -> None:
    """Raises TensorMismatch that lists the first five names missing, left over or of another shape."""
    if architecture.external:
        return  # the library that owns the tower checks its own names when the module is built
    found = {name: tuple(values.shape) for name, values in tensors.items()}
    refuse_mismatch(architecture.tensors(), found, source, architecture.name)


def refuse_not_finite(tensors: Tensors, source: str) -> None:
    """Raises CheckpointError that names the first tensor with a NaN or an infinity: every vector would hold them."""
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{source}: tensor {name} holds numbers that are not finite; the weights are damaged, or the training "
                "that made them failed: fetch them again, or take an earlier checkpoint"
            )


def refuse_mismatch(wanted: Mapping[str, Shape], found: Mapping[str, Shape], source: str, looks_like: str) -> None:
    """Raises TensorMismatch unless both are the same names and shapes."""
    problems = {
        "missing": [name for name in wanted if name not in found],
        "left over": [name[:200] for name in found if name not in wanted],
        "of another shape": [
            f"{name} {found[name]}, expected {shape}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ],
    }
    listed = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for what, names in problems.items()
        if names
    ]
    if listed:
        raise TensorMismatch(
            f"{source} looks like {looks_like}, but its tensors do not fit: {'; '.join(listed)}. "
            "Check that the weights and the configuration belong together."
        )
