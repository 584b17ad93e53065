"""Pictures listed in tables: Hugging Face's imagefolder (metadata.jsonl, .csv or .parquet beside the pictures), and
CSV, TSV, JSON Lines or Parquet files with a column of picture paths, one file a split or a column "split"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

from awase.datasets.folders import File, Folder, shown
from awase.datasets.layouts.records import SUFFIXES, Cell, read_records
from awase.datasets.rows import Layout, Row, picture_at, plain
from awase.datasets.splits import ALL, kind_of, split_in
from awase.encoding.pictures import is_picture_name
from awase.errors import DataError

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
# Columns that hold the picture or its path, the likeliest first.
PICTURE_COLUMNS = (
    *("file_name", "filename", "filepath", "file_path", "file", "image_path", "image_file", "image", "img", "img_path"),
    *("picture", "path", "photo", "image_name", "image_url", "url"),
)
PICTURE_FOLDERS = ("images", "imgs", "pictures", "photos")  # beside a table that names pictures by their file only

Reader = Callable[[], Iterator[Row]]


def recognise_metadata(folder: Folder) -> Layout | None:
    """SPLIT/metadata.jsonl, or one metadata.jsonl for all the pictures below."""
    if here := _metadata_of(folder):
        return Layout(folder.name, folder, _by_split(partial(_with_unlisted, folder, here)))
    tables = {name: (inner, _metadata_of(inner)) for name, inner in folder.folders.items() if kind_of(name)}
    splits = {name: partial(_with_unlisted, inner, table) for name, (inner, table) in tables.items() if table}
    return Layout(folder.name, folder, splits) if splits else None


def recognise_tables(folder: Folder) -> Layout | None:
    """train.csv, test.csv, ...; or else one table, the only one here that lists pictures that are there."""
    tables = {name: file for name, file in folder.files.items() if name.lower().endswith(SUFFIXES)}
    splits: dict[str, list[File]] = {}
    for name, file in tables.items():
        if (split := split_in(name.rpartition(".")[0])) and _lists_pictures(folder, file):
            splits.setdefault(split, []).append(file)
    if splits:
        readers = {split: partial(_all_rows, folder, files) for split, files in splits.items()}
        return Layout(folder.name, folder, readers)
    listing = [file for file in tables.values() if _lists_pictures(folder, file)]
    return Layout(folder.name, folder, _by_split(partial(_rows, folder, listing[0]))) if len(listing) == 1 else None


def open_table(folder: Folder, name: str, pictures: Folder | None = None) -> Layout:
    """The table that a caller named. pictures: where its pictures are, if not beside it."""
    stem = name.rpartition(".")[0]
    splits = _by_split(partial(_rows, folder, folder.files[name], pictures))
    if list(splits) == [ALL] and (split := split_in(stem)):
        return Layout(folder.name, folder, {split: splits[ALL]})
    return Layout(folder.name if stem == "metadata" else stem, folder, splits)


def _metadata_of(folder: Folder) -> File | None:
    return next((folder.files[name] for name in METADATA if name in folder.files), None)


def _lists_pictures(folder: Folder, table: File) -> bool:
    """Whether a table that may be anything begins with a picture that is there."""
    try:
        first = next(_rows(folder, table), None)
    except DataError:
        return False
    return first is not None and first.picture is not None


# ---- rows ------------------------------------------------------------------------------------------------------------


def _rows(folder: Folder, table: File, pictures: Folder | None = None) -> Iterator[Row]:
    places = (
        [pictures] if pictures else [folder, *(f for n, f in folder.folders.items() if n.lower() in PICTURE_FOLDERS)]
    )
    column = None
    for where, values in read_records(table):
        column = column or _picture_column(values, where)
        given = values.pop(column, None)
        if isinstance(given, Cell):
            yield Row(given.name, given, where, values)
        elif isinstance(given, str) and given.strip():
            found = next((picture for place in places if (picture := picture_at(place, given.strip()))), None)
            yield Row(plain(given.strip()), found, where, values)
        else:
            yield Row(where, None, where, values)


def _all_rows(folder: Folder, tables: list[File]) -> Iterator[Row]:
    return chain.from_iterable(_rows(folder, table) for table in tables)


def _with_unlisted(folder: Folder, table: File) -> Iterator[Row]:
    """The table's rows, then the pictures that it does not mention, which have no values."""
    seen = set()
    for row in _rows(folder, table):
        seen.add(row.name)
        yield row
    for name, file in folder.walk():
        if name not in seen and is_picture_name(name.rpartition("/")[2]):
            yield Row(name, file, shown(file), {})


def _picture_column(values: Mapping[str, Any], where: str) -> str:
    for name in PICTURE_COLUMNS:
        if name in values:
            return name
    for name, value in values.items():
        if isinstance(value, Cell) or (isinstance(value, str) and is_picture_name(value.strip().rpartition("/")[2])):
            return name
    raise DataError(f"{where}: no column holds a picture's path; call it file_name. There are {', '.join(values)}")


def _by_split(read: Reader) -> dict[str, Reader]:
    """Split by the column "split", or by the first folder of the pictures' names where that is a split's name."""
    first = next(read(), None)
    if first is None or not _split_of(first):
        return {ALL: read}
    names = dict.fromkeys(_split_of(row) for row in read())
    return {name: partial(_of_split, read, name) for name in names if name}


def _split_of(row: Row) -> str | None:
    told = row.values.get("split")
    if isinstance(told, str):
        return told
    first = row.name.partition("/")[0]
    return first if kind_of(first) else None


def _of_split(read: Reader, split: str) -> Iterator[Row]:
    return (row for row in read() if _split_of(row) == split)
