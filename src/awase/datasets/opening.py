"""Opens data sets: finds the layout that a path holds and reads it into `Labelled` or `Captioned`.

A path may go on inside an archive ("data/domains.tar/domains/aid30") or name a hub data set ("hub:NAME").
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from awase.datasets.assembling import CAPTIONS, LABEL, assemble_captioned, assemble_labelled, classes_of
from awase.datasets.captioned import Captioned
from awase.datasets.columns import caption_columns, label_columns, language_of_column
from awase.datasets.definitions import definition as definition_of
from awase.datasets.folders import Folder, is_archive, open_folder, open_inner
from awase.datasets.labelled import Labelled
from awase.datasets.layouts import coco, hub, imagefolder, records, shards, tables
from awase.datasets.rows import Layout
from awase.datasets.splits import ALL, choose, kind_of
from awase.errors import DataError, UsageError

RECOGNISERS = (
    tables.recognise_metadata,
    coco.recognise,
    tables.recognise_tables,
    shards.recognise,
    imagefolder.recognise,
)
LOOK = 20_000
"""Rows of a split that `find_sets` reads to see its columns."""
MOST_LISTED = 8


@dataclass(frozen=True)
class Found:
    """A data set that is there. location: what `open_labelled` or `open_captioned` takes. columns: of classes, the one
    taken by default first (none where folders are the classes), or of sentences. languages: of the class names, or of
    the columns of sentences."""

    name: str
    location: str
    kind: Literal["labelled", "captioned"]
    splits: tuple[str, ...]
    columns: tuple[str, ...]
    languages: tuple[str, ...]


def find_sets(path: str | os.PathLike[str]) -> list[Found]:
    """Every data set that a folder or an archive holds, at any depth, archives in folders included; a set with both
    classes and sentences twice. Looks at names and tables, opens no picture. Raises DataError for what is damaged."""
    found = []
    for location, layout in _layouts(path, None):
        rows = [row for read in layout.splits.values() for row in islice(read(), LOOK)]
        classes, sentences, splits = label_columns(rows), caption_columns(rows), tuple(layout.splits)
        if classes:
            columns = tuple(classes) if classes != [LABEL] else ()
            _, names, _ = classes_of(layout, splits[0], rows, classes[0])
            found.append(Found(layout.name, location, "labelled", splits, columns, tuple(names)))
        if sentences:
            languages = tuple(dict.fromkeys(map(language_of_column, sentences)))
            found.append(Found(layout.name, location, "captioned", splits, tuple(sentences), languages))
    return found


def open_labelled(
    path: str | os.PathLike[str],
    split: str | None = None,
    definition: str | None = None,
    *,
    column: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
) -> Labelled:
    """Pictures with classes.

    path: a folder, an archive, a folder inside one, a table, a COCO file or "hub:NAME". split: its name, "val" finding
    "dev" too; None for test, or else validation, or else training. definition: the name of a published set
    (`definitions()`) whose names, templates and metric its classes get. column: of a table, the one that holds the
    class. pictures: the folder of a table's or COCO file's pictures, where it is not beside it.

    Raises DataError; what could be left out is told in `notes` instead."""
    layout = _only(path, pictures)
    known = definition_of(definition) if definition else None
    return assemble_labelled(layout, choose(layout.name, layout.splits, split), column, known)


def open_captioned(
    path: str | os.PathLike[str],
    split: str | None = None,
    column: str = CAPTIONS,
    *,
    pictures: str | os.PathLike[str] | None = None,
) -> Captioned:
    """Pictures with sentences; path, split and pictures as for `open_labelled`.

    column: which sentences, "captions_ja" say; where there are no "captions", the column that looks like it ("text",
    "caption") is taken, and `notes` tells. Raises DataError; what could be left out is told in `notes` instead."""
    layout = _only(path, pictures)
    return assemble_captioned(layout, choose(layout.name, layout.splits, split), column)


# ---- which layout ----------------------------------------------------------------------------------------------------


def _only(path: str | os.PathLike[str], pictures: str | os.PathLike[str] | None) -> Layout:
    found = list(islice(_layouts(path, pictures), MOST_LISTED + 1))
    refuse_no_set(path, found)
    if len(found) > 1:
        there = ", ".join(location for location, _ in found[:MOST_LISTED]) + (
            ", ..." if len(found) > MOST_LISTED else ""
        )
        raise DataError(f"{os.fspath(path)} holds several data sets: give the path of one of them. There are {there}")
    return found[0][1]


def refuse_no_set(path: str | os.PathLike[str], found: Sequence[object]) -> None:
    if not found:
        raise DataError(
            f"{os.fspath(path)} holds no data set of a known layout: SPLIT/CLASS/pictures, metadata.jsonl beside "
            "pictures, WebDataset shards, COCO's captions_*.json or instances_*.json, a table with a column of pictures"
        )


def _layouts(path: str | os.PathLike[str], pictures: str | os.PathLike[str] | None) -> Iterator[tuple[str, Layout]]:
    """Every set at or below a path: what opens it again, and its layout."""
    given = os.fspath(path)
    if given.startswith(hub.PREFIX):
        yield given, hub.open_hub(given)
        return
    folder, file = open_folder(given)
    if file:
        yield given, _placed(_of_file(folder, file, pictures))
        return
    if pictures:
        raise UsageError(f"pictures= says where the pictures of one table or COCO file are, and {given} is a folder")
    yield from _search(folder)


def _of_file(folder: Folder, name: str, pictures: str | os.PathLike[str] | None) -> Layout:
    place = open_folder(pictures)[0] if pictures else None
    if name.lower().endswith(records.SUFFIXES):
        return tables.open_table(folder, name, place)
    if name.lower().endswith(".json"):
        return coco.open_annotations(folder, name, place)
    raise DataError(
        f"{folder.location}/{name} is no table (.jsonl, .csv, .tsv, .parquet), COCO file (.json) or archive"
    )


def _search(folder: Folder) -> Iterator[tuple[str, Layout]]:
    for recognise in RECOGNISERS:
        if layout := recognise(folder):
            yield folder.location, _placed(layout)
            return
    for inner in folder.folders.values():
        yield from _search(inner)
    for name, file in folder.files.items():
        if is_archive(name) and isinstance(file, Path):
            yield from _search(open_inner(folder, name))


def _placed(layout: Layout) -> Layout:
    """A folder that is itself a split ("flickr8k/dev") or "data" has its set's name from the folder above."""
    above = layout.folder.above()
    if above and kind_of(layout.name) and list(layout.splits) == [ALL]:
        return replace(layout, name=above.name, splits={layout.name: layout.splits[ALL]})
    return replace(layout, name=above.name) if above and layout.name == layout.folder.name == "data" else layout
