"""Classes: how many pictures each has and in which splits, and names that no word tells apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from awase.datasets.checks.findings import Example, Finding
from awase.datasets.checks.whole import Whole
from awase.datasets.naming import some
from awase.datasets.splits import kind_of

UNEVEN, VERY_UNEVEN = 4.0, 20.0  # times as many pictures in the largest class as in the smallest that has any
FEW = 4  # pictures of a class below which none can be held out to choose settings on


def check_labels(whole: Whole) -> list[Finding]:
    """Nothing for captioned pictures."""
    if whole.targets is None:
        return []
    counts = class_counts(whole)
    return [*_uneven(whole, counts), *_few(whole, counts), *_absent(whole, counts), *_names(whole)]


def class_counts(whole: Whole) -> np.ndarray:
    """(S, C) pictures of each class in each split; a picture of several classes counts in each."""
    assert whole.targets is not None  # labelled data only
    several = whole.targets.ndim == 2
    member = whole.targets if several else np.eye(len(whole.keys), dtype=bool)[whole.targets]
    return np.stack([member[whole.part == split].sum(axis=0) for split in range(len(whole.splits))])


def _train(whole: Whole) -> int:
    """The split to train on: by its name, else the largest."""
    trains = [split for split, name in enumerate(whole.splits) if kind_of(name) == "train"]
    return trains[0] if trains else int(np.bincount(whole.part).argmax())


def _uneven(whole: Whole, counts: np.ndarray) -> Iterator[Finding]:
    split = _train(whole)
    mine = counts[split]
    filled = mine[mine > 0]
    if len(filled) < 2 or (times := filled.max() / filled.min()) < UNEVEN:
        return
    large, small = int(mine.argmax()), int(np.where(mine > 0, mine, mine.max() + 1).argmin())
    yield Finding(
        "uneven classes",
        "serious" if times >= VERY_UNEVEN else "notable",
        f"In {whole.splits[split]} the largest class has {times:.0f} times the pictures of the smallest "
        f"({whole.keys[large]} {mine[large]:,}, {whole.keys[small]} {mine[small]:,}).",
        int((mine < mine.max() / UNEVEN).sum()),
        len(mine),
        "A trained classifier leans towards the large classes, and plain accuracy hides it.",
        "Collect more of the small classes, draw equally often from each (--shots K does), and judge by the mean over "
        "classes, which awase evaluate prints.",
        rows=_rows(whole, counts),
    )


def _few(whole: Whole, counts: np.ndarray) -> Iterator[Finding]:
    split = _train(whole)
    few = [c for c in np.argsort(counts[split], kind="stable") if 0 < counts[split][c] < FEW]
    if few:
        names = [f"{whole.keys[c]} ({counts[split][c]})" for c in few]
        yield Finding(
            "classes with too few pictures",
            "notable",
            f"{len(few):,} of {len(whole.keys):,} classes have fewer than {FEW} pictures in {whole.splits[split]}: "
            f"{some(names)}.",
            len(few),
            len(whole.keys),
            "Nothing is left to choose settings on, and one odd picture decides what the class is.",
            "Collect a few more, or stay with words alone for these classes (zero-shot, better names, descriptions).",
            rows=() if len(few) < 2 else _rows(whole, counts),
        )


def _absent(whole: Whole, counts: np.ndarray) -> Iterator[Finding]:
    everywhere = counts.sum(axis=0) > 0
    for split, name in enumerate(whole.splits):
        if absent := [whole.keys[c] for c in np.flatnonzero(everywhere & (counts[split] == 0))]:
            train = split == _train(whole)
            yield Finding(
                "classes absent from a split",
                "serious" if train else "notable",
                f"{len(absent):,} classes have no picture in {name}: {some(absent)}.",
                len(absent),
                len(whole.keys),
                "What is not in training cannot be learned." if train else "Nothing is measured of them there.",
                "Divide the pictures anew so that each class is in each split, or leave the class out everywhere.",
            )
    if not everywhere.all():
        never = [whole.keys[c] for c in np.flatnonzero(~everywhere)]
        yield Finding(
            "classes without a picture",
            "minor",
            f"{len(never):,} classes have no picture at all: {some(never)}.",
            len(never),
            len(whole.keys),
            "They stay possible answers, and can only make other pictures wrong.",
            "Leave them out, or keep them if they will come up in use.",
        )


def _names(whole: Whole) -> Iterator[Finding]:
    for language, names in whole.names.items():
        twice = {name for name, count in Counter(name.strip().lower() for name in names).items() if count > 1}
        if twice:
            mine = [c for c, name in enumerate(names) if name.strip().lower() in twice]
            yield Finding(
                "classes with one name",
                "serious",
                f"{len(mine):,} classes share their name ({language}) with another: {some(sorted(twice))}.",
                len(mine),
                len(names),
                "No word tells them apart: zero-shot takes them for one class.",
                'Give each its own name in classes.json, such as {"crane": "a crane, the bird"}.',
                tuple(Example(tuple(_first_of(whole, c)), f"{whole.keys[c]}: {names[c]}") for c in mine),
            )


def _first_of(whole: Whole, label: int) -> list[int]:
    assert whole.targets is not None
    own = whole.targets == label if whole.targets.ndim == 1 else whole.targets[:, label]
    return [int(place) for place in np.flatnonzero(own)[:1]]


def _rows(whole: Whole, counts: np.ndarray) -> tuple[dict[str, object], ...]:
    """Pictures of each class, the fewest first."""
    order = np.argsort(counts.sum(axis=0), kind="stable")
    return tuple(
        {"class": whole.keys[c]} | {name: int(counts[split, c]) for split, name in enumerate(whole.splits)}
        for c in order
    )
