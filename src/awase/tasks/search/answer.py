"""What a search gives back: hits with their scores, and the cursor that leads to the next ones.

A cursor carries what the first page was measured with, so that every page after it is scored alike, whatever is added
to the library meanwhile. It knows nothing of how hits are found."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal

from awase.errors import UsageError
from awase.tasks.search.query import Clause, Query
from awase.tasks.search.scoring import LEAST, RELEVANT, Yardstick
from awase.tasks.search.store import Row

MOST = 1e6  # of a number in a cursor; those that a search writes are far smaller


@dataclass(frozen=True)
class ClauseScore:
    """One clause seen in one picture. probability: that the picture shows it, one half at the cut-off."""

    clause: Clause
    probability: float
    similarity: float
    """The cosine, as it is."""


@dataclass(frozen=True)
class Hit:
    """One picture that answers, with near-duplicates of it that would have come after it."""

    row: Row
    score: float
    """In [0, 1]; 0.5 is the cut-off of every query."""
    clauses: tuple[ClauseScore, ...]
    duplicates: tuple[Row, ...] = ()

    @property
    def id(self) -> int:
        return self.row.id

    @property
    def path(self) -> str:
        return self.row.path

    @property
    def relevance(self) -> Literal["relevant", "weak"]:
        return "relevant" if self.score >= RELEVANT else "weak"

    def as_json(self) -> dict[str, Any]:
        """What `awase search --json` prints."""
        clauses = [
            {
                "clause": str(its.clause),
                "probability": round(its.probability, 4),
                "similarity": round(its.similarity, 4),
            }
            for its in self.clauses
        ]
        return {
            "path": self.path,
            "score": round(self.score, 4),
            "relevance": self.relevance,
            "clauses": clauses,
            "duplicates": [row.path for row in self.duplicates],
            "id": self.id,
            "moment": self.row.moment,
        }


@dataclass(frozen=True)
class Answer:
    """One page of hits, best first."""

    query: Query
    hits: tuple[Hit, ...]
    relevant: int
    """Pictures over the cut-off on all pages, near-duplicates counted once."""
    among: int
    """Pictures of the library that pass the filters."""
    generation: int
    """Of the library: ids of the hits stay what they are while it does."""
    before: int = 0
    """Hits on earlier pages; the first hit here is number before + 1."""
    cursor: str | None = None
    """What gives the next page; None on the last."""

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> Hit:
        return self.hits[place]


@dataclass(frozen=True)
class Cursor:
    """Where a page ended. library: its identity. newest: the highest id that there was at the first page. seen: hits
    before this page.

    background, yardsticks: what the first page was measured with."""

    asked: int
    library: str
    generation: int
    newest: int
    seen: int
    score: float
    id: int
    background: tuple[float, float]
    yardsticks: tuple[Yardstick, ...]

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(zlib.compress(json.dumps(asdict(self)).encode())).decode().rstrip("=")


def read_cursor(text: str, query: Query, library: str, generation: int) -> Cursor:
    """Raises UsageError for a cursor that is damaged, of another query or library, or older than the library's last
    compacting."""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found = json.loads(zlib.decompressobj().decompress(packed, 2**16))
        measured = tuple(Yardstick(**its) for its in found.pop("yardsticks"))
        mean, deviation = found.pop("background")
        cursor = Cursor(**found, background=(mean, deviation), yardsticks=measured)
        _check_numbers(cursor, len(query.clauses))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, binascii.Error, zlib.error) as problem:
        raise UsageError("the cursor is no cursor that a search gave out; search again without it") from problem
    if (cursor.asked, cursor.library, cursor.generation) != (fingerprint(query), library, generation):
        of = "another library" if cursor.library != library else "the library before it was compacted"
        of = "another query" if cursor.asked != fingerprint(query) else of
        raise UsageError(f"the cursor belongs to {of}; search again without it")
    return cursor


def _check_numbers(cursor: Cursor, clauses: int) -> None:
    """Raises ValueError unless they can be what a search wrote; a cursor may come from anybody."""
    whole = (cursor.asked, cursor.generation, cursor.newest, cursor.seen, cursor.id)
    deviations = [cursor.background[1], *(its.deviation for its in cursor.yardsticks)]
    real = [cursor.score, *cursor.background, *(n for its in cursor.yardsticks for n in astuple(its))]
    if not all(type(number) is int and 0 <= number < 2**63 for number in whole) or len(cursor.yardsticks) != clauses:
        raise ValueError("its numbers are none")
    if not all(type(number) in (int, float) and abs(number) < MOST for number in real) or min(deviations) < LEAST:
        raise ValueError("its measures are none")


def fingerprint(query: Query) -> int:
    """What a cursor is held against: pages of one query and no other."""
    return zlib.crc32(str(query).encode("utf-8", "surrogateescape"))
