"""A file of vectors that grows batch by batch, survives being killed, and appears under its name only when whole.

While it grows, `OUT.partial/` holds `vectors.f32` (rows of float32, appended first) and `rows.jsonl` (one line per row,
appended after: the line is what makes a row valid), beside `stamp.json`, which says what made them, and `lock`, which
lets one run at a time write. The next run with the same stamp goes on from there; another stamp starts afresh. Nothing
here holds all vectors in memory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from awase.encoding.locking import FolderLock
from awase.errors import AwaseError, MissingExtra, UsageError

ROWS_PER_CHUNK = 512  # a megabyte of vectors at a time
ENDINGS = (".npz", ".parquet")
UNIT = 1e-3  # how far from 1 the length of a vector may be; lost blocks read as zeros


def check_out(out: Path) -> None:
    """Raises UsageError, or AwaseError with the system's reason, for a name that vectors cannot be written to."""
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(f"{out}: vectors are written as {' or '.join(ENDINGS)}; give --out such a name")
    if out.suffix.lower() == ".parquet":
        _pyarrow()
    with _writing(out):
        if out.is_dir():
            raise UsageError(f"{out}: is a folder; give --out the name of a file")
        if not out.parent.is_dir():
            raise UsageError(f"{out.parent}: no such folder; make it, or choose another name for --out")
        if not os.access(out.parent, os.W_OK):
            raise UsageError(f"{out.parent}: this folder may not be written to; choose another place for --out")
        if _partial(out).is_file():
            raise UsageError(f"{_partial(out)}: is a file where a folder of rows is needed; move it, or change --out")


class VectorFile:
    """Rows of `dimension` float32 values, each with its source, that become `out` (.npz or .parquet) in `finish`.

    stamp: JSON-ready facts about what makes the vectors; rows made under another stamp are discarded.
    Raises UsageError for a name that cannot be written (see `check_out`) and while another run writes the same file;
    every method raises AwaseError when the disk is full or refuses. What was appended stays for the next run."""

    def __init__(self, out: Path, stamp: dict[str, Any], dimension: int) -> None:
        check_out(out)
        self.out, self.stamp, self.dimension = out, stamp, dimension
        self._folder = _partial(out)
        self._rows: dict[str, int] = {}  # source -> its row
        self._identities: dict[str, Any] = {}  # of files that an earlier run encoded, as they were then
        self._seen: dict[str, Any] = {}  # identities of those asked about, before this run reads them
        self._room = 0  # bytes still to be written, as far as known
        with _writing(out):
            self._lock = FolderLock(self._folder)
            try:
                self._open()
            except OSError:
                self._lock.release()
                raise

    def _open(self) -> None:
        stamp, vectors, lines = (self._folder / name for name in ("stamp.json", "vectors.f32", "rows.jsonl"))
        self._files = (lines, vectors, stamp)
        vectors.touch()
        lines.touch()
        if not (stamp.is_file() and _read_json(stamp.read_bytes()) == self.stamp):
            os.truncate(lines, 0)
            os.truncate(vectors, 0)
            stamp.write_text(json.dumps(self.stamp))
        sound = _sound_rows(vectors, self.dimension)
        self._count, valid = 0, 0
        with lines.open("rb") as file:
            for line in file:
                entry = _entry(line)
                if entry is None or self._count == len(sound):
                    break
                source, identity = entry
                if sound[self._count]:
                    self._rows[source], self._identities[source] = self._count, identity
                else:
                    self._rows.pop(source, None)
                self._count += 1
                valid += len(line)
        os.truncate(lines, valid)
        os.truncate(vectors, self._count * self._row_bytes)
        self._vectors, self._lines = vectors.open("ab"), lines.open("a", encoding="utf-8")

    @property
    def _row_bytes(self) -> int:
        return 4 * self.dimension

    def holds(self, source: str) -> bool:
        """Whether an earlier run encoded this source and the file has not changed since."""
        return self._holds(source, _identity(source))

    def _holds(self, source: str, identity: Any) -> bool:
        return source in self._rows and source in self._identities and self._identities[source] == identity

    def missing(self, sources: Sequence[str]) -> list[str]:
        """The sources that the file does not hold. Ask before reading them: one that changes from here on is taken for
        changed by the next run. Raises AwaseError if the disk has no room for them all."""
        self._seen = {source: _identity(source) for source in sources}
        todo = [source for source in sources if not self._holds(source, self._seen[source])]
        self._room = (len(todo) + len(sources)) * self._row_bytes  # the rows, then all of them again in `finish`
        with _writing(self.out, self._room):
            disk = shutil.disk_usage(self.out.parent)
            if disk.total > 0 and disk.free < self._room:  # a network drive may tell nothing: zeros
                raise OSError(errno.ENOSPC, "")
        return todo

    def append(self, sources: Sequence[str], vectors: np.ndarray) -> None:
        """Adds one row per source. Once this returns, killing the process does not lose them."""
        rows = np.ascontiguousarray(vectors, np.float32).tobytes()
        with _writing(self.out, max(self._room, len(rows))):
            self._vectors.write(rows)
            self._vectors.flush()
            for source in sources:
                self._rows[source] = self._count
                self._count += 1
                identity = self._seen[source] if source in self._seen else _identity(source)
                self._lines.write(json.dumps([source, identity]) + "\n")
            self._lines.flush()
        self._room -= len(rows)

    def finish(self, sources: Iterable[str], texts: Sequence[str], text_vectors: np.ndarray) -> int:
        """Writes the rows of `sources`, in that order, and the texts; returns how many pictures it wrote."""
        kept = [source for source in sources if source in self._rows]
        whole = self.out.with_name(f".{self.out.name}.whole")
        write = _write_npz if self.out.suffix.lower() == ".npz" else _write_parquet
        with _writing(self.out, len(kept) * self._row_bytes + text_vectors.nbytes):
            try:
                with (self._folder / "vectors.f32").open("rb") as file:
                    chunks = _in_order(file, [self._rows[source] for source in kept], self.dimension)
                    write(whole, self.stamp, kept, chunks, texts, text_vectors)
                os.replace(whole, self.out)
            finally:
                whole.unlink(missing_ok=True)
        self._count = 0  # they are in `out` now
        self.close()
        return len(kept)

    def close(self) -> None:
        """Lets another run write; leaves the rows for it, and no folder where there are none. May be called twice."""
        for file in (self._vectors, self._lines):
            with contextlib.suppress(OSError):  # what a full disk did not take was reported by `append`
                file.close()
        if self._lock.held and not self._count:
            for path in self._files:
                with contextlib.suppress(OSError):
                    path.unlink()
        self._lock.release()


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


@contextlib.contextmanager
def _writing(out: Path, room: int = 0) -> Iterator[None]:
    """Says in one line what the system has against writing `out`, which takes `room` more bytes at least."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            reason = problem.strerror or problem
            raise AwaseError(f"{out}: cannot be written ({reason}); give --out another name or place") from problem
        needed = f" (at least {max(room / 1e6, 0.1):,.1f} MB are needed)" if room else ""
        raise AwaseError(
            f"{out}: not enough space on the disk{needed}; make room and give the same command again: "
            "it goes on from the pictures that are done"
        ) from problem


def _sound_rows(path: Path, dimension: int) -> np.ndarray:
    """For every whole row of a file of float32, whether it is a vector of unit length: bool, (N,)."""
    sound = [np.empty(0, bool)]
    with path.open("rb") as file:
        while len(rows := np.frombuffer(file.read(ROWS_PER_CHUNK * 4 * dimension), np.uint8)) >= 4 * dimension:
            whole = rows[: len(rows) // (4 * dimension) * 4 * dimension].view(np.float32).reshape(-1, dimension)
            with np.errstate(all="ignore"):  # damaged rows can hold any number
                sound.append(np.abs(np.sqrt(np.einsum("nd,nd->n", whole, whole)) - 1) < UNIT)  # False for NaN
    return np.concatenate(sound)


def _entry(line: bytes) -> tuple[str, Any] | None:
    """Source and identity from a line of rows.jsonl; None for a torn or damaged one."""
    entry = _read_json(line) if line.endswith(b"\n") else None
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str):
        return entry[0], entry[1]
    return None


def _identity(source: str) -> list[int] | None:
    """Size and time of a file, by which a later run tells whether it changed; None for an address."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _in_order(file: Any, rows: list[int], dimension: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        wanted = rows[start : start + ROWS_PER_CHUNK]
        chunk = np.empty((len(wanted), dimension), np.float32)
        for at, row in enumerate(wanted):
            file.seek(row * 4 * dimension)
            chunk[at] = np.frombuffer(file.read(4 * dimension), np.float32)
        yield chunk


def _write_npz(
    path: Path,
    stamp: dict[str, Any],
    sources: list[str],
    chunks: Iterator[np.ndarray],
    texts: Sequence[str],
    text_vectors: np.ndarray,
) -> None:
    """Arrays `vectors`, `sources`, `texts`, `text_vectors` and `stamp` (JSON), as `numpy.load` reads them."""
    dimension = text_vectors.shape[1]
    longest = max(map(len, sources), default=1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _write_npy(archive, "vectors", "<f4", (len(sources), dimension), (chunk.tobytes() for chunk in chunks))
        names = (np.array(source, f"<U{longest}").tobytes() for source in sources)
        _write_npy(archive, "sources", f"<U{longest}", (len(sources),), names, zipfile.ZIP_DEFLATED)
        for name, array in (
            ("texts", np.array(list(texts), dtype=str)),
            ("text_vectors", np.asarray(text_vectors, np.float32)),
            ("stamp", np.array(json.dumps(stamp))),
        ):
            _write_npy(archive, name, array.dtype.str, array.shape, [array.tobytes()])


def _write_npy(
    archive: zipfile.ZipFile,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    parts: Iterable[bytes],
    compression: int = zipfile.ZIP_STORED,
) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy")
    entry.compress_type = compression
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        for part in parts:
            file.write(part)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as problem:
        raise MissingExtra("writing .parquet", "parquet") from problem
    return pyarrow


def _write_parquet(
    path: Path,
    stamp: dict[str, Any],
    sources: list[str],
    chunks: Iterator[np.ndarray],
    texts: Sequence[str],
    text_vectors: np.ndarray,
) -> None:
    """Columns `kind` ("picture" or "text"), `source` and `vector`; the stamp is in the schema's metadata."""
    pa = _pyarrow()
    vector = pa.list_(pa.float32(), text_vectors.shape[1])
    schema = pa.schema(
        [("kind", pa.string()), ("source", pa.string()), ("vector", vector)], metadata={"awase": json.dumps(stamp)}
    )

    def table(kind: str, names: Sequence[str], rows: np.ndarray) -> Any:
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float32()), type=vector)
        valid = [name.encode("utf-8", "backslashreplace").decode() for name in names]  # names of files can be any bytes
        return pa.table([pa.array([kind] * len(names)), pa.array(valid), values], schema=schema)

    with pa.parquet.ParquetWriter(path, schema) as writer:
        at = 0
        for chunk in chunks:
            writer.write_table(table("picture", sources[at : at + len(chunk)], chunk))
            at += len(chunk)
        if len(texts):
            writer.write_table(table("text", texts, text_vectors))
