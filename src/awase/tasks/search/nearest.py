"""The rows nearest to queries: by all cosines, or by those of candidates that a sidecar names. No facts of rows here.

A sidecar covers the first rows of the file of vectors; those behind, and those that belong to no picture any more, are
seen to here, so that a sidecar may be older than the library.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from awase.errors import LibraryError
from awase.tasks.search.store import Ids, Vectors
from awase.tasks.search.vectorrows import BLOCK, VectorRows

QUERIES = 32  # at a time: their cosines to a million rows are 128 MB
CANDIDATES = 1000  # re-scored for each query, at least
PER_ANSWER = 4  # and so many for each answer


class Sidecar(Protocol):
    """Names rows that are probably nearest."""

    @property
    def covers(self) -> int:
        """The first rows, so many, are those that it knows."""
        ...

    def candidates(self, query: np.ndarray, count: int, leave_out: Ids, among: Ids | None = None) -> Ids:
        """About `count` of them or more for a query (D,). leave_out, among: rows below `covers`, ascending."""
        ...


def nearest_of_all(vectors: VectorRows, queries: Vectors, k: int, leave_out: Ids) -> tuple[Ids, Vectors]:
    """Exact: the k rows of largest product with each query, equal ones by number; both (Q, k), best first.

    leave_out: rows that do not count; the others are at least k."""
    cosines = queries @ vectors.rows.T  # in one call: each wakes and joins the threads of BLAS
    cosines[:, leave_out] = -np.inf
    _check(cosines, vectors)
    return _best(cosines, None, k)


def nearest_among(vectors: VectorRows, queries: Vectors, k: int, among: Ids) -> tuple[Ids, Vectors]:
    """Exact, of some rows, ascending, at least k."""
    cosines = np.empty((len(queries), len(among)), np.float32)
    for at in range(0, len(among), BLOCK):
        cosines[:, at : at + BLOCK] = queries @ vectors[among[at : at + BLOCK]].T
    _check(cosines, vectors)
    return _best(cosines, among, k)


def nearest_by(
    sidecar: Sidecar, vectors: VectorRows, queries: Vectors, k: int, leave_out: Ids, among: Ids | None
) -> tuple[Ids, Vectors]:
    """The k best of the candidates that a sidecar names; exact where it names fewer than k."""
    known = sidecar.covers
    outside = np.arange(known, len(vectors)) if among is None else among[np.searchsorted(among, known) :]
    outside = np.setdiff1d(outside, leave_out, assume_unique=True)
    inside = None if among is None else among[: np.searchsorted(among, known)]
    dead = leave_out[: np.searchsorted(leave_out, known)]
    count = max(CANDIDATES, PER_ANSWER * k)
    found = []
    for query in queries:
        rows = np.concatenate([sidecar.candidates(query, count, dead, inside), outside])
        if len(rows) >= k:
            found.append(nearest_among(vectors, query[None], k, rows))
        elif among is None:
            found.append(nearest_of_all(vectors, query[None], k, leave_out))
        else:
            found.append(nearest_among(vectors, query[None], k, among))
    return np.concatenate([ids for ids, _ in found]), np.concatenate([cosines for _, cosines in found])


def _check(cosines: Vectors, vectors: VectorRows) -> None:
    """Raises LibraryError for what damaged vectors give: NaN, or more than unit vectors can have."""
    if not (cosines < 2).all():
        folder = vectors.path.parent
        raise LibraryError(
            f"{vectors.path}: is damaged; `awase library check --mend --db {folder}` forgets the pictures that it "
            f"concerns, and awase index --db {folder} encodes them again"
        )


def _best(cosines: Vectors, rows: Ids | None, k: int) -> tuple[Ids, Vectors]:
    """The k largest of each row of (Q, N) cosines. rows: (N,), ascending; None where they are the columns' numbers."""
    chosen = np.empty((len(cosines), k), np.int64)
    for its, row in zip(chosen, cosines, strict=True):
        least = np.partition(row, len(row) - k)[len(row) - k]
        enough = np.flatnonzero(row >= least)  # more than k where several are equal
        its[:] = enough[np.argsort(-row[enough], kind="stable")[:k]]
    values = np.take_along_axis(cosines, chosen, axis=1)
    return chosen if rows is None else rows[chosen], values
