"""Every split of a data set laid end to end: what checks look at, because leaks lie between splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from awase.datasets.captioned import Captioned
from awase.datasets.labelled import Labelled
from awase.encoding.pictures import Picture, name_of
from awase.errors import UsageError


@dataclass(frozen=True)
class Whole:
    """N pictures of S splits, with classes or with sentences.

    part: (N,) int64, the split of each. targets: (N,) int64 or (N, C) bool; None for captioned pictures. captions: M
    sentences of the pictures owners (M,) int64; empty for labelled ones. The rest as in `Labelled` and `Captioned`."""

    name: str
    splits: tuple[str, ...]
    part: np.ndarray
    pictures: Sequence[Picture]
    targets: np.ndarray | None = None
    keys: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    owners: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    column: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def classes(self) -> np.ndarray | None:
        """(N,) the one class of each picture; None for sentences, and where a picture may have several."""
        return self.targets if self.targets is not None and self.targets.ndim == 1 else None

    def called(self, place: int) -> str:
        """The last parts of a picture's path: enough to find it again, and nothing of whose machine it lay on."""
        return "/".join(name_of(self.pictures[place]).replace("\\", "/").split("/")[-3:])

    def class_of(self, place: int) -> str:
        """The key of its class, of its classes with commas between them, or nothing."""
        if self.targets is None:
            return ""
        mine = self.targets[place]
        return self.keys[mine] if self.targets.ndim == 1 else ", ".join(self.keys[c] for c in np.flatnonzero(mine))


def whole_of(parts: Sequence[Labelled] | Sequence[Captioned]) -> Whole:
    """Splits of one set, in the order given. Raises UsageError for none, and for splits with different classes."""
    if not parts:
        raise UsageError("there is no split to check")
    first = parts[0]
    sizes = [len(part) for part in parts]
    shared = {
        "name": first.name,
        "splits": tuple(part.split for part in parts),
        "part": np.repeat(np.arange(len(parts)), sizes),
        "pictures": [picture for part in parts for picture in part.pictures],
        "groups": _joined([part.groups for part in parts], sizes),
        "notes": tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    }
    if isinstance(first, Labelled):
        labelled = [part for part in parts if isinstance(part, Labelled)]
        if any(part.keys != first.keys for part in labelled):
            raise UsageError(f"{first.name}: its splits have different classes; give a set whose splits agree")
        targets = np.concatenate(_alike([part.targets for part in labelled], len(first.keys)))
        return Whole(**shared, targets=targets, keys=first.keys, names=first.names, templates=first.templates)  # type: ignore[arg-type]
    captioned = [part for part in parts if isinstance(part, Captioned)]
    before = np.cumsum([0, *sizes[:-1]])
    owners = np.concatenate([part.owners + start for part, start in zip(captioned, before, strict=True)])
    captions = tuple(caption for part in captioned for caption in part.captions)
    return Whole(**shared, captions=captions, owners=owners, column=first.column)  # type: ignore[arg-type]


def _alike(targets: Sequence[np.ndarray], classes: int) -> list[np.ndarray]:
    """All with one class, or all with several as soon as one split has."""
    if all(one.ndim == 1 for one in targets):
        return list(targets)
    return [one if one.ndim == 2 else np.eye(classes, dtype=bool)[one] for one in targets]


def _joined(groups: Sequence[Mapping[str, tuple[str, ...]]], sizes: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Attributes of any split; "" where a split has not got one."""
    names = dict.fromkeys(name for one in groups for name in one)
    return {
        name: tuple(value for one, size in zip(groups, sizes, strict=True) for value in one.get(name, ("",) * size))
        for name in names
    }
