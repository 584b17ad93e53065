"""The data of `awase adapt`: which splits are learned from and chosen on. Never a test split."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from awase.errors import DataError, UsageError

if TYPE_CHECKING:
    from awase.datasets import Captioned, Found, Labelled


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    parser.add_argument("data", metavar="DATA", help="folder, archive or table of a data set")
    group.add_argument("--train", metavar="S", help="split that is learned from (default: train)")
    group.add_argument("--validation", metavar="S", help="split that is chosen on (default: val, where there is one)")
    group.add_argument("--definition", metavar="NAME", help="names and templates of a published set, as eurosat")
    group.add_argument("--column", metavar="C", help="of a table with several: the one that holds the class")
    group.add_argument("--language", metavar="L", help="of the class names: en, ja (default: en where there are any)")
    group.add_argument("--template", metavar="T", help='a sentence with {} for the class, as "a drawing of a {}."')


def open_labelled_splits(given: argparse.Namespace) -> tuple[Labelled, Labelled | None]:
    """Training and validation pictures with classes; no validation where the data have none."""
    from awase.evaluation.tasks import open_classes

    def opened(split: str) -> Labelled:
        return open_classes(given.data, split, given.definition, given.column)

    train, validation = _names(given, "labelled")
    try:
        return opened(train), opened(validation) if validation else None
    except DataError as problem:
        if not (sentences := [column for found in _sets(given, "captioned") for column in found.columns]):
            raise
        raise DataError(f"{problem}; awase adapt learns from its sentences with --captions {sentences[0]}") from problem


def open_captioned_splits(given: argparse.Namespace) -> tuple[Captioned, Captioned | None]:
    """The same of pictures with sentences."""
    from awase.datasets import open_captioned

    train, validation = _names(given, "captioned")
    column = given.captions or "captions"
    if given.column and not given.captions:
        raise DataError(
            f"{given.data} has no column {given.column!r} of classes, only sentences; leave --column out to learn those"
        )
    found = open_captioned(given.data, train, column)
    return found, open_captioned(given.data, validation, column) if validation else None


def holds_classes(given: argparse.Namespace) -> bool:
    """Whether the data have classes; else they have sentences."""
    return bool(_sets(given, "labelled"))


def _sets(given: argparse.Namespace, kind: str) -> list[Found]:
    from awase.datasets import find_sets

    return [found for found in find_sets(given.data) if found.kind == kind]


def _names(given: argparse.Namespace, kind: str) -> tuple[str, str | None]:
    """Names of the two splits."""
    from awase.datasets.splits import ALL, kind_of

    found = _sets(given, kind)
    splits = found[0].splits if found else ()
    train = given.train or next((name for name in splits if name == ALL or kind_of(name) == "train"), None)
    if train is None and not found:
        raise DataError(_what_is_missing(given, kind))
    if train is None:
        there = ", ".join(splits) or "none"
        raise DataError(f"{given.data} has no split to learn from (its splits: {there}); name one with --train")
    validation = given.validation or next((name for name in splits if kind_of(name) == "val"), None)
    if train == given.validation:
        raise UsageError(
            f"--validation {train}: it is learned from, and so says nothing of what was learned; name another"
        )
    return train, validation if validation != train else None


def _what_is_missing(given: argparse.Namespace, kind: str) -> str:
    """Why data without classes (or without sentences) cannot be learned from, and what to do."""
    if kind == "captioned" and _sets(given, "labelled"):
        return f"{given.data} has classes and no sentences for --captions {given.captions}; leave --captions out"
    if kind == "labelled" and _sets(given, "captioned"):
        return f"{given.data} has sentences and no classes; put pictures into train/CLASS/, or use adapt learn"
    return (
        f"{given.data} has neither classes nor sentences; put pictures into train/CLASS/, add a table of them, or "
        "learn one thing alone with --word"
    )
