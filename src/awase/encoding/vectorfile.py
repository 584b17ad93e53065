"""A file of vectors that grows batch by batch, survives being killed, and appears under its name only when whole.

While it grows, `OUT.partial/` holds `vectors.f32` (rows of float32, appended first) and `rows.jsonl` (one line per row,
appended after: the line is what makes a row valid), beside `stamp.json`, which says what made them. The next run with
the same stamp goes on from there; another stamp starts afresh. Nothing here holds all vectors in memory.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from awase.errors import MissingExtra, UsageError

ROWS_PER_CHUNK = 4096
ENDINGS = (".npz", ".parquet")


class VectorFile:
    """Rows of `dimension` float32 values, each with its source, that become `out` (.npz or .parquet) in `finish`.

    stamp: JSON-ready facts about what makes the vectors; rows made under another stamp are discarded.
    Raises UsageError for an ending that cannot be written or a folder that does not exist."""

    def __init__(self, out: Path, stamp: dict[str, Any], dimension: int) -> None:
        if out.suffix not in ENDINGS:
            raise UsageError(f"{out}: vectors are written as {' or '.join(ENDINGS)}; give --out such a name")
        if out.suffix == ".parquet":
            _pyarrow()
        if not out.parent.is_dir():
            raise UsageError(f"{out.parent}: no such folder; make it, or choose another name for --out")
        self.out, self.stamp, self.dimension = out, stamp, dimension
        self._folder = out.with_name(out.name + ".partial")
        self._rows: dict[str, tuple[int, Any]] = {}  # source -> (row, identity of the file when it was encoded)
        self._open()

    def _open(self) -> None:
        stamp = self._folder / "stamp.json"
        if not (stamp.is_file() and _read_json(stamp) == self.stamp):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            stamp.write_text(json.dumps(self.stamp))
        vectors, lines = self._folder / "vectors.f32", self._folder / "rows.jsonl"
        vectors.touch()
        lines.touch()
        whole = vectors.stat().st_size // self._row_bytes
        kept = 0
        with lines.open("rb+") as file:
            valid = 0
            for line in file:
                if kept == whole or not line.endswith(b"\n"):
                    break
                source, identity = json.loads(line)
                self._rows[source] = (kept, identity)
                kept += 1
                valid += len(line)
            file.truncate(valid)
        os.truncate(vectors, kept * self._row_bytes)
        self._count = kept
        self._vectors, self._lines = vectors.open("ab"), lines.open("a", encoding="utf-8")

    @property
    def _row_bytes(self) -> int:
        return 4 * self.dimension

    def holds(self, source: str) -> bool:
        """Whether an earlier run encoded this source and the file has not changed since."""
        found = self._rows.get(source)
        return found is not None and found[1] == _identity(source)

    def append(self, sources: Sequence[str], vectors: np.ndarray) -> None:
        """Adds one row per source. Once this returns, killing the process does not lose them."""
        self._vectors.write(np.ascontiguousarray(vectors, np.float32).tobytes())
        self._vectors.flush()
        for source in sources:
            identity = _identity(source)
            self._rows[source] = (self._count, identity)
            self._count += 1
            self._lines.write(json.dumps([source, identity]) + "\n")
        self._lines.flush()

    def finish(self, sources: Iterable[str], texts: Sequence[str], text_vectors: np.ndarray) -> int:
        """Writes the rows of `sources`, in that order, and the texts; returns how many pictures it wrote."""
        self.close()
        kept = [source for source in sources if source in self._rows]
        whole = self.out.with_name(f".{self.out.name}.whole")
        write = _write_npz if self.out.suffix == ".npz" else _write_parquet
        try:
            with (self._folder / "vectors.f32").open("rb") as file:
                chunks = _in_order(file, [self._rows[source][0] for source in kept], self.dimension)
                write(whole, self.stamp, kept, chunks, texts, text_vectors)
            os.replace(whole, self.out)
        finally:
            whole.unlink(missing_ok=True)
        shutil.rmtree(self._folder)
        return len(kept)

    def close(self) -> None:
        """Leaves the rows for a later run."""
        self._vectors.close()
        self._lines.close()


def _identity(source: str) -> list[int] | None:
    """Size and time of a file, by which a later run tells whether it changed; None for an address."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
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
