"""What every layout is read into before it becomes labelled or captioned pictures: rows, a picture with its values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from awase.datasets.folders import Folder
from awase.encoding.pictures import Picture, is_address
from awase.errors import PictureError

Names = Mapping[str, Mapping[str, str]]  # class -> language -> what it is called


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a data set, as the data tell it.

    name: what the data call the picture; equal names are one picture. picture: None where it is not there. where: the
    file and line, for messages. values: column -> value; "label" and "captions" where the layout itself knows them.
    error: why the whole row cannot be used."""

    name: str
    picture: Picture | None
    where: str
    values: Mapping[str, Any]
    error: PictureError | None = None


def no_classes() -> Names:
    return {}


@dataclass(frozen=True)
class Layout:
    """A data set found in a folder, not yet read.

    splits: name -> what reads its rows. classes: those that are known without reading a row, with their names if the
    layout has any (a COCO file has, folders have not). templates: language -> sentences, where the layout has any."""

    name: str
    folder: Folder
    splits: Mapping[str, Callable[[], Iterator[Row]]]
    classes: Callable[[], Names] = no_classes
    templates: Mapping[str, tuple[str, ...]] | None = None


def picture_at(folder: Folder, path: str) -> Picture | None:
    """The picture that a table of this folder names: below the folder, anywhere on disk for a table on disk, or an
    http(s) address; None where nothing is there."""
    if is_address(path):
        return path
    if found := folder.find(path):
        return found
    outside = folder.path / path if folder.path and "\0" not in path else None
    return outside if outside and os.path.isfile(outside) else None  # false too for names that no system takes


def plain(path: str) -> str:
    """A relative path with nothing superfluous in it, so that one picture has one name."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
