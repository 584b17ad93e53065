"""shards.json, which `awase data shard` writes beside shards: which there are, with count, length and SHA-256 of each.
What a set of shards is held to, so that a missing one is no smaller set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from awase.datasets.folders import File, Folder, read_text
from awase.errors import DataError

INDEX = "shards.json"


@dataclass(frozen=True)
class Shard:
    """What an index says of a shard."""

    name: str
    bytes: int
    sha256: str


def index_beside(folder: Folder) -> dict[str, Shard]:
    """Name -> shard, as the folder's index lists them; none where it has no index, or one of another tool's. Raises
    DataError for one that is damaged."""
    if (file := folder.files.get(INDEX)) is None:
        return {}
    values = _values(read_text(file), folder.location)
    if not isinstance(values, dict) or not {"format", "shards"} <= values.keys():
        return {}
    return {shard.name: shard for shard in _shards(values, folder.location)}


def read_index(text: str | bytes, place: str) -> list[Shard]:
    """The shards that an index lists, as far as it can be trusted: plain names, lengths and hashes. place: of the
    folder, for messages. Raises DataError."""
    return _shards(_values(text, place), place)


def refuse_other(file: File | None, listed: Shard, place: str) -> None:
    """Raises DataError where a shard is not there or not as long as the index says."""
    remedy = "copy or download it again, or make the shards anew (awase data shard)"
    length = _length(file)
    if length is None:
        raise DataError(f"{place}/{listed.name} is not there, and {INDEX} lists it: {remedy}")
    if length != listed.bytes:
        raise DataError(f"{place}/{listed.name} has {length:,} bytes, and {listed.bytes:,} in {INDEX}: {remedy}")


def _length(file: File | None) -> int | None:
    if not isinstance(file, Path):
        return file.size if file else None
    try:
        return file.stat().st_size
    except OSError:  # a link to nothing
        return None


def _values(text: str | bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{place}/{INDEX} is not JSON ({problem}): copy or download it again") from problem


def _shards(values: Any, place: str) -> list[Shard]:
    try:
        shards = [Shard(str(s["name"]), int(s["bytes"]), str(s["sha256"])) for s in values["shards"]]
    except (ValueError, TypeError, KeyError) as problem:
        raise DataError(f"{place}/{INDEX} is no index as `awase data shard` writes one: {problem}") from problem
    for shard in shards:
        if Path(shard.name).name != shard.name or not shard.name.endswith(".tar"):
            raise DataError(f"{place}/{INDEX} names the shard {shard.name[:100]!r}, which is no plain .tar file")
    return shards
