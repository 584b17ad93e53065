"""One bit a number: the signs of the vectors, by which a million rows are looked through in some milliseconds.

A row keeps the signs of its numbers, a query four bits of each, as in RaBitQ (Gao and Long, 2024): bits that differ,
counted with their weights, order the rows as the products of the query with the rows' signs do, and so nearly as their
cosines. Those that differ least are candidates, whose cosines are then computed from the vectors themselves. One bit of
the query would do where queries are pictures; sentences lie farther off, and it would lose some of their answers.

The file is a sidecar: made from the vectors, made again at any time. Rows added later are not in it; whoever asks
looks through those one by one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from awase.tasks.search.store import Ids
from awase.tasks.search.vectorrows import VectorRows

BITS = 4  # of each number of a query
CLIP = 2.5  # standard deviations of a query's numbers, beyond which they count as that
SHARE = 250  # of the rows, one in so many is a candidate at least
LEFT_OUT = int(np.iinfo(np.uint16).max)  # of differing bits: more than any row can have
BLOCK = 32_768  # rows at a time, whose bits stay in the processor's cache


def path_of(folder: Path, generation: int) -> Path:
    return folder / f"signs-{generation}.npy"


class Signs:
    """planes: uint64 (D / 64 rounded up, rows): the n-th word of every row beside each other, so that counting runs
    through memory in order."""

    def __init__(self, planes: NDArray[np.uint64]) -> None:
        self._planes = planes

    @property
    def covers(self) -> int:
        """How many rows it was made from: the first ones."""
        return int(self._planes.shape[1])

    def candidates(self, query: NDArray[np.float32], count: int, leave_out: Ids, among: Ids | None = None) -> Ids:
        """At least `count` rows, where there are so many, that a query (D,) points to most.

        leave_out, among: rows below `covers`; none of the former, only the latter."""
        count = max(count, self.covers // SHARE)
        if among is None:
            differing = _differing(self._planes, query)
            differing[leave_out] = LEFT_OUT
            return np.flatnonzero(differing <= _limit(differing, count))
        few = len(among) < self.covers // 8
        differing = _differing(self._planes[:, among], query) if few else _differing(self._planes, query)[among]
        return among[differing <= _limit(differing, count)]


def _differing(planes: NDArray[np.uint64], query: NDArray[np.float32]) -> NDArray[np.uint16]:
    """For every row, the bits that differ from each bit of the query's numbers, times that bit's weight."""
    weights = [_words(bit[None])[0] for bit in _bits(query)]
    total = np.zeros(planes.shape[1], np.uint16)
    for at in range(0, len(total), BLOCK):
        block, its = planes[:, at : at + BLOCK], total[at : at + BLOCK]
        for bit, words in enumerate(weights):
            count = np.zeros(len(its), np.uint16)
            for plane, word in zip(block, words, strict=True):
                count += np.bitwise_count(plane ^ word)
            its += count << bit
    return total


def _bits(query: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """A query in 2**BITS equal steps from -CLIP to CLIP deviations, as bits, the lowest first."""
    most = CLIP * max(float(np.sqrt(np.mean(query**2))), 1e-12)
    steps = np.clip((query / most + 1) * 2 ** (BITS - 1), 0, 2**BITS - 1).astype(np.uint8)
    return [steps >> bit & 1 for bit in range(BITS)]


def derive(vectors: VectorRows) -> Signs:
    """In memory, an eighth of a gigabyte for two million rows of 512."""
    planes = np.empty((_width(vectors.dimension), len(vectors)), np.uint64)
    _fill(planes, vectors)
    return Signs(planes)


def write(vectors: VectorRows, path: Path) -> None:
    """Makes the file, which appears under its name when complete; on Windows only when nobody reads the one before."""
    growing = path.with_name(f"{path.name}.new")
    shape = (_width(vectors.dimension), len(vectors))
    planes = np.lib.format.open_memmap(growing, "w+", np.uint64, shape)
    _fill(planes, vectors)
    planes.flush()
    del planes  # Windows renames no mapped file
    with contextlib.suppress(PermissionError):  # nor onto one that a reader has mapped: next time, then
        os.replace(growing, path)


def read(path: Path, dimension: int, rows: int) -> Signs | None:
    """None where there is no file, or one that does not fit."""
    with contextlib.suppress(OSError, ValueError):
        planes = np.load(path, mmap_mode="r")
        if planes.dtype == np.uint64 and planes.ndim == 2:
            words, covers = planes.shape
            if words == _width(dimension) and covers <= rows:
                return Signs(planes)
    return None


def _width(dimension: int) -> int:
    return -(-dimension // 64)


def _fill(planes: NDArray[np.uint64], vectors: VectorRows) -> None:
    for at, block in vectors.blocks():
        planes[:, at : at + len(block)] = _words(block).T


def _words(values: NDArray[Any]) -> NDArray[np.uint64]:
    """(N, D) -> (N, D / 64 rounded up): a bit is set where a number is positive."""
    bits = np.packbits(values > 0, axis=1)
    padded = np.zeros((len(values), 8 * _width(values.shape[1])), np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def _limit(differing: NDArray[np.uint16], count: int) -> int:
    """The least number of differing bits within which `count` rows lie, or all that are not left out."""
    if count >= len(differing):
        return LEFT_OUT - 1
    return min(int(np.searchsorted(np.cumsum(np.bincount(differing)), count)), LEFT_OUT - 1)
