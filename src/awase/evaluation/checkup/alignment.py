"""Captions that fit their picture no better than anybody else's, and the wrong pictures that come nearest.

A cosine is compared after the mean of its picture and of its sentence is taken away, for some sentences fit everything
and some pictures everything fits. A caption that then fits its own picture less than half of all wrong pairs fit says
nothing of it, as far as this model can read."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from awase.datasets.checks import Example, Finding, Whole
from awase.datasets.checks.findings import Severity, share

SAMPLE = 2000  # pictures and sentences that means are taken over
NUMBERS_AT_ONCE = 2**23
MANY = 0.2  # share of outliers from which the model rather than the captions is to blame
NEAR = 64  # of the wrong pictures that are nearest to a caption, so many are kept
MOST = 1000  # examples


def check_alignment(whole: Whole, kept: np.ndarray, rows: np.ndarray, sentences: np.ndarray) -> list[Finding]:
    """kept: (K,) which pictures; rows: (K, D). sentences: (M, D) vectors of all captions."""
    place = np.full(len(whole), -1)
    place[kept] = np.arange(len(kept))
    told = np.flatnonzero(place[whole.owners] >= 0)
    owners = place[whole.owners[told]]
    if len(kept) < 4 or not len(told):
        return []
    return [
        *_outliers(whole, kept, rows, sentences[told], told, owners),
        *_hard_negatives(whole, kept, rows, sentences[told], told, owners),
    ]


def centred_fit(rows: np.ndarray, sentences: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, float]:
    """((M,) fit of each sentence and its own picture, the median fit of wrong pairs), both without the means of
    sentence and picture. owners: (M,) row of each sentence's picture."""
    rng = np.random.default_rng(0)
    some_rows = rows[rng.permutation(len(rows))[:SAMPLE]]
    some_sentences = sentences[rng.permutation(len(sentences))[:SAMPLE]]
    grid = some_rows @ some_sentences.T
    whole = float(grid.mean())
    of_sentence = (sentences @ some_rows.mean(axis=0))[:, None]
    of_row = rows @ some_sentences.mean(axis=0)
    own = (sentences * rows[owners]).sum(axis=1) - of_sentence[:, 0] - of_row[owners] + whole
    centred = grid - grid.mean(axis=0) - grid.mean(axis=1, keepdims=True) + whole
    return own, float(np.median(centred))


def _outliers(
    whole: Whole, kept: np.ndarray, rows: np.ndarray, sentences: np.ndarray, told: np.ndarray, owners: np.ndarray
) -> list[Finding]:
    fit, usual = centred_fit(rows, sentences, owners)
    outliers = [i for i in np.argsort(fit).tolist() if fit[i] <= usual]
    if not outliers:
        return []
    severity: Severity = "serious" if len(outliers) > MANY * len(told) else "notable"
    remedy = "Look at the worst: mend or take out captions that belong to another picture or tell of something unseen."
    if severity == "serious":
        remedy = "So many point at the model: it may not read this language or this kind of picture. Try another one. "
        remedy += "If it reads others well, captions and pictures may have been shifted against each other."
    return [
        Finding(
            "alignment outliers",
            severity,
            f"{share(len(outliers), len(told))} captions fit their picture no better than a caption drawn at random.",
            len(outliers),
            len(told),
            "A caption of another picture teaches the wrong thing, and counts as a miss in retrieval.",
            remedy,
            tuple(Example((int(kept[owners[i]]),), whole.captions[told[i]]) for i in outliers[:MOST]),
        )
    ]


def nearest_wrong(rows: np.ndarray, sentences: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((M,) row of the wrong picture nearest to each sentence, (M,) its cosine less that of the right one)."""
    nearest, margin = np.empty(len(sentences), np.int64), np.empty(len(sentences))
    step = max(1, NUMBERS_AT_ONCE // max(1, len(rows)))
    for start in range(0, len(sentences), step):
        block = slice(start, start + step)
        cosines = sentences[block] @ rows.T
        every = np.arange(len(cosines))
        right = cosines[every, owners[block]].copy()
        cosines[every, owners[block]] = -np.inf
        nearest[block] = cosines.argmax(axis=1)
        margin[block] = cosines.max(axis=1) - right
    return nearest, margin


def _hard_negatives(
    whole: Whole, kept: np.ndarray, rows: np.ndarray, sentences: np.ndarray, told: np.ndarray, owners: np.ndarray
) -> list[Finding]:
    """Pairs of pictures whose captions prefer each other's picture, the most often first."""
    nearest, margin = nearest_wrong(rows, sentences, owners)
    pairs: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in np.argsort(-margin).tolist():
        if margin[i] > 0:
            one, other = sorted((int(owners[i]), int(nearest[i])))
            pairs[one, other].append(i)
    wrong = int((margin > 0).sum())
    if not wrong:
        return []
    ranked = sorted(pairs.items(), key=lambda entry: (-len(entry[1]), -margin[entry[1][0]]))
    return [
        Finding(
            "hard negatives",
            "minor",
            f"For {share(wrong, len(told))} captions another picture comes before the right one.",
            wrong,
            len(told),
            "Nothing is wrong with these pairs: they are what a model must learn to tell apart, and teach it the most "
            "when both stand in one batch. Where both pictures fit the caption, it is the caption that is too vague.",
            "Put such pairs into the same batch (hard negatives), or say in the caption what sets them apart.",
            tuple(
                Example((int(kept[owners[mine[0]]]), int(kept[nearest[mine[0]]])), whole.captions[told[mine[0]]])
                for _, mine in ranked[:MOST]
            ),
        )
    ]
