"""Names of splits: which names mean one, and which one a caller means."""

from __future__ import annotations

import re
from collections.abc import Iterable

from awase.errors import DataError

ALL = "all"
"""The one split of data that are not divided."""
_ALIKE = {
    "test": ("test", "testing", "eval", "evaluation"),
    "val": ("val", "valid", "validation", "dev", "development", "minival"),
    "train": ("train", "training", "trainval"),
}
_KINDS = {name: kind for kind, names in _ALIKE.items() for name in names}


def kind_of(name: str) -> str | None:
    """ "train", "val" or "test" for the name of a split ("validation", "dev", "val2017"); None for any other name."""
    return _KINDS.get(re.sub(r"[-_.]?\d+$", "", name.lower()))


def split_in(stem: str) -> str | None:
    """The split that the name of a shard or table begins with: "train-00000-of-00002" -> "train"; None for none."""
    first = re.split(r"[-_.]", stem, maxsplit=1)[0]
    return first if kind_of(first) else None


def choose(name: str, there: Iterable[str], asked: str | None) -> str:
    """The split to open. Nothing asked: the test split, or else validation, or else training. "val" also finds "dev".

    Raises DataError that lists the splits there are."""
    splits = list(there)
    if asked in splits:
        return str(asked)
    wanted = [kind_of(asked)] if asked else ["test", "val", "train"]
    for kind in wanted:
        found = [split for split in splits if kind and kind_of(split) == kind]
        if found and (len(found) == 1 or not asked):
            return found[0]
    if not asked:
        return splits[0]
    remedy = "it is not divided: leave the split out" if splits == [ALL] else f"there are {', '.join(splits)}"
    raise DataError(f"{name} has no split {asked!r}; {remedy}")
