"""How far a linear classifier on frozen features gets: of a Clip, or of any other backbone, to compare with.

`probes` has the protocol. Training and validation pictures fit the classifier; test pictures are classified once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from awase.clip import Clip
from awase.datasets.labelled import Labelled, refuse_one_split_twice
from awase.errors import DataError, UsageError
from awase.evaluation.backbones import Backbone, backbone_features
from awase.evaluation.classification import EACH_ALONE, IDENTITY, answer, classification_figures, without_its_metric
from awase.evaluation.intervals import crossed_proportion
from awase.evaluation.probes import Features, Probe, fit_few_shot_probe, fit_probe
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.vectors import left_out, picture_vectors

SAME = 1 - 1e-6  # cosine of centred features from which two pictures are taken for one


def linear_probe(
    model: Clip | Backbone,
    train: Labelled,
    test: Labelled,
    validation: Labelled | None = None,
    shots: Sequence[int] | None = None,
    seeds: int = 3,
) -> Result:
    """How good on `test` is a classifier from all training pictures and, with `shots`, from a few of each class: the
    figures of zero-shot classification, that by which the set is usually reported first.

    A Clip's features are those before the projection. items: "correct", "probability" (of the answer), "target",
    "predicted", "picture". tables: "strengths" (on validation pictures, at each) and "few_shot" (`_few_shot_curve`).
    Raises DataError for splits of different classes and training pictures of fewer than two, UsageError for few shots
    of pictures with several classes."""
    given = [data for data in (train, test, validation) if data is not None]
    for data in (train, *given[2:]):
        _check(data, test)
    if validation is not None:
        refuse_one_split_twice(train, validation, "fitted on and chosen on")
    if shots and test.multi_label:
        raise UsageError(f"{test.name}: its pictures have several classes, and shots are so many of one class each")
    splits = [_split(model, data) for data in given]
    known = splits[2].features if validation is not None else None
    (learnt, _, _), (asked, kept, _) = splits[:2]
    probe = fit_probe(learnt, len(test.keys), known)
    items, figures = _answers(probe, asked, test.metric)
    measured = "map" if test.multi_label else "accuracy"
    tables = {"strengths": [{"strength": strength, measured: found} for strength, found in probe.tried.items()]}
    notes = [note for split in splits for note in split.notes]
    notes += _seen_before(learnt + known if known else learnt, asked)
    notes += without_its_metric(figures, test.metric)
    if shots:
        curve, more = _few_shot_curve(learnt, asked, known, len(test.keys), shots, seeds)
        figures |= {f"top1_{n}_shot": figure for n, (figure, _) in curve.items()}
        tables["few_shot"] = [row for _, row in curve.values()]
        notes += more
    return Result(
        task="linear-probe",
        data=test.name,
        split=test.split,
        model=model.name,
        n=len(asked),
        figures=figures,
        settings={
            "metric": test.metric,
            "strength": probe.strength,
            "train": len(learnt),
            "validation": len(known) if known else "a fifth of train",
            **({"shots": list(shots), "seeds": seeds} if shots else {}),
        },
        items=items | {"picture": kept},
        tables=tables,
        notes=notes,
        provenance=provenance(model, test),
    )


class _Split(NamedTuple):
    features: Features
    kept: np.ndarray
    notes: list[str]


def _check(data: Labelled, test: Labelled) -> None:
    refuse_one_split_twice(test, data, "fitted on and measured on")
    if data.keys != test.keys or data.multi_label != test.multi_label:
        raise DataError(
            f"{data.name}, {data.split} and {test.name}, {test.split} have different classes "
            f"({_classes(data)} and {_classes(test)}); a classifier needs the same in the same order"
        )


def _classes(data: Labelled) -> str:
    return f"{len(data.keys)}, {'several a picture' if data.multi_label else 'one a picture'}"


def _split(model: Clip | Backbone, data: Labelled) -> _Split:
    found = backbone_features(model, data) if isinstance(model, Backbone) else picture_vectors(model, data, "features")
    return _Split(Features(found.rows, data.targets[found.kept]), found.kept, [*data.notes, *left_out(found.errors)])


def _answers(probe: Probe, test: Features, metric: str) -> tuple[dict[str, np.ndarray], dict[str, Figure]]:
    """What is answered to each picture, and the figures: logits stand for vectors, as one class's row is its own."""
    logits = probe.linear.logits(test.rows)
    seen = logits, np.eye(logits.shape[1], dtype=np.float32), EACH_ALONE if test.targets.ndim == 2 else IDENTITY
    found = answer(*seen, test.targets)
    items = {
        "correct": found.correct,
        "probability": found.probability,
        "target": test.targets,
        "predicted": found.predicted,
    }
    return items, classification_figures(*seen, test.targets, found, metric)


def _few_shot_curve(
    train: Features, test: Features, validation: Features | None, classes: int, shots: Sequence[int], seeds: int
) -> tuple[dict[int, tuple[Figure, dict[str, Any]]], list[str]]:
    """shots -> its figure and its row for the table; notes on what could not be drawn.

    A row has the mean over `seeds` draws of training pictures, the deviation over them, and the interval of the mean,
    in which draws and test pictures both count as samples."""
    if seeds < 1 or any(n < 1 for n in shots):
        raise UsageError(f"few-shot curves need at least one seed and one shot; given were {seeds} and {list(shots)}")
    curve, notes = {}, []
    if seeds == 1:
        notes.append("few shots: one draw only, so their intervals speak of these training pictures and no others")
    fewest = int(np.bincount(train.targets, minlength=classes).min())
    for n in sorted(set(shots)):
        if n > fewest:
            notes.append(f"{n} shots: some classes have only {fewest} training pictures, and gave what they have")
        try:
            probes = [fit_few_shot_probe(train, classes, n, seed, validation) for seed in range(seeds)]
        except DataError as problem:
            notes.append(f"{n} shots left out: {problem}")
            continue
        correct = np.stack([probe.linear.logits(test.rows).argmax(axis=1) == test.targets for probe in probes])
        (low, high), mean = crossed_proportion(correct), float(correct.mean())
        deviation = float(correct.mean(axis=1).std(ddof=1)) if seeds > 1 else None
        row = {"shots": n, "top1": mean, "low": low, "high": high, "deviation": deviation, "seeds": seeds}
        curve[n] = Figure(mean, (low, high), len(test)), row
    return curve, notes


def _seen_before(fitted: Features, test: Features) -> list[str]:
    """A note where test pictures are among those that were fitted on: of equal pictures, features are equal.

    Along any one direction equal features lie at one place; only neighbours there are compared in full."""
    centre = fitted.rows.mean(axis=0)
    seen, asked = (_unit(split.rows - centre) for split in (fitted, test))
    direction = np.random.default_rng(0).standard_normal(seen.shape[1], np.float32)
    places = seen @ direction
    order = np.argsort(places)
    reach = 5 * np.sqrt(2 * (1 - SAME))  # five standard deviations of what equal pictures may lie apart
    start, end = (np.searchsorted(places[order], asked @ direction + by) for by in (-reach, reach))
    twice = sum(
        bool((seen[order[a:b]] @ row > SAME).any()) for row, a, b in zip(asked, start, end, strict=True) if b > a
    )
    if not twice:
        return []
    return [f"{twice:,} of {len(test):,} test pictures are also among those that were fitted on: the figures flatter"]


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
