"""A checkpoint: an architecture, weights that are read only when asked for, and where its tokenizer lies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from awase.encoding.families import Architecture
from awase.errors import TensorMismatch

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """What a reader found. `load()` gives float32 tensors under awase's own names (`Architecture.tensors()`).

    source: a path or a hub name, for messages. layout: "openai", "open_clip", "huggingface", "awase" or "memory".
    fingerprint: SHA-256 (hex) of the weights, which stands for them in every cache and stamp.
    folder: where the tokenizer's files lie, if the checkpoint brings its own."""

    architecture: Architecture
    fingerprint: str
    source: str
    layout: str
    folder: Path | None
    load: Callable[[], dict[str, np.ndarray]]


def in_memory(
    architecture: Architecture, tensors: Tensors, source: str = "memory", folder: Path | None = None
) -> Checkpoint:
    """A checkpoint from tensors under awase's own names; raises TensorMismatch where they do not fit."""
    check_tensors(architecture, tensors, source)
    held = {name: np.ascontiguousarray(tensors[name], np.float32) for name in architecture.tensors()}
    digest = hashlib.sha256(repr(architecture).encode())
    for name, values in held.items():
        digest.update(name.encode())
        digest.update(values.tobytes())
    return Checkpoint(architecture, digest.hexdigest(), source, "memory", folder, lambda: dict(held))


def check_tensors(architecture: Architecture, tensors: Tensors, source: str) -> None:
    """Raises TensorMismatch that lists the first five names missing, left over or of another shape."""
    if architecture.external:
        return  # the library that owns the tower checks its own names when the module is built
    wanted = architecture.tensors()
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "left over": [name for name in tensors if name not in wanted],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)}, expected {shape}"
            for name, shape in wanted.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ],
    }
    found = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise TensorMismatch(
            f"{source} looks like {architecture.name}, but its tensors do not fit: {'; '.join(found)}. "
            "Check that the weights and the configuration belong together."
        )
