"""Near-duplicates among the hits of a search: copies, resized or saved again, pictures a moment apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from awase.tasks.search.store import Row, Vectors

BITS = 6  # of 64 that two perceptual hashes may differ in ...
COSINE = 0.95  # ... while the vectors are at least so near; shop photographs of the same cut can be both


def heads(rows: Sequence[Row], vectors: Vectors) -> np.ndarray:
    """(N,) int64: for each picture, best first, the place of the one that it is a near-duplicate of: its own, or an
    earlier one's that is nobody's duplicate itself. Equal files always are; pictures of one colour look alike to a
    perceptual hash, so the vectors have their say."""
    head = np.arange(len(rows))
    hashes = np.array([row.likeness for row in rows], np.uint64)
    contents = np.array([row.content for row in rows])
    for place in range(1, len(rows)):
        alike = np.bitwise_count(hashes[:place] ^ hashes[place]) <= BITS
        same = contents[:place] == contents[place]
        for earlier in np.flatnonzero((alike | same) & (head[:place] == np.arange(place))):
            if same[earlier] or float(vectors[earlier] @ vectors[place]) >= COSINE:
                head[place] = earlier
                break
    return head
