"""What betrays a class although it has nothing to do with it: size, format, camera, background, a group of the data.

A model that is trained on such data learns the shortcut (Torralba & Efros, CVPR 2011; Geirhos et al., 2020,
arXiv:2004.07780), is right on the data's own test split and wrong elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from awase.datasets.checks.findings import Finding
from awase.datasets.checks.looks import Look
from awase.datasets.checks.whole import Whole
from awase.errors import PictureError

FEWEST = 5  # pictures of a class from which something is said of it
INSIDE, OUTSIDE = 0.8, 0.2  # shares: a value that nearly all of a class have, and few others
SURE = 4.0  # standard errors of the difference of both shares
GUESSED = 0.1  # above the share of the largest class, from which a guess from file facts is worth a word
ROWS = 40
FILE_FACTS = ("size", "shape", "format", "colours", "camera", "EXIF turn")
NUMBERS_AT_ONCE = 2**22

Attributes = Mapping[str, Sequence[str]]


def check_giveaways(whole: Whole, looks: Sequence[Look | PictureError]) -> list[Finding]:
    """Nothing for captioned pictures, and where pictures have several classes."""
    kept = np.array([place for place, look in enumerate(looks) if isinstance(look, Look)], np.int64)
    if whole.classes is None or len(kept) < FEWEST or len(whole.keys) < 2:
        return []
    classes = whole.classes[kept]
    seen = [look for look in looks if isinstance(look, Look)]
    facts = file_facts(seen)
    shown = {"background": [look.border or "none" for look in seen], "brightness": [_brightness(look) for look in seen]}
    groups = {name: [values[place] for place in kept] for name, values in whole.groups.items()}
    return [
        *_guessed(whole, facts, classes),
        *_rules(whole, {**facts, **shown}, classes),
        *_groups(whole, groups, classes),
    ]


def file_facts(looks: Sequence[Look]) -> dict[str, list[str]]:
    """What is true of the file and not of what it shows, for each picture."""
    return {
        "size": [f"{look.width} x {look.height}" for look in looks],
        "shape": [_shape(look) for look in looks],
        "format": [look.format or "none" for look in looks],
        "colours": ["grey" if look.mode in ("L", "LA", "1", "I;16") else "colour" for look in looks],
        "camera": [look.camera or "none told" for look in looks],
        "EXIF turn": [str(look.orientation) for look in looks],
    }


def guess_from(attributes: Attributes, classes: np.ndarray, count: int) -> np.ndarray:
    """(N,) the class that naive Bayes guesses of each picture from its attributes and all other pictures."""
    codes = [np.unique(np.asarray(values), return_inverse=True)[1] for values in attributes.values()]
    sizes = np.bincount(classes, minlength=count).astype(np.float64)
    tables = []
    for code in codes:
        table = np.zeros((code.max() + 1, count))
        np.add.at(table, (code, classes), 1)
        tables.append(table)
    guessed = np.empty(len(classes), np.int64)
    step = max(1, NUMBERS_AT_ONCE // count)
    for start in range(0, len(classes), step):
        rows = slice(start, start + step)
        own = np.eye(count)[classes[rows]]
        left = sizes - own  # the picture itself does not vote
        scores = np.log(left + 1)
        for code, table in zip(codes, tables, strict=True):
            scores += np.log((table[code[rows]] - own + 1) / (left + len(table)))
        guessed[rows] = scores.argmax(axis=1)
    return guessed


def _guessed(whole: Whole, facts: Attributes, classes: np.ndarray) -> Iterator[Finding]:
    varied = {name: values for name, values in facts.items() if len(set(values)) > 1}
    if not varied:
        return
    right = float((guess_from(varied, classes, len(whole.keys)) == classes).mean())
    largest = float(np.bincount(classes).max() / len(classes))
    error = (right * (1 - right) / len(classes)) ** 0.5
    if right - 2 * error > largest + GUESSED:
        yield Finding(
            "classes betrayed by their files",
            "serious" if right > largest + 3 * GUESSED else "notable",
            f"{', '.join(varied)} alone tell the class of {100 * right:.0f} % of the pictures (always the largest "
            f"class: {100 * largest:.0f} %).",
            round(right * len(classes)),
            len(classes),
            "The classes come from different sources. A trained model may learn the source instead of the class, do "
            "well on this test split, and fail on anybody else's pictures.",
            "Mix the sources: every class from every source, all pictures scaled and saved the same way; and test on "
            "pictures from somewhere else.",
        )


def _rules(whole: Whole, attributes: Attributes, classes: np.ndarray) -> Iterator[Finding]:
    rows = _one_sided(whole.keys, attributes, classes)
    if rows:
        first = rows[0]
        yield Finding(
            "classes that share a look",
            "notable",
            f"{len({row['class'] for row in rows}):,} of {len(whole.keys):,} classes are given away by how their "
            f"pictures were made, such as {first['class']} by its {first['what']} ({first['value']}).",
            len({row["class"] for row in rows}),
            len(whole.keys),
            "What nearly all pictures of one class and few others have in common is learned before the thing itself.",
            "Add pictures of these classes without it, or pictures of other classes with it. Where it belongs to the "
            "thing (a scan is grey), let it be.",
            rows=tuple(rows[:ROWS]),
        )


def _groups(whole: Whole, groups: Attributes, classes: np.ndarray) -> Iterator[Finding]:
    rows = _one_sided(whole.keys, groups, classes)
    if rows:
        first = rows[0]
        yield Finding(
            "groups that go along with a class",
            "notable",
            f"{len(rows):,} pairs of a class and a group nearly coincide, such as {first['class']} with "
            f"{first['what']} {first['value']} ({100 * first['in the class']:.0f} % of it, "
            f"{100 * first['elsewhere']:.0f} % elsewhere).",
            len(rows),
            len(whole.keys),
            "A model learns to tell the class by the group, and is unfair or wrong where the two do not go together.",
            "Collect the missing combinations, and read the figures by group that awase evaluate zero-shot prints.",
            rows=tuple(rows[:ROWS]),
        )


def _one_sided(keys: Sequence[str], attributes: Attributes, classes: np.ndarray) -> list[dict[str, Any]]:
    """Values that most of a class have and few of the others, the most telling first."""
    sizes = np.bincount(classes, minlength=len(keys)).astype(np.float64)
    rows = []
    for what, told in attributes.items():
        values, code = np.unique(np.asarray(told), return_inverse=True)
        table = np.zeros((len(values), len(keys)))
        np.add.at(table, (code, classes), 1)
        inside = table / np.maximum(sizes, 1)
        others = np.maximum(len(classes) - sizes, 1)
        outside = (table.sum(axis=1, keepdims=True) - table) / others
        spread = np.sqrt(inside * (1 - inside) / np.maximum(sizes, 1) + outside * (1 - outside) / others) + 1 / others
        telling = (inside >= INSIDE) & (outside <= OUTSIDE) & (sizes >= FEWEST) & (inside - outside > SURE * spread)
        for v, c in np.argwhere(telling):
            if values[v]:
                rows.append({"class": keys[c], "what": what, "value": str(values[v]), "n": int(sizes[c]),
                             "in the class": float(inside[v, c]), "elsewhere": float(outside[v, c])})  # fmt: skip
    return sorted(rows, key=lambda row: row["elsewhere"] - row["in the class"])


def _shape(look: Look) -> str:
    ratio = look.width / max(1, look.height)
    return "square" if 0.97 < ratio < 1.03 else "wide" if ratio > 1 else "tall"


def _brightness(look: Look) -> str:
    level = float(look.thumb.mean())
    return "dark" if level < 60 else "bright" if level > 195 else "middling"
