"""Many pictures to vectors: read and decode in threads, batch, run; bounded, in order, one bad picture never stalls it.

Decoding releases Python's lock, so threads are enough; while the engine runs one batch, the next is being decoded.
PIL's own open files are read where the sources are iterated: they are one object for all their frames.
It knows nothing of files to write to or of progress bars: it yields, its caller does the rest.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from awase.encoding.pictures import Picture, name_of
from awase.errors import EngineError, PictureError

Outputs = dict[str, np.ndarray]
BATCHES_AHEAD = 3  # decoded pictures waiting for the tower: enough to hide a slow file, 150 kB each


@dataclass(frozen=True)
class Prepared:
    """What is ready for the tower, uint8 (S, S, 3), or None where it need not run; and what else preparing has `seen`,
    which its caller gets back with the outcome."""

    pixels: np.ndarray | None
    seen: object = None


Prepare = Callable[[Picture], np.ndarray | Prepared]


@dataclass(frozen=True)
class Encoded:
    """One picture's outcome: `outputs` (each without the batch axis) or the `error` that says why not; neither where
    preparing found that the tower need not run."""

    index: int
    source: Picture
    outputs: Outputs | None
    error: PictureError | None = None
    seen: object = None


_Waiting = tuple[int, Picture, Prepared | PictureError]


def encode_stream(
    sources: Iterable[Picture],
    prepare: Prepare,
    run: Callable[[np.ndarray], Outputs],
    batch_size: int,
    workers: int | None = None,
) -> Iterator[Encoded]:
    """Yields one `Encoded` per source, in the order of `sources`, batch by batch.

    prepare: a source -> uint8 (S, S, 3), or `Prepared`, raising PictureError. run: uint8 (B, S, S, 3) -> arrays of B
    rows."""
    workers = workers or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers, thread_name_prefix="awase-decode")
    try:
        batch: list[_Waiting] = []
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
    sources: Iterable[Picture], prepare: Prepare, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[_Waiting]:
    def attempt(source: Picture) -> Prepared | PictureError:
        try:
            prepared = prepare(source)
        except PictureError as error:
            return error
        return prepared if isinstance(prepared, Prepared) else Prepared(prepared)

    def begin(source: Picture) -> Future[Prepared | PictureError]:
        if not isinstance(source, Image.Image):
            return pool.submit(attempt, source)
        # Going on with the iterator may seek to the next frame of the very object, or draw over it.
        with contextlib.suppress(MemoryError, ValueError):  # told below as this picture's error
            if type(source) is Image.Image:
                return pool.submit(attempt, source.copy())
        done: Future[Prepared | PictureError] = Future()
        done.set_result(attempt(source))  # a copy of an opened file would know neither its format nor its orientation
        return done

    waiting: deque[tuple[int, Picture, Future[Prepared | PictureError]]] = deque()
    for index, source in enumerate(sources):
        waiting.append((index, source, begin(source)))
        if len(waiting) > ahead:
            first, its_source, future = waiting.popleft()
            yield first, its_source, future.result()
    for first, its_source, future in waiting:
        yield first, its_source, future.result()


def _run_batch(batch: list[_Waiting], run: Callable[[np.ndarray], Outputs]) -> Iterator[Encoded]:
    good = [(source, pixels) for _, source, prepared in batch if (pixels := _pixels_of(prepared)) is not None]
    try:
        outputs = run(np.stack([pixels for _, pixels in good])) if good else {}
    except EngineError as problem:  # an engine sees pixels; whose they are is known here
        raise EngineError(f"one of {', '.join(name_of(source) for source, _ in good)}: {problem}") from problem
    row = 0
    for index, source, prepared in batch:
        if isinstance(prepared, PictureError):
            yield Encoded(index, source, None, prepared)
        elif prepared.pixels is None:
            yield Encoded(index, source, None, None, prepared.seen)
        else:
            yield Encoded(index, source, {name: values[row] for name, values in outputs.items()}, None, prepared.seen)
            row += 1


def _pixels_of(prepared: Prepared | PictureError) -> np.ndarray | None:
    return prepared.pixels if isinstance(prepared, Prepared) else None
