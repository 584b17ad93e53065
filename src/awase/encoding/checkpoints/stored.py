"""Tensors that lie in a file: name, shape and place are known, the numbers are read only when asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from awase.errors import CheckpointError

# A dtype's name -> how NumPy reads it. NumPy has no bfloat16: its bits are the upper half of a float32's.
DTYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "i1",
    "uint8": "u1",
    "bool": "?",
}


def itemsize(dtype: str) -> int:
    return np.dtype(DTYPES[dtype]).itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of `shape` whose elements begin at byte `start` of `file`, `strides` elements apart (None: in order)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    strides: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """Elements from the first to the last that the tensor looks at."""
        if self.strides is None or 0 in self.shape:
            return self.size
        return 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))

    def read(self) -> np.ndarray:
        """The tensor: float32 for every kind of float, whole numbers as they are stored."""
        with self.file.open("rb") as stream:
            stream.seek(self.start)
            flat = np.fromfile(stream, DTYPES[self.dtype], self.span)
        if flat.size != self.span:
            raise CheckpointError(f"{self.file} became shorter while it was being read; fetch it again")
        if self.dtype == "bfloat16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif self.dtype.startswith("float"):
            flat = flat.astype(np.float32, copy=False)
        if self.strides is None or 0 in self.shape:
            return flat.reshape(self.shape)
        steps = [stride * flat.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False).copy()


Weights = dict[str, StoredTensor]
