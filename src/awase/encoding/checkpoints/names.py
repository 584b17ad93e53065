"""How the tensors of a published layout correspond to awase's own, in both directions.

A layout is a table from awase's names to its names. `#` stands for the number of a block; a name without .weight or
.bias stands for both; and three signs say how a tensor lies there:

    a.weight + b.weight     the rows of several tensors, one after the other;  a + 2*b: the second has twice as many
    name^T                  transposed
    name[1]                 with one more axis of length one before the others
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from awase.encoding.checkpoints.checkpoint import refuse_mismatch
from awase.encoding.checkpoints.stored import Weights
from awase.encoding.families import Architecture, Shape

Table = Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """One tensor of awase's, and where a layout keeps it."""

    own: str
    shape: Shape
    theirs: tuple[str, ...]
    shares: tuple[int, ...] = (1,)
    transposed: bool = False
    axes: int = 0

    def shapes(self) -> list[Shape]:
        """The shapes of `theirs`."""
        shape = self.shape[::-1] if self.transposed else self.shape
        if len(self.theirs) > 1:
            unit = shape[0] // sum(self.shares)
            return [(share * unit, *shape[1:]) for share in self.shares]
        return [(1,) * self.axes + shape]

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        """Awase's tensor, float32, from theirs."""
        value = np.concatenate(parts) if len(parts) > 1 else parts[0]
        value = value.T if self.transposed else value.reshape(self.shape)
        return np.ascontiguousarray(value, np.float32).reshape(self.shape)

    def split(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """Theirs from awase's tensor."""
        if self.own.endswith("num_batches_tracked"):
            value = value.astype(np.int64)
        if self.transposed:
            value = value.T
        at = 0
        parts = {}
        for name, shape in zip(self.theirs, self.shapes(), strict=True):
            rows = shape[0] if len(self.theirs) > 1 else None
            parts[name] = np.ascontiguousarray(value[at : at + rows] if rows else value).reshape(shape)
            at += rows or 0
        return parts


def entries(architecture: Architecture, table: Table) -> list[Entry]:
    """One entry for each tensor of the architecture. Every one of them must be in the table."""
    return [_entry(own, shape, _look_up(own, table)) for own, shape in architecture.tensors().items()]


def _look_up(own: str, table: Table) -> str:
    number = re.search(r"\.blocks\.(\d+)\.", own)
    key = own.replace(number[0], ".blocks.#.") if number else own
    stem, _, end = key.rpartition(".")
    found = table[key] if key in table else " + ".join(f"{name}.{end}" for name in table[stem].split(" + "))
    return found.replace("#", number[1]) if number else found


def _entry(own: str, shape: Shape, found: str) -> Entry:
    names, shares = [], []
    for part in found.split(" + "):
        share, star, name = part.partition("*")
        names.append(name if star else part)
        shares.append(int(share) if star else 1)
    transposed, axes = found.endswith("^T"), found.count("[1]")
    plain = tuple(name.removesuffix("^T").replace("[1]", "") for name in names)
    return Entry(own, shape, plain, tuple(shares), transposed, axes)


def check(listed: list[Entry], weights: Weights, source: str, looks_like: str, ignored: Iterable[str] = ()) -> None:
    """Raises TensorMismatch, in the layout's names, unless the weights are exactly those listed (or ignored).

    Axes of length one do not matter: logit_scale is stored as a number and as a list of one. A batch norm's count of
    batches may be missing, as in files of before torch 0.4.1; it takes no part in a result."""
    wanted = {
        name: shape
        for entry in listed
        for name, shape in zip(entry.theirs, entry.shapes(), strict=True)
        if name in weights or not name.endswith("num_batches_tracked")
    }
    skipped = set(ignored)
    found = {name: tensor.shape for name, tensor in weights.items() if name not in skipped}
    alike = {name: wanted[name] for name, shape in found.items() if _same(shape, wanted.get(name))}
    refuse_mismatch(wanted, found | alike, source, looks_like)


def _same(shape: Shape, wanted: Shape | None) -> bool:
    return wanted is not None and [n for n in shape if n != 1] == [n for n in wanted if n != 1]


def read(listed: list[Entry], weights: Weights) -> dict[str, np.ndarray]:
    """Awase's tensors, read one after the other."""
    return {
        entry.own: entry.join([weights[name].read() for name in entry.theirs])
        if entry.theirs[0] in weights
        else np.zeros(entry.shape, np.float32)
        for entry in listed
    }


def write(listed: list[Entry], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The layout's tensors from awase's."""
    written: dict[str, np.ndarray] = {}
    for entry in listed:
        written |= entry.split(tensors[entry.own])
    return written
