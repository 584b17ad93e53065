"""A library in a directory, to read: rows in SQLite, vectors in one file beside it. `writing.py` fills it.

What it shows is one state, that of its opening or of the last `refresh`: SQLite holds the rows still, and the file of
vectors only grows, or gives way to another file under another name.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from awase.errors import LibraryError, UsageError
from awase.tasks.search import ann, signs
from awase.tasks.search import filters as conditions
from awase.tasks.search.database import NAME, connect_to_read, files_of, may_write, telling
from awase.tasks.search.nearest import QUERIES, nearest_among, nearest_by, nearest_of_all
from awase.tasks.search.signs import Signs
from awase.tasks.search.store import Filter, Ids, Row, Vectors
from awase.tasks.search.vectorrows import VectorRows, path_of

ATTEMPTS = 5  # to open while compacting puts one file in the place of another
EXACT_ROWS = 300_000  # up to which every cosine is computed
EXACT_AMONG = 4_000  # rows that passed a filter, likewise
AT_ONCE = 500  # values of a list in one SQL statement

_NAMES = tuple(its.name for its in fields(Row) if its.name not in ("id", "path", "root", "size", "time"))
_COLUMNS = "slot, path, size, mtime, " + ", ".join(_NAMES)


class Library:
    """A `Store` in a directory. Raises LibraryError for a directory that holds no library, or a damaged one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with telling(folder):
            self._connect()
            try:
                self._see()
            except BaseException:
                self._database.close()
                raise

    def _connect(self) -> None:
        self._files = files_of(self.folder)
        self._database = connect_to_read(self.folder)
        self._database.create_function("distance", 4, _distance, deterministic=True)

    def _see(self) -> None:
        """Takes in the present state and holds it."""
        for attempt in range(1, ATTEMPTS + 1):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")  # lets go of the last state
            self._database.execute("BEGIN")
            self.facts = Facts(self.folder, self._database)
            try:
                path = path_of(self.folder, self.facts.generation)
                self._vectors = VectorRows(path, self.facts.slots, self.facts.dimension)
                break
            except LibraryError:  # compacting may just have put another file in its place
                if attempt == ATTEMPTS:
                    raise
        self._version = self._database.execute("PRAGMA data_version").fetchone()[0]
        for remembered in ("_gone", "_roots", "_signs", "_ann"):
            self.__dict__.pop(remembered, None)

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return str(self.folder)

    @property
    def stamp(self) -> Mapping[str, Any]:
        return self.facts.stamp

    @property
    def model(self) -> str:
        return self.facts.model

    @property
    def adapters(self) -> Sequence[str]:
        return self.facts.adapters

    @property
    def dimension(self) -> int:
        return self.facts.dimension

    @property
    def identity(self) -> str:
        return self.facts.identity

    @property
    def generation(self) -> int:
        return self.facts.generation

    def __len__(self) -> int:
        return len(self._vectors) - len(self._gone)

    @cached_property
    def _gone(self) -> Ids:
        """Ascending: rows of the file of vectors whose pictures were deleted."""
        return self._ids("SELECT slot FROM gone ORDER BY slot", [])

    def roots(self) -> list[str]:
        return list(self._roots)

    @cached_property
    def _roots(self) -> list[str]:
        with telling(self.folder):
            found = self._database.execute("SELECT path FROM root ORDER BY path").fetchall()
        return [os.fsdecode(path) for (path,) in found]

    def refresh(self) -> bool:
        version, files, database = self._version, self._files, self._database
        with telling(self.folder):
            if may_write(self.folder):
                self._see()
                return bool(self._version != version)
            self._connect()  # the connection may take the file for one that never changes
            database.close()
            self._see()
            return self._files != files

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- vectors ---------------------------------------------------------------------------------------------------

    def nearest(self, queries: Vectors, k: int, among: Ids | None = None) -> tuple[Ids, Vectors]:
        queries = self._unit_queries(queries)
        if k < 1:
            raise UsageError(f"k={k}: ask for at least one row")
        if among is not None:
            among = np.unique(self._known(among))
        k = min(k, len(self) if among is None else len(among))
        if not k or not len(queries):
            return np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        found = [self._nearest(queries[at : at + QUERIES], k, among) for at in range(0, len(queries), QUERIES)]
        return np.concatenate([ids for ids, _ in found]), np.concatenate([cosines for _, cosines in found])

    def _nearest(self, queries: Vectors, k: int, among: Ids | None) -> tuple[Ids, Vectors]:
        vectors = self._vectors
        if len(vectors) <= EXACT_ROWS:
            if among is None or len(among) > len(vectors) // 4:  # reading all in order beats picking many
                rest = self._gone if among is None else np.setdiff1d(np.arange(len(vectors)), among)
                return nearest_of_all(vectors, queries, k, rest)
            return nearest_among(vectors, queries, k, among)
        if among is not None and len(among) <= EXACT_AMONG:
            return nearest_among(vectors, queries, k, among)
        sidecar = self._ann if among is None and self._ann else self._signs
        return nearest_by(sidecar, vectors, queries, k, self._gone, among)

    @cached_property
    def _signs(self) -> Signs:
        found = signs.read(signs.path_of(self.folder, self.generation), self.dimension, len(self._vectors))
        return found if found else signs.derive(self._vectors)

    @cached_property
    def _ann(self) -> ann.Ann | None:
        return ann.read(self.folder, self.generation, self.dimension, len(self._vectors))

    def _unit_queries(self, queries: Vectors) -> Vectors:
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimension or not np.isfinite(queries).all():
            expected = f"finite queries of shape (Q, {self.dimension}) are expected"
            raise UsageError(f"{expected}, and {queries.shape} of them were given, or some are NaN; one alone: q[None]")
        norms = np.linalg.norm(queries, axis=1, keepdims=True)
        return np.asarray(queries / np.maximum(norms, 1e-12), np.float32)

    def vectors(self, ids: Ids) -> Vectors:
        return self._vectors[self._known(ids)]

    def sample(self, n: int, seed: int = 0) -> Ids:
        numbers = np.random.default_rng(seed).choice(len(self), min(n, len(self)), replace=False)
        return np.sort(self._living()[numbers])

    def _living(self) -> Ids:
        alive = np.ones(len(self._vectors), bool)
        alive[self._gone] = False
        return np.flatnonzero(alive)

    def _known(self, ids: Sequence[int] | Ids) -> Ids:
        """ids as an array. Raises LibraryError for one that belongs to no row."""
        asked = np.asarray(ids, np.int64).reshape(-1)
        strange = (asked < 0) | (asked >= len(self._vectors)) | np.isin(asked, self._gone)
        if strange.any():
            which = asked[strange][0]
            raise LibraryError(f"{self.folder}: there is no picture {which} in it (any more); ask for it again")
        return asked

    # ---- rows ------------------------------------------------------------------------------------------------------

    def rows(self, ids: Sequence[int] | Ids) -> list[Row]:
        asked = self._known(ids).tolist()
        found = {row[0]: row for row in self._by_slot(f"SELECT {_COLUMNS} FROM picture WHERE slot IN", asked)}
        return [self._row(found[id]) for id in asked]

    def _row(self, values: Sequence[Any]) -> Row:
        slot, path, size, mtime, *others = values
        name = os.fsdecode(path)
        known = dict(zip(_NAMES, others, strict=True))
        known["likeness"] %= 2**64
        return Row(id=slot, path=name, root=self._root_of(name), size=size, time=mtime / 1e9, **known)

    def _root_of(self, path: str) -> str:
        return max((root for root in self._roots if path.startswith(os.path.join(root, ""))), key=len, default="")

    def thumbnails(self, ids: Sequence[int] | Ids) -> list[bytes | None]:
        asked = self._known(ids).tolist()
        query = "SELECT slot, image FROM picture JOIN thumbnail USING (number) WHERE slot IN"
        found = dict(self._by_slot(query, asked))
        return [found.get(id) for id in asked]

    def select(self, filters: Sequence[Filter]) -> Ids:
        if not filters:
            return self._living()
        where, values = conditions.condition(filters)
        return self._ids(f"SELECT slot FROM picture WHERE {where} ORDER BY slot", values)

    def find(self, path: str | os.PathLike[str]) -> int | None:
        found = self._ids("SELECT slot FROM picture WHERE path = ?", [os.fsencode(os.path.abspath(path))])
        return int(found[0]) if len(found) else None

    def _by_slot(self, query: str, slots: list[int]) -> list[Any]:
        found: list[Any] = []
        with telling(self.folder):
            for at in range(0, len(slots), AT_ONCE):
                some = slots[at : at + AT_ONCE]
                found += self._database.execute(f"{query} ({','.join('?' * len(some))})", some)
        return found

    def _ids(self, query: str, values: list[Any]) -> Ids:
        with telling(self.folder):
            return np.array([slot for (slot,) in self._database.execute(query, values)], np.int64)


def is_library(folder: Path) -> bool:
    """Whether there is one, whole or damaged. Raises LibraryError for a folder that may not be looked into."""
    with telling(folder):
        return (folder / NAME).is_file()


class Facts:
    """What a library says of itself. Raises LibraryError where that is damaged."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.address = str(folder)
        facts: dict[str, str] = dict(database.execute("SELECT name, value FROM fact"))
        try:
            self.model, self.adapters = facts["model"], tuple(json.loads(facts["adapters"]))
            if facts["seal"] != _seal(facts["stamp"], self.model, facts["adapters"]):
                raise ValueError("its seal does not fit")
            self.stamp: dict[str, Any] = json.loads(facts["stamp"])
            self.dimension = int(self.stamp["dimension"])
            self.generation = int(facts["generation"])
            self.slots = int(facts["slots"])
            self.identity = facts.get("identity", "")  # libraries made before there were any have none
        except (KeyError, ValueError, TypeError) as problem:
            reason = f"what the library says of itself is damaged ({problem})"
            raise LibraryError(f"{folder}: {reason}; move {folder} away and index again") from problem


def first_facts(stamp: Mapping[str, Any], model: str, adapters: Sequence[str]) -> dict[str, str]:
    """What a new library says of itself, as it is stored."""
    told = {"stamp": json.dumps(dict(stamp)), "model": model, "adapters": json.dumps(list(adapters))}
    return told | {
        "seal": _seal(*told.values()),
        "generation": "0",
        "slots": "0",
        "identity": secrets.token_hex(16),
    }


def _seal(*told: str) -> str:
    return str(zlib.crc32("\n".join(told).encode("utf-8", "backslashreplace")))


def _distance(latitude: float, longitude: float, other: float | None, east: float | None) -> float | None:
    return None if other is None or east is None else conditions.distance(latitude, longitude, other, east)
