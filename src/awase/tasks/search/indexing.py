"""Folders -> a library: only what changed is opened, each file once, and only what is new is encoded.

A file's size and time tell whether it changed; if so, the hash of its content tells whether the library has its vector
already, under another name or an older time. Hash, EXIF, thumbnail and the tower's square all come from one reading
and one decoding, in the decoding threads. What is done is committed at least every BATCH pictures or SECONDS seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, Literal

import numpy as np

from awase.clip import Clip
from awase.encoding.finding import printable
from awase.encoding.pictures import Picture, open_unread, read_file
from awase.encoding.pipeline import Encoded, Prepared
from awase.encoding.preprocessing import open_for, prepare
from awase.errors import PictureError, UsageError
from awase.tasks.search.details import content_hash, details_of
from awase.tasks.search.entries import Details, Entry, File, Kept, Refusal
from awase.tasks.search.scanning import Changes, Known, changes
from awase.tasks.search.writing import Writer

BATCH = 256  # pictures whose work a kill can undo
SECONDS = 0.5  # after which fewer are committed too


@dataclass(frozen=True)
class Outcome:
    """What became of one file. refusal: why it is not in the library. "forgotten": there is no such file any more."""

    path: str
    what: Literal["encoded", "known", "refused", "forgotten"]
    refusal: Refusal | None = None


def check_folders(folders: Sequence[str], known: Sequence[str] = ()) -> None:
    """Raises UsageError for what is no folder. known: those of a library, which may be away."""
    for folder in folders:
        if not os.path.isdir(folder) and folder not in known:
            what = "is a file; give the folder that it is in" if os.path.exists(folder) else "no such folder"
            raise UsageError(f"{printable(folder)}: {what}")


def find_changes(writer: Writer, roots: Sequence[str], pixels: int, again: bool = False, settled: float = 0) -> Changes:
    """What `carry_out` has to do for these folders. again: look at files once more that held no picture. settled:
    seconds that a file must have been left alone."""
    known = Known(writer.files(), {} if again else writer.refusals(), pixels)
    return changes(roots, known, time.time() - settled if settled else float("inf"))


def carry_out(clip: Clip, writer: Writer, roots: Sequence[str], found: Changes) -> Iterator[Outcome]:
    """Brings the library up to date; yields one `Outcome` per file of `found.todo`, once it is safe on the disk,
    then one per file that is gone and was not found under another name."""
    writer.add_roots(root for root in roots if root not in found.absent)
    batch, since = _Batch(), time.monotonic()
    for encoded in clip.stream([file.path for file in found.todo], prepare=_Preparing(clip, writer)):
        batch.take(found.todo[encoded.index], encoded, clip.limits.pixels)
        if len(batch.outcomes) >= BATCH or time.monotonic() - since > SECONDS:
            yield from batch.commit(writer)
            batch, since = _Batch(), time.monotonic()
    yield from batch.commit(writer)
    yield from [Outcome(path, "forgotten") for path in writer.delete(found.gone)]
    writer.write_signs()


@dataclass(frozen=True)
class _Read:
    """A file that was read, as a source for `open_picture`."""

    name: str
    data: bytes

    def open(self, mode: str, /) -> BinaryIO:
        return BytesIO(self.data)


@dataclass(frozen=True)
class _Preparing:
    """Reads a file, and makes of it what the tower and the library need. Called from the decoding threads."""

    clip: Clip
    writer: Writer

    def __call__(self, source: Picture) -> Prepared:
        path, clip = str(source), self.clip
        data = read_file(path, clip.limits)
        content = content_hash(data)
        if kept := self.writer.kept(content, path):
            return Prepared(None, kept)
        row, read = clip.checkpoint.architecture.preprocessing, _Read(path, data)
        try:
            picture = open_for(read, row, clip.limits, clip.fast)
            details = details_of(picture, open_unread(read, clip.limits), data, content)
        except PictureError as problem:
            if isinstance(problem.__cause__, MemoryError):  # there may be more of it the next time
                raise
            # of the content, so that it stays until the file changes
            return Prepared(None, problem)
        return Prepared(prepare(picture, row), details)


@dataclass
class _Batch:
    """What is not on the disk yet."""

    outcomes: list[Outcome] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    moves: list[tuple[Kept, Entry]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def take(self, file: File, encoded: Encoded, pixels: int) -> None:
        seen, problem = encoded.seen, encoded.error
        if isinstance(seen, Kept):
            self._take_kept(file, seen)
        elif isinstance(seen, Details) and encoded.outputs:
            self._add(Entry(file, seen), encoded.outputs["vectors"])
            self.outcomes.append(Outcome(file.path, "encoded"))
        elif isinstance(seen, PictureError):
            self.refusals.append(Refusal(file, pixels, seen.reason, seen.remedy))
            self.outcomes.append(Outcome(file.path, "refused", self.refusals[-1]))
        elif problem:  # it could not be read, which may pass: what is known of it stays
            refusal = Refusal(file, pixels, problem.reason, problem.remedy)
            self.outcomes.append(Outcome(file.path, "refused", refusal))

    def _take_kept(self, file: File, kept: Kept) -> None:
        entry = Entry(file, kept.details)
        if kept.path == file.path or not os.path.lexists(kept.path):
            self.moves.append((kept, entry))
        else:
            self._add(entry, kept.vector)
        self.outcomes.append(Outcome(file.path, "known"))

    def _add(self, entry: Entry, vector: np.ndarray) -> None:
        self.entries.append(entry)
        self.vectors.append(vector)

    def commit(self, writer: Writer) -> list[Outcome]:
        for kept, entry in writer.move(self.moves) if self.moves else []:
            self._add(entry, kept.vector)
        if self.entries:
            writer.add(self.entries, np.stack(self.vectors))
        if self.refusals:
            writer.refuse(self.refusals)
        return self.outcomes
