"""What the classes of a data set are called: classes.json, columns beside the label, the layout's own list, or folders.

Also the templates and the metric that sets.json beside a set gives it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from awase.datasets.columns import LANGUAGE, sound
from awase.datasets.folders import File, Folder, read_text, shown
from awase.datasets.layouts.imagefolder import CLASSES_FILE
from awase.datasets.rows import Names, Row
from awase.encoding.prompts import SLOT, language_of
from awase.errors import DataError

SETS_FILE = "sets.json"


def read_classes(folder: Folder, split: str, keys: Sequence[str]) -> Names:
    """classes.json of the split's folder, the set's, or the one above, in which it must know every class.

    Raises DataError where one is found that is damaged, or that knows none of the classes."""
    for place in (folder.folders.get(split), folder):
        if place and (file := place.files.get(CLASSES_FILE)):
            told = _names(file)
            if not told.keys() & set(keys):
                raise DataError(f"{shown(file)} names {some(told)}, and none of the classes there are: {some(keys)}")
            return told
    above = folder.sibling(CLASSES_FILE)
    told = _names(above) if above else {}
    return {key: told[key] for key in keys} if all(key in told for key in keys) else {}


def _names(file: File) -> Names:
    told = _object(file)
    names: dict[str, dict[str, str]] = {}
    for key, value in told.items():
        if isinstance(value, str):
            value = {language_of(value): value}
        if not isinstance(value, dict):
            raise DataError(f'{shown(file)}: class {key!r} has the name {value!r}; give a string, or {{"en": ...}}')
        names[key] = {tongue: name for tongue, name in value.items() if LANGUAGE.fullmatch(tongue) and _is_name(name)}
    return names


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip())


def names_beside(rows: Sequence[Row], column: str) -> Names:
    """Names from columns beside the label: "type" with "type_en" and "type_ja"."""
    names: dict[str, dict[str, str]] = {}
    for row in rows:
        key = row.values.get(column, row.values.get(f"{column}_en"))
        if not isinstance(key, (str, int)):
            continue
        mine = names.setdefault(str(key).strip(), {})
        for name, value in row.values.items():
            base, _, language = name.rpartition("_")
            if base == column and LANGUAGE.fullmatch(language) and isinstance(value, str) and value.strip():
                mine.setdefault(language, value.strip())
    return names


def name_classes(keys: Sequence[str], told: Names) -> tuple[Mapping[str, tuple[str, ...]], list[str]]:
    """Language -> C names, and notes. A language counts where every class has a name in it; where none does, classes
    are called by their keys, underscores as spaces."""
    notes = []
    names: dict[str, tuple[str, ...]] = {}
    for language in dict.fromkeys(language for key in keys for language in told.get(key, {})):
        nameless = [key for key in keys if language not in told.get(key, {})]
        if nameless:
            notes.append(f"{len(nameless)} classes have no name in {language!r}, which is left out: {some(nameless)}")
        else:
            names[language] = tuple(sound(told[key][language]) for key in keys)
    if not names:
        spoken = tuple(sound(key.replace("_", " ").strip() or key) for key in keys)
        names = {language_of(" ".join(spoken)): spoken}
        notes += list(_warn_of_codes(keys))
    for language, words in names.items():
        if twice := [word for word, count in Counter(words).items() if count > 1]:
            notes.append(f"several classes have one name in {language!r}, so no word tells them apart: {some(twice)}")
    return names, notes


def _warn_of_codes(keys: Sequence[str]) -> Iterator[str]:
    if all(key.isdigit() for key in keys):
        yield f"classes are numbers; give their names in {CLASSES_FILE}, or a definition"
    elif all(len(key) == 9 and key[0] == "n" and key[1:].isdigit() for key in keys):
        yield f"classes are WordNet ids; give their names in {CLASSES_FILE}, or definition='imagenet'"


def read_set(folder: Folder, name: str) -> tuple[Mapping[str, tuple[str, ...]], str | None]:
    """Templates by language and the metric that sets.json, in the set's folder or the one above, gives the set."""
    file = folder.files.get(SETS_FILE) or folder.sibling(SETS_FILE)
    told = _object(file).get(name, {}) if file else {}
    if file and not isinstance(told, dict):
        raise DataError(f"{shown(file)}: what it tells of {name!r} is no object")
    return (_templates(told, f"{shown(file)}: {name}"), told.get("metric")) if file else ({}, None)


def _templates(told: Mapping[str, Any], where: str) -> Mapping[str, tuple[str, ...]]:
    found = {}
    for key, sentences in told.items():
        if key.startswith("templates_"):
            if not isinstance(sentences, list) or not all(isinstance(s, str) and SLOT in s for s in sentences):
                raise DataError(f"{where}: {key} must be a list of sentences with {SLOT} in each")
            if sentences:
                found[key.removeprefix("templates_")] = tuple(sentences)
    return found


def _object(file: File) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
            raise DataError(f"{shown(file)} holds {some(twice)} twice: keep one of each")
        return dict(pairs)

    try:
        told = json.loads(read_text(file), object_pairs_hook=once)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{shown(file)} is not JSON ({problem}): mend it") from problem
    if not isinstance(told, dict):
        raise DataError(f"{shown(file)} is no JSON object")
    return told


def some(names: Sequence[str] | Mapping[str, Any], most: int = 5) -> str:
    """The first few, for messages."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most:,} more" if len(listed) > most else "")
