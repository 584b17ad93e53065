"""Are the probabilities true: of all answers given with 80 % confidence, are 80 % right?

Calibration error in its usual kinds, proper scores, the data of a reliability diagram, and temperature scaling, the one
number that mends most of it and changes no answer (Guo et al., 2017, arXiv:1706.04599). Measures are functions of
arrays; `calibration` runs them on a Clip and a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from awase.clip import Clip
from awase.datasets.labelled import Labelled, refuse_one_split_twice
from awase.encoding.scoring import softmax
from awase.errors import DataError
from awase.evaluation.abstention import abstention
from awase.evaluation.conformal import conformal
from awase.evaluation.intervals import Interval, bootstrap, proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.zero_shot import ZeroShot, zero_shot_logits

BINS = 15  # Guo et al., 2017
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures that are looked for


def expected_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """ECE: the mean gap between confidence and accuracy over bins of equal width, weighed by their pictures.

    confidence: (N,) in [0, 1], of the answer. correct: (N,) whether it is right. Naeini et al., 2015."""
    places = _places(confidence, bins)
    gaps = np.bincount(places, np.asarray(confidence, np.float64) - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def adaptive_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """The same over bins that hold equally many pictures. Nguyen & O'Connor, 2015."""
    order = np.argsort(confidence, kind="stable")
    gaps = (np.asarray(confidence, np.float64) - correct)[order]
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, bins)) / len(gaps))


def classwise_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """The mean over the C classes of the ECE of (N, C) each class's probability. Kull et al., 2019."""
    classes = probabilities.shape[1]
    return float(np.mean([expected_error(probabilities[:, c], targets == c, bins) for c in range(classes)]))


def surprise(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N,) minus the logarithm of the true class's probability, in nats; its mean is the NLL."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return np.asarray(total - logits[np.arange(len(targets)), targets])


def brier(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N,) sum over classes of (probability - truth)^2, in [0, 2]; its mean is the Brier score. Brier, 1950."""
    true = probabilities[np.arange(len(targets)), targets]
    return np.asarray((probabilities**2).sum(axis=1) - 2 * true + 1)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """A row for each bin that holds pictures: its edges, n, mean confidence, accuracy and the interval of that."""
    places, rows = _places(confidence, bins), []
    for place in np.unique(places):
        inside = places == place
        right, count = int(correct[inside].sum()), int(inside.sum())
        low, high = proportion(right, count)
        rows.append(
            {
                "from": float(place / bins),
                "to": float((place + 1) / bins),
                "n": count,
                "confidence": float(confidence[inside].mean()),
                "accuracy": right / count,
                "low": low,
                "high": high,
            }
        )
    return rows


def temperature(logits: np.ndarray, targets: np.ndarray, doubt: float = 0.0) -> float:
    """The T > 0 for which softmax(logits / T) has the smallest NLL on these pictures.

    The NLL is convex in 1 / T, so its slope is zero at one place, which bisection finds; where every answer is right
    the NLL falls as T does, and the coldest is returned. doubt: this share of each truth is spread over all classes,
    so that few pictures, all answered right, do not make a model sure of everything (Platt, 1999)."""
    true = (1 - doubt) * logits[np.arange(len(targets)), targets] + doubt * logits.mean(axis=1)

    def slope(inverse: float) -> float:
        return float(((softmax(inverse * logits) * logits).sum(axis=1) - true).mean())

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if slope(np.exp(middle)) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def calibration(
    clip: Clip,
    data: Labelled,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
    validation: Labelled | None = None,
    error: float = 0.05,
    coverage: float = 0.9,
) -> Result:
    """How true the probabilities of zero-shot classification are. With `validation` also: the same after temperature
    scaling (figures that end in _scaled), a threshold below which no answer is given so that at most the share `error`
    of answers is wrong (`abstention`), and sets that hold the true class with a chance of `coverage` (`conformal`).

    Sigmoid families are scored by the softmax of their logits here, for every picture has one class. tables:
    "reliability". items: "correct", "confidence", "surprise", "brier", "picture". Raises DataError for pictures of
    several classes and a validation split that is `data`'s own or of other classes."""
    if validation is not None:
        refuse_one_split_twice(data, validation, "chosen on and measured on")
    found = _one_class(zero_shot_logits(clip, data, language, templates), data)
    items = _items(found.logits, found.targets)
    figures = _figures(found.logits, found.targets)
    tables = {"reliability": reliability(items["confidence"], items["correct"])}
    notes = list(found.notes)
    if clip.scoring.kind == "sigmoid":
        notes.append("probabilities are the softmax of this sigmoid family's logits, for each picture has one class")
    if validation is not None:
        known = _one_class(zero_shot_logits(clip, validation, language, templates), validation)
        if known.names != found.names:
            raise DataError(f"{validation.name} has other classes than {data.name}; a temperature needs the same")
        t = temperature(known.logits, known.targets)
        scaled = _items(found.logits / t, found.targets)
        figures["temperature"] = Figure(t, _temperature_interval(known.logits, known.targets), len(known.targets))
        figures |= {f"{name}_scaled": figure for name, figure in _figures(found.logits / t, found.targets).items()}
        tables["reliability_scaled"] = reliability(scaled["confidence"], scaled["correct"])
        notes.append(f"the temperature comes from {len(known.targets):,} pictures of {validation.split}")
        for name, found_figures, note in _promises(clip, data, validation, error, coverage, language, templates):
            figures |= found_figures
            notes.append(f"{name}: {note}")
    return Result(
        task="calibration",
        data=data.name,
        split=data.split,
        model=clip.name,
        n=len(found.targets),
        figures=figures,
        settings={**found.settings, "metric": "ece", "bins": BINS},
        items={**items, "picture": found.pictures},
        tables=tables,
        notes=notes,
        provenance=provenance(clip, data),
    )


# ---- parts ----------------------------------------------------------------------------------------------------------


def _promises(
    clip: Clip,
    data: Labelled,
    validation: Labelled,
    error: float,
    coverage: float,
    language: str | None,
    templates: str | Sequence[str] | None,
) -> Iterator[tuple[str, Mapping[str, Figure], str]]:
    """What can be promised of single answers: (name, figures, what to know of them)."""
    refusing = abstention(clip, data, validation, error, language, templates)
    yield f"answers of which at most {error:.1%} are wrong", refusing.figures, refusing.notes[-1]
    name = f"sets that hold the true class in {coverage:.0%}"
    try:
        found = conformal(clip, data, validation, coverage, "lac", language, templates)
        yield name, found.figures, found.notes[-1]
    except DataError as problem:
        yield name, {}, str(problem)


def _one_class(found: ZeroShot, data: Labelled) -> ZeroShot:
    if data.multi_label:
        raise DataError(f"{data.name}: calibration is for pictures of one class each; here they may have several")
    return found


def _items(logits: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    probabilities = softmax(logits)
    return {
        "correct": logits.argmax(axis=1) == targets,
        "confidence": probabilities.max(axis=1),
        "surprise": surprise(logits, targets),
        "brier": brier(probabilities, targets),
    }


def _figures(logits: np.ndarray, targets: np.ndarray) -> dict[str, Figure]:
    items, n = _items(logits, targets), len(targets)
    rows = np.stack([items["confidence"], items["correct"]], axis=1)
    correct = items["correct"]

    def error(measure: Callable[[np.ndarray, np.ndarray], float]) -> Figure:
        value = measure(rows[:, 0], rows[:, 1])
        return Figure(value, _reflected(value, bootstrap(rows, lambda some: measure(some[:, 0], some[:, 1]))), n)

    return {
        "ece": error(expected_error),
        "adaptive_ece": error(adaptive_error),
        "classwise_ece": Figure(classwise_error(softmax(logits), targets), None, n),
        "nll": Figure(float(items["surprise"].mean()), bootstrap(items["surprise"]), n),
        "brier": Figure(float(items["brier"].mean()), bootstrap(items["brier"]), n),
        "top1": Figure(float(correct.mean()), proportion(int(correct.sum()), n), n),
        "confidence": Figure(float(items["confidence"].mean()), bootstrap(items["confidence"]), n),
    }


def _reflected(value: float, interval: Interval) -> Interval:
    """Resampling adds noise to every bin, so that the errors of resampled pictures lie too high by as much as the error
    found does; reflecting their interval at it takes that off (the basic bootstrap; Davison & Hinkley, 1997, 5.2).
    Where nearly all lie on one side, the interval ends at the error found."""
    low, high = (min(max(2 * value - end, 0.0), 1.0) for end in reversed(interval))
    return min(low, value), max(high, value)


def _temperature_interval(logits: np.ndarray, targets: np.ndarray) -> Interval:
    """By the curvature and the spread of the slope in log T at the minimum (a sandwich of one dimension)."""
    t = temperature(logits, targets)
    p, scaled = softmax(logits / t), logits / t
    mean = (p * scaled).sum(axis=1)
    slopes = scaled[np.arange(len(targets)), targets] - mean
    curvature = ((p * scaled**2).sum(axis=1) - mean**2).sum()
    error = 1.96 * np.sqrt((slopes**2).sum()) / max(curvature, 1e-12)
    return float(t * np.exp(-error)), float(t * np.exp(min(error, 50)))


def _places(values: np.ndarray, bins: int) -> np.ndarray:
    """(N,) values in [0, 1] -> the bin of each, of equal width, open below and closed above."""
    return np.asarray(np.clip(np.ceil(np.asarray(values, np.float64) * bins) - 1, 0, bins - 1), np.int64)
