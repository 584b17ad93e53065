"""Ranks of synthetic pictures and captions both ways: peak memory, and time against one dense product of the same size.

    python benchmarks/retrieval.py [PICTURES CAPTIONS [DIMENSION]]

The product is computed block by block, as it would not fit in memory, and does nothing else. Both run in one process,
in turn; the peak is that of the whole process, with 4 (PICTURES + CAPTIONS) DIMENSION bytes of vectors in it.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from awase.evaluation.retrieval import BLOCK, ranks


def unit_rows(rng: np.random.Generator, rows: np.ndarray) -> None:
    """Fills (N, D) with random unit vectors, a block at a time."""
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        rng.standard_normal(out=part, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)


def made(pictures: int, captions: int, dimension: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Captions near their pictures, so that ranks are like a real model's: (M, D), (N, D), (M,)."""
    rng = np.random.default_rng(0)
    gallery, queries = np.empty((pictures, dimension), np.float32), np.empty((captions, dimension), np.float32)
    unit_rows(rng, gallery)
    unit_rows(rng, queries)
    owners = rng.permutation(np.arange(captions) % pictures)
    for start in range(0, captions, BLOCK):
        part = queries[start : start + BLOCK]
        part += 0.15 * gallery[owners[start : start + BLOCK]]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return queries, gallery, owners


def clock() -> np.ndarray:
    """Seconds by the clock, and of the processor (all cores together), which are true on a busy machine too."""
    return np.array([time.perf_counter(), time.process_time()])


def dense(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The time that the product alone takes, by the clock and of the processor."""
    out = np.empty((min(BLOCK, len(queries)), min(BLOCK, len(gallery))), np.float32)
    began = clock()
    for top in range(0, len(queries), BLOCK):
        part = queries[top : top + BLOCK]
        for left in range(0, len(gallery), BLOCK):
            other = gallery[left : left + BLOCK]
            np.matmul(part, other.T, out=out[: len(part), : len(other)])
    return clock() - began


def main() -> None:
    pictures, captions, dimension = (
        int(value) for value in [*sys.argv[1:], *("20000", "100000", "512")[len(sys.argv) - 1 :]]
    )
    queries, gallery, owners = made(pictures, captions, dimension)
    product = [dense(queries, gallery)]
    began = clock()
    found = ranks(queries, gallery, owners)
    counting = clock() - began
    product.append(dense(queries, gallery))
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    ratio = 2 * counting / (product[0] + product[1])
    size = 4e-9 * (pictures + captions) * dimension
    print(f"{pictures:,} pictures x {captions:,} captions x {dimension}: {size:.2f} GB of vectors")
    for index, what in enumerate(("by the clock", "of the processor")):
        alone = f"{product[0][index]:.1f} and {product[1][index]:.1f}"
        print(f"{what}: ranks both ways {counting[index]:.1f} s; the product alone, before and after, {alone} s")
    print(f"ratio {ratio[0]:.2f} by the clock, {ratio[1]:.2f} of the processor; peak memory {peak:.2f} GB")
    for way, found_ranks in (("text to picture", found.text_to_picture), ("picture to text", found.picture_to_text)):
        print(f"R@10 {way} {(found_ranks <= 10).mean():.4f}")


if __name__ == "__main__":
    main()
