"""What a library keeps of a picture, on its way in: found by `details`, put into columns here, written by `writing`."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from awase.tasks.search.filters import folder_text


@dataclass(frozen=True)
class File:
    """A file as it was when it was read. path: absolute. mtime: nanoseconds."""

    path: str
    size: int
    mtime: int


@dataclass(frozen=True)
class Details:
    """What a picture's content says of it; `store.Row` explains the fields. thumbnail: a small JPEG."""

    format: str
    width: int
    height: int
    content: bytes
    likeness: int
    thumbnail: bytes
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    caption: str | None = None


@dataclass(frozen=True)
class Entry:
    """One picture to be kept."""

    file: File
    details: Details


@dataclass(frozen=True)
class Refusal:
    """A file that holds no picture, as it was read. pixels: the limit that it was read under."""

    file: File
    pixels: int
    reason: str
    remedy: str


@dataclass(frozen=True)
class Kept:
    """A picture that the library has, found by its content. path: where it was."""

    number: int
    path: str
    details: Details
    vector: np.ndarray


# The columns that an entry fills, in the order of `values_of`; the seal is over exactly these.
DETAILS = "format, width, height, content, likeness, taken, camera, latitude, longitude, caption"
VALUES = f"path, folder, size, mtime, moment, {DETAILS}"
_MOMENT = "%Y-%m-%dT%H:%M:%S"


def values_of(entry: Entry) -> list[Any]:
    file, its = entry.file, entry.details
    moment = its.taken or _local(file.mtime)
    likeness = its.likeness - 2**64 if its.likeness >= 2**63 else its.likeness
    return [
        *(os.fsencode(file.path), folder_text(file.path), file.size, file.mtime, moment),
        *(its.format, its.width, its.height, its.content, likeness),
        *(its.taken, its.camera, its.latitude, its.longitude, its.caption),
    ]


def time_of(status: os.stat_result) -> int:
    """When a file was changed, in nanoseconds since 1970; times that SQLite cannot hold become the last that it can."""
    return max(-(2**63), min(status.st_mtime_ns, 2**63 - 1))


def _local(mtime: int) -> str:
    """A time as clocks here show it, or in UTC where the system knows no local time so far away."""
    try:
        return time.strftime(_MOMENT, time.localtime(mtime // 10**9))
    except (OSError, OverflowError, ValueError):  # Windows, before 1970
        return (datetime(1970, 1, 1) + timedelta(seconds=mtime // 10**9)).strftime(_MOMENT)


def details_from(thumbnail: bytes, *values: Any) -> Details:
    format, width, height, content, likeness, *exif = values
    return Details(format, width, height, content, likeness % 2**64, thumbnail, *exif)


def seal(values: Sequence[Any], thumbnail: bytes | None, vector: bytes) -> int:
    """CRC-32 over all that belongs to a picture; `checking` compares it. values: in the order of the columns."""
    return zlib.crc32(vector, zlib.crc32(thumbnail or b"", zlib.crc32(repr(list(values)).encode())))


def prefixes(folders: Iterable[str]) -> tuple[str, ...]:
    """What the paths below some folders, at any depth, begin with: for `str.startswith`."""
    return tuple(os.path.join(folder, "") for folder in folders)
