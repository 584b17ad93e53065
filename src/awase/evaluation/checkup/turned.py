"""Pictures that look turned although no tag says so, as far as that can be told in this set.

Nobody needs to say which way is up: most pictures of a set are upright, so a sample of them, each also turned by one,
two and three quarters, teaches a classifier what upright looks like here (Gidaris et al., 2018, arXiv:1803.07728).
Judged on pictures that it was not taught with, it says itself whether up can be told from down: not from the air, and
not on cloth. A picture is suspected where all four of its turns together say so, with one in thirty turned beforehand.
`benchmarks/data_check.py` turns pictures and prints how many are found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from awase.clip import Clip
from awase.datasets.checks import Example, Finding, Whole
from awase.datasets.checks.findings import share
from awase.encoding.pictures import open_picture
from awase.encoding.scoring import softmax
from awase.evaluation.ridge import Ridge, fit_ridge

TAUGHT = 300  # pictures, each in four turns
FEWEST = 40  # pictures below which nothing is learned
TELLS = 0.45  # accuracy among the four turns from which anything is said; guessing has 0.25
UPRIGHT = np.log([0.97, 0.01, 0.01, 0.01])
FOLDS = 5
ASKED = 200  # of the other pictures, so many are looked at in all four turns
SAYS = {1: "looks turned a quarter to the left", 2: "looks upside down", 3: "looks turned a quarter to the right"}


def check_turned(clip: Clip, whole: Whole, kept: np.ndarray, rows: np.ndarray) -> tuple[list[Finding], str]:
    """Findings, and why nothing could be said. rows: (K, D) of the pictures kept."""
    if len(kept) < FEWEST:
        return [], f"{len(kept)} pictures are too few to learn from what upright looks like"
    chance = np.random.default_rng(0)
    taught = np.sort(chance.permutation(len(kept))[:TAUGHT])
    views = _in_four_turns(clip, whole, kept[taught], rows[taught])
    judged, accuracy = _held_out(views, chance)
    if accuracy < TELLS:
        return [], (
            f"in these pictures up can hardly be told from down (right for {100 * accuracy:.0f} %, guessing 25 %)"
        )
    turns = dict(zip(kept[taught].tolist(), most_likely_turn(judged).tolist(), strict=True))
    rest = np.setdiff1d(np.arange(len(kept)), taught)
    if len(rest):
        ridge = _taught(views)
        doubtful = rest[np.argsort(ridge.probabilities(rows[rest])[:, 0])[:ASKED]]
        others = _in_four_turns(clip, whole, kept[doubtful], rows[doubtful])
        turns |= zip(kept[doubtful].tolist(), most_likely_turn(_judged(ridge, others)).tolist(), strict=True)
    found = [(place, turn) for place, turn in sorted(turns.items()) if turn]
    return list(_finding(found, len(kept), accuracy)), ""


def most_likely_turn(judged: np.ndarray) -> np.ndarray:
    """(N, 4 turns, 4) probabilities of how each turn of each picture lies -> (N,) how the picture itself lies, in
    quarters to the left; 0 where nothing is likelier than one half."""
    every = np.arange(4)
    together = np.stack(
        [np.log(np.maximum(judged[:, every, (turn + every) % 4], 1e-6)).sum(axis=1) for turn in range(4)], axis=1
    )
    posterior = softmax(together + UPRIGHT)
    return np.where(posterior.max(axis=1) >= 0.5, posterior.argmax(axis=1), 0)


def _in_four_turns(clip: Clip, whole: Whole, places: np.ndarray, upright: np.ndarray) -> np.ndarray:
    """(N, 4, D): as they are, and turned by one, two and three quarters to the left."""

    def turned() -> Iterator[np.ndarray]:
        for place in places.tolist():
            pixels = np.asarray(open_picture(whole.pictures[place], clip.limits).convert("RGB"))
            for turn in (1, 2, 3):
                yield np.ascontiguousarray(np.rot90(pixels, turn))

    vectors = clip.encode_images(turned()).reshape(len(places), 3, -1)
    return np.concatenate([upright[:, None], vectors], axis=1)


def _taught(views: np.ndarray) -> Ridge:
    return fit_ridge(views.reshape(-1, views.shape[2]), np.tile(np.arange(4), len(views)), 4)


def _judged(ridge: Ridge, views: np.ndarray) -> np.ndarray:
    """(N, 4, D) -> (N, 4, 4) probabilities of how each turn lies."""
    return ridge.probabilities(views.reshape(-1, views.shape[2])).reshape(-1, 4, 4)


def _held_out(views: np.ndarray, chance: np.random.Generator) -> tuple[np.ndarray, float]:
    """((N, 4, 4) probabilities from a classifier that was not taught with the picture, their accuracy)."""
    fold = chance.permutation(len(views)) % FOLDS
    judged = np.empty((len(views), 4, 4))
    for number in range(FOLDS):
        judged[fold == number] = _judged(_taught(views[fold != number]), views[fold == number])
    return judged, float((judged.argmax(axis=2) == np.arange(4)).mean())


def _finding(found: list[tuple[int, int]], of: int, accuracy: float) -> Iterator[Finding]:
    if found:
        yield Finding(
            "pictures that look turned",
            "notable",
            f"{share(len(found), of)} look turned, and no tag says so.",
            len(found),
            of,
            "A model knows things upright: a turned one is read worse, and teaches that it may lie on its side. (In "
            f"this set a quarter turn is recognised in {100 * accuracy:.0f} % of single views, so some turned "
            "pictures are missed.)",
            "Look at each and turn it upright. Where pictures may truly lie anyhow, let them be.",
            tuple(Example((place,), SAYS[turn]) for place, turn in found),
        )
