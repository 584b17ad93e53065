"""Beyond a million rows: an inverted file of product codes (faiss) that names candidates, whose cosines are then exact.

Rows are grouped round centres (Sivic and Zisserman, 2003) and each is held in 64 bytes (Jégou et al., 2011; André et
al., 2017); a query looks into the groups nearest to it. How many groups is chosen by measuring: half of a sample of
pictures that took no part in training, and half of some sentences, choose; the other halves say what recall that gives.
A sidecar like `signs`: made from the vectors, made again at any time, with `pip install 'awase[ann]'`.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from awase.errors import LibraryError, MissingExtra
from awase.tasks.search.nearest import CANDIDATES, QUERIES, nearest_of_all
from awase.tasks.search.store import Ids, Vectors
from awase.tasks.search.vectorrows import VectorRows

HELD_OUT = 256  # pictures that choose and judge
TOP = 10  # recall is of so many
WANTED = 0.99  # recall for which more groups are looked into
CODES = 128  # quantisers of 4 bits a row
PER_GROUP, ROUNDS = 40, 10  # rows to train on, and rounds of k-means
FEWEST = 10_000  # rows below which there is nothing to gain
SPARE = 8  # rows looked at for each candidate asked for


@dataclass(frozen=True)
class Measured:
    """What a build says of itself. recall_*: of the exact TOP, the share that is found, on held-out queries."""

    covers: int
    groups: int
    probes: int
    recall_of_pictures: float
    recall_of_sentences: float | None
    queries: int
    milliseconds: float
    """CPU of one query, the exact cosines of its candidates included."""
    seconds: float
    bytes: int


class Ann:
    """A sidecar that was read."""

    def __init__(self, index: Any, measured: Measured) -> None:
        self._index, self.measured = index, measured

    @property
    def covers(self) -> int:
        """How many rows it was made from: the first ones."""
        return self.measured.covers

    def candidates(self, query: np.ndarray, count: int, leave_out: Ids, among: Ids | None = None) -> Ids:
        """About `count` rows that are probably nearest to a query (D,), without those of `leave_out` (ascending)."""
        assert among is None  # a filter asks `signs`
        groups = self.measured.groups
        probes = max(self.measured.probes, SPARE * count * groups // self.covers)
        return np.setdiff1d(_search(self._index, query, count, min(probes, groups)), leave_out)


def paths_of(folder: Path, generation: int) -> tuple[Path, Path]:
    """The index, and what is said of it, which makes it valid."""
    return folder / f"ann-{generation}.faiss", folder / f"ann-{generation}.json"


def read(folder: Path, generation: int, dimension: int, rows: int) -> Ann | None:
    """None where there is none that fits, or no faiss to read it."""
    file, told = paths_of(folder, generation)
    with contextlib.suppress(OSError, ValueError, TypeError, MissingExtra, RuntimeError):
        measured = Measured(**json.loads(told.read_text()))
        if measured.covers <= rows and file.stat().st_size == measured.bytes:
            index = _faiss().read_index(str(file))
            if index.d == dimension and index.ntotal == measured.covers:
                return Ann(index, measured)
    return None


def build(folder: Path, generation: int, vectors: VectorRows, living: Ids, sentences: Vectors | None) -> Measured:
    """Trains, fills, measures and writes a sidecar. sentences: (Q, D) unit vectors of some, to choose and judge by too.

    Raises LibraryError for a small library, MissingExtra."""
    if len(living) < FEWEST:
        raise LibraryError(f"{folder}: has {len(living):,} pictures; exact search is as fast below {FEWEST:,}")
    started, dice = time.perf_counter(), np.random.default_rng(0)
    held_out = dice.choice(living, HELD_OUT, replace=False)
    index, groups = _trained(vectors, np.setdiff1d(living, held_out), dice)
    for _, block in vectors.blocks():
        index.add(block)
    asked = [_Questions.of_pictures(vectors, living, held_out)]
    if sentences is not None:
        asked.append(_Questions(vectors, living, sentences))
    probes = _fewest_probes(index, groups, [its.half(0) for its in asked])
    before = time.process_time()
    recalls = [its.half(1).recall(index, probes) for its in asked]
    spent, count = time.process_time() - before, sum(len(its.half(1).queries) for its in asked)
    return _written(
        paths_of(folder, generation),
        index,
        Measured(
            covers=len(vectors),
            groups=groups,
            probes=probes,
            recall_of_pictures=recalls[0],
            recall_of_sentences=recalls[1] if len(recalls) > 1 else None,
            queries=count,
            milliseconds=1000 * spent / count,
            seconds=time.perf_counter() - started,
            bytes=0,
        ),
    )


def _trained(vectors: VectorRows, rows: Ids, dice: np.random.Generator) -> tuple[Any, int]:
    """An empty index that knows the centres of its groups, and how many they are."""
    groups = 2 ** round(np.log2(4 * np.sqrt(len(rows))))
    codes = max(n for n in range(1, CODES + 1) if vectors.dimension % n == 0)
    faiss = _faiss()
    index = faiss.index_factory(vectors.dimension, f"IVF{groups},PQ{codes}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = ROUNDS
    index.train(vectors[np.sort(dice.choice(rows, min(len(rows), PER_GROUP * groups), replace=False))])
    return index, groups


def _written(paths: tuple[Path, Path], index: Any, measured: Measured) -> Measured:
    file, told = paths
    growing = file.with_name(f"{file.name}.new")
    _faiss().write_index(index, str(growing))
    measured = replace(measured, bytes=growing.stat().st_size)
    told.unlink(missing_ok=True)  # an older one does not vouch for the new file
    os.replace(growing, file)
    growing = told.with_name(f"{told.name}.new")
    growing.write_text(json.dumps(asdict(measured)))
    os.replace(growing, told)
    return measured


class _Questions:
    """Queries with their exact answers. selves: rows that are the queries, and no answers to them; -1 for none."""

    def __init__(self, vectors: VectorRows, living: Ids, queries: Vectors, selves: Ids | None = None) -> None:
        self.vectors, self.queries = vectors, queries
        self.selves = np.full(len(queries), -1) if selves is None else selves
        self.dead = dead = np.setdiff1d(np.arange(len(vectors)), living)
        self.answers = np.empty((len(queries), TOP), np.int64)
        for at in range(0, len(queries), QUERIES):
            found, _ = nearest_of_all(vectors, queries[at : at + QUERIES], TOP + 1, dead)
            others = found != self.selves[at : at + QUERIES, None]
            self.answers[at : at + QUERIES] = [row[keep][:TOP] for row, keep in zip(found, others, strict=True)]

    @classmethod
    def of_pictures(cls, vectors: VectorRows, living: Ids, rows: Ids) -> _Questions:
        return cls(vectors, living, vectors[rows], rows)

    def half(self, which: int) -> _Questions:
        part = copy.copy(self)
        for name in ("queries", "selves", "answers"):
            setattr(part, name, getattr(self, name)[which::2])
        return part

    def recall(self, index: Any, probes: int) -> float:
        """Share of the answers that are found, the candidates re-scored as `Library` does."""
        found = 0
        for query, own, answers in zip(self.queries, self.selves, self.answers, strict=True):
            ids = _search(index, query, CANDIDATES, probes)
            ids = np.setdiff1d(ids[ids != own], self.dead)
            top = ids[np.argsort(-(self.vectors[ids] @ query), kind="stable")[:TOP]]
            found += len(np.intersect1d(top, answers))
        return found / self.answers.size


def _fewest_probes(index: Any, groups: int, asked: list[_Questions]) -> int:
    """The fewest groups to look into for WANTED; all of them if that is what it takes."""
    probes = 8
    while probes < groups and min(its.recall(index, probes) for its in asked) < WANTED:
        probes *= 2
    return min(probes, groups)


def _search(index: Any, query: np.ndarray, count: int, probes: int) -> Ids:
    settings = _faiss().SearchParametersIVF(nprobe=probes)
    found: Ids = index.search(query[None], count, params=settings)[1][0]
    return found[found >= 0]


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as problem:
        raise MissingExtra("approximate search", "ann") from problem
