"""Many pictures to vectors: read and decode in threads, batch, run; bounded, in order, one bad picture never stalls it.

Decoding releases Python's lock, so threads are enough; while the engine runs one batch, the next is being decoded.
It knows nothing of files to write to or of progress bars: it yields, its caller does the rest.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from awase.encoding.pictures import Picture, name_of
from awase.errors import EngineError, PictureError

Outputs = dict[str, np.ndarray]
BATCHES_AHEAD = 3  # decoded pictures waiting for the tower: enough to hide a slow file, 150 kB each


@dataclass(frozen=True)
class Encoded:
    """One picture's outcome: `outputs` (each without the batch axis) or the `error` that says why not."""

    index: int
    source: Picture
    outputs: Outputs | None
    error: PictureError | None = None


def encode_stream(
    sources: Iterable[Picture],
    prepare: Callable[[Picture], np.ndarray],
    run: Callable[[np.ndarray], Outputs],
    batch_size: int,
    workers: int | None = None,
) -> Iterator[Encoded]:
    """Yields one `Encoded` per source, in the order of `sources`, batch by batch.

    prepare: a source -> uint8 (S, S, 3), raising PictureError. run: uint8 (B, S, S, 3) -> arrays of B rows."""
    workers = workers or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers, thread_name_prefix="awase-decode")
    try:
        batch: list[tuple[int, Picture, np.ndarray | PictureError]] = []
        for item in _prepared_in_order(sources, prepare, pool, ahead=BATCHES_AHEAD * batch_size):
            batch.append(item)
            if len(batch) == batch_size:
                yield from _run_batch(batch, run)
                batch = []
        if batch:
            yield from _run_batch(batch, run)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepared_in_order(
    sources: Iterable[Picture], prepare: Callable[[Picture], np.ndarray], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[int, Picture, np.ndarray | PictureError]]:
    def attempt(source: Picture) -> np.ndarray | PictureError:
        try:
            return prepare(source)
        except PictureError as error:
            return error

    waiting: deque[tuple[int, Picture, Future[np.ndarray | PictureError]]] = deque()
    for index, source in enumerate(sources):
        waiting.append((index, source, pool.submit(attempt, source)))
        if len(waiting) > ahead:
            first, its_source, future = waiting.popleft()
            yield first, its_source, future.result()
    for first, its_source, future in waiting:
        yield first, its_source, future.result()


def _run_batch(
    batch: list[tuple[int, Picture, np.ndarray | PictureError]], run: Callable[[np.ndarray], Outputs]
) -> Iterator[Encoded]:
    good = [prepared for _, _, prepared in batch if isinstance(prepared, np.ndarray)]
    try:
        outputs = run(np.stack(good)) if good else {}
    except EngineError as problem:  # an engine sees pixels; whose they are is known here
        pictures = ", ".join(name_of(source) for _, source, prepared in batch if isinstance(prepared, np.ndarray))
        raise EngineError(f"one of {pictures}: {problem}") from problem
    row = 0
    for index, source, prepared in batch:
        if isinstance(prepared, PictureError):
            yield Encoded(index, source, None, prepared)
        else:
            yield Encoded(index, source, {name: values[row] for name, values in outputs.items()})
            row += 1
