"""Writing a library: one process at a time, and whatever a method returned from survives a kill or a power cut.

The order is what makes it so: vectors are written behind those that count and forced to the disk, then one transaction
of SQLite makes them count. Deleting only notes the rows that are gone; `compact` writes the others to a new file.
Pictures come in ready (`Entry`): nothing here opens one.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np

from awase.encoding.locking import FolderLock
from awase.errors import LibraryError, UsageError
from awase.tasks.search import ann, signs
from awase.tasks.search import database as rows
from awase.tasks.search.database import telling, transaction
from awase.tasks.search.entries import (
    DETAILS,
    VALUES,
    Entry,
    File,
    Kept,
    Refusal,
    details_from,
    prefixes,
    seal,
    values_of,
)
from awase.tasks.search.library import EXACT_ROWS, Facts, first_facts, is_library
from awase.tasks.search.store import Vectors, check_model
from awase.tasks.search.vectorrows import BLOCK, VectorRows, path_of

_OURS = re.compile(r"(vectors|signs|ann)-(\d+)\.\w+(\.new)?")
_BESIDE = ("lock", rows.NEW)
SIGNS_MAY_LACK = 0.05  # of the rows, before they are written again


class Writer:
    """Holds the library of a folder for writing, made where absent. Close it, or use it with `with`.

    stamp: `Clip.stamp()`; None takes an existing library as it is. model, adapters: what `awase.load` opens to get it.
    Raises LibraryError for a library of another model or a damaged one, UsageError while another process writes."""

    def __init__(
        self, folder: Path, stamp: Mapping[str, Any] | None = None, model: str = "", adapters: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        with telling(folder):
            if not is_library(folder):
                if stamp is None:
                    raise LibraryError(f"{folder}: no library here; make one with: awase index FOLDER --db {folder}")
                _make_room(folder)
            self._lock = FolderLock(folder, "give --db another library")
        with contextlib.ExitStack() as undo, telling(folder):
            undo.callback(self._lock.release)
            if stamp is not None and not is_library(folder):
                _create(folder, first_facts(stamp, model, adapters))
            self._database = rows.connect_to_write(folder)
            undo.callback(self._database.close)
            self.facts = Facts(folder, self._database)
            if stamp is not None:
                check_model(self.facts, stamp)
            self._rows()  # raises where they are not all there
            self._tidy()
            self._vectors = path_of(folder, self.facts.generation).open("r+b", buffering=0)
            undo.pop_all()

    def _tidy(self) -> None:
        """Removes what an interrupted run left."""
        current = path_of(self.folder, self.facts.generation)
        for stray in self.folder.iterdir():
            ours = _OURS.fullmatch(stray.name)
            if ours and (stray.suffix == ".new" or int(ours[2]) != self.facts.generation):
                with contextlib.suppress(OSError):  # Windows keeps a file that a reader has open: next time, then
                    stray.unlink()
        os.truncate(current, self.facts.slots * self._row_bytes)

    @property
    def _row_bytes(self) -> int:
        return 4 * self.facts.dimension

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice."""
        if self._lock.held:
            self._vectors.close()
            with contextlib.suppress(sqlite3.Error):  # what could not be moved out of the log stays there, and counts
                self._database.close()
            self._lock.release()

    # ---- what is there ---------------------------------------------------------------------------------------------

    def files(self) -> dict[str, tuple[int, int]]:
        """Path -> (size, mtime) of every picture."""
        with telling(self.folder):
            found = self._database.execute("SELECT path, size, mtime FROM picture").fetchall()
        return {os.fsdecode(path): (size, mtime) for path, size, mtime in found}

    def refusals(self) -> dict[str, Refusal]:
        """By path."""
        with telling(self.folder):
            found = self._database.execute("SELECT path, size, mtime, pixels, reason, remedy FROM refused").fetchall()
        return {
            (path := os.fsdecode(raw)): Refusal(File(path, size, mtime), pixels, reason, remedy)
            for raw, size, mtime, pixels, reason, remedy in found
        }

    def size(self) -> tuple[int, int]:
        """How many pictures there are, and how many deleted ones still take room."""
        with telling(self.folder):
            (gone,) = self._database.execute("SELECT count(*) FROM gone").fetchone()
        return self.facts.slots - gone, gone

    def kept(self, content: bytes, path: str) -> Kept | None:
        """A picture of this content, the one at `path` if it is among several. From any thread."""
        with telling(self.folder):
            found = self._database.execute(
                f"SELECT number, slot, path, image, {DETAILS} FROM picture JOIN thumbnail USING (number) "
                "WHERE content = ? ORDER BY path = ? DESC LIMIT 1",
                [content, os.fsencode(path)],
            ).fetchone()
        if found is None:
            return None
        number, slot, raw, *details = found
        return Kept(number, os.fsdecode(raw), details_from(*details), self._vector(slot))

    def _vector(self, slot: int) -> np.ndarray:
        # By its place, without moving the file's position: threads share the file.
        if hasattr(os, "pread"):
            raw = os.pread(self._vectors.fileno(), self._row_bytes, slot * self._row_bytes)
        else:
            with path_of(self.folder, self.facts.generation).open("rb") as file:
                file.seek(slot * self._row_bytes)
                raw = file.read(self._row_bytes)
        return np.frombuffer(raw, np.float32)

    # ---- what changes ----------------------------------------------------------------------------------------------

    def add_roots(self, paths: Iterable[str]) -> None:
        """Notes the folders that the library is made from."""
        with telling(self.folder), transaction(self._database):
            named = [[os.fsencode(path)] for path in paths]
            self._database.executemany("INSERT OR IGNORE INTO root VALUES (?)", named)

    def forget_root(self, root: str) -> int:
        """Forgets a folder and all that lies below it; returns how many pictures that were."""
        below = [path for path in {**self.files(), **self.refusals()} if path.startswith(prefixes([root]))]
        before = self.size()[0]
        with telling(self.folder), transaction(self._database):
            for path in below:
                self._forget(path)
            self._database.execute("DELETE FROM root WHERE path = ?", [os.fsencode(root)])
        return before - self.size()[0]

    def add(self, entries: Sequence[Entry], vectors: Vectors) -> None:
        """Keeps pictures, in the place of what was at their paths before. vectors: (len(entries), D), unit length."""
        data = np.ascontiguousarray(vectors, np.float32)
        if data.shape != (len(entries), self.facts.dimension):
            raise UsageError(f"vectors of shape {data.shape} for {len(entries)} pictures of {self.facts.dimension}")
        first = self.facts.slots
        with telling(self.folder, data.nbytes):
            self._vectors.seek(first * self._row_bytes)
            _write_all(self._vectors, data)
            os.fsync(self._vectors.fileno())
            with transaction(self._database):
                for slot, (entry, vector) in enumerate(zip(entries, data, strict=True), first):
                    self._forget(entry.file.path)
                    self._insert(slot, entry, vector)
                self._set("slots", first + len(entries))
        self.facts.slots += len(entries)

    def _insert(self, slot: int, entry: Entry, vector: np.ndarray) -> None:
        values = values_of(entry)
        cursor = self._database.execute(
            f"INSERT INTO picture (slot, {VALUES}, seal) VALUES (?{', ?' * len(values)}, ?)",
            [slot, *values, seal(values, entry.details.thumbnail, vector.tobytes())],
        )
        self._database.execute("INSERT INTO thumbnail VALUES (?, ?)", [cursor.lastrowid, entry.details.thumbnail])

    def move(self, moves: Sequence[tuple[Kept, Entry]]) -> list[tuple[Kept, Entry]]:
        """Gives pictures that are kept already another path, or the new time of their file; their vectors stay.

        Returns those that are not at their old path any more: an earlier move took them."""
        late = []
        with telling(self.folder), transaction(self._database):
            for kept, entry in moves:
                here = [kept.number, os.fsencode(kept.path)]
                if not self._database.execute("SELECT 1 FROM picture WHERE number = ? AND path = ?", here).fetchone():
                    late.append((kept, entry))
                    continue
                if entry.file.path != kept.path:
                    self._forget(entry.file.path)
                values = values_of(entry)
                self._database.execute(
                    f"UPDATE picture SET ({VALUES}, seal) = (?{', ?' * len(values)}) WHERE number = ?",
                    [*values, seal(values, entry.details.thumbnail, kept.vector.tobytes()), kept.number],
                )
        return late

    def delete(self, paths: Iterable[str]) -> list[str]:
        """Forgets what is at these paths, pictures and refusals; returns those at which there was something."""
        with telling(self.folder), transaction(self._database):
            return [path for path in paths if self._forget(path)]

    def _forget(self, path: str) -> bool:
        raw = [os.fsencode(path)]
        found = self._database.execute("SELECT number, slot FROM picture WHERE path = ?", raw).fetchone()
        if found:
            number, slot = found
            self._database.execute("DELETE FROM picture WHERE number = ?", [number])
            self._database.execute("DELETE FROM thumbnail WHERE number = ?", [number])
            self._database.execute("INSERT INTO gone VALUES (?)", [slot])
        refused = self._database.execute("DELETE FROM refused WHERE path = ?", raw).rowcount
        return bool(found or refused)

    def refuse(self, refusals: Iterable[Refusal]) -> None:
        """Remembers files that are no pictures, so that they are not opened again until they change."""
        with telling(self.folder), transaction(self._database):
            for one in refusals:
                self._forget(one.file.path)
                values = [one.file.size, one.file.mtime, one.pixels, one.reason, one.remedy]
                self._database.execute(
                    "INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?)", [os.fsencode(one.file.path), *values]
                )

    def compact(self) -> None:
        """Writes the rows that count to a new file, and gives both files' free space back. Readers go on."""
        facts = self.facts
        new = path_of(self.folder, facts.generation + 1)
        with telling(self.folder, facts.slots * self._row_bytes):
            slots = [slot for (slot,) in self._database.execute("SELECT slot FROM picture ORDER BY slot")]
            if len(slots) < facts.slots:
                _copy(self._rows(), np.array(slots, np.int64), new)
                with transaction(self._database):
                    moved = [(to, at) for to, at in enumerate(slots) if to != at]
                    self._database.executemany("UPDATE picture SET slot = ? WHERE slot = ?", moved)
                    self._database.execute("DELETE FROM gone")
                    self._set("generation", facts.generation + 1)
                    self._set("slots", len(slots))
                facts.generation, facts.slots = facts.generation + 1, len(slots)
                self._vectors.close()
                self._vectors = new.open("r+b", buffering=0)
                self._tidy()
            self._database.execute("VACUUM")
        self.write_signs()

    def write_signs(self) -> None:
        """Brings the sidecar of a large library up to date, unless few rows are new: those are searched as they are."""
        count, path = self.facts.slots, signs.path_of(self.folder, self.facts.generation)
        if count <= EXACT_ROWS:
            return
        there = signs.read(path, self.facts.dimension, count)
        if there is None or there.covers < count * (1 - SIGNS_MAY_LACK):
            with telling(self.folder, count * self.facts.dimension // 8):
                signs.write(self._rows(), path)

    def build_ann(self, sentences: Vectors | None = None) -> ann.Measured:
        """Makes the sidecar of a very large library, and measures it; `ann.build` has the rest."""
        with telling(self.folder):
            slots = [slot for (slot,) in self._database.execute("SELECT slot FROM picture ORDER BY slot")]
            generation = self.facts.generation
            return ann.build(self.folder, generation, self._rows(), np.array(slots, np.int64), sentences)

    def _rows(self) -> VectorRows:
        return VectorRows(path_of(self.folder, self.facts.generation), self.facts.slots, self.facts.dimension)

    def _set(self, name: str, value: int) -> None:
        self._database.execute("UPDATE fact SET value = ? WHERE name = ?", [str(value), name])


def _make_room(folder: Path) -> None:
    """A folder for a library alone. Raises LibraryError for one in which there are other things."""
    folder.mkdir(parents=True, exist_ok=True)
    others = [its.name for its in folder.iterdir() if not _OURS.fullmatch(its.name) and its.name not in _BESIDE]
    if others:
        raise LibraryError(
            f"{folder}: is no library and holds other things ({others[0]}); give --db a folder of its own"
        )


def _create(folder: Path, facts: dict[str, str]) -> None:
    path_of(folder, 0).touch()
    rows.create(folder, facts)
    _sync(folder)


def _write_all(file: RawIOBase, data: np.ndarray) -> None:
    left = memoryview(data.tobytes())
    while left:
        left = left[file.write(left) :]


def _copy(vectors: VectorRows, slots: np.ndarray, new: Path) -> None:
    with new.open("wb") as file:
        for at in range(0, len(slots), BLOCK):
            file.write(vectors[slots[at : at + BLOCK]].tobytes())
        file.flush()
        os.fsync(file.fileno())
    _sync(new.parent)


def _sync(folder: Path) -> None:
    """Makes new names in a folder survive a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
