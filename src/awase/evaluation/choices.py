"""Pictures with one right caption and wrong ones beside it: made from captioned data, or read from published tests.

    exchanged      any captioned data, by the rules of `exchanges`
    read_aro       ARO, VG-Relation and VG-Attribution (Yuksekgonul et al., 2023, arXiv:2210.01936)
    read_sugarcrepe  SugarCrepe (Hsieh et al., 2023, arXiv:2306.14610), one of its seven files or the folder of them
    read_winoground  Winoground (Thrush et al., 2022, arXiv:2204.03162): pairs of pictures with pairs of captions
    read_published   one of these three, told by what its file holds

Knows nothing of models or scores.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from awase.datasets.captioned import Captioned
from awase.datasets.hashing import content_of
from awase.encoding.pictures import Picture, open_picture
from awase.errors import DataError, PictureError, UsageError
from awase.evaluation.exchanges import false_captions


@dataclass(frozen=True)
class Choice:
    """A picture, the caption that is true of it and one or more that are not. kind: what they differ in. family: of
    several kinds, "" for none."""

    picture: Picture
    right: str
    wrong: tuple[str, ...]
    kind: str
    family: str = ""


@dataclass(frozen=True)
class Twins:
    """Two pictures and two captions, the first of the first and the second of the second."""

    pictures: tuple[Picture, Picture]
    captions: tuple[str, str]


@dataclass(frozen=True)
class Crop:
    """A part of a picture file, cut out each time that it is opened. box: left, top, width, height in pixels."""

    path: Path
    box: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        return f"{self.path} at {self.box}"

    @property
    def content(self) -> bytes:
        """What it depends on, for whoever keeps vectors of it."""
        return hashlib.sha256(content_of(self.path) + str(self.box).encode()).digest()

    def open(self, mode: str = "rb") -> BinaryIO:
        left, top, width, height = self.box
        picture, file = open_picture(self.path).convert("RGB"), io.BytesIO()
        right, bottom = min(left + width, picture.width), min(top + height, picture.height)
        if left >= right or top >= bottom:
            raise PictureError(self.name, f"lies outside its {picture.width} x {picture.height} pixels", "mend the box")
        picture.crop((left, top, right, bottom)).save(file, "PNG")
        file.seek(0)
        return file


def exchanged(data: Captioned) -> list[Choice]:
    """A choice for each caption and each kind of change that its words allow."""
    return [
        Choice(data.pictures[owner], caption, (wrong,), kind)
        for caption, owner in zip(data.captions, data.owners, strict=True)
        for kind, wrong in false_captions(caption).items()
    ]


def read_published(path: str | PathLike[str], pictures: str | PathLike[str] | None) -> list[Choice] | list[Twins]:
    """ARO's or SugarCrepe's file (or SugarCrepe's folder) with the folder of its pictures, or Winoground's folder,
    which brings them. Raises DataError for anything else, UsageError where a folder of pictures has to be given."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give ARO's or SugarCrepe's file, or Winoground's folder")
    if (path / "examples.jsonl").is_file():
        return read_winoground(path)
    if pictures is None:
        raise UsageError(f"{path} names pictures that lie elsewhere: give their folder, --pictures DIR")
    if path.is_file() and isinstance(_json(path), list):
        return read_aro(path, pictures)
    return read_sugarcrepe(path, pictures)


def read_aro(path: str | PathLike[str], pictures: str | PathLike[str]) -> list[Choice]:
    """ARO's JSON and the folder of Visual Genome's pictures; each is cut to the box of the pair it is about.

    kind: the relation, or the two attributes."""
    choices = []
    for row in _read_json(Path(path), list):
        sides = [_get(row, key, path, (int, float)) for key in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")]
        if not all(map(math.isfinite, sides)):  # JSON as Python reads it has NaN and Infinity
            raise DataError(f"{path}: {row.get('image_path')!r} has the box {sides}, whose sides are no numbers")
        left, top, width, height = (int(side) for side in sides)
        if min(left, top) < 0 or min(width, height) < 1:
            raise DataError(f"{path}: {row.get('image_path')!r} has the box {sides}, which holds nothing")
        attributes = row.get("attributes")
        kind = row.get("relation_name") or (" and ".join(map(str, attributes)) if attributes else "all")
        crop = Crop(_inside(pictures, _get(row, "image_path", path)), (left, top, width, height))
        choices.append(Choice(crop, _get(row, "true_caption", path), (_get(row, "false_caption", path),), str(kind)))
    return choices


def read_sugarcrepe(path: str | PathLike[str], pictures: str | PathLike[str]) -> list[Choice]:
    """One of SugarCrepe's files or a folder of them, and the folder of COCO's val2017 pictures. kind: the file, as
    replace_obj; family: replace."""
    path = Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .json; SugarCrepe's seven files (add_obj.json, ...) are expected")
    return [
        Choice(
            _inside(pictures, _get(row, "filename", file)),
            _get(row, "caption", file),
            (_get(row, "negative_caption", file),),
            file.stem,
            file.stem.partition("_")[0],
        )
        for file in files
        for row in _read_json(file, dict).values()
    ]


def read_winoground(folder: str | PathLike[str]) -> list[Twins]:
    """A folder with examples.jsonl and images/, as the authors give it out."""
    path = Path(folder) / "examples.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, ValueError, RecursionError) as problem:
        raise DataError(f"{path} cannot be read: {problem}; Winoground's examples.jsonl is expected") from problem
    return [
        Twins(
            (_image(path.parent, _get(row, "image_0", path)), _image(path.parent, _get(row, "image_1", path))),
            (_get(row, "caption_0", path), _get(row, "caption_1", path)),
        )
        for row in lines
    ]


def _image(folder: Path, name: str) -> Path:
    return _inside(folder / "images", name if Path(name).suffix else f"{name}.png")


def _inside(folder: str | PathLike[str], name: str) -> Path:
    """A picture below a folder: a file from a stranger does not choose others of this machine's."""
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise DataError(f"a picture is called {name!r}, which lies outside {folder}; a path below it is expected")
    return Path(folder) / name


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise DataError(f"{path} cannot be read: {problem}; give the JSON file that its authors publish") from problem


def _read_json(path: Path, kind: type) -> Any:
    found = _json(path)
    if not isinstance(found, kind):
        raise DataError(f"{path} holds a {type(found).__name__}; a {kind.__name__} of rows is expected")
    return found


def _get(row: Any, key: str, path: str | PathLike[str], kind: type | tuple[type, ...] = str) -> Any:
    if not isinstance(row, dict) or key not in row:
        raise DataError(f"{path}: a row has no {key!r}; is this the file of another test?")
    if not isinstance(row[key], kind):
        raise DataError(f"{path}: {key!r} is {row[key]!r} in a row; is this the file of another test?")
    return row[key]


def kinds_of(choices: Sequence[Choice]) -> list[str]:
    """The kinds, in the order in which they first occur."""
    return list(dict.fromkeys(choice.kind for choice in choices))
