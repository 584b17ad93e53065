"""Which column of a table is what: the class, the sentences, a group. By name first; values only confirm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from awase.datasets.rows import Row
from awase.errors import DataError

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?")
"""A language as BCP 47 writes it: "en", "ja", "pt-BR"."""
LABELS = (
    *("label", "labels", "class", "classes", "class_name", "classname", "category", "categories", "cls", "target"),
    *("fine_label", "label_name"),
)
_SENTENCES = re.compile(r"(captions?|texts?|sentences?|descriptions?|title|alt|alt_text)(_.+)?")
LEAST_GROUPS, MOST_GROUPS = 2, 20


def label_columns(rows: Iterable[Row]) -> list[str]:
    """Columns that are surely classes: of a usual name ("label", "category"), or with their names in English beside
    ("type" with "type_en"). A base of "name_en" alone, "name", counts too."""
    values = _example(rows)
    known = [name for name in LABELS if name in values]
    bases = [name.removesuffix("_en") for name in values if name.endswith("_en") and isinstance(values[name], str)]
    return known + [base for base in bases if base not in known and not _SENTENCES.fullmatch(base)]


def caption_columns(rows: Iterable[Row]) -> list[str]:
    """Columns of sentences, by name: "captions", "caption", "text", ..., alone or with a language ("captions_ja")."""
    found = [name for name, value in _example(rows).items() if _SENTENCES.fullmatch(name) and _is_text(value)]
    return sorted(found, key=lambda name: (not name.startswith("caption"), len(name)))


def language_of_column(column: str) -> str:
    """ "captions_ja" -> "ja"; English where the name does not say."""
    last = column.rpartition("_")[2]
    return last if "_" in column and len(last) == 2 and LANGUAGE.fullmatch(last) else "en"


def columns(rows: Iterable[Row]) -> list[str]:
    return list(_example(rows))


def _example(rows: Iterable[Row]) -> dict[str, Any]:
    """Every column with the first value that says something."""
    values: dict[str, Any] = {}
    for row in rows:
        for name, value in row.values.items():
            if values.get(name) in (None, "", []):
                values[name] = value
    return values


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and isinstance(value[0], str))


# ---- values ----------------------------------------------------------------------------------------------------------


def labels_of(row: Row, column: str) -> list[str] | str | None:
    """The class of a row, or its classes where the value is a list; None where it has none.

    Numbers become their digits. Raises DataError for values that are no class."""
    value = row.values.get(column)
    if value is None:
        value = row.values.get(f"{column}_en")
    if isinstance(value, list):
        return [str(_one(item, row, column)) for item in value]
    return _one(value, row, column)


def _one(value: object, row: Row, column: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)):
        raise DataError(f"{row.where}: column {column!r} holds {value!r}, which is no class")
    return str(value).strip() or None


def sentences_of(row: Row, column: str) -> list[str]:
    """The sentences of a row: a string is one, a list several; a cell of CSV may hold a JSON list. Blank ones go."""
    value = row.values.get(column)
    if isinstance(value, str) and value.startswith("[") and value.rstrip().endswith("]"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):  # a sentence in brackets, then
            value = [value]
    sentences = value if isinstance(value, list) else [] if value is None else [value]
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise DataError(f"{row.where}: column {column!r} holds {sentence!r}, which is no sentence")
    return [sound(sentence.strip()) for sentence in sentences if sentence.strip()]


def sound(text: str) -> str:
    """The same as valid Unicode: halves of surrogate pairs, which broken JSON and names of files bring, become "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def groups(rows: Sequence[Row], used: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Columns that put pictures into a few groups (2 to 20 different words or numbers): attribute -> value of each row,
    "" where it has none. `used` columns, and translations of others ("colour_ja" beside "colour"), are left out."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    found = {}
    for name in names:
        base, _, language = name.rpartition("_")
        if name in used or (base in names and LANGUAGE.fullmatch(language)) or _SENTENCES.fullmatch(name):
            continue
        cells = [row.values.get(name) for row in rows]
        if all(cell is None or isinstance(cell, (str, int)) for cell in cells):
            words = tuple("" if cell is None else str(cell) for cell in cells)
            if LEAST_GROUPS <= len(set(words) - {""}) <= MOST_GROUPS:
                found[name] = words
    return found
