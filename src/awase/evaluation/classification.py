"""From vectors of pictures and of classes to answers and figures; knows nothing of a Clip or a data set.

A class is a row, a score a product: cosines of unit vectors, or any classifier's logits with the identity for classes.
Scores are made in blocks of pictures or of classes and thrown away, so that memory does not grow with pictures x
classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from awase.encoding.scoring import Scoring
from awase.evaluation.intervals import mean_of_proportions, proportion, proportion_with_error
from awase.evaluation.ranking import average_precision, roc_area
from awase.evaluation.results import Figure

NUMBERS_AT_ONCE = 2**22  # of one block of scores: 32 MB in double precision
IDENTITY = Scoring("softmax", 1.0)  # for logits that stand for vectors
EACH_ALONE = Scoring("sigmoid", 1.0)  # the same where a picture may have several classes
NEEDS = {  # what a measure needs, where a set that is reported by it has not got it
    "mean_top1_top5": "more than 5 classes",
    "mean_per_class": "pictures of one class each",
    "map": "pictures with a list of classes",
    "map_11_point": "pictures with a list of classes",
    "roc_auc": "a class that some pictures have and some have not",
}


@dataclass(frozen=True)
class Answers:
    """For each of N pictures. predicted: the likeliest class. probability: its probability. correct: whether it is (one
    of) the true one(s). rank: from 0, of the best true class; C where there is none. true_probability: of that class.
    normaliser: logarithm of the sum over classes of exp(logit), 0 in sigmoid families."""

    predicted: np.ndarray
    probability: np.ndarray
    correct: np.ndarray
    rank: np.ndarray
    true_probability: np.ndarray
    normaliser: np.ndarray


def answer(vectors: np.ndarray, classes: np.ndarray, scoring: Scoring, targets: np.ndarray) -> Answers:
    """(N, D) and (C, D) unit vectors, (N,) or (N, C) targets -> what is answered to each picture. Of classes with equal
    cosine the first wins."""
    parts = []
    for rows in _blocks(len(vectors), len(classes)):
        cosines = vectors[rows] @ classes.T
        true = _true_class(cosines, targets[rows])
        each, columns = np.arange(len(cosines)), np.arange(len(classes))
        at_true = cosines[each, true][:, None]
        ahead = (cosines > at_true) | ((cosines == at_true) & (columns < true[:, None]))
        wanted = targets[rows].any(axis=1) if targets.ndim == 2 else np.ones(len(cosines), bool)
        rank = np.where(wanted, ahead.sum(axis=1), len(classes))
        predicted, probabilities = cosines.argmax(axis=1), scoring.probabilities(cosines)
        parts.append(
            Answers(
                predicted,
                probabilities[each, predicted],
                rank == 0,
                rank,
                probabilities[each, true],
                _normaliser(scoring, cosines),
            )
        )
    fields = (np.concatenate([getattr(part, name) for part in parts]) for name in Answers.__dataclass_fields__)
    return Answers(*fields)


def classification_figures(
    vectors: np.ndarray,
    classes: np.ndarray,
    scoring: Scoring,
    targets: np.ndarray,
    answers: Answers | None = None,
    metric: str = "top1",
) -> dict[str, Figure]:
    """Figures of (N, D) pictures and (C, D) classes, that of the data's own `metric` first.

    top1; top5 where there are more than 5 classes, and the mean of the two where that is the metric (mean_top1_top5);
    mean_per_class over classes that have pictures; roc_auc: the mean over classes of one against the rest, by
    probability (by cosine where a picture may have several classes). With (N, C) targets map and map_11_point, by
    cosine, over classes that have pictures, and no mean_per_class."""
    answers = answers or answer(vectors, classes, scoring, targets)
    n, several = len(vectors), targets.ndim == 2
    figures = _shares(answers, len(classes), metric)
    if not several:
        sizes = np.bincount(targets, minlength=len(classes))
        right, filled = np.bincount(targets, answers.correct, minlength=len(classes)), sizes > 0
        interval = mean_of_proportions(right[filled], sizes[filled])
        figures["mean_per_class"] = Figure(float((right[filled] / sizes[filled]).mean()), interval, n)
    shift = np.zeros(n) if several else answers.normaliser

    def columns() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each class a score per picture and whether it is of that class."""
        for block in _blocks(len(classes), n):
            scores = scoring.logits(vectors @ classes[block].T) - shift[:, None]
            for index, column in zip(range(block.start, block.stop), scores.T, strict=True):
                yield column, targets[:, index] if several else targets == index

    if area := roc_area(columns()):
        figures["roc_auc"] = area
    if several:
        figures |= average_precision(columns())
    return {metric: figures[metric]} | figures if metric in figures else figures


def without_its_metric(figures: dict[str, Figure], metric: str) -> list[str]:
    """A note where a set is reported by a figure that could not be made."""
    if metric in figures:
        return []
    needs = f", which needs {NEEDS[metric]}" if metric in NEEDS else ", which is not known here"
    return [f"this set is reported by {metric}{needs}: another figure stands for it"]


def _shares(answers: Answers, classes: int, metric: str) -> dict[str, Figure]:
    """Top-1, top-5 and, where it is asked for, their mean: each picture then counts 0, 1/2 or 1."""
    n, figures = len(answers.rank), {}
    for k in (1, 5):
        if k == 1 or classes > k:
            hits = int((answers.rank < k).sum())
            figures[f"top{k}"] = Figure(hits / n, proportion(hits, n), n)
    if metric == "mean_top1_top5" and "top5" in figures:
        counts = ((answers.rank < 1).astype(float) + (answers.rank < 5)) / 2
        value, error = float(counts.mean()), float(counts.std() / np.sqrt(n))
        figures[metric] = Figure(value, proportion_with_error(value, error, n), n)
    return figures


# ---- scores ---------------------------------------------------------------------------------------------------------


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` rows whose blocks of `width` columns hold about NUMBERS_AT_ONCE numbers."""
    step = max(1, NUMBERS_AT_ONCE // max(width, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _true_class(cosines: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N,) the true class; the best of them where there are several, any where there is none."""
    return targets if targets.ndim == 1 else np.where(targets, cosines, -np.inf).argmax(axis=1)


def _normaliser(scoring: Scoring, cosines: np.ndarray) -> np.ndarray:
    if scoring.kind == "sigmoid":
        return np.zeros(len(cosines))
    logits = scoring.logits(cosines)
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
