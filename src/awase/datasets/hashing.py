"""What data are, by content: a hash to name them, and pictures that two splits share.

A file of at most 64 KiB counts whole; of a longer one its length, its first, middle and last 16 KiB: one open and three
reads a picture, however large. Names, places and times of change do not count, so that a folder, its tar and a copy on
another machine are the same data. What is not noticed is a change within a long file outside those pieces that leaves
them and the length as they were: a compressed picture cannot be changed so in an editor, a bitmap could.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from awase.datasets.archives import Member
from awase.datasets.captioned import Captioned
from awase.datasets.labelled import Labelled
from awase.encoding.pictures import Openable, Picture, is_address, name_of

WHOLE, PIECE = 64 * 1024, 16 * 1024


def data_hash(data: Labelled | Captioned) -> str:
    """SHA-256, in hex, of all that an evaluation of these data depends on: the pictures in order, targets, names,
    templates, captions, groups."""
    digest = hashlib.sha256(pictures_hash(data.pictures).encode())
    if isinstance(data, Labelled):
        told: list[Any] = [data.keys, _plain(data.names), _plain(data.templates), data.metric]
        numbers = data.targets
    else:
        told, numbers = [list(data.captions), data.column], data.owners
    said = json.dumps([*told, _plain(data.groups)], ensure_ascii=False)
    digest.update(said.encode("utf-8", "surrogatepass"))  # names of folders need not be valid Unicode
    digest.update(f"{numbers.shape}{numbers.dtype}".encode() + np.ascontiguousarray(numbers).tobytes())
    return digest.hexdigest()


def pictures_hash(pictures: Sequence[Picture]) -> str:
    """SHA-256, in hex, of the pictures alone, in order: what their vectors depend on."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(content_of(picture))
    return digest.hexdigest()


def duplicates_between(one: Labelled | Captioned, other: Labelled | Captioned) -> list[tuple[int, int]]:
    """(i, j) where picture i of one is picture j of the other, byte for byte; with the same data twice, only i < j.

    Only pictures of equal length are read. The same scene saved anew is not found: this is a check for leaks, not of
    likeness."""
    if one is other:
        return sorted(pair for alike in equal_pictures(one.pictures) for pair in combinations(alike, 2))
    there = _by_length(other.pictures)
    found = []
    for length, places in _by_length(one.pictures).items():
        if length in there:
            mine, others = _bycontent_of(one.pictures, places), _bycontent_of(other.pictures, there[length])
            found += [(i, j) for content, alike in mine.items() for i in alike for j in others.get(content, [])]
    return sorted(found)


def equal_pictures(pictures: Sequence[Picture]) -> list[list[int]]:
    """Groups of two and more pictures that are the same byte for byte, each in order, by their first."""
    groups: list[list[int]] = []
    for places in _by_length(pictures).values():
        if len(places) > 1:
            groups += [alike for alike in _bycontent_of(pictures, places).values() if len(alike) > 1]
    return sorted(groups)


def _bycontent_of(pictures: Sequence[Picture], places: Sequence[int]) -> dict[bytes, list[int]]:
    contents: dict[bytes, list[int]] = defaultdict(list)
    for place in places:
        contents[content_of(pictures[place], everything=True)].append(place)
    return contents


def _by_length(pictures: Sequence[Picture]) -> dict[int, list[int]]:
    """Bytes of a file -> which pictures have so many; -1 for those that are no file. What is not there is left out."""
    lengths: dict[int, list[int]] = defaultdict(list)
    for number, picture in enumerate(pictures):
        source = _file(picture)
        if source is None:
            lengths[-1].append(number)
        elif isinstance(source, Path):
            if source.is_file():
                lengths[source.stat().st_size].append(number)
        elif isinstance(source, Member):
            lengths[source.size].append(number)
        else:
            with source.open("rb") as stream:
                lengths[stream.seek(0, os.SEEK_END)].append(number)
    return lengths


def _file(picture: Picture) -> Path | Openable | None:
    """What opens the picture again; None for arrays, PIL pictures, addresses, and streams, which a look uses up."""
    if isinstance(picture, (str, os.PathLike)):
        return None if is_address(picture) else Path(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _Bytes(bytes(picture))
    return cast(Openable, picture) if hasattr(picture, "open") else None


@dataclass(frozen=True)
class _Bytes:
    data: bytes
    name: str = "bytes"

    def open(self, mode: str) -> BinaryIO:
        return io.BytesIO(self.data)


def content_of(picture: Picture, everything: bool = False) -> bytes:
    """32 bytes that stand for the content. everything: whole, however long it is. A picture that is made when it is
    opened says itself what it depends on: its attribute `content`."""
    made: object = getattr(picture, "content", None)
    if isinstance(made, bytes):
        return made
    digest, source = hashlib.sha256(), _file(picture)
    if isinstance(picture, np.ndarray):
        digest.update(f"{picture.shape}{picture.dtype}".encode() + np.ascontiguousarray(picture).tobytes())
    elif isinstance(picture, Image.Image):
        digest.update(f"{picture.size}{picture.mode}".encode() + picture.tobytes())
    elif source is None:
        digest.update(name_of(picture).encode())
    else:
        try:
            if isinstance(source, Path) and not source.is_file():  # a pipe would wait for ever
                raise FileNotFoundError(source)
            with source.open("rb") as stream:
                _add(digest, stream, everything)
        except Exception:  # gone, or damaged inside its archive: whoever opens it as a picture says so
            digest.update(f"cannot be read: {name_of(picture)}".encode())
    return digest.digest()


def _add(digest: hashlib._Hash, stream: BinaryIO, everything: bool) -> None:
    length = stream.seek(0, os.SEEK_END)
    digest.update(length.to_bytes(8, "little"))
    whole = everything or length <= WHOLE
    for place in (0,) if whole else (0, (length - PIECE) // 2, length - PIECE):
        stream.seek(place)
        left = length if whole else PIECE
        while left and (part := stream.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)


def _plain(mapping: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {key: list(values) for key, values in mapping.items()}
