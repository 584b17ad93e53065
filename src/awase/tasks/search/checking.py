"""Is a library whole: every row and vector compared with its seal, every number accounted for."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from awase.tasks.search.database import connect_to_read, telling
from awase.tasks.search.entries import VALUES, seal
from awase.tasks.search.library import Facts
from awase.tasks.search.vectorrows import path_of
from awase.tasks.search.writing import Writer


@dataclass(frozen=True)
class Findings:
    """What `check` found. pictures: how many are whole. damaged: paths of those that are not. faults: what else is
    wrong, for which only making the library again helps."""

    pictures: int
    damaged: list[str]
    faults: list[str]


def check(folder: Path) -> Findings:
    """Reads everything. Raises LibraryError where there is no library, or nothing of it can be read."""
    with telling(folder):
        database = connect_to_read(folder)
        try:
            database.execute("BEGIN")
            facts = Facts(folder, database)
            faults = [f"the database: {text}" for (text,) in _quarrels(database)]
            sound, damaged = 0, []
            for path, is_sound in _pictures(database, folder, facts):
                sound += is_sound
                if not is_sound:
                    damaged.append(path)
            return Findings(sound, damaged, faults + _numbering(database, facts))
        finally:
            database.close()


def mend(folder: Path, findings: Findings) -> None:
    """Forgets the damaged pictures; the next `awase index` encodes them again."""
    with telling(folder):
        _lengthen(folder)
    with Writer(folder) as writer:
        writer.delete(findings.damaged)


def _quarrels(database: sqlite3.Connection) -> list[tuple[str]]:
    return [row for row in database.execute("PRAGMA integrity_check") if row != ("ok",)]


def _pictures(database: sqlite3.Connection, folder: Path, facts: Facts) -> Iterator[tuple[str, bool]]:
    """The path of each picture, and whether its row, thumbnail and vector are what was written."""
    length = 4 * facts.dimension
    query = f"SELECT slot, image, seal, {VALUES} FROM picture LEFT JOIN thumbnail USING (number) ORDER BY slot"
    try:
        with path_of(folder, facts.generation).open("rb") as vectors:
            for slot, thumbnail, sealed, *values in database.execute(query):
                vectors.seek(slot * length)
                vector = vectors.read(length)
                yield os.fsdecode(values[0]), len(vector) == length and seal(values, thumbnail, vector) == sealed
    except FileNotFoundError:
        yield from ((os.fsdecode(path), False) for (path,) in database.execute("SELECT path FROM picture"))


def _numbering(database: sqlite3.Connection, facts: Facts) -> list[str]:
    """Every row of the file of vectors belongs to one picture, or to none any more."""
    query = "SELECT slot FROM picture UNION ALL SELECT slot FROM gone ORDER BY slot"
    slots = [slot for (slot,) in database.execute(query)]
    return [] if slots == list(range(facts.slots)) else ["the numbers of its rows do not add up"]


def _lengthen(folder: Path) -> None:
    """Gives a file of vectors that was cut short its length again, in zeros, whose rows `check` named."""
    database = connect_to_read(folder)
    try:
        facts = Facts(folder, database)
    finally:
        database.close()
    path = path_of(folder, facts.generation)
    with path.open("ab") as file:
        if file.tell() < 4 * facts.dimension * facts.slots:
            file.truncate(4 * facts.dimension * facts.slots)
