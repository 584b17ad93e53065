"""Vectors of a data set's pictures and sentences, made once: kept for every later measure, and a killed run goes on.

They lie in the cache, in a folder named by all that they depend on: model, engine, preprocessing, version, contents.
A folder holds pieces of some rows each, and a piece is whole or absent, so that a kill loses less than one piece, and
two runs at once do no harm. Pictures that cannot be read are tried again by every run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from awase import __version__
from awase.clip import Clip, TextCutWarning
from awase.datasets.captioned import Captioned
from awase.datasets.hashing import pictures_hash
from awase.datasets.labelled import Labelled
from awase.encoding.caches import cache_folder, write_atomically
from awase.encoding.heads import Reads
from awase.encoding.pictures import Picture, name_of
from awase.encoding.pipeline import Encoded
from awase.encoding.prompts import language_of
from awase.errors import DataError, EngineError, PictureError, UsageError

UNREADABLE = "could not be read: "  # how a note about a picture that is missing from the figures begins
PICTURES_A_PIECE = 64
SENTENCES_A_PIECE = 4096  # encoded in one call, equal ones once and those of like length together

Progress = Callable[[int, int], None]  # done, of all


@dataclass(frozen=True)
class PictureVectors:
    """rows: (K, D) float32, of the pictures that could be read. kept: (K,) int64, which. errors: why not the rest."""

    rows: np.ndarray
    kept: np.ndarray
    errors: list[PictureError]


def picture_vectors(
    clip: Clip,
    data: Labelled | Captioned,
    output: Reads = "vectors",
    progress: Progress | None = None,
) -> PictureVectors:
    """A row per picture that can be read: unit vectors, pooled features before the projection, or both in one row,
    each of which is kept for itself.

    Raises DataError where no picture can be read, EngineError where the tower answers with NaN or infinity, UsageError
    for streams, which no second run could read."""

    if output == "both":
        features, vectors = (picture_vectors(clip, data, one, progress) for one in ("features", "vectors"))
        if not np.array_equal(features.kept, vectors.kept):
            raise DataError(f"{data.name}: some pictures could be read once and then not; try again")
        return replace(vectors, rows=np.concatenate([features.rows, vectors.rows], axis=1))

    def stream(pictures: Iterator[Picture]) -> Iterator[Encoded]:
        return clip.stream(pictures, output)

    return rows_of_pictures({"stamp": clip.stamp(), "output": output}, data, stream, output, progress)


def rows_of_pictures(
    facts: Mapping[str, Any] | None,
    data: Labelled | Captioned,
    stream: Callable[[Iterator[Picture]], Iterator[Encoded]],
    output: str,
    progress: Progress | None = None,
) -> PictureVectors:
    """The same by any way of encoding. facts: what rows depend on beside the pictures; None keeps nothing."""
    if streams := [name_of(picture) for picture in data.pictures if hasattr(picture, "read")]:
        raise UsageError(f"{streams[0]} can be read only once; give a data set paths, bytes or arrays")
    count = len(data.pictures)
    folder = None if facts is None else _folder({**facts, "pictures": pictures_hash(data.pictures)})
    rows = _Rows(folder, count, PICTURES_A_PIECE)
    missing = rows.missing()
    errors = []
    try:
        for found in stream(data.pictures[i] for i in missing):
            if found.error:
                errors.append(found.error)
            elif found.outputs:
                rows.put(int(missing[found.index]), found.outputs[output][None])
            if progress:
                progress(count - len(missing) + found.index + 1, count)
    finally:
        rows.flush()
    kept = rows.known()
    if not len(kept):
        raise DataError(
            f"{data.name}: none of its {count} pictures can be read" + "".join(f"; {e}" for e in errors[:1])
        )
    return PictureVectors(rows.values if len(kept) == count else rows.values[kept], kept, errors)


def sentence_vectors(
    clip: Clip, sentences: Sequence[str], progress: Progress | None = None
) -> tuple[np.ndarray, list[str]]:
    """((M, D) float32 unit vectors, remarks): remarks say how many sentences were cut or are in a strange language."""
    digest = hashlib.sha256(json.dumps(list(sentences)).encode()).hexdigest()
    folder = _folder({"stamp": clip.stamp(), "output": "sentences", "sentences": digest})
    rows = _Rows(folder, len(sentences), SENTENCES_A_PIECE)
    unknown = set((rows.missing() // SENTENCES_A_PIECE).tolist())
    for start in range(0, len(sentences), SENTENCES_A_PIECE):
        if start // SENTENCES_A_PIECE in unknown:
            part = list(sentences[start : start + SENTENCES_A_PIECE])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TextCutWarning)  # a remark tells, whether encoded now or earlier
                values = clip.encode_texts(part)
            check_finite(values, f"sentence {part[0][:60]!r} or one of the next {len(part)}", clip)
            rows.put(start, values)
        if progress:
            progress(min(start + SENTENCES_A_PIECE, len(sentences)), len(sentences))
    rows.flush()
    return rows.values, _remarks(clip, sentences)


def left_out(errors: Sequence[PictureError]) -> list[str]:
    """A note for each picture that could not be read."""
    return [f"{UNREADABLE}{error}" for error in errors]


def check_finite(values: np.ndarray, name: str, clip: Clip) -> None:
    """Raises EngineError for NaN and infinity, which would come out of every later comparison as an answer."""
    if not np.isfinite(values).all():
        raise EngineError(
            f"{name}: {clip.runs_on} gives NaN or infinity; try --precision fp32, and if that gives the same, the "
            "weights of this model are damaged"
        )


def _remarks(clip: Clip, sentences: Sequence[str]) -> list[str]:
    remarks = []
    if cut := len(clip.tokenizer(list(sentences)).cut):
        remarks.append(f"{cut:,} of {len(sentences):,} sentences are longer than the text tower reads, and were cut")
    if strange := sum(language_of(sentence) not in clip.languages for sentence in sentences):
        known = ", ".join(clip.languages)
        remarks.append(f"{strange:,} of {len(sentences):,} sentences are in no language of the model ({known})")
    return remarks


def _folder(facts: Mapping[str, Any]) -> Path:
    said = json.dumps({"awase": __version__, **facts}, sort_keys=True, default=str)
    digest = hashlib.sha256(said.encode()).hexdigest()
    return cache_folder() / "vectors" / digest[:32]


class _Rows:
    """(count, D) float32 `values`, NaN where not known, kept in `folder`, if any, as files of `piece` rows."""

    def __init__(self, folder: Path | None, count: int, piece: int) -> None:
        self._folder, self._count, self._piece = folder, count, piece
        self._unwritten: set[int] = set()
        self.values = np.empty((count, 0), np.float32)
        for number in range(-(-count // piece) if folder else 0):
            with contextlib.suppress(OSError, ValueError, EOFError):  # absent or damaged: made again
                self._place(number * piece, np.load(self._file(number)))

    def _file(self, number: int) -> Path:
        assert self._folder  # whoever asks has looked
        return self._folder / f"{number:06}.npy"

    def _place(self, start: int, rows: np.ndarray) -> None:
        if not self.values.shape[1]:
            self.values = np.full((self._count, rows.shape[1]), np.nan, np.float32)
        self.values[start : start + len(rows)] = rows

    def known(self) -> np.ndarray:
        return np.flatnonzero(~np.isnan(self.values[:, :1]).any(axis=1)) if self.values.shape[1] else np.empty(0, int)

    def missing(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self._count), self.known())

    def put(self, start: int, rows: np.ndarray) -> None:
        """Rows that follow each other inside one piece; going on to the next piece writes the last."""
        number = start // self._piece
        if number not in self._unwritten:
            self.flush()
        self._place(start, rows)
        self._unwritten.add(number)

    def flush(self) -> None:
        for number in self._unwritten if self._folder else ():
            content = io.BytesIO()
            np.save(content, self.values[number * self._piece : (number + 1) * self._piece])
            write_atomically(self._file(number), content.getvalue())
        self._unwritten.clear()
