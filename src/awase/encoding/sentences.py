"""Many sentences through a text tower: equal ones once, those of like length together, back in order.

It knows nothing of words or models: token ids come in, and what runs the tower is given to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from awase.encoding.packing import pack_prefixes
from awase.encoding.tokenizers import Tokens

TOKENS_PER_BATCH = 1024  # enough to keep the cores at work; beyond it only memory grows
NODES_PER_ROW = 96  # longer rows share a little more, but attention costs each node a row's length
Row = tuple[int, ...]


def encode_sentences(
    tokens: Tokens,
    run: Callable[[np.ndarray, np.ndarray], np.ndarray],
    pad: int,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> np.ndarray:
    """N sentences -> (N, D) in their order, each as if it had been run alone.

    run: ids (B, L) int64 and ends (B,) int64, the position to pool at, -> (B, D). A batch of different lengths is
    filled up with `pad`, which must not matter to it (rows of a fixed length are never filled up)."""
    sentences: list[Row] = [tuple(row) for row in tokens.ids]
    ends = dict(zip(sentences, tokens.ends, strict=True))
    rows = sorted(ends, key=len)
    if not rows:
        return np.empty((0, 0), np.float32)
    place = {row: i for i, row in enumerate(rows)}
    parts = [
        run(_filled(batch, pad), np.array([ends[row] for row in batch], np.int64))
        for batch in _batches(rows, tokens_per_batch)
    ]
    return np.concatenate(parts)[[place[row] for row in sentences]]


def encode_prefixes_once(
    tokens: Tokens,
    run: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    pad: int,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    nodes_per_row: int = NODES_PER_ROW,
) -> np.ndarray:
    """The same for a causal tower, with what sentences begin alike encoded once: exact, because no token there sees a
    later one. 998 names in 80 templates have 767,860 tokens, and 328,000 that differ.

    run: ids (B, T) int64, positions (B, T) int64, mask (B, T, T) bool (true where the row's token sees the column's),
    and for the P sentences that end in the batch their row (P,) and node (P,) int64 -> (P, D)."""
    sentences = _up_to_the_end(tokens)
    if not sentences:
        return np.empty((0, 0), np.float32)
    packs = pack_prefixes(sentences, nodes_per_row, pad)
    vectors: np.ndarray | None = None
    for batch in packs.batches(max(1, tokens_per_batch // packs.ids.shape[1])):
        found = run(batch.ids, batch.positions, batch.mask(), batch.rows, batch.nodes)
        if vectors is None:
            vectors = np.empty((len(sentences), found.shape[1]), np.float32)
        vectors[batch.sentences] = found
    assert vectors is not None  # there was a sentence, so there was a batch
    return vectors


def _up_to_the_end(tokens: Tokens) -> list[Row]:
    return [tuple(row[: end + 1]) for row, end in zip(tokens.ids, tokens.ends, strict=True)]


def _batches(rows: Sequence[Row], tokens_per_batch: int) -> Iterator[Sequence[Row]]:
    """Cuts rows, sorted by length, into batches. A longer row joins shorter ones only while the batch is less than a
    quarter full: then filling up costs less than another run."""
    start = 0
    for i, row in enumerate(rows):
        full = (i - start + 1) * len(row) > tokens_per_batch
        longer = len(row) > len(rows[start]) and (i - start) * len(row) > tokens_per_batch // 4
        if i > start and (full or longer):
            yield rows[start:i]
            start = i
    yield rows[start:]


def _filled(rows: Sequence[Row], pad: int) -> np.ndarray:
    ids = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids
