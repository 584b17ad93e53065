"""The vectors of a library: one file of float32 rows, appended to, mapped into memory to read.

It knows nothing of pictures: a row's number is all its name. Which rows count is the database's business; what lies
behind them in the file is the rest of an interrupted write.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from awase.errors import LibraryError
from awase.tasks.search.store import Ids, Vectors

BLOCK = 8192  # rows at a time: 16 MiB at 512 numbers


def path_of(folder: Path, generation: int) -> Path:
    return folder / f"vectors-{generation}.f32"


class VectorRows:
    """The first `count` rows of a file, (count, D), read from the disk as they are asked for.

    Raises LibraryError where the file is shorter than that, or missing."""

    def __init__(self, path: Path, count: int, dimension: int) -> None:
        self.path, self.dimension = path, dimension
        length = 4 * dimension * count
        try:
            file = path.open("rb")
        except FileNotFoundError as problem:
            remedy = f"put it back, or move {path.parent} away and index again"
            raise LibraryError(f"{path}: the file of vectors is missing; {remedy}") from problem
        with file:
            there = os.fstat(file.fileno()).st_size
            if there < length:
                reason = f"is cut short ({there:,} of {length:,} bytes)"
                raise LibraryError(
                    f"{path}: {reason}; what is left can be kept: awase library check --mend --db {path.parent}"
                )
            self._map = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ) if length else None
        self.rows: Vectors = np.frombuffer(self._map or b"", np.float32).reshape(-1, dimension)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, ids: Ids) -> Vectors:
        return np.asarray(self.rows[ids])

    def blocks(self, start: int = 0) -> Iterator[tuple[int, Vectors]]:
        """(number of the first row, up to BLOCK rows), from row `start` on."""
        for at in range(start, len(self), BLOCK):
            yield at, self.rows[at : at + BLOCK]
