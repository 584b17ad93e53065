"""Zero-shot classification: how often is a picture's likeliest class name its own?

    zero_shot               a Clip and a data set -> a Result
    zero_shot_logits        the same up to vectors, for measures that need every class's logit
    classification_figures  pictures' and classes' vectors -> figures; no Clip, no data set

Classes with equal names are one class, for no model can tell them apart. Scores are made in blocks of pictures or of
classes and thrown away, so that memory does not grow with pictures x classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from awase.clip import Clip
from awase.datasets.labelled import Labelled
from awase.encoding import prompts
from awase.encoding.scoring import Scoring
from awase.errors import DataError, UsageError
from awase.evaluation.fairness import group_figures, skew_rows
from awase.evaluation.intervals import mean_of_proportions, proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.ranking import average_precision, roc_area
from awase.evaluation.results import Figure, Result
from awase.evaluation.vectors import check_finite, left_out, picture_vectors

NUMBERS_AT_ONCE = 2**22  # of one block of scores: 32 MB in double precision
MISTAKES = 24  # examples that are kept
CONFUSIONS = 30  # rows of that table


@dataclass(frozen=True)
class ZeroShot:
    """Vectors and what they stand for. vectors: (N, D). classes: (C, D), one for each different name. targets: (N,)
    int64 or (N, C) bool. names: C. pictures: (N,) which of the data's pictures. keys: what the data call classes."""

    vectors: np.ndarray
    classes: np.ndarray
    scoring: Scoring
    targets: np.ndarray
    names: tuple[str, ...]
    keys: tuple[str, ...]
    pictures: np.ndarray
    settings: dict[str, Any]
    notes: list[str]

    @cached_property
    def logits(self) -> np.ndarray:
        """(N, C) float64: what the softmax or sigmoid of the model's family is taken of."""
        return self.scoring.logits(self.vectors @ self.classes.T)


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


def zero_shot(
    clip: Clip,
    data: Labelled,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Top-1 and top-5, mean per class and area under the ROC curve; for pictures of several classes mAP.

    language: of the class names; None is English where the data have it, else their first. templates: a name, or
    sentences with {}; None is the data's own, else "simple". items, one per readable picture: correct, predicted and
    target (places among the different class names), probability (of the predicted), picture (its place in the data).
    Raises DataError where the data have no names in that language or no picture that can be read."""
    found = zero_shot_logits(clip, data, language, templates, progress)
    answers = answer(found.vectors, found.classes, found.scoring, found.targets)
    items = {
        "correct": answers.correct,
        "predicted": answers.predicted,
        "probability": answers.probability,
        "target": found.targets,
        "picture": found.pictures,
    }
    figures = classification_figures(found.vectors, found.classes, found.scoring, found.targets, answers)
    tables = {"classes": _class_rows(found, answers), "confusions": _confusions(found, answers)}
    if data.groups:
        figures |= group_figures(items, data.groups)
        tables["groups"] = skew_rows(items, data.groups, found.names)
    return Result(
        task="zero-shot",
        data=data.name,
        split=data.split,
        model=clip.name,
        n=len(found.pictures),
        figures=figures,
        settings=found.settings | {"metric": data.metric},
        items=items,
        tables={name: rows for name, rows in tables.items() if rows},
        examples=_mistakes(found, answers, data),
        notes=found.notes,
        provenance=provenance(clip, data),
    )


def zero_shot_logits(
    clip: Clip,
    data: Labelled,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ZeroShot:
    """Encodes pictures and class names; arguments and errors are those of `zero_shot`."""
    language = language or ("en" if "en" in data.names else next(iter(data.names), "en"))
    if language not in data.names:
        there = ", ".join(data.languages) or "no language"
        raise DataError(f"{data.name} has class names in {there}, and not in {language!r}; choose one that it has")
    images = picture_vectors(clip, data, progress=progress)
    names, places = _merged(data.names[language])
    name_of_set, sentences = _sentences(data, language, templates)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classes = clip.classifier(names, sentences)
    check_finite(classes, "a class name", clip)
    targets = _merge_targets(data.targets[images.kept], places, len(names))
    settings = {"language": language, "templates": name_of_set, "sentences": len(sentences), "classes": len(names)}
    notes = [
        *data.notes,
        *left_out(images.errors),
        *dict.fromkeys(str(warning.message) for warning in caught),
        *_remarks(names, data.names[language], targets),
    ]
    return ZeroShot(images.rows, classes, clip.scoring, targets, names, data.keys, images.kept, settings, notes)


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
) -> dict[str, Figure]:
    """Figures of (N, D) pictures and (C, D) classes, unit vectors.

    top1; top5 where there are more than 5 classes; mean_per_class over classes that have pictures; roc_auc: the mean
    over classes of one against the rest, by probability (by cosine where a picture may have several classes). With
    (N, C) targets map and map_11_point, by cosine, over classes that have pictures, and no mean_per_class."""
    answers = answers or answer(vectors, classes, scoring, targets)
    n, figures = len(vectors), {}
    for k in (1, 5):
        if k == 1 or len(classes) > k:
            hits = int((answers.rank < k).sum())
            figures[f"top{k}"] = Figure(hits / n, proportion(hits, n), n)
    several = targets.ndim == 2
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
    return figures


# ---- names and targets ----------------------------------------------------------------------------------------------


def _merged(names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The different names in order, and for each class which of them it has."""
    unique = tuple(dict.fromkeys(name.strip() for name in names))
    place = {name: index for index, name in enumerate(unique)}
    return unique, np.array([place[name.strip()] for name in names], np.int64)


def _merge_targets(targets: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    if targets.ndim == 1:
        return np.asarray(places[targets])
    merged = np.zeros((len(targets), count), bool)
    for old, new in enumerate(places):
        merged[:, new] |= targets[:, old]
    return merged


def _sentences(data: Labelled, language: str, templates: str | Sequence[str] | None) -> tuple[str, tuple[str, ...]]:
    """What the templates are called, and the templates."""
    if templates is None and data.templates.get(language):
        return "the data's own", tuple(data.templates[language])
    if templates is None:
        try:
            return "simple", prompts.templates("simple", language)
        except UsageError:  # a language that awase has no sentences in: the names as they are
            return "none", (prompts.SLOT,)
    if isinstance(templates, str):
        return templates, prompts.templates(templates, language)
    return "given", tuple(templates)


def _remarks(names: tuple[str, ...], all_names: Sequence[str], targets: np.ndarray) -> list[str]:
    sizes = targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=len(names))
    notes = []
    if shared := len(all_names) - len(names):
        stripped = [name.strip() for name in all_names]
        twice = [name for name in names if stripped.count(name) > 1]
        notes.append(f"{shared} classes have another's name and count as one with it: {_some(twice)}")
    if empty := [name for name, size in zip(names, sizes, strict=True) if not size]:
        notes.append(f"{len(empty)} classes have no picture; they are candidates, and in no mean: {_some(empty)}")
    if len(names) == 1:
        notes.append("there is one class only: every answer is right, and the figures say nothing")
    if targets.ndim == 2 and (none := int((~targets.any(axis=1)).sum())):
        notes.append(f"{none} pictures are of no class; whatever is answered to them counts as wrong in top1")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


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


# ---- tables and examples --------------------------------------------------------------------------------------------


def _class_rows(found: ZeroShot, answers: Answers) -> list[dict[str, Any]]:
    """A row for each class that has pictures. top1: the share of its pictures for which it is the likeliest.
    probability: the mean that they give it, where a picture has one class."""
    rows = []
    for index, name in enumerate(found.names):
        several = found.targets.ndim == 2
        own = found.targets[:, index] if several else found.targets == index
        n = int(own.sum())
        if not n:
            continue
        right = int((answers.predicted[own] == index).sum())
        low, high = proportion(right, n)
        row = {"class": name, "n": n, "top1": right / n, "low": low, "high": high}
        rows.append(row if several else row | {"probability": float(answers.true_probability[own].mean())})
    return rows


def _confusions(found: ZeroShot, answers: Answers) -> list[dict[str, Any]]:
    """Which class is taken for which, the most frequent first. share: of the true class's pictures."""
    if found.targets.ndim == 2:
        return []
    wrong = ~answers.correct
    pairs = np.stack([found.targets[wrong], answers.predicted[wrong]], axis=1)
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    sizes = np.bincount(found.targets, minlength=len(found.names))
    return [
        {
            "true": found.names[kinds[i, 0]],
            "predicted": found.names[kinds[i, 1]],
            "count": int(counts[i]),
            "share": float(counts[i] / sizes[kinds[i, 0]]),
        }
        for i in np.argsort(-counts, kind="stable")[:CONFUSIONS]
    ]


def _mistakes(found: ZeroShot, answers: Answers, data: Labelled) -> list[dict[str, Any]]:
    """The wrong answers with the highest probability: errors of the model or of the labels."""
    wrong = np.flatnonzero(~answers.correct)
    surest = wrong[np.argsort(-answers.probability[wrong], kind="stable")[:MISTAKES]]
    several = found.targets.ndim == 2
    return [
        {
            "picture": data.pictures[found.pictures[i]],
            "true": ", ".join(np.array(found.names)[found.targets[i]]) if several else found.names[found.targets[i]],
            "predicted": found.names[answers.predicted[i]],
            "probability": float(answers.probability[i]),
        }
        for i in surest
    ]
