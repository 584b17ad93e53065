"""COCO: captions_SPLIT.json (sentences) and instances_SPLIT.json (the classes of a picture's objects, several each)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

from awase.datasets.folders import File, Folder, read_text, shown, version
from awase.datasets.rows import Layout, Names, Row, picture_at
from awase.datasets.splits import ALL, split_in
from awase.encoding.pictures import Picture
from awase.errors import DataError

FILE = re.compile(r"(captions|instances)_(.+)\.json", re.IGNORECASE)


def recognise(folder: Folder) -> Layout | None:
    """Annotation files here or in annotations/; what two files tell of one split is put together."""
    place = next(
        (f for f in (folder, folder.folders.get("annotations")) if f and any(map(FILE.fullmatch, f.files))), None
    )
    if not place:
        return None
    splits: dict[str, list[File]] = {}
    for name, file in place.files.items():
        if match := FILE.fullmatch(name):
            splits.setdefault(match[2], []).append(file)
    return _layout(folder.name, folder, {split: (files, _places(place, split)) for split, files in splits.items()})


def open_annotations(folder: Folder, name: str, pictures: Folder | None = None) -> Layout:
    """The annotation file that a caller named. pictures: where its pictures are, if not beside it."""
    match = FILE.fullmatch(name)
    split = match[2] if match else split_in(name.rpartition(".")[0]) or ALL
    places = [pictures] if pictures else _places(folder, split)
    home = folder.above() if folder.name == "annotations" else folder
    return _layout((home or folder).name, folder, {split: ([folder.files[name]], places)})


def _layout(name: str, folder: Folder, splits: dict[str, tuple[list[File], list[Folder]]]) -> Layout:
    def classes() -> Names:
        found: dict[str, dict[str, str]] = {}
        for files, _ in splits.values():
            for file in files:
                found |= {category: {"en": category} for category in _categories(file).values()}
        return found

    readers = {split: partial(_rows, files, places) for split, (files, places) in splits.items()}
    return Layout(name, folder, readers, classes)


def _places(folder: Folder, split: str) -> list[Folder]:
    """Where the pictures of a split may be: beside the file, above, in images/, in SPLIT/ or in images/SPLIT/."""
    tops = [top for top in (folder, folder.above()) if top]
    tops += [top.folders["images"] for top in tops if "images" in top.folders]
    return [top.folders[split] for top in tops if split in top.folders] + tops


def _read(file: File) -> dict[str, Any]:
    return _parsed(file, version(file))


@lru_cache(maxsize=2)
def _parsed(file: File, _version: tuple[int, ...]) -> dict[str, Any]:
    name = shown(file)
    try:
        told = json.loads(read_text(file))
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{name} is not JSON ({problem}): download it again") from problem
    if not isinstance(told, dict) or not all(isinstance(told.get(key), list) for key in ("images", "annotations")):
        raise DataError(f'{name} is no COCO file: it holds no lists "images" and "annotations"')
    return told


def _categories(file: File) -> dict[Any, str]:
    try:
        return {category["id"]: str(category["name"]) for category in _read(file).get("categories") or []}
    except (KeyError, TypeError) as problem:
        raise DataError(f'{shown(file)}: a category has no "id" or "name"') from problem


def _rows(files: list[File], places: list[Folder]) -> Iterator[Row]:
    images: dict[Any, tuple[str, dict[str, Any], str]] = {}  # id -> file name, values, where
    lost: list[Row] = []
    for file in files:
        try:
            lost += _gather(file, images)
        except (KeyError, TypeError, AttributeError) as problem:
            raise DataError(f"{shown(file)}: an image or annotation has no usable {problem}") from problem
    for name, values, where in images.values():
        picture, places = _picture(name, places)
        values = {column: list(dict.fromkeys(v)) if column == "label" else v for column, v in values.items()}
        yield Row(name, picture, where, values)
    yield from lost


def _gather(file: File, images: dict[Any, tuple[str, dict[str, Any], str]]) -> list[Row]:
    """Adds what one file tells of each image; returns the annotations of images that it does not list."""
    told, categories, lost = _read(file), _categories(file), []
    for image in told["images"]:
        values = images.setdefault(image["id"], (str(image["file_name"]), {}, f"{shown(file)} image {image['id']}"))[1]
        if categories:
            values.setdefault("label", [])
    for number, annotation in enumerate(told["annotations"]):
        where = f"{shown(file)} annotation {annotation.get('id', number)}"
        if annotation["image_id"] not in images:
            lost.append(Row(f"image {annotation['image_id']}", None, where, {}))
            continue
        values = images[annotation["image_id"]][1]
        if "caption" in annotation:
            values.setdefault("captions", []).append(annotation["caption"])
        elif annotation["category_id"] not in categories:
            raise DataError(f"{where} has the category {annotation['category_id']}, which the file does not list")
        else:
            values["label"].append(categories[annotation["category_id"]])
    return lost


def _picture(name: str, places: list[Folder]) -> tuple[Picture | None, list[Folder]]:
    """The picture, and the places with the one that had it first."""
    for place in places:
        if found := picture_at(place, name):
            return found, [place, *(other for other in places if other is not place)]
    return None, places
