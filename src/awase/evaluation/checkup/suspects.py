"""Labels that the pictures speak against, and pictures unlike all others of their class.

A suspect is a picture whose class, guessed from all other pictures and their labels, is another one, and e^3 times as
likely (the out-of-sample rule of confident learning, Northcutt et al., 2021, arXiv:1911.00068, with a fixed margin).
`benchmarks/data_check.py` plants wrong labels and prints how many of them are found, and how many suspects they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from awase.datasets.checks import Example, Finding, Whole
from awase.datasets.checks.findings import share

MARGIN = 3.0  # nats by which another class must be likelier
ODD = 4.0  # robust standard deviations below its class's usual fit
FEWEST = 4  # pictures of a class from which one of them can be odd


def check_suspects(whole: Whole, kept: np.ndarray, rows: np.ndarray, left_out: np.ndarray) -> list[Finding]:
    """kept: (K,) which pictures; rows: (K, D) their vectors; left_out: (K, C) what `Ridge.left_out` says of them."""
    assert whole.classes is not None  # whoever calls has fitted a ridge onto classes
    classes = whole.classes[kept]
    every = np.arange(len(kept))
    own = left_out[every, classes]
    others = left_out.copy()
    others[every, classes] = 0
    likelier, best = others.argmax(axis=1), others.max(axis=1)
    margin = np.log(np.maximum(best, 1e-12)) - np.log(np.maximum(own, 1e-12))
    suspects = [i for i in np.argsort(-margin).tolist() if margin[i] >= MARGIN]
    if not suspects:
        return []
    examples = tuple(
        Example(
            (int(kept[i]), int(kept[_typical(rows, classes, i, likelier[i])])),
            f"labelled {whole.keys[classes[i]]}; looks like {whole.keys[likelier[i]]}, as beside "
            f"({100 * best[i]:.0f} % against {100 * own[i]:.0f} %)",
        )
        for i in suspects
    )
    return [
        Finding(
            "labels to look at",
            "serious" if len(suspects) > len(kept) / 20 else "notable",
            f"{share(len(suspects), len(kept))} look like another class, judging by all other pictures.",
            len(suspects),
            len(kept),
            "Wrong labels are learned and, in a test split, count right answers as wrong. Not all of these are wrong: "
            "some are rare views, or classes that look alike.",
            "Look at each; mend the label, or take out what shows both or neither.",
            examples,
        )
    ]


def _typical(rows: np.ndarray, classes: np.ndarray, i: int, other: int) -> int:
    """The picture of the other class that is nearest to i."""
    members = np.flatnonzero(classes == other)
    return int(members[(rows[members] @ rows[i]).argmax()]) if len(members) else i


def check_odd(whole: Whole, kept: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> list[Finding]:
    """Pictures that the name of their class fits far worse than it does the others. weights: (C, D) class vectors."""
    assert whole.classes is not None
    classes = whole.classes[kept]
    cosines = rows @ weights.T
    fit = cosines[np.arange(len(kept)), classes] - cosines.mean(axis=1)
    distance = np.zeros(len(kept))
    spread = np.concatenate([np.abs(part - np.median(part)) for part in _parts(fit, classes)] or [np.ones(1)])
    deviation = max(1.4826 * float(np.median(spread)), 1e-6)
    for label in np.unique(classes):
        own = classes == label
        if own.sum() >= FEWEST:
            distance[own] = (np.median(fit[own]) - fit[own]) / deviation
    odd = [i for i in np.argsort(-distance).tolist() if distance[i] >= ODD]
    return list(_odd(whole, kept, classes, distance, odd))


def _parts(fit: np.ndarray, classes: np.ndarray) -> Iterator[np.ndarray]:
    for label in np.unique(classes):
        if (classes == label).sum() >= FEWEST:
            yield fit[classes == label]


def _odd(
    whole: Whole, kept: np.ndarray, classes: np.ndarray, distance: np.ndarray, odd: list[int]
) -> Iterator[Finding]:
    if odd:
        yield Finding(
            "alignment outliers",
            "notable" if len(odd) > len(kept) / 50 else "minor",
            f"{share(len(odd), len(kept))} fit the name of their class far worse than the class's other pictures do.",
            len(odd),
            len(kept),
            "They show something else, or the thing in a way in which nobody would call it so: a part, a drawing, a "
            "shop window. A few of them pull a small class astray.",
            "Look at each; leave it out of few-shot training, or keep it on purpose.",
            tuple(
                Example((int(kept[i]),), f"{whole.keys[classes[i]]}: {distance[i]:.1f} deviations below") for i in odd
            ),
        )
