"""Split conformal prediction: sets of classes that hold the true one as often as promised, whatever the model.

From n pictures with known classes a threshold is taken so that a new picture's set misses its class with probability at
most 1 - coverage, on average over such draws of pictures (and over-covers by at most 1 / (n + 1) where scores do not
tie). Three scores: "lac", one minus the class's probability: the smallest sets (Sadinle et al., 2019). "aps", the
probability of all classes down to it: sets that widen where a picture is hard (Romano et al., 2020). "raps", the same
with a price on long sets (Angelopoulos et al., 2021). Measures work on (N, C) probabilities; `conformal` runs them on a
Clip and a data set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from awase.clip import Clip
from awase.datasets.labelled import Labelled, refuse_one_split_twice
from awase.encoding.scoring import softmax
from awase.errors import DataError, UsageError
from awase.evaluation.intervals import bootstrap, proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.zero_shot import zero_shot_logits

Kind = Literal["lac", "aps", "raps"]
PRICE, FREE = 0.01, 5  # of "raps": added for each class past the first FREE, the authors' setting for ImageNet


def strangeness(probabilities: np.ndarray, kind: Kind = "lac") -> np.ndarray:
    """(N, C) probabilities -> (N, C): how strange each class would be as the picture's. Higher is stranger."""
    if kind == "lac":
        return np.asarray(1 - probabilities)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    mass = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    if kind == "raps":
        mass = mass + PRICE * np.maximum(0, np.arange(1, mass.shape[1] + 1) - FREE)
    found = np.empty_like(mass)
    np.put_along_axis(found, order, mass, axis=1)
    return found


def threshold(probabilities: np.ndarray, targets: np.ndarray, coverage: float = 0.9, kind: Kind = "lac") -> float:
    """The largest strangeness that a set lets in: the ceil((n + 1) coverage)-th smallest of the true classes'.

    Raises DataError where n is too small to promise anything short of every class."""
    if not 0 < coverage < 1:
        raise UsageError(f"a coverage of {coverage} was asked for; it lies between 0 and 1, usually 0.9")
    count = len(targets)
    rank = math.ceil((count + 1) * coverage - 1e-9)  # 1e-9: (n + 1) coverage may be whole
    if rank > count:
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise DataError(f"too few pictures: sets with {coverage:.0%} coverage need at least {needed}, here are {count}")
    true = np.take_along_axis(strangeness(probabilities, kind), targets[:, None], axis=1)[:, 0]
    return float(np.partition(true, rank - 1)[rank - 1])


def sets(probabilities: np.ndarray, threshold: float, kind: Kind = "lac") -> np.ndarray:
    """(N, C) bool: the classes of each picture's set. It may be empty ("lac"): nothing there is likely enough."""
    return np.asarray(strangeness(probabilities, kind) <= threshold)


def conformal(
    clip: Clip,
    data: Labelled,
    validation: Labelled,
    coverage: float = 0.9,
    kind: Kind = "lac",
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
) -> Result:
    """Sets whose threshold comes from `validation`, and how often they hold the true class of `data`'s pictures.

    items: "covered", "size", "picture". Raises DataError for pictures of several classes, splits that are one or of
    different classes, and too few validation pictures."""
    refuse_one_split_twice(data, validation, "chosen on and measured on")
    known, found = (zero_shot_logits(clip, split, language, templates) for split in (validation, data))
    if data.multi_label or validation.multi_label:
        raise DataError(f"{data.name}: conformal sets are for pictures of one class each; here they may have several")
    if known.names != found.names:
        raise DataError(f"{validation.name} has other classes than {data.name}; a threshold needs the same")
    limit = threshold(softmax(known.logits), known.targets, coverage, kind)
    members = sets(softmax(found.logits), limit, kind)
    n = len(found.targets)
    covered, size = members[np.arange(n), found.targets], members.sum(axis=1)
    return Result(
        task="conformal",
        data=data.name,
        split=data.split,
        model=clip.name,
        n=n,
        figures={
            "coverage": Figure(float(covered.mean()), proportion(int(covered.sum()), n), n),
            "set_size": Figure(float(size.mean()), bootstrap(size), n),
        },
        settings={**found.settings, "metric": "coverage", "coverage": coverage, "kind": kind, "threshold": limit},
        items={"covered": covered, "size": size, "picture": found.pictures},
        notes=[*found.notes, f"the threshold comes from {len(known.targets):,} pictures of {validation.split}"],
        provenance=provenance(clip, data),
    )
