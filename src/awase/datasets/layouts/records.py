"""Tables as records: JSON Lines, CSV, TSV and Parquet, a dictionary a row with the place where it stands."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, BinaryIO

from awase.datasets.folders import File, read_text, shown, version
from awase.errors import DataError, MissingExtra

SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
Record = tuple[str, dict[str, Any]]  # "metadata.jsonl line 7", its values


def read_records(file: File) -> Iterator[Record]:
    """Rows in order. Raises DataError that names the file and the line of what cannot be read."""
    name = shown(file).lower()
    if name.endswith(".parquet"):
        return _parquet(file)
    return _json_lines(file) if name.endswith(".jsonl") else _delimited(file)


def _json_lines(file: File) -> Iterator[Record]:
    for number, line in enumerate(read_text(file).split("\n"), 1):  # splitlines would break at U+2028 too
        if line.strip():
            where = f"{shown(file)} line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as problem:
                raise DataError(f"{where} is not JSON ({problem}): mend or remove the line") from problem
            if not isinstance(values, dict):
                raise DataError(f'{where} is no JSON object: each line holds {{"file_name": ..., ...}}')
            yield where, values


def _delimited(file: File) -> Iterator[Record]:
    """Comma, tab or semicolon: whichever the header has most of."""
    text = read_text(file)
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",\t;", key=header.count), strict=True)
    try:
        for values in reader:
            where = f"{shown(file)} line {reader.line_num}"
            if None in values:
                raise DataError(f"{where} has more values than the header has columns: quote values that hold commas")
            yield where, values
    except csv.Error as problem:
        where = f"{shown(file)} line {reader.reader.line_num}"
        raise DataError(f"{where} is not CSV ({problem}): mend or remove the line") from problem


# ---- Parquet ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A picture whose bytes stand in a Parquet file; read when opened, a row group at a time. name: another picture
    has another, whatever the file calls them."""

    name: str
    file: File = field(repr=False)
    column: str = field(repr=False)
    group: int = field(repr=False)
    row: int = field(repr=False)

    def open(self, mode: str = "rb") -> BinaryIO:
        with _lock:  # so that two threads do not read one row group twice
            return io.BytesIO(_pictures(self.file, version(self.file), self.column, self.group)[self.row].as_py())

    def told_apart(self) -> Cell:
        """Named by its bytes too. The Hub often keeps only the last part of a path, "001.png" for each class; but one
        picture may stand in several rows, each with a caption."""
        digest = hashlib.sha256(self.open().read()).hexdigest()
        return replace(self, name=f"{self.name} ({digest[:16]})")


_lock = threading.Lock()


@lru_cache(maxsize=2)
def _pictures(file: File, _version: tuple[int, ...], column: str, group: int) -> Any:
    """The Arrow column of one row group's encoded pictures."""
    return _parquet_file(file).read_row_group(group, columns=[column]).column(0).combine_chunks().flatten()[0]


def _parquet(file: File) -> Iterator[Record]:
    """Columns as they are; one of structs with "bytes" and "path" (the Hub's pictures) becomes a column of `Cell`s."""
    try:
        table = _parquet_file(file)
        names = table.schema_arrow.names
        pictures = [name for name in names if _holds_pictures(table.schema_arrow.field(name).type)]
        columns = [name for name in names if name not in pictures]
        classes = _class_names(table)
        repeated = {name: _repeated_paths(table, name) for name in pictures}
        number = 0
        for group in range(table.num_row_groups):
            rows = table.read_row_group(group, columns=[*columns, *(f"{name}.path" for name in pictures)]).to_pylist()
            for row, values in enumerate(rows):
                number += 1
                where = f"{shown(file)} row {number}"
                for column in pictures:
                    path = (values[column] or {}).get("path")
                    cell = Cell(f"{shown(file)}/{path}" if path else where, file, f"{column}.bytes", group, row)
                    values[column] = cell.told_apart() if path in repeated[column] else cell
                for column, known in classes.items():
                    index = values[column]
                    values[column] = known[index] if isinstance(index, int) and 0 <= index < len(known) else None
                yield where, values
    except (MissingExtra, DataError):
        raise
    except Exception as problem:  # Arrow's own tree of errors, of which OSError and ValueError are only two
        raise DataError(f"{shown(file)} cannot be read as Parquet ({problem}): write or download it again") from problem


def _parquet_file(file: File) -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError as problem:
        raise MissingExtra("reading .parquet", "parquet") from problem
    return parquet.ParquetFile(file.open("rb"))


def _holds_pictures(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind)) and {"bytes", "path"} <= {kind.field(i).name for i in range(len(kind))}


def _repeated_paths(table: Any, column: str) -> set[str]:
    """Paths that several rows name."""
    found = (table.read_row_group(group, columns=[f"{column}.path"]) for group in range(table.num_row_groups))
    counts = Counter((row[column] or {}).get("path") for part in found for row in part.to_pylist())
    return {path for path, count in counts.items() if path and count > 1}


def _class_names(table: Any) -> dict[str, list[str]]:
    """Columns of class numbers whose names the file tells, as `datasets` writes them into the schema's metadata."""
    told = json.loads((table.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    features = told.get("info", {}).get("features", {})
    return {n: f["names"] for n, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
