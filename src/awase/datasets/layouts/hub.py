"""Data sets of the Hugging Face Hub through `datasets`, where it is installed: "hub:NAME" or "hub:NAME:CONFIGURATION".

Only data are loaded: `datasets` runs no code of a repository. Pictures stay encoded until they are used."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from awase.datasets.folders import Folder
from awase.datasets.rows import Layout, Row
from awase.errors import DataError, MissingExtra

PREFIX = "hub:"


@dataclass(frozen=True)
class HubPicture:
    """A picture of a hub data set, read from its cache on disk when opened."""

    name: str
    data: Any = field(repr=False)
    column: str = field(repr=False)
    row: int = field(repr=False)

    def open(self, mode: str = "rb") -> BinaryIO:
        cell = self.data[self.row][self.column]
        return io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else open(cell["path"], "rb")


def open_hub(address: str) -> Layout:
    """Raises MissingExtra without `datasets`, DataError where the Hub has no such data set or no picture is in it."""
    try:
        import datasets
    except ImportError as problem:
        raise MissingExtra("a data set of the Hub", "hub") from problem
    name, _, configuration = address.removeprefix(PREFIX).partition(":")
    try:
        told = datasets.load_dataset(name, configuration or None)
    except Exception as problem:  # its own errors, the Hub's and the network's have no common base
        reason = str(problem).split("\n")[0][:200]
        raise DataError(
            f"{address} could not be loaded from the Hub ({reason}): check the name and the network"
        ) from problem
    splits = {split: partial(_rows, address, split, data) for split, data in told.items()}
    return Layout(name.rpartition("/")[2], Folder(address, lambda _: ({}, {})), splits)


def _rows(address: str, split: str, data: Any) -> Iterator[Row]:
    import datasets

    column = next((n for n, feature in data.features.items() if isinstance(feature, datasets.Image)), None)
    if column is None:
        raise DataError(f"{address} has no column of pictures; there are {', '.join(data.features)}")
    data = data.cast_column(column, datasets.Image(decode=False))
    named = {n: feature for n, feature in data.features.items() if isinstance(feature, datasets.ClassLabel)}
    for row, values in enumerate(data.remove_columns(column)):
        for label, feature in named.items():
            values[label] = feature.int2str(values[label]) if values[label] is not None else None
        where = f"{address} {split} row {row}"
        yield Row(where, HubPicture(where, data, column, row), where, values)
