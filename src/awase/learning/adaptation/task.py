"""What a method learns from: pictures of a closed set of classes, or pictures with sentences. Never a test split.

task = classes(train, validation, shots=16, seed=1)     # 16 pictures of each class, at most 4 for choosing
task.rows(clip)                                         # Features, kept in the cache of vectors
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from awase.adapter import head_of_names
from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.datasets.labelled import Labelled
from awase.datasets.splits import kind_of
from awase.encoding.heads import Head, Reads
from awase.errors import DataError, UsageError
from awase.evaluation.probes import FEW_FOR_VALIDATION, Features, draw
from awase.evaluation.vectors import PictureVectors, Progress, picture_vectors
from awase.evaluation.zero_shot import language_for, sentences_for
from awase.learning.adaptation.augmentation import view


@dataclass(frozen=True)
class Task:
    """Pictures of C classes. Raises DataError where they cannot be learned from. Make one with `classes`.

    train: what is learned from, pictures of each class. validation: what choices are made on; None lets methods hold
    out parts of `train`. language: of the class names that are used. templates: the sentences with {} that ask. pool:
    the data that `train` is a part of, at `places`; its vectors are made and kept together. unreadable: pictures that
    turned out so; a task and its parts share it, so that each is told of once."""

    train: Labelled
    validation: Labelled | None
    language: str
    templates: tuple[str, ...]
    seed: int = 0
    pool: Labelled | None = None
    places: np.ndarray | None = None
    unreadable: set[str] = field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        _refuse_seed(self.seed)
        for data in (self.train, self.validation):
            if data is not None:
                _check(data, self.train)
        _refuse_empty_classes(self.train.keys, self.train.targets, self.train.name)

    @property
    def keys(self) -> tuple[str, ...]:
        return self.train.keys

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Language -> names of the classes, the language that is used first."""
        return {self.language: self.train.names[self.language], **self.train.names}

    def part(self, kept: np.ndarray) -> Task:
        """The same with some of the training pictures, (N,) bool, whose vectors are found among those of all."""
        places = np.flatnonzero(kept) if self.places is None else self.places[kept]
        return replace(self, train=some(self.train, np.flatnonzero(kept)), pool=self.pool or self.train, places=places)

    def zero_shot(self, clip: Clip) -> Head:
        """The classes by their names alone, as a head that reads vectors: where adaptation starts from."""
        return head_of_names(clip, self.keys, self.names, self.templates)

    def rows(self, clip: Clip, reads: Reads = "vectors", progress: Progress | None = None) -> Features:
        """Of the training pictures that can be read, (N, F)."""
        found = self._seen(clip, reads, progress)
        targets = (self.pool or self.train).targets[found.kept]
        _refuse_empty_classes(self.keys, targets, self.train.name)
        return Features(found.rows, targets)

    def validation_rows(self, clip: Clip, reads: Reads = "vectors") -> Features | None:
        """Of the validation pictures that can be read."""
        if self.validation is None:
            return None
        found = picture_vectors(clip, self.validation, reads)
        _tell(found, self.unreadable)
        return Features(found.rows, self.validation.targets[found.kept])

    def views(self, clip: Clip, count: int, reads: Reads = "vectors", progress: Progress | None = None) -> np.ndarray:
        """(count, N, F): `count` random views of each picture of `rows`."""
        pool, row = self.pool or self.train, clip.checkpoint.architecture.preprocessing
        kept, seen = self._seen(clip).kept, []
        for number in range(count):  # each number by itself, so that more views are found beside those of fewer
            found = self._read(clip, view(pool, number, row), reads, _part(progress, number, count))
            if not np.array_equal(found.kept, kept):
                raise DataError(f"{self.train.name}: some pictures could be read once and then not; try again")
            seen.append(found.rows)
        return np.stack(seen)

    def readable(self, clip: Clip) -> np.ndarray:
        """(K,) which of the training pictures `rows` and `views` are of: all but those that cannot be read."""
        kept = self._seen(clip).kept
        return kept if self.places is None else np.searchsorted(self.places, kept)

    def _seen(self, clip: Clip, reads: Reads = "vectors", progress: Progress | None = None) -> PictureVectors:
        """Rows of this task's pictures that can be read, and where in the pool they are; the others are told of."""
        found = self._read(clip, self.pool or self.train, reads, progress)
        _tell(found, self.unreadable)
        return found

    def _read(self, clip: Clip, pool: Labelled, reads: Reads, progress: Progress | None) -> PictureVectors:
        found = picture_vectors(clip, pool, reads, progress)
        if self.places is None:
            return found
        mine = np.isin(found.kept, self.places)
        return PictureVectors(found.rows[mine], found.kept[mine], found.errors)


@dataclass(frozen=True)
class Pairs:
    """Pictures with sentences to learn from. validation: what choices are made on, None for none."""

    train: Captioned
    validation: Captioned | None = None
    seed: int = 0
    unreadable: set[str] = field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        _refuse_seed(self.seed)
        for data in (self.train, self.validation):
            if data is not None:
                refuse_test(data)
        if len(self.train) < 2 or not len(self.train.captions):
            raise DataError(f"{self.train.name}: two pictures with a sentence each are the least to learn from")

    def readable(self, clip: Clip) -> np.ndarray:
        """(K,) which of the training pictures can be read."""
        return self.rows(clip).kept

    def rows(self, clip: Clip, reads: Reads = "vectors", progress: Progress | None = None) -> PictureVectors:
        """Of the training pictures that can be read, (K, F)."""
        found = picture_vectors(clip, self.train, reads, progress)
        _tell(found, self.unreadable)
        return found

    def views(self, clip: Clip, count: int, reads: Reads = "vectors", progress: Progress | None = None) -> np.ndarray:
        """(count, K, F): `count` random views of each picture of `rows`."""
        row, seen = clip.checkpoint.architecture.preprocessing, []
        for number in range(count):
            views = view(self.train, number, row)
            seen.append(picture_vectors(clip, views, reads, _part(progress, number, count)).rows)
        return np.stack(seen)


def classes(
    train: Labelled,
    validation: Labelled | None = None,
    shots: int | None = None,
    seed: int = 0,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
) -> Task:
    """A Task of all pictures, or of `shots` pictures of each class (all, where a class has fewer) and at most 4 for
    validation, drawn by the seed (Zhou et al., 2022): those of fewer shots are among those of more.

    language, templates: as for zero-shot classification. Raises DataError, UsageError."""
    _refuse_seed(seed)
    if shots is not None and shots < 1:
        raise UsageError(f"{shots} shots: a picture of each class is the least")
    chosen = language_for(train, language)
    _warn_of_equal_names(train, chosen)
    if shots is not None:
        train = few(train, shots, seed)
        _warn_of_fewer(train, shots)
        validation = validation and few(validation, min(shots, FEW_FOR_VALIDATION), seed)
    return Task(train, validation, chosen, sentences_for(train, chosen, templates)[1], seed)


def some(data: Labelled, places: np.ndarray) -> Labelled:
    """The pictures at these places."""
    chosen: list[int] = places.tolist()
    groups = {name: tuple(values[i] for i in chosen) for name, values in data.groups.items()}
    return replace(data, pictures=[data.pictures[i] for i in chosen], targets=data.targets[places], groups=groups)


def few(data: Labelled, shots: int, seed: int) -> Labelled:
    """`shots` pictures of each class, or all that a class has, drawn by the seed."""
    if data.multi_label:
        raise DataError(f"{data.name}: shots are drawn of pictures of one class each, and here they may have several")
    return some(data, np.flatnonzero(draw(data.targets, lambda count: min(shots, count), seed)))


def not_drawn(validation: Labelled, seed: int) -> Labelled | None:
    """The validation pictures that no number of shots of this seed draws for choosing; None where it draws all."""
    free = np.flatnonzero(~draw(validation.targets, lambda count: min(FEW_FOR_VALIDATION, count), seed))
    return some(validation, free) if len(free) else None


def refuse_test(data: Labelled | Captioned) -> None:
    """Raises UsageError for a test split: nothing is learned or chosen on it."""
    if kind_of(data.split) == "test":
        raise UsageError(
            f"{data.name}: the split {data.split!r} is for testing what was learned, not for learning or choosing; "
            "give train and validation"
        )


# ---- parts -----------------------------------------------------------------------------------------------------------


def _tell(found: PictureVectors, told: set[str]) -> None:
    """Warns of pictures that could not be read and that were not told of before."""
    for error in found.errors:
        if error.source not in told:
            told.add(error.source)
            warnings.warn(f"left out: {error}", stacklevel=4)


def _part(progress: Progress | None, number: int, count: int) -> Progress | None:
    """The progress of one of `count` rounds as that of all."""
    return progress and (lambda done, total: progress(number * total + done, count * total))


def _check(data: Labelled, train: Labelled) -> None:
    refuse_test(data)
    if data.multi_label:
        raise DataError(f"{data.name}: pictures of one class each are learned from, and here they may have several")
    if data.keys != train.keys:
        raise DataError(
            f"{data.name}, {data.split} and {train.split} have different classes ({len(data.keys)} and "
            f"{len(train.keys)}); both need the same"
        )
    if not len(data):
        raise DataError(f"{data.name}, {data.split} has no pictures")


def _refuse_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"the seed {seed}: a whole number from 0 is expected")


def _warn_of_equal_names(data: Labelled, language: str) -> None:
    """Classes that share a name can be learned, but no answer tells them apart."""
    owners: dict[str, list[str]] = {}
    for key, name in zip(data.keys, data.names[language], strict=True):
        owners.setdefault(name, []).append(key)
    for name, keys in owners.items():
        if len(keys) > 1:
            warnings.warn(f"{data.name}: the classes {' and '.join(keys)} have one name, {name!r}", stacklevel=3)


def _warn_of_fewer(drawn: Labelled, shots: int) -> None:
    sizes = np.bincount(drawn.targets, minlength=len(drawn.keys))
    if fewer := int((sizes < shots).sum()):
        least = int(sizes.argmin())
        warnings.warn(
            f"{drawn.name}: {fewer} of {len(sizes)} classes have fewer than {shots} training pictures (the least: "
            f"{drawn.keys[least]}, {sizes[least]}); all of theirs are used",
            stacklevel=3,
        )


def _refuse_empty_classes(keys: Sequence[str], targets: np.ndarray, name: str) -> None:
    sizes = np.bincount(targets, minlength=len(keys))
    if (sizes > 0).sum() < 2:
        raise DataError(
            f"{name} has training pictures of {(sizes > 0).sum()} class, and two are the least; one thing alone can "
            "become a word (textual inversion)"
        )
    empty = [key for key, size in zip(keys, sizes, strict=True) if not size]
    if empty:
        raise DataError(
            f"{name}: {len(empty)} of {len(keys)} classes have no training picture that can be read: "
            f"{', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}; add pictures, or take the classes out"
        )
