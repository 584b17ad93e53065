"""WebDataset: files of one stem are a sample (000.jpg, 000.txt, 000.cls, 000.json), in a folder or in many .tar files.

A sample that is damaged stops nothing: it is left out and told. A shard that is damaged is an error, as nobody knows
what it held.

Also as clip_benchmark writes it: SPLIT/0.tar, with classnames.txt and zeroshot_classification_templates.txt beside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from awase.datasets.folders import File, Folder, is_archive, open_inner, read_text, shown
from awase.datasets.rows import Layout, Names, Row
from awase.datasets.shard_index import Shard, index_beside, refuse_other
from awase.datasets.splits import ALL, kind_of, split_in
from awase.encoding.finding import printable
from awase.encoding.pictures import is_picture_name, name_of
from awase.errors import DataError, PictureError

SENTENCES, LABEL, VALUES = ("txt", "caption"), ("cls",), ("json",)
LOOK = 64  # files by which a folder is judged
LONGEST = 1 << 24  # bytes of one sample's text, all of which is held in memory

Source = Callable[[], Folder]


def recognise(folder: Folder) -> Layout | None:
    """Samples in this folder, in its .tar files, or in the .tar files of its splits."""
    splits: dict[str, list[Source]] = {}
    if _has_samples(folder):
        splits[ALL] = [lambda: folder]
    elif tars := _tars(folder):
        for name, source in tars.items():
            splits.setdefault(split_in(name.removesuffix(".tar")) or ALL, []).append(source)
    else:
        inner = {name: _sources(f) for name, f in folder.folders.items() if kind_of(name)}
        splits = {name: sources for name, sources in inner.items() if sources}
    if not splits:
        return None
    readers = {name: partial(_rows, sources) for name, sources in splits.items()}
    return Layout(folder.name, folder, readers, partial(_class_names, folder), _templates(folder))


def _sources(split: Folder) -> list[Source]:
    return [lambda: split] if _has_samples(split) else list(_tars(split).values())


def _tars(folder: Folder) -> dict[str, Source]:
    """Its shards by name, those that are missing included where shards.json lists them; none where there is no such
    list and the first .tar file is something else."""
    listed = index_beside(folder)
    names = [name for name in folder.files if name.endswith(".tar")]
    if not listed and not (names and _has_samples(open_inner(folder, names[0]))):
        return {}
    return {name: partial(_shard, folder, name, listed.get(name)) for name in sorted({*names, *listed})}


def _shard(folder: Folder, name: str, listed: Shard | None) -> Folder:
    if listed:
        refuse_other(folder.files.get(name), listed, folder.location)
    return open_inner(folder, name)


def _has_samples(folder: Folder) -> bool:
    """Whether most of the first pictures have a file of the same stem beside them."""
    files = (name for name, _ in folder.walk()) if is_archive(folder.location) else folder.files
    keys: dict[str, set[str]] = {}
    for name in islice(files, LOOK):
        key, kind = _parts(name)
        keys.setdefault(key, set()).add(kind)
    beside = [bool(kinds & {*SENTENCES, *LABEL, *VALUES}) for kinds in keys.values() if any(map(_is_picture, kinds))]
    return sum(beside) * 2 > len(beside)


def _parts(name: str) -> tuple[str, str]:
    """ "a/000.jpg" -> "a/000", "jpg"; the kind is all that follows the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return folder + slash + stem, kind.lower()


def _is_picture(kind: str) -> bool:
    return is_picture_name("x." + kind)


def _rows(sources: list[Source]) -> Iterator[Row]:
    for source in sources:
        folder = source()
        samples: dict[str, dict[str, File]] = {}
        for name, file in folder.walk():
            key, kind = _parts(name)
            samples.setdefault(key, {})[kind] = file
        for key, files in samples.items():
            if row := _row(f"{folder.location}/{key}", files):
                yield row
        for key in dict.fromkeys(_parts(name)[0] for name in folder.outside):
            yield _bad(f"{folder.location}/{key}", "leads out of its archive")


def _row(key: str, files: dict[str, File]) -> Row | None:
    picture = next((file for kind, file in files.items() if _is_picture(kind)), None)
    try:
        values = _values(files)
    except DataError as problem:
        return _bad(key, str(problem))
    if picture:
        return Row(key, picture, key, values)
    return _bad(key, "has no picture (or a link or a device in its place)") if values else None


def _bad(key: str, reason: str) -> Row:
    return Row(key, None, key, {}, PictureError(name_of(key), printable(reason), "mend the sample or take it out"))


def _values(files: dict[str, File]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for kind, file in files.items():
        if kind in VALUES:
            values |= _object(file)
        elif kind in LABEL:
            values["label"] = read_text(file, LONGEST).strip()
        elif kind in SENTENCES:
            lines = [line.strip() for line in read_text(file, LONGEST).splitlines() if line.strip()]
            values.setdefault("captions", lines)  # the JSON object may know more of them
    return values


def _object(file: File) -> dict[str, Any]:
    try:
        values = json.loads(read_text(file, LONGEST))
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{shown(file)} is not JSON ({problem})") from problem
    if not isinstance(values, dict):
        raise DataError(f"{shown(file)} is no JSON object")
    return values


# ---- clip_benchmark's files beside -----------------------------------------------------------------------------------


def _class_names(folder: Folder) -> Names:
    return {str(number): {"en": name} for number, name in enumerate(_lines(folder, "classnames.txt"))}


def _templates(folder: Folder) -> dict[str, tuple[str, ...]] | None:
    lines = _lines(folder, "zeroshot_classification_templates.txt")
    return {"en": tuple(line.replace("{c}", "{}") for line in lines)} if lines else None


def _lines(folder: Folder, name: str) -> list[str]:
    file = folder.files.get(name)
    return [line.strip() for line in read_text(file).splitlines() if line.strip()] if file else []
