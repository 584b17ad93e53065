"""What an evaluation found: figures with intervals, what they rest on, and each item's outcome for paired tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SCHEMA = 1  # of `to_json`: raised when a name changes its meaning


@dataclass(frozen=True)
class Figure:
    """One number. interval: 95 %, None where none can be given. n: what it is a mean over."""

    value: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Result:
    """One task on one data set with one model.

    figures: name -> figure; accuracies and recalls are fractions in [0, 1]. settings: what was asked for (language,
    templates, ...). items: name -> an array with one row per item ("correct", "rank"), by which two results on the same
    data are compared item by item. tables: name -> rows, for people. examples: pictures with a word on each, for
    people. notes: what a careful reader should know. provenance: command, hashes of model and data, versions."""

    task: str
    data: str
    split: str
    model: str
    n: int
    figures: Mapping[str, Figure]
    settings: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[str, np.ndarray] = field(default_factory=dict)
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready object: "metrics" and "intervals" by name beside task, data, split, model and n."""
        return {
            "schema": SCHEMA,
            "task": self.task,
            "data": self.data,
            "split": self.split,
            "model": self.model,
            "n": self.n,
            "metrics": {name: figure.value for name, figure in self.figures.items()},
            "intervals": {name: list(f.interval) for name, f in self.figures.items() if f.interval is not None},
            "counts": {name: figure.n for name, figure in self.figures.items()},
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }
