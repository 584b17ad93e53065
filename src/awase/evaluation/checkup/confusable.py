"""Classes that will be mixed up, and whether the words or the pictures are to blame.

Two judges answer for each picture: the class names (zero-shot) and the other pictures with their labels (a ridge, each
picture left out). Where the names mix up two classes that the pictures tell apart, a better name helps, and some are
tried. Where both do, no name will: the classes look alike to this model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from awase.datasets.checks import Example, Finding, Whole
from awase.datasets.naming import some
from awase.evaluation.ranking import roc_area

OFTEN = 0.15  # share of two classes' pictures that are taken for each other from which the pair is worth a word
FEWEST = 2  # such pictures
PAIRS = 30
READ_BADLY = 0.15  # by how much the area under the ROC curve of a name is below that of the pictures
GAIN = 0.05  # of the accuracy on both classes' pictures, from which another name is proposed
PICTURES_OF_ONE = 5  # from which something is said of a class's name


@dataclass(frozen=True)
class Judged:
    """K pictures of C classes as two judges see them. classes: (K,). names: C. by_names: (K, C) cosines.
    by_pictures: (K, C) probabilities, each picture left out. kept: (K,) which pictures of the whole."""

    kept: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    by_names: np.ndarray
    by_pictures: np.ndarray


Renamed = Callable[[int], Sequence[tuple[str, np.ndarray]]]
"""A class -> other names with the (K,) cosines of all pictures to each."""


def check_confusable(whole: Whole, judged: Judged, renamed: Renamed) -> list[Finding]:
    pairs = mixed_up(judged)
    found = list(_pairs(whole, judged, pairs, renamed))
    return [*found, *_read_badly(whole, judged)]


def confusion(answers: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """(C, C): how many pictures of the row's class are taken for the column's."""
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (classes, answers), 1)
    return table


def mixed_up(judged: Judged) -> list[tuple[float, int, int]]:
    """(share of both classes' pictures that the names take for the other, a, b), the most first."""
    count = len(judged.names)
    table = confusion(judged.by_names.argmax(axis=1), judged.classes, count)
    sizes = np.bincount(judged.classes, minlength=count)
    either = table + table.T
    shares = either / np.maximum(sizes[:, None] + sizes[None], 1)
    a, b = np.nonzero(np.triu((shares >= OFTEN) & (either >= FEWEST), 1))
    return sorted(((float(shares[i, j]), int(i), int(j)) for i, j in zip(a, b, strict=True)), reverse=True)


def _pairs(
    whole: Whole, judged: Judged, pairs: Sequence[tuple[float, int, int]], renamed: Renamed
) -> Iterator[Finding]:
    if not pairs:
        return
    seen = confusion(judged.by_pictures.argmax(axis=1), judged.classes, len(judged.names))
    sizes = np.bincount(judged.classes, minlength=len(judged.names))
    rows, examples = [], []
    for share, a, b in pairs[:PAIRS]:
        pictures = float((seen[a, b] + seen[b, a]) / (sizes[a] + sizes[b]))
        words = pictures < share / 2
        row = {"class": judged.names[a], "taken for": judged.names[b], "by their names": share,
               "by their pictures": pictures, "to blame": "the words" if words else "the looks",
               "try": _better(judged, a, b, renamed) if words else ""}  # fmt: skip
        rows.append(row)
        examples.append(_side_by_side(judged, a, b))
    blamed = sum(row["to blame"] == "the words" for row in rows)
    tried = sum(bool(row["try"]) for row in rows)
    yield Finding(
        "confusable classes",
        "notable",
        f"{len(pairs):,} pairs of classes are mixed up by their names, such as {judged.names[pairs[0][1]]} and "
        f"{judged.names[pairs[0][2]]}; for {blamed} of the first {len(rows)} the words are to blame, for the "
        "others the looks.",
        len(pairs),
        len(judged.names) * (len(judged.names) - 1) // 2,
        "Zero-shot classification will answer wrongly here. Where the pictures tell the classes apart, any trained "
        "head will too, and so may a better name.",
        "Words: give a name that says what is seen (a material, a use, what sets it apart)"
        + (f"; for {tried} a better one was found and stands in the table. " if tried else ". ")
        + "awase prompts search DATA --descriptions FILE tries yours. Looks: join the classes, cut the pictures to "
        "what sets them apart, or take a larger model.",
        tuple(examples),
        tuple(rows),
    )


def _better(judged: Judged, a: int, b: int, renamed: Renamed) -> str:
    """The change of one name that gets the most of all pictures right that are of either class or taken for one."""
    taken = judged.by_names.argmax(axis=1)
    both = np.isin(judged.classes, (a, b)) | np.isin(taken, (a, b))
    cosines, classes = judged.by_names[both], judged.classes[both]
    now = float((cosines.argmax(axis=1) == classes).mean())
    best, said = now + GAIN, ""
    for label in (a, b):
        for name, column in renamed(label):
            tried = cosines.copy()
            tried[:, label] = column[both]
            if (right := float((tried.argmax(axis=1) == classes).mean())) > best:
                best = right
                said = f"{judged.names[label]} → {name} ({100 * now:.0f} → {100 * right:.0f} % of {len(classes)})"
    return said


def _side_by_side(judged: Judged, a: int, b: int) -> Example:
    """Of each class the picture that its name takes most for the other's."""
    places = []
    for own, other in ((a, b), (b, a)):
        members = np.flatnonzero(judged.classes == own)
        towards = judged.by_names[members, other] - judged.by_names[members, own]
        if len(members):
            places.append(int(judged.kept[members[towards.argmax()]]))
    return Example(tuple(places), f"{judged.names[a]} and {judged.names[b]}")


def _read_badly(whole: Whole, judged: Judged) -> Iterator[Finding]:
    """Names that find their pictures much worse than the class's other pictures do."""
    rows: list[dict[str, Any]] = []
    centred = judged.by_names - judged.by_names.mean(axis=1, keepdims=True)
    for label, name in enumerate(judged.names):
        own = judged.classes == label
        if own.sum() >= PICTURES_OF_ONE and not own.all():
            by_name, by_pictures = _area(centred[:, label], own), _area(judged.by_pictures[:, label], own)
            if by_pictures - by_name >= READ_BADLY:
                rows.append({"class": whole.keys[label], "name": name, "n": int(own.sum()),
                             "found by its name": by_name, "found by its pictures": by_pictures})  # fmt: skip
    rows.sort(key=lambda row: row["found by its name"])
    if rows:
        yield Finding(
            "names that find the wrong pictures",
            "notable",
            f"{len(rows):,} class names rank their own pictures badly though the pictures are alike: "
            f"{some([str(row['name']) for row in rows])}.",
            len(rows),
            len(judged.names),
            "The model does not know the word, or knows it for something else (the figures are areas under the ROC "
            "curve: 50 % is guessing).",
            "Say it in plainer words, add what kind of thing it is, or describe what is seen: awase prompts search "
            "DATA --descriptions FILE.",
            rows=tuple(rows),
        )


def _area(scores: np.ndarray, own: np.ndarray) -> float:
    figure = roc_area(iter([(scores, own)]))
    return figure.value if figure else 1.0
