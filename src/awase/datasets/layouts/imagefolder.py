"""ImageFolder: SPLIT/CLASS/pictures, or CLASS/pictures without splits (torchvision's name for it)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from awase.datasets.folders import Folder, shown
from awase.datasets.layouts.tables import METADATA
from awase.datasets.rows import Layout, Names, Row
from awase.datasets.splits import ALL, kind_of
from awase.encoding.pictures import is_picture_name

CLASSES_FILE = "classes.json"


def recognise(folder: Folder) -> Layout | None:
    """Classes are the folders of a split, whatever lies deeper; every split has the classes of all of them."""
    holding = {name: inner for name, inner in folder.folders.items() if _holds_pictures(inner)}
    if holding and all(map(kind_of, holding)):
        splits = {name: inner for name, inner in holding.items() if any(map(_holds_pictures, inner.folders.values()))}
    elif holding and (CLASSES_FILE in folder.files or _look_like_classes(list(holding.values()))):
        splits = {ALL: folder}
    else:
        return None
    if not splits:
        return None

    def classes() -> Names:
        return {name: {} for name in sorted({c for inner in splits.values() for c in _classes(inner)})}

    return Layout(folder.name, folder, {name: partial(_rows, inner) for name, inner in splits.items()}, classes)


def _look_like_classes(folders: list[Folder]) -> bool:
    """Whether most hold pictures themselves, and none is a data set of its own."""
    sets = any(
        any(name in folder.files for name in METADATA) or any(map(kind_of, folder.folders)) for folder in folders
    )
    return not sets and 2 * sum(map(_is_picture_folder, folders)) > len(folders)


def _rows(split: Folder) -> Iterator[Row]:
    for label in _classes(split):
        values = {"label": label}
        for name, file in split.folders[label].walk(f"{label}/"):
            if is_picture_name(name.rpartition("/")[2]):
                yield Row(name, file, shown(file), values)


def _classes(split: Folder) -> list[str]:
    """Folders with pictures, and folders with nothing at all: a class that nobody has filled yet."""
    return [n for n, inner in split.folders.items() if _holds_pictures(inner) or not (inner.files or inner.folders)]


def _holds_pictures(folder: Folder) -> bool:
    return _is_picture_folder(folder) or any(map(_holds_pictures, folder.folders.values()))


def _is_picture_folder(folder: Folder) -> bool:
    return any(map(is_picture_name, folder.files))
