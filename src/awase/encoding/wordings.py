"""How classes are asked for, as a file: templates, and sentences of their own for some classes.

    {"templates": {"en": ["a photo of {}.", "{} seen from above."]},
     "descriptions": {"a zebra": ["like a horse, with black and white stripes"]}, "share": 0.5}

`awase prompts search --out` writes it, `--templates FILE` takes it. A text file is templates, one a line. Descriptions
may also come as TOML (class = ["..."]) or as lines of class TAB sentence. Knows nothing of models."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from awase.errors import UsageError

SCHEMA = 1
MOST_BYTES = 16 * 2**20
SUFFIXES = (".json", ".txt", ".toml", ".tsv")


class Wording(tuple[str, ...]):
    """Templates, as a tuple, and more. sentences: class name -> its own sentences, without {}. share: how much of the
    vector of such a class comes from its sentences, the rest from the templates; 1 is sentences alone."""

    sentences: Mapping[str, tuple[str, ...]]
    share: float

    def __new__(
        cls, templates: Iterable[str], sentences: Mapping[str, tuple[str, ...]] | None = None, share: float = 1.0
    ) -> Wording:
        made = super().__new__(cls, templates)
        made.sentences, made.share = dict(sentences or {}), share
        return made


def is_file_of_wording(name: str) -> bool:
    """Whether what was given for a name of templates is a file instead: by its ending, or because it is there."""
    return name.lower().endswith(SUFFIXES) or Path(name).is_file()


def spelled_out(templates: tuple[str, ...]) -> dict[str, Any]:
    """All that classes are asked with, in JSON's types: what tells one run from another."""
    more = vars(templates) if isinstance(templates, Wording) else {}
    return {"templates": list(templates), **more}


def read_wording(path: str, language: str) -> Wording:
    """Templates and descriptions of a file. Raises UsageError that names it for what is missing, damaged, or has no
    templates in the language."""
    if path.lower().endswith(".json"):
        told = _object(path, json.loads)
        templates, share = told.get("templates", []), told.get("share", 1.0)
        if isinstance(templates, Mapping):
            if language not in templates:
                raise UsageError(
                    f"{path} has templates in {', '.join(templates) or 'no language'}, not in {language!r}"
                )
            templates = templates[language]
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UsageError(f"{path}: share is {share!r}; it is a number from 0 to 1")
        return Wording(
            _strings(path, "templates", templates), _sentences(path, told.get("descriptions", {})), float(share)
        )
    return Wording([line.strip() for line in _text(path).splitlines() if line.strip()])


def read_descriptions(path: str) -> dict[str, tuple[str, ...]]:
    """Class -> its sentences, from JSON, TOML or lines of class TAB sentence. Raises UsageError that names the file."""
    if path.lower().endswith(".json"):
        told = _object(path, json.loads)
        inner = told.get("descriptions")
        return _sentences(path, inner if isinstance(inner, dict) else told)
    if path.lower().endswith(".toml"):
        return _sentences(path, _object(path, tomllib.loads))
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        name, _, sentence = (part.strip() for part in line.partition("\t"))
        if line.strip() and not (name and sentence):
            raise UsageError(
                f"{path}, line {number}: a class, a TAB and a sentence are expected, and {line[:60]!r} is there"
            )
        if line.strip():
            found.setdefault(name, []).append(sentence)
    return _sentences(path, found)


def write_wording(path: Path, wording: Wording, language: str, record: Mapping[str, Any]) -> None:
    """A file that `read_wording` reads. record: how it was found, for people."""
    told = {"schema": SCHEMA, "templates": {language: list(wording)}}
    if wording.sentences:
        told |= {"descriptions": {name: list(mine) for name, mine in wording.sentences.items()}, "share": wording.share}
    content = json.dumps(told | {"record": dict(record)}, ensure_ascii=False, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    except OSError as problem:
        raise UsageError(f"{path} cannot be written ({problem.strerror}); give another file") from problem


# ---- parts -----------------------------------------------------------------------------------------------------------


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path} is over {MOST_BYTES // 2**20} MiB; templates and descriptions are short")
        return content.decode("utf-8-sig")
    except FileNotFoundError as problem:
        raise UsageError(
            f"{path} does not exist; check the path (templates may also be a name, as simple or ensemble)"
        ) from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path} cannot be read ({problem}); give a UTF-8 text, JSON or TOML file") from problem


def _object(path: str, parse: Any) -> dict[str, Any]:
    try:
        told = parse(_text(path))
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{path} cannot be read ({problem}); mend it") from problem
    if not isinstance(told, dict):
        raise UsageError(
            f'{path} holds no object; {{"templates": ["a photo of {{}}."]}} or class: [sentences] is expected'
        )
    return told


def _sentences(path: str, told: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(told, Mapping):
        raise UsageError(f"{path}: descriptions are an object of classes, each with its sentences")
    return {
        str(name): _strings(path, str(name), [mine] if isinstance(mine, str) else mine) for name, mine in told.items()
    }


def _strings(path: str, what: str, listed: object) -> tuple[str, ...]:
    if not isinstance(listed, list | tuple) or not listed or not all(isinstance(s, str) and s.strip() for s in listed):
        raise UsageError(f"{path}: {what} is a list of sentences, none of them empty; {str(listed)[:60]!r} is there")
    return tuple(listed)
