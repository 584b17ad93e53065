"""Any data set -> WebDataset shards, which are read fast from one end to the other, on any disk or over a network.

    OUT/train-000000.tar    000000000.jpg, 000000000.txt (its first caption), 000000000.cls (its first class),
                            000000000.json (every column of captions and classes), then the next picture
    OUT/shards.json         written last: which shards there are, with count, length and SHA-256 of each

Pictures are copied byte for byte. One that cannot be decoded is left out and named. Equal data give equal shards."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from awase.datasets.assembling import ABSENT, LABEL
from awase.datasets.captioned import Captioned
from awase.datasets.columns import sound
from awase.datasets.labelled import Labelled
from awase.datasets.opening import Found, find_sets, open_captioned, open_labelled, refuse_no_set
from awase.datasets.shard_index import INDEX
from awase.encoding.checkpoints.folder import appearing
from awase.encoding.formats import format_of
from awase.encoding.pictures import DEFAULT_LIMITS, Limits, Picture, key_of, name_of, open_picture, read_file
from awase.errors import DataError, PictureError, UsageError

SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}
Sample = tuple[Picture, dict[str, Any], list[str]]


@dataclass(frozen=True)
class Sharded:
    """What was written. counts: split -> pictures. unreadable: pictures that were left out, and why. notes: on what
    else the data name and have not got."""

    counts: Mapping[str, int]
    shards: int
    unreadable: tuple[PictureError, ...]
    notes: tuple[str, ...] = ()


def write_shards(
    path: str | os.PathLike[str],
    out: Path,
    split: str | None = None,
    size: int = 1000,
    progress: Callable[[int, int], None] = lambda done, total: None,
    limits: Limits = DEFAULT_LIMITS,
) -> Sharded:
    """Writes every split of a data set, or one, as shards of `size` pictures each; OUT appears when it is whole.

    Raises UsageError where OUT has content or there is no such split, DataError unless there is one data set."""
    if size < 1:
        raise UsageError(f"a shard holds one picture or more, not {size}")
    found = find_sets(path)
    if len({one.location for one in found}) != 1:
        refuse_no_set(path, found)
        places = ", ".join(dict.fromkeys(one.location for one in found))
        raise DataError(f"{os.fspath(path)}: shards are made of one data set; there are {places}")
    splits = [name for name in found[0].splits if split in (None, name)]
    if not splits:
        raise UsageError(f"{os.fspath(path)} has no split {split!r}; there are {', '.join(found[0].splits)}")
    unreadable: list[PictureError] = []
    notes: dict[str, None] = {}
    counts, listed = {}, []
    with appearing(out) as folder:
        for name in splits:
            samples, unusable, absent = _samples(found, name)
            unreadable += unusable
            notes |= dict.fromkeys(f"{name}: {note}" for note in absent)
            writer = _Writer(folder, name, size, limits)
            for i, (picture, values, captions) in enumerate(samples):
                try:
                    writer.add(picture, values, captions)
                except PictureError as error:
                    unreadable.append(error)
                progress(i + 1, len(samples))
            listed += writer.finish()
            counts[name] = writer.count
        if not listed:
            raise DataError(f"{os.fspath(path)}: none of its {len(unreadable):,} pictures can be read")
        index = {"format": 1, "name": found[0].name, "counts": counts, "shards": listed}
        (folder / INDEX).write_text(json.dumps(index, indent=1), "utf-8")
    return Sharded(counts, len(listed), tuple(unreadable), tuple(notes))


def _samples(found: list[Found], split: str) -> tuple[list[Sample], Sequence[PictureError], list[str]]:
    """Each picture of a split with its values by column, and its captions; what of the split is damaged; and notes on
    what it names and has not got."""
    samples: dict[str, Sample] = {}
    unusable: Sequence[PictureError] = ()
    notes: dict[str, None] = {}
    for one in found:
        for column in one.columns or (LABEL,):
            add = _add_captions if one.kind == "captioned" else _add_classes
            data = add(samples, one.location, split, column)
            unusable = data.unusable
            notes |= dict.fromkeys(note for note in data.notes if ABSENT in note)
    return list(samples.values()), unusable, list(notes)


def _add_captions(samples: dict[str, Sample], location: str, split: str, column: str) -> Captioned:
    data = open_captioned(location, split, column)
    for picture in data.pictures:  # those without a sentence too
        samples.setdefault(key_of(picture), (picture, {}, []))[1][column] = []
    for caption, owner in zip(data.captions, data.owners.tolist(), strict=True):
        _, values, captions = samples[key_of(data.pictures[owner])]
        values[column].append(caption)
        captions.append(caption)
    return data


def _add_classes(samples: dict[str, Sample], location: str, split: str, column: str) -> Labelled:
    data = open_labelled(location, split, column=None if column == LABEL else column)
    for picture, target in zip(data.pictures, data.targets, strict=True):
        keys = [data.keys[i] for i in target.nonzero()[0]] if data.multi_label else data.keys[int(target)]
        _, values, _ = samples.setdefault(key_of(picture), (picture, {}, []))
        values[column] = keys
    return data


class _Writer:
    """The shards of one split, one after the other."""

    def __init__(self, folder: Path, split: str, size: int, limits: Limits) -> None:
        self.folder, self.split, self.size, self.limits, self.count = folder, split, size, limits, 0
        self._shard: tarfile.TarFile | None = None
        self._paths: list[Path] = []

    def add(self, picture: Picture, values: Mapping[str, Any], captions: list[str]) -> None:
        """Raises PictureError for a picture that cannot be decoded; nothing is written then."""
        data = _bytes_of(picture, self.limits)
        try:
            open_picture(data, self.limits)
        except PictureError as error:  # which knows of bytes alone
            raise PictureError(name_of(picture), error.reason, error.remedy) from error
        if self.count % self.size == 0:
            self._close()
            self._paths.append(self.folder / f"{self.split}-{len(self._paths):06d}.tar")
            self._shard = tarfile.open(self._paths[-1], "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        key = f"{self.count:09d}"
        kind = format_of(data) or "PNG"
        self._write(f"{key}.{SUFFIXES.get(kind, kind.lower())}", data)
        if captions:
            self._write(f"{key}.txt", captions[0].encode())
        if isinstance(values.get(LABEL), str):
            self._write(f"{key}.cls", sound(values[LABEL]).encode())
        self._write(f"{key}.json", sound(json.dumps(dict(values), ensure_ascii=False)).encode())
        self.count += 1

    def finish(self) -> list[dict[str, Any]]:
        """What the index says of each shard."""
        self._close()
        counts = [min(self.size, self.count - i * self.size) for i in range(len(self._paths))]
        return [
            {"name": path.name, "count": count, "bytes": path.stat().st_size, "sha256": _digest(path)}
            for path, count in zip(self._paths, counts, strict=True)
        ]

    def _write(self, name: str, data: bytes) -> None:
        assert self._shard is not None
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        self._shard.addfile(entry, io.BytesIO(data))

    def _close(self) -> None:
        if self._shard is not None:
            self._shard.close()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_of(picture: Picture, limits: Limits) -> bytes:
    """The file as it is; what was never a file becomes a PNG."""
    if isinstance(picture, str | os.PathLike) and "://" not in os.fspath(picture):
        return read_file(os.fspath(picture), limits)
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if hasattr(picture, "open") and not isinstance(picture, Image.Image):
        with picture.open("rb") as file:
            return bytes(file.read(limits.bytes + 1))  # what is longer is then refused as a picture
    buffer = io.BytesIO()
    open_picture(picture, limits).save(buffer, "PNG")
    return buffer.getvalue()
