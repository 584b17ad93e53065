"""The same picture twice: within a split, across splits (a leak), and under two classes.

Byte for byte, or by its looks: saved anew, made smaller, or mirrored. Colours must agree, and so must the fine parts,
which differ between two shoes before one white wall. Where many pictures of a set are alike in both, a copy must be
twice as near as the next one. Cuts of one picture and neighbours in a film are found by a model's vectors instead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from awase.datasets.checks.findings import Example, Finding, share
from awase.datasets.checks.looks import THUMB, Look
from awase.datasets.checks.pictures import BLANK
from awase.datasets.checks.whole import Whole
from awase.datasets.hashing import equal_pictures
from awase.datasets.splits import kind_of
from awase.errors import PictureError

COARSE = 0.97  # correlation of 8 x 8 grey cells from which two pictures are compared closely
FINE = 0.96  # correlation of what is left of 32 x 32 cells without the coarse ones: a copy of half the size has 0.98
COLOURS = 0.08  # mean difference of the 8 x 8 colours up to which they agree, in mean deviations of the colours
NEARER = 0.5  # a copy's 1 - correlation over that of the next picture
CELLS = 8
PAIRS_AT_ONCE = 4096
NUMBERS_AT_ONCE = 2**23
SAME_FILE, SAME_LOOKS, MIRRORED = "the same file", "the same picture saved anew", "the same picture, mirrored"


@dataclass(frozen=True)
class Copies:
    """Pairs (i, j, how) with i < j, each pair once, those that are surest first."""

    pairs: tuple[tuple[int, int, str], ...]

    def groups(self) -> list[list[int]]:
        """Pictures that are copies of one another, directly or through a third; each in order."""
        leader: dict[int, int] = {}

        def first(place: int) -> int:
            while leader.setdefault(place, place) != place:
                leader[place] = leader[leader[place]]
                place = leader[place]
            return place

        for i, j, _ in self.pairs:
            low, high = sorted((first(i), first(j)))
            leader[high] = low
        members: dict[int, list[int]] = {}
        for place in sorted(leader):
            members.setdefault(first(place), []).append(place)
        return list(members.values())


def find_copies(whole: Whole, looks: Sequence[Look | PictureError]) -> Copies:
    """Copies byte for byte and by looks. Of equal files each is paired with the first."""
    pairs = [(group[0], place, SAME_FILE) for group in equal_pictures(whole.pictures) for place in group[1:]]
    again = {place for _, place, _ in pairs}
    places = [p for p, k in enumerate(looks) if isinstance(k, Look) and k.plain < BLANK and p not in again]
    if len(places) > 1:
        thumbs = np.stack([look.thumb for look in (looks[p] for p in places) if isinstance(look, Look)])
        alike = _same(thumbs, thumbs)
        mirrored = [pair for pair in _same(thumbs, thumbs[:, :, ::-1]) if pair not in alike]
        pairs += [(places[i], places[j], SAME_LOOKS) for i, j in alike]
        pairs += [(places[i], places[j], MIRRORED) for i, j in mirrored]
    return Copies(tuple(pairs))


def _same(thumbs: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of which one is the other by looks, the nearest first."""
    left, right = (_coarse(side) for side in (thumbs, others))
    near: dict[tuple[int, int], float] = {}
    for rows, columns in pairs_above(left, COARSE, right):
        for start in range(0, len(rows), PAIRS_AT_ONCE):
            i, j = rows[start : start + PAIRS_AT_ONCE], columns[start : start + PAIRS_AT_ONCE]
            fine = (_fine(thumbs[i]) * _fine(others[j])).sum(axis=1)
            agree = (fine >= FINE) & (_colour_distance(thumbs[i], others[j]) <= COLOURS)
            near |= zip(zip(i[agree].tolist(), j[agree].tolist(), strict=True), fine[agree].tolist(), strict=True)
    ranked: dict[int, list[float]] = defaultdict(list)
    for pair, value in sorted(near.items(), key=lambda entry: -entry[1]):
        for place in pair:
            ranked[place].append(value)

    def stands_out(pair: tuple[int, int]) -> bool:
        rivals = [value for place in pair for value in ranked[place] if value < near[pair]]
        return not rivals or 1 - near[pair] <= NEARER * (1 - max(rivals))

    return [pair for pair in sorted(near, key=lambda pair: -near[pair]) if stands_out(pair)]


def _coarse(thumbs: np.ndarray) -> np.ndarray:
    """(N, 32, 32, 3) -> (N, 64) grey cells, without their mean, of unit length."""
    rows = _pooled(thumbs.mean(axis=3, dtype=np.float32)).reshape(len(thumbs), -1)
    return _unit(rows - rows.mean(axis=1, keepdims=True))


def _fine(thumbs: np.ndarray) -> np.ndarray:
    """(N, 32, 32, 3) -> (N, 1024) grey levels less those of their coarse cell, of unit length."""
    grey = thumbs.mean(axis=3, dtype=np.float32)
    each = THUMB // CELLS
    return _unit((grey - _pooled(grey).repeat(each, axis=1).repeat(each, axis=2)).reshape(len(thumbs), -1))


def _colour_distance(thumbs: np.ndarray, others: np.ndarray) -> np.ndarray:
    one, other = (
        np.stack([_pooled(side[..., c].astype(np.float32)) for c in range(3)], -1) for side in (thumbs, others)
    )
    deviation = np.abs(one - one.mean(axis=(1, 2), keepdims=True)).mean(axis=(1, 2, 3))
    return np.asarray(np.abs(one - other).mean(axis=(1, 2, 3)) / np.maximum(deviation, 1e-6))


def _pooled(grey: np.ndarray) -> np.ndarray:
    """(N, 32, 32) -> (N, 8, 8) means."""
    each = THUMB // CELLS
    return np.asarray(grey.reshape(len(grey), CELLS, each, CELLS, each).mean(axis=(2, 4)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)


def pairs_above(
    rows: np.ndarray, least: float, others: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (i, j), i < j, where row i of (N, D) and row j of `others` (the same rows) have a product >= least."""
    others = rows if others is None else others
    step = max(1, NUMBERS_AT_ONCE // max(1, len(rows)))
    for start in range(0, len(rows), step):
        products = rows[start : start + step] @ others[start:].T
        i, j = np.nonzero(products >= least)
        later = j > i
        yield i[later] + start, j[later] + start


# ---- what is wrong with copies ---------------------------------------------------------------------------------------


def check_copies(whole: Whole, copies: Copies) -> list[Finding]:
    """Leaks between splits, copies under different classes, copies within a split."""
    leaks = [pair for pair in copies.pairs if whole.part[pair[0]] != whole.part[pair[1]]]
    within = [pair for pair in copies.pairs if whole.part[pair[0]] == whole.part[pair[1]]]
    return [*_leaks(whole, leaks), *_contradictions(whole, copies), *_repeats(whole, within)]


def _leaks(whole: Whole, pairs: Sequence[tuple[int, int, str]]) -> Iterator[Finding]:
    if not pairs:
        return
    judged = {place for i, j, _ in pairs for place in (i, j) if kind_of(whole.splits[whole.part[place]]) != "train"}
    judged = judged or {j for _, j, _ in pairs}
    of = int(np.isin(whole.part, list({int(whole.part[place]) for place in judged})).sum())
    where = ", ".join(sorted({whole.splits[whole.part[place]] for place in judged}))
    yield Finding(
        "copies across splits",
        "serious",
        f"{share(len(judged), of)} pictures of {where} also stand in another split.",
        len(judged),
        of,
        "A model is judged on pictures that it was trained on: accuracies come out too high, and methods that remember "
        "best seem best.",
        "Take the copies out of the training split (not out of the test split, whose figures others know).",
        _examples(whole, pairs),
    )


def _contradictions(whole: Whole, copies: Copies) -> Iterator[Finding]:
    if whole.classes is None:
        return
    classes = whole.classes
    pairs = [pair for pair in copies.pairs if classes[pair[0]] != classes[pair[1]]]
    if pairs:
        yield Finding(
            "one picture, two classes",
            "serious",
            f"{len(pairs):,} pairs of copies are in different classes.",
            len(pairs),
            len(whole),
            "At least one of the two labels is wrong, or the classes are not exclusive.",
            "Decide which class is right and delete the other copy; if both are, let pictures have several classes.",
            tuple(Example((i, j), f"{whole.class_of(i)} and {whole.class_of(j)}: {how}") for i, j, how in pairs),
        )


def _repeats(whole: Whole, pairs: Sequence[tuple[int, int, str]]) -> Iterator[Finding]:
    if pairs:
        count = sum(len(group) - 1 for group in Copies(tuple(pairs)).groups())
        yield Finding(
            "copies within a split",
            "notable" if count > len(whole) / 50 else "minor",
            f"{share(count, len(whole))} repeat another picture of their split.",
            count,
            len(whole),
            "Copies count twice in training and in figures; in a batch of a contrastive loss, and in retrieval, the "
            "twin of the right picture counts as a wrong one.",
            "Keep one of each.",
            _examples(whole, pairs),
        )


def _examples(whole: Whole, pairs: Sequence[tuple[int, int, str]]) -> tuple[Example, ...]:
    def says(i: int, j: int, how: str) -> str:
        one, other = (whole.splits[whole.part[place]] for place in (i, j))
        return how if one == other else f"{one} and {other}: {how}"

    return tuple(Example((i, j), says(i, j, how)) for i, j, how in pairs)
