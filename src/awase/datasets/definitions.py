"""What is known of the 27 data sets of the CLIP paper, 11 of which are the few-shot sets: names, templates, metric.

The pictures are the user's own; a definition gives their folders the published names, in the published order."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from awase.encoding import prompts
from awase.errors import DataError

_FILE = Path(__file__).parent / "data" / "definitions.json"


@dataclass(frozen=True)
class Definition:
    """name: "oxford_pets"; title: as the paper's authors write it. keys: the C classes as the set's own folders are
    called where known, else their names. names: language -> C names, not always different (ImageNet's "sunglasses").
    templates: language -> sentences. metric: "top1", "mean_per_class", "map_11_point" (mean average precision),
    "roc_auc" or "mean_top1_top5", as the paper reports the set. prompt: the one sentence of the few-shot literature
    (CoOp), None for sets outside it."""

    name: str
    title: str
    keys: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    templates: Mapping[str, tuple[str, ...]]
    metric: str
    prompt: str | None

    def place(self, keys: Sequence[str]) -> tuple[list[int], list[str]]:
        """Which class each of the user's keys is, and notes. Case, spaces, underscores and hyphens do not matter; keys
        that are all numbers are the classes in order, from 0, or from 1 where there is no 0 but the last.

        Raises DataError that lists what is no class of this set, or is the same class twice."""
        known = self._known()
        places = [known.get(_plain(key)) for key in keys]
        notes: list[str] = []
        if None in places and all(key.isdigit() for key in keys):
            places, notes = self._by_number(keys)
        if strange := [key for key, place in zip(keys, places, strict=True) if place is None]:
            raise DataError(f"{self.name} has no class for {len(strange)} of {len(keys)}: {self._suggest(strange)}")
        found = [place for place in places if place is not None]
        times = Counter(found)
        if twice := [key for key, place in zip(keys, found, strict=True) if times[place] > 1]:
            raise DataError(f"{', '.join(twice[:6])}: several of these are one class of {self.name}; put them together")
        return found, notes

    def _known(self) -> dict[str, int]:
        """Plain key or name -> class, keys before names; what would mean two classes means none."""
        known: dict[str, int] = {}
        for words in (*self.names.values(), self.keys):
            plain = [_plain(word) for word in words]
            times = Counter(plain)
            known |= {word: i for i, word in enumerate(plain) if times[word] == 1}
        return known

    def _by_number(self, keys: Sequence[str]) -> tuple[list[int | None], list[str]]:
        numbers, count = [int(key) for key in keys], len(self.keys)
        first = 1 if 0 not in numbers and count in numbers else 0
        places = [number - first if first <= number < count + first else None for number in numbers]
        return places, [f"numbers are taken as the classes of {self.name} in the published order, from {first}"]

    def _suggest(self, strange: Sequence[str]) -> str:
        known = {_plain(word): word for words in (*self.names.values(), self.keys) for word in words}
        said = []
        for key in strange[:8]:
            near = get_close_matches(_plain(key), known, 1)
            said.append(f"{key!r} ({known[near[0]]!r}?)" if near else repr(key))
        return ", ".join(said) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")


def definitions() -> tuple[str, ...]:
    """Names of all definitions."""
    return tuple(_all())


def definition(name: str) -> Definition:
    """The definition of that name or title ("oxford_pets", "OxfordPets"). Raises DataError that lists the names."""
    for known, told in _all().items():
        if _plain(name) in (_plain(known), _plain(told["title"])):
            return _built(known, told)
    raise DataError(f"there is no definition {name!r}; there are {', '.join(definitions())}")


def _built(name: str, told: Mapping[str, Any]) -> Definition:
    names = {language: tuple(words) for language, words in told["names"].items()}
    templates = {
        language: prompts.templates(given, language) if isinstance(given, str) else tuple(given)
        for language, given in told["templates"].items()
    }
    keys = tuple(told.get("keys", names["en"]))
    return Definition(name, told["title"], keys, names, templates, told["metric"], told.get("prompt"))


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


@cache
def _all() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_FILE.read_text("utf-8"))["sets"]
    return told
