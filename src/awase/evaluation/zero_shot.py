"""Zero-shot classification: how often is a picture's likeliest class name its own?

    zero_shot         a Clip and a data set -> a Result
    zero_shot_logits  the same up to vectors, for measures that need every class's logit

Classes with equal names are one class, for no model can tell them apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from awase.clip import Clip
from awase.datasets.assembling import EMPTY
from awase.datasets.labelled import Labelled
from awase.encoding import prompts
from awase.encoding.heads import Head, Reads
from awase.encoding.scoring import Scoring
from awase.errors import DataError, UsageError
from awase.evaluation.classification import IDENTITY, Answers, answer, classification_figures, without_its_metric
from awase.evaluation.fairness import group_figures, skew_rows
from awase.evaluation.intervals import proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Result
from awase.evaluation.vectors import check_finite, left_out, picture_vectors

MISTAKES = 24  # examples that are kept
CONFUSIONS = 30  # rows of that table


@dataclass(frozen=True)
class ZeroShot:
    """Vectors and what they stand for. vectors: (N, D). classes: (C, D), one for each different name. targets: (N,)
    int64 or (N, C) bool. names: C. pictures: (N,) which of the data's pictures. keys: what the data call classes.
    head: an adapter's, whose logits stand for the vectors."""

    vectors: np.ndarray
    classes: np.ndarray
    scoring: Scoring
    targets: np.ndarray
    names: tuple[str, ...]
    keys: tuple[str, ...]
    pictures: np.ndarray
    settings: dict[str, Any]
    notes: list[str]
    head: Head | None = None

    @property
    def reads(self) -> Reads:
        """What of a picture's the vectors are made from."""
        return self.head.reads if self.head else "vectors"

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) of what `reads` names -> what stands as `vectors`."""
        if self.head is None:
            return rows
        return self.head.logits(rows)[:, [self.head.keys.index(key) for key in self.keys]]

    @cached_property
    def logits(self) -> np.ndarray:
        """(N, C) float64: what the softmax or sigmoid of the model's family is taken of."""
        return self.scoring.logits(self.vectors @ self.classes.T)


def zero_shot(
    clip: Clip,
    data: Labelled,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Top-1 and top-5, mean per class and area under the ROC curve; for pictures of several classes mAP. The figure by
    which the set is usually reported comes first.

    language: of the class names; None is English where the data have it, else their first. templates: a name, or
    sentences with {}; None is the data's own, else "simple". A Clip's head answers where its classes are the data's and
    no templates are given. items, one per readable picture: correct, predicted and
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
    seen = found.vectors, found.classes, found.scoring, found.targets
    figures = classification_figures(*seen, answers, data.metric)
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
        notes=[*found.notes, *without_its_metric(figures, data.metric)],
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
    language = language_for(data, language)
    if clip.head and templates is None and set(clip.head.keys) == set(data.keys):
        return _of_head(clip, clip.head, data, language, progress)
    images = picture_vectors(clip, data, progress=progress)
    names, places = _merged(data.names[language])
    name_of_set, sentences = sentences_for(data, language, templates)
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
        *_remarks(names, data.names[language], targets, data.notes),
        *([f"{data.name} has other classes than the adapter: it was asked in words"] if _elsewhere(clip, data) else []),
    ]
    return ZeroShot(images.rows, classes, clip.scoring, targets, names, data.keys, images.kept, settings, notes)


def _of_head(
    clip: Clip, head: Head, data: Labelled, language: str, progress: Callable[[int, int], None] | None
) -> ZeroShot:
    """The answers of an adapter's head, whose classes are the data's: its logits stand for vectors, and the identity
    for the classes, so that every measure takes them as it takes cosines."""
    images = picture_vectors(clip, data, head.reads, progress)
    targets, count = data.targets[images.kept], len(data.keys)
    settings = {"language": language, "templates": "the adapter's classes", "sentences": 0, "classes": count}
    notes = [*data.notes, *left_out(images.errors), *_remarks(data.keys, data.keys, targets, data.notes)]
    known = data.names[language], data.keys, images.kept, settings, notes, head
    found = ZeroShot(images.rows, np.eye(count), IDENTITY, targets, *known)
    return replace(found, vectors=found.vectors_of(images.rows))


def _elsewhere(clip: Clip, data: Labelled) -> bool:
    return clip.head is not None and set(clip.head.keys) != set(data.keys)


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


def language_for(data: Labelled, language: str | None = None) -> str:
    """The language to ask in: the one given, else English where the data have it, else their first."""
    language = language or ("en" if "en" in data.names else next(iter(data.names), "en"))
    if language not in data.names:
        there = ", ".join(data.languages) or "no language"
        raise DataError(f"{data.name} has class names in {there}, and not in {language!r}; choose one that it has")
    return language


def sentences_for(
    data: Labelled, language: str, templates: str | Sequence[str] | None = None
) -> tuple[str, tuple[str, ...]]:
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


def _remarks(names: tuple[str, ...], all_names: Sequence[str], targets: np.ndarray, said: Sequence[str]) -> list[str]:
    """What a reader should know of these classes beside what the data have `said`."""
    sizes = targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=len(names))
    notes = []
    if shared := len(all_names) - len(names):
        stripped = [name.strip() for name in all_names]
        twice = [name for name in names if stripped.count(name) > 1]
        have, count = ("class has", "counts") if shared == 1 else ("classes have", "count")
        notes.append(f"{shared} {have} another's name and {count} as one with it: {_some(twice)}")
    empty = [name for name, size in zip(names, sizes, strict=True) if not size]
    if empty and not any(EMPTY in note for note in said):
        have = "1 class has" if len(empty) == 1 else f"{len(empty)} classes have"
        notes.append(f"{have} no picture: a possible answer, and in no mean: {_some(empty)}")
    if len(names) == 1:
        notes.append("there is one class only: every answer is right, and the figures say nothing")
    if targets.ndim == 2 and (none := int((~targets.any(axis=1)).sum())):
        notes.append(f"{none} pictures are of no class; whatever is answered to them counts as wrong in top1")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


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
