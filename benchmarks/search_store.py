"""The store of picture libraries on clustered synthetic vectors: recall and time, against NumPy, faiss and LanceDB.

    python benchmarks/search_store.py [ROWS ...] [--folder F]      (default: 100000 and 1000000 rows of 512)

Queries are vectors of the same clusters that are not in the library. Recall is of the exact ten best (a product in
float32 over all rows); times are of one query in one warm process, wall and CPU, the median of QUERIES. Filtered: only
1 % of the rows, chosen at random, may be answers. The approximate index needs `awase[ann]`; peers that are not
installed are left out.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peer import machine

from awase.tasks.search.entries import Details, Entry, File
from awase.tasks.search.store import open_library
from awase.tasks.search.writing import Writer

D, QUERIES, TOP, AT_ONCE = 512, 200, 10, 5000
STAMP = {"family": "synthetic", "engine": "none", "precision": "fp32", "fast": False, "dimension": D}
Answer = Callable[[np.ndarray], Any]


def clustered(count: int, dice: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    """Unit vectors about the centres; two of one cluster have a cosine of .5 or so."""
    rows = np.empty((count, D), np.float32)
    for at in range(0, count, 50_000):
        block = rows[at : at + 50_000]
        block[:] = dice.standard_normal(block.shape, dtype=np.float32) * np.float32(D**-0.5)
        block += centres[dice.integers(0, len(centres), len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def make(folder: Path, vectors: np.ndarray) -> None:
    """A library of them; what stands in the rows is made up."""
    with Writer(folder, STAMP, "synthetic") as writer:
        for at in range(0, len(vectors), AT_ONCE):
            block = vectors[at : at + AT_ONCE]
            entries = [
                Entry(
                    File(f"/pictures/{number % 1000}/{number}.jpg", number, number * 10**9),
                    Details("JPEG", 640, 480, number.to_bytes(16, "little"), number, b""),
                )
                for number in range(at, at + len(block))
            ]
            writer.add(entries, block)
        writer.write_signs()


def measure(name: str, ask: Answer, queries: np.ndarray, truth: np.ndarray) -> None:
    walls, spent, hits = [], [], 0
    for query, right in zip(queries, truth, strict=True):
        before, cpu = time.perf_counter(), time.process_time()
        found = ask(query)
        walls.append(time.perf_counter() - before)
        spent.append(time.process_time() - cpu)
        hits += len(np.intersect1d(found, right))
    wall, cpu = (1000 * statistics.median(times) for times in (walls, spent))
    p99 = 1000 * float(np.quantile(walls, 0.99))
    print(f"  {name:44} recall@10 {hits / truth.size:.4f}   p50 {wall:7.2f} ms   p99 {p99:7.2f} ms   CPU {cpu:7.2f} ms")


def exact(vectors: np.ndarray, queries: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
    rows = vectors if allowed is None else vectors[allowed]
    found = np.concatenate([np.argsort(-(rows @ query), kind="stable")[None, :TOP] for query in queries])
    return found if allowed is None else allowed[found]


def size_of(folder: Path, pattern: str) -> float:
    return sum(file.stat().st_size for file in folder.glob(pattern)) / 1e6


def run(count: int, folder: Path) -> None:
    dice = np.random.default_rng(0)
    centres = dice.standard_normal((max(10, count // 100), D), dtype=np.float32) * np.float32(D**-0.5)
    vectors, queries = clustered(count, dice, centres), clustered(QUERIES, dice, centres)
    allowed = np.sort(dice.choice(count, count // 100, replace=False))
    truth, truth_allowed = exact(vectors, queries), exact(vectors, queries, allowed)
    before = time.perf_counter()
    make(folder, vectors)
    print(f"{count:,} rows of {D}: library made in {time.perf_counter() - before:.0f} s")
    print("  MB:", {what: round(size_of(folder, f"{what}*")) for what in ("library", "vectors", "signs")})
    before = time.perf_counter()
    store = open_library(folder)
    store.nearest(queries[:1], TOP)
    print(f"  opened, and the first query answered, in {1000 * (time.perf_counter() - before):.0f} ms")
    measure("awase", lambda q: store.nearest(q[None], TOP)[0][0], queries, truth)
    measure("awase, 1 % pass", lambda q: store.nearest(q[None], TOP, allowed)[0][0], queries, truth_allowed)
    store.close()
    if has("faiss"):
        with Writer(folder) as writer:
            built = writer.build_ann()
        print(f"  approximate index: {built}")
        store = open_library(folder)
        store.nearest(queries[:1], TOP)
        measure("awase[ann]", lambda q: store.nearest(q[None], TOP)[0][0], queries, truth)
        measure("awase[ann], 1 % pass", lambda q: store.nearest(q[None], TOP, allowed)[0][0], queries, truth_allowed)
        store.close()
    measure("NumPy, all products", lambda q: top(vectors @ q), queries, truth)
    measure("NumPy, products of 1 %", lambda q: allowed[top(vectors[allowed] @ q)], queries, truth_allowed)
    if has("faiss"):
        faiss_peers(vectors, queries, truth)
    if has("lancedb"):
        lance_peers(folder.with_name("lance"), vectors, queries, truth, allowed, truth_allowed)
    print(f"  peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def top(cosines: np.ndarray) -> np.ndarray:
    return np.argpartition(-cosines, TOP)[:TOP]


def has(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        print(f"  ({name} is not installed)")
        return False
    return True


def faiss_peers(vectors: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> None:
    faiss = importlib.import_module("faiss")
    groups = 2 ** round(np.log2(4 * np.sqrt(len(vectors))))
    for spec, effort in (("Flat", 0), (f"IVF{groups},SQ8", 32)):
        before = time.perf_counter()
        index = faiss.index_factory(D, spec, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[:: max(1, len(vectors) // (40 * groups))])
        index.add(vectors)
        if effort:
            index.nprobe = effort
        made = time.perf_counter() - before
        name = f"faiss {spec}" + f", {effort} groups" * bool(effort) + f" (built in {made:.0f} s)"
        measure(name, lambda q, index=index: index.search(q[None], TOP)[1][0], queries, truth)


def lance_peers(
    folder: Path,
    vectors: np.ndarray,
    queries: np.ndarray,
    truth: np.ndarray,
    allowed: np.ndarray,
    truth_allowed: np.ndarray,
) -> None:
    lancedb, arrow = importlib.import_module("lancedb"), importlib.import_module("pyarrow")
    mark = np.zeros(len(vectors), bool)
    mark[allowed] = True
    rows = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), D)
    columns = {"id": np.arange(len(vectors)), "allowed": mark, "vector": rows}
    before = time.perf_counter()
    table = lancedb.connect(folder).create_table("pictures", arrow.table(columns))

    def ask(query: np.ndarray, where: str = "") -> np.ndarray:
        asked = table.search(query).distance_type("dot").select(["id", "_distance"]).limit(TOP)
        if where:
            asked = asked.where(where, prefilter=True)
        return asked.to_arrow()["id"].to_numpy()

    few = slice(0, 20)  # a flat search of a million rows takes seconds
    name = f"LanceDB, flat (made in {time.perf_counter() - before:.0f} s)"
    measure(name, ask, queries[few], truth[few])
    measure("LanceDB, flat, 1 % pass", lambda q: ask(q, "allowed"), queries[few], truth_allowed[few])
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the libraries are made (default: for temporary files)")
    given = parser.parse_args()
    print(machine())
    for count in given.rows:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            run(count, Path(folder) / "library")


if __name__ == "__main__":
    main()
