"""Pictures with classes: what every layout of labelled pictures is read into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from awase.encoding.pictures import Picture
from awase.errors import DataError, PictureError


@dataclass(frozen=True)
class Labelled:
    """N pictures of C classes. Raises DataError where its parts do not fit together.

    keys: the C classes as the data names them (folders, ids). names: language -> what each class is called, C names.
    targets: (N,) int64 class of each picture, or (N, C) bool where a picture may have several classes.
    templates: language -> sentences with {} that suit this set; empty where it has none of its own.
    metric: the figure by which this set is usually reported. groups: attribute -> its value for each picture.
    notes: what was left out and why, a line each, for the report. unusable: samples that were left out because they are
    damaged, each named."""

    name: str
    split: str
    pictures: Sequence[Picture]
    targets: np.ndarray
    keys: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metric: str = "top1"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())
    unusable: tuple[PictureError, ...] = field(default=())

    def __post_init__(self) -> None:
        count, classes = len(self.pictures), len(self.keys)
        shapes = [(count,), (count, classes)]
        if self.targets.shape not in shapes:
            raise DataError(f"{self.name}: {count} pictures of {classes} classes have targets {self.targets.shape}")
        for language, names in self.names.items():
            if len(names) != classes:
                raise DataError(f"{self.name}: {classes} classes have {len(names)} names in {language!r}")
        for attribute, values in self.groups.items():
            if len(values) != count:
                raise DataError(f"{self.name}: {count} pictures have {len(values)} values of {attribute!r}")
        if not self.multi_label and count and not 0 <= self.targets.min() <= self.targets.max() < classes:
            raise DataError(f"{self.name}: a target lies outside the {classes} classes")

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def multi_label(self) -> bool:
        return self.targets.ndim == 2

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.names)


def refuse_one_split_twice(one: Labelled, other: Labelled, doing: str) -> None:
    """Raises DataError where two data that have to be different pictures are one split of one set. doing: what the two
    are for, as "fitted on and measured on"."""
    if (one.name, one.split) == (other.name, other.split):
        raise DataError(f"{one.name}: {one.split} cannot be {doing}; name two splits")
