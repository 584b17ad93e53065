"""safetensors files: the header is checked whole before a tensor is believed; nothing in it can run.

The format (https://github.com/huggingface/safetensors): 8 bytes of length, a JSON header of that length, then the
tensors end to end. The limits are far below the format's own 100 MB: the largest CLIP needs 0.2 MB of header and
1,500 tensors."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from awase.encoding.checkpoints.stored import StoredTensor, Weights, itemsize
from awase.errors import CheckpointError

MOST_HEADER_BYTES = 4 * 2**20
MOST_TENSORS = 20_000
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(file: Path) -> Weights:
    """Raises CheckpointError, naming the file and the tensor, where the header is not exactly what the format asks."""
    with file.open("rb") as stream:
        header_bytes = stream.read(8)
        size = file.stat().st_size
        if len(header_bytes) < 8:
            raise _damaged(file, f"it has {size} bytes, too few for a header")
        (length,) = struct.unpack("<Q", header_bytes)
        if length > size - 8:
            raise _damaged(file, f"its header claims {length} bytes of a file of {size}")
        if length > MOST_HEADER_BYTES:
            raise _damaged(file, f"its header has {length} bytes, more than the {MOST_HEADER_BYTES} that are read")
        text = stream.read(length)
    header = _header(file, text)
    start = 8 + length
    weights = {name: _tensor(file, name, entry, start) for name, entry in header.items()}
    end = start
    for name, tensor in sorted(weights.items(), key=lambda item: (item[1].start, item[1].size)):
        if tensor.start != end:
            raise _damaged(file, f"tensor {name!r} overlaps another or leaves a hole before it")
        end += tensor.size * itemsize(tensor.dtype)
    if end != size:
        raise _damaged(file, f"its tensors end at byte {end}, the file at {size}")
    return weights


def write_safetensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes tensors as they are (float32, float16, int8, int64), with the metadata that transformers looks for."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in tensors.items()}
    file.touch()
    permissions = file.stat().st_mode
    try:
        save_file(whole, file, {"format": "pt"})
    except SafetensorError as problem:  # which is no OSError when the disk is full
        file.unlink()
        raise os_error(problem, file) from problem
    file.chmod(permissions)  # the library makes its files private


def os_error(problem: Exception, file: Path) -> OSError:
    """What the library says of a disk that is full, as Python would."""
    code = re.search(r"os error (\d+)", str(problem))
    number = int(code[1]) if code else errno.EIO
    return OSError(number, os.strerror(number), str(file))


def _header(file: Path, text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _damaged(file, "its header names one thing twice")
        return found

    try:
        header = json.loads(text.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as problem:
        raise _damaged(file, "its header is not JSON") from problem
    if not isinstance(header, dict):
        raise _damaged(file, "its header is not a JSON object")
    header.pop("__metadata__", None)
    if len(header) > MOST_TENSORS:
        raise _damaged(file, f"its header names {len(header)} tensors, more than the {MOST_TENSORS} that are read")
    return header


def _tensor(file: Path, name: str, entry: Any, start: int) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(file, f"tensor {name[:80]!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(f"{file}: tensor {name[:80]!r} is of type {dtype!r}; awase reads {', '.join(_DTYPES)}")
    if not (_wholes(shape) and _wholes(offsets) and len(shape) <= 8 and len(offsets) == 2):
        raise _damaged(file, f"tensor {name[:80]!r} has an impossible shape or place")
    bytes_needed = math.prod(shape) * itemsize(_DTYPES[dtype])
    if offsets[1] - offsets[0] != bytes_needed:
        raise _damaged(file, f"tensor {name[:80]!r} needs {bytes_needed} bytes and is given {offsets[1] - offsets[0]}")
    return StoredTensor(file, _DTYPES[dtype], tuple(shape), start + offsets[0])


def _wholes(values: Any) -> bool:
    """Whether this is a list of whole numbers that a file could hold."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _damaged(file: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{file} is not a whole safetensors file: {why}. Fetch it again.")
