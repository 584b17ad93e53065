"""A few pictures of a data set, to see in seconds that everything works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from awase.datasets.captioned import Captioned
from awase.datasets.labelled import Labelled

FEW = 12


def few_labelled(data: Labelled, count: int = FEW) -> Labelled:
    """Spread over the whole set, so that most classes are met."""
    rows = _spread(len(data), count)
    return replace(
        data,
        pictures=[data.pictures[i] for i in rows],
        targets=data.targets[rows],
        groups={name: tuple(values[i] for i in rows) for name, values in data.groups.items()},
    )


def few_captioned(data: Captioned, count: int = FEW) -> Captioned:
    """Pictures that have sentences, with these."""
    described = np.unique(data.owners)
    rows = described[_spread(len(described), count)]
    kept = np.flatnonzero(np.isin(data.owners, rows)).tolist()
    return replace(
        data,
        pictures=[data.pictures[i] for i in rows],
        captions=[data.captions[i] for i in kept],
        owners=np.searchsorted(rows, data.owners[kept]),
        groups={name: tuple(values[i] for i in rows) for name, values in data.groups.items()},
    )


def _spread(count: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(count - 1, 0), min(wanted, count)).round().astype(np.int64))
