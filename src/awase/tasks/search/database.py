"""The rows of a library in SQLite: schema, connections, and errors in the words of a library. No vectors here.

Write-ahead logging lets readers go on while one process writes; every commit is on the disk before it returns.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from awase.errors import LibraryError

NAME = "library.sqlite"
NEW = f"{NAME}.new"  # while it is being made
FORMAT = 1  # counts up when the schema changes
APPLICATION = 0x41574153  # "AWAS": tells a library from other databases

_SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE root (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE picture (
    number INTEGER PRIMARY KEY,
    slot INTEGER NOT NULL UNIQUE,       -- which row of the file of vectors: the id that readers see
    path BLOB NOT NULL UNIQUE,          -- os.fsencode: names of files can be any bytes
    folder TEXT NOT NULL,               -- as filters compare it
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,             -- nanoseconds
    moment TEXT NOT NULL,
    taken TEXT,
    camera TEXT,
    latitude REAL,
    longitude REAL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    format TEXT NOT NULL,
    content BLOB NOT NULL,
    likeness INTEGER NOT NULL,          -- signed
    caption TEXT,
    seal INTEGER NOT NULL               -- CRC-32 of all that belongs to the picture, its vector included
);
CREATE INDEX picture_content ON picture (content);
CREATE INDEX picture_moment ON picture (moment);
CREATE TABLE thumbnail (number INTEGER PRIMARY KEY, image BLOB NOT NULL);
-- rows of the file of vectors that belong to no picture any more
CREATE TABLE gone (slot INTEGER PRIMARY KEY);
CREATE TABLE refused (
    path BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    pixels INTEGER NOT NULL,            -- the limit that it was read under
    reason TEXT NOT NULL,
    remedy TEXT NOT NULL
) WITHOUT ROWID;
"""


def create(folder: Path, facts: dict[str, str]) -> None:
    """Makes the database of a new library, which appears under its name when complete."""
    growing = folder / NEW
    growing.unlink(missing_ok=True)
    database = _connected(f"{growing.absolute().as_uri()}?mode=rwc")
    with contextlib.closing(database), transaction(database):
        for statement in _SCHEMA.split(";\n"):
            database.execute(statement)
        database.executemany("INSERT INTO fact VALUES (?, ?)", facts.items())
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {FORMAT}")
    os.replace(growing, folder / NAME)


def connect_to_read(folder: Path) -> sqlite3.Connection:
    """Where the folder may not be written to, and nobody writes, the file is read as one that never changes: whoever
    wants to see what was written since connects again."""
    file = folder / NAME
    if not file.is_file():
        raise LibraryError(f"{folder}: no library here; make one with: awase index FOLDER --db {folder}")
    frozen = "" if may_write(folder) or file.with_name(f"{NAME}-wal").exists() else "&immutable=1"
    return _checked(_connected(f"{file.absolute().as_uri()}?mode=ro{frozen}"), folder)


def may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def files_of(folder: Path) -> list[tuple[int, int]]:
    """Sizes and times of the files that hold the rows: others after every commit."""
    files = [its for its in (folder / NAME, folder / f"{NAME}-wal") if its.exists()]
    return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, files)]


def connect_to_write(folder: Path) -> sqlite3.Connection:
    """Closing it leaves everything in the one file. Whoever writes holds the folder's lock."""
    database = _checked(_connected(f"{(folder / NAME).absolute().as_uri()}?mode=rw"), folder)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def _connected(address: str) -> sqlite3.Connection:
    # Without Python's own transactions; SQLite itself is serialised, so that threads may share a connection.
    return sqlite3.connect(address, uri=True, timeout=30, isolation_level=None, check_same_thread=False)


def _checked(database: sqlite3.Connection, folder: Path) -> sqlite3.Connection:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        database.close()
        raise LibraryError(f"{folder / NAME}: is no library of awase, or is damaged; {_afresh(folder)}")
    if version != FORMAT:
        database.close()
        raise LibraryError(
            f"{folder}: a library of format {version}, and this awase reads {FORMAT}; "
            f"use the version of awase that made it, or {_afresh(folder)}"
        )
    return database


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def telling(folder: Path, room: int = 0) -> Iterator[None]:
    """Says in the words of a library what SQLite and the system have against it. room: bytes that are needed."""
    try:
        yield
    except sqlite3.Error as problem:
        raise LibraryError(_told(folder, problem, room)) from problem
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LibraryError(_no_space(folder, room)) from problem
        raise LibraryError(
            f"{folder}: {problem.strerror or problem}; check the folder and its permissions"
        ) from problem


def _told(folder: Path, problem: sqlite3.Error, room: int) -> str:
    code: Any = getattr(problem, "sqlite_errorcode", 0) or 0
    if code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return _no_space(folder, room) if code & 0xFF == sqlite3.SQLITE_FULL else _unreadable(folder, problem)
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{folder / NAME}: is damaged ({problem}); {_afresh(folder)}"
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{folder}: another program holds the library; wait until it ends"
    return f"{folder}: {problem}; check the folder and its permissions"


def _no_space(folder: Path, room: int) -> str:
    needed = f" (at least {max(room / 1e6, 0.1):,.1f} MB are needed)" if room else ""
    return (
        f"{folder}: not enough space on the disk{needed}; what was kept before is whole; "
        "make room and give the same command again: it goes on from the pictures that are done"
    )


def _unreadable(folder: Path, problem: sqlite3.Error) -> str:
    return f"{folder}: cannot be read or written ({problem}); check the disk and the space on it"


def _afresh(folder: Path) -> str:
    return f"move {folder} away and index again, or give --db another"
