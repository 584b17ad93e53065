"""Shards at an address (https, s3, gs, whatever fsspec reads) -> the same shards in the cache, each fetched once.

The folder must have the shards.json that `awase data shard` writes: it names the shards with their lengths and hashes,
which is what a copy is held to. What was fetched before stays when a run is killed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from awase.datasets.shard_index import INDEX, Shard, read_index
from awase.encoding.caches import cache_folder, write_atomically
from awase.errors import DataError, MissingExtra

INDEX_BYTES = 64 * 2**20
PIECE = 2**20


def is_remote(path: str) -> bool:
    """Whether a path is an address."""
    return "://" in path


def local_copy(address: str) -> Path:
    """A folder in the cache with the shards of an address. Raises DataError where they are missing, damaged or not what
    the index says, MissingExtra where the packages for such addresses are not installed."""
    address = address.rstrip("/")
    listed = _read(f"{address}/{INDEX}", INDEX_BYTES)
    folder = cache_folder() / "shards" / hashlib.sha256(address.encode() + listed).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    for shard in read_index(listed, address):
        if not (folder / shard.name).is_file():
            _fetch(f"{address}/{shard.name}", folder / shard.name, shard)
    write_atomically(folder / INDEX, listed)
    return folder


def _fetch(address: str, file: Path, shard: Shard) -> None:
    digest, count = hashlib.sha256(), 0
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with _open(address) as source, partial.open("wb") as target:
            while piece := source.read(PIECE):
                count += len(piece)
                if count > shard.bytes:
                    break
                digest.update(piece)
                target.write(piece)
        if count != shard.bytes or digest.hexdigest() != shard.sha256:
            raise DataError(f"{address} is not the shard that {INDEX} describes: it was changed, or cut off on the way")
        os.replace(partial, file)
    except OSError as problem:
        raise DataError(f"{address} could not be fetched: {_why(problem)}; what is there already is kept") from problem
    finally:
        partial.unlink(missing_ok=True)


def _read(address: str, limit: int) -> bytes:
    try:
        with _open(address) as file:
            data: bytes = file.read(limit + 1)
    except OSError as problem:
        raise DataError(f"{address} could not be read: {_why(problem)}") from problem
    if len(data) > limit:
        raise DataError(f"{address} is over {limit // 2**20} MiB, too long for an index of shards")
    return data


def _open(address: str) -> Any:
    try:
        import fsspec  # type: ignore[import-untyped]

        return fsspec.open(address, "rb").open()
    except ImportError as problem:  # fsspec itself, or what it needs for this kind of address
        raise MissingExtra(f"{address} (through fsspec)", "remote") from problem
    except ValueError as problem:  # an unknown kind of address
        raise DataError(f"{address}: {problem}") from problem
    except OSError:
        raise
    except Exception as problem:  # each kind of address has errors of its own: no credentials, no such bucket
        raise DataError(f"{address} could not be opened: {problem}") from problem


def _why(problem: OSError) -> str:
    """In words: what fsspec raises often says the address alone, and its cause the rest."""
    return str(problem.__cause__ or problem)
