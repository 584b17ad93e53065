"""Filters as conditions of SQL, their values always parameters; and how a row is written for them to look at."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Sequence
from typing import Any

from awase.errors import UsageError
from awase.tasks.search.store import Circle, Filter, Span

EARTH = 6371.0  # kilometres, mean radius
_TYPES = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff", "heif": "heic", "hif": "heic", "pnm": "ppm"}
_MEASURES = {"bytes": "size", "pixels": "width * height", "side": "max(width, height)"}


def condition(filters: Sequence[Filter]) -> tuple[str, list[Any]]:
    """A WHERE clause without its WHERE, and its parameters."""
    clauses, values = [], []
    for one in filters:
        clause, its = _CLAUSES[one.kind](one.value)
        clauses.append(f"NOT coalesce({clause}, 0)" if one.without else f"({clause})")
        values += its
    return " AND ".join(clauses) or "1", values


def folder_text(path: str) -> str:
    """The folders on the way to a picture as filters compare them: /a/b/, letter case and Unicode form aside."""
    return _comparable(os.path.dirname(path))


def distance(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Kilometres on the sphere between two places in degrees (haversine)."""
    north, east = math.radians(other_latitude - latitude), math.radians(other_longitude - longitude)
    straight = math.cos(math.radians(latitude)) * math.cos(math.radians(other_latitude)) * math.sin(east / 2) ** 2
    return 2 * EARTH * math.asin(min(1.0, math.sqrt(math.sin(north / 2) ** 2 + straight)))


def _comparable(path: str) -> str:
    text = unicodedata.normalize("NFC", _valid(path)).replace(os.sep, "/").casefold().strip("/")
    return f"/{text}/" if text else "/"


def _valid(text: str) -> str:
    """As SQLite can compare it: names of files, and so what is typed, can be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _folder(value: Any) -> tuple[str, list[Any]]:
    if not value.strip("/" + os.sep):
        raise UsageError(f"folder:{value}: give the name of a folder")
    value = os.path.expanduser(value)
    within = _comparable(value)
    if os.path.isabs(value):
        return "substr(folder, 1, ?) = ?", [len(within), within]
    return _part_of("folder"), [within]


def _part_of(column: str) -> str:
    return f"instr({column}, ?) > 0"


def _camera(value: Any) -> tuple[str, list[Any]]:
    return _part_of("lower(camera)"), [_valid(value.lower())]


def _type(value: Any) -> tuple[str, list[Any]]:
    name = _valid(value.lower().lstrip("."))
    return "lower(format) = ?", [_TYPES.get(name, name)]


def _size(span: Any) -> tuple[str, list[Any]]:
    assert isinstance(span, Span)  # Filter holds it
    return f"{_MEASURES[span.of]} BETWEEN ? AND ?", [
        0 if span.least is None else span.least,
        math.inf if span.most is None else span.most,
    ]


def _near(circle: Any) -> tuple[str, list[Any]]:
    assert isinstance(circle, Circle)
    return "distance(?, ?, latitude, longitude) <= ?", [circle.latitude, circle.longitude, circle.kilometres]


_CLAUSES = {
    "folder": _folder,
    "after": lambda value: ("moment >= ?", [value]),
    "before": lambda value: ("moment < ?", [value]),
    "camera": _camera,
    "type": _type,
    "size": _size,
    "near": _near,
}
