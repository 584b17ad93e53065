"""Cuts of one picture and neighbours in a film, by a model's vectors: near copies that no comparison of pixels finds.

How near is near hangs on the model, so it is measured on the set itself: some of its pictures are cut to seven tenths
of their area, and two pictures are near copies where they are as alike as half of these are to their cuts."""

from __future__ import annotations

import numpy as np

from awase.clip import Clip
from awase.datasets.checks import Copies, Example, Finding, Whole
from awase.datasets.checks.copies import pairs_above
from awase.datasets.checks.findings import share
from awase.datasets.splits import kind_of
from awase.encoding.pictures import open_picture

CUT = 0.08  # of each side; 0.84 x 0.84 of the picture stay
MEASURED = 64  # pictures
LEAST = 0.8  # cosine below which nothing is near, whatever was measured
MOST = 20_000  # pairs, beyond which the set is one film


def nearness(clip: Clip, whole: Whole, kept: np.ndarray, rows: np.ndarray) -> float:
    """The median cosine of a picture and its cut."""
    chosen = np.unique(np.linspace(0, len(kept) - 1, min(MEASURED, len(kept))).round().astype(int))
    cuts = clip.encode_images(_cut(open_picture(whole.pictures[place], clip.limits)) for place in kept[chosen].tolist())
    return max(LEAST, float(np.median((cuts * rows[chosen]).sum(axis=1))))


def _cut(picture: object) -> np.ndarray:
    pixels = np.asarray(picture.convert("RGB"))  # type: ignore[attr-defined]
    y, x = (round(CUT * side) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[y : pixels.shape[0] - y, x : pixels.shape[1] - x])


def check_near(whole: Whole, kept: np.ndarray, rows: np.ndarray, least: float, copies: Copies) -> list[Finding]:
    """least: cosine from which two pictures are near copies. copies: those known already, which are not told again."""
    group = {place: number for number, places in enumerate(copies.groups()) for place in places}
    found: list[tuple[float, int, int]] = []
    for i, j in pairs_above(rows, least):
        cosines = (rows[i] * rows[j]).sum(axis=1)
        found += zip(cosines.tolist(), kept[i].tolist(), kept[j].tolist(), strict=True)
        if len(found) > MOST:
            break
    pairs = [pair for pair in sorted(found, reverse=True) if group.get(pair[1], -1) != group.get(pair[2], -2)]
    across = [pair for pair in pairs if whole.part[pair[1]] != whole.part[pair[2]]]
    within = [pair for pair in pairs if whole.part[pair[1]] == whole.part[pair[2]]]
    findings = []
    if across:
        judged = {p for _, *both in across for p in both if kind_of(whole.splits[whole.part[p]]) != "train"}
        judged = judged or {j for _, _, j in across}
        of = int(np.isin(whole.part, list({int(whole.part[p]) for p in judged})).sum())
        findings.append(
            Finding(
                "near copies across splits",
                "serious" if len(judged) > of / 20 else "notable",
                f"{share(len(judged), of)} pictures outside training have a near copy in another split.",
                len(judged),
                of,
                "Cuts, neighbours in a film or the same object once more: figures on them flatter.",
                "Look at the pairs. Put all pictures of one object, place or recording into one split.",
                _examples(whole, across),
            )
        )
    if within:
        touched = {p for _, *both in within for p in both}
        findings.append(
            Finding(
                "near copies within a split",
                "minor",
                f"{share(len(touched), len(kept))} pictures have a near copy in their own split.",
                len(touched),
                len(kept),
                "They count twice, and in retrieval the twin of the right picture counts as wrong.",
                "Keep the best of each, or leave it: products before one wall look like this and are none.",
                _examples(whole, within),
            )
        )
    return findings


def _examples(whole: Whole, pairs: list[tuple[float, int, int]]) -> tuple[Example, ...]:
    def says(cosine: float, i: int, j: int) -> str:
        one, other = (whole.splits[whole.part[p]] for p in (i, j))
        return f"cosine {cosine:.3f}" if one == other else f"{one} and {other}: cosine {cosine:.3f}"

    return tuple(Example((i, j), says(cosine, i, j)) for cosine, i, j in pairs)
