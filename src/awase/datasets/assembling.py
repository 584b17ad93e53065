"""From rows to `Labelled` and `Captioned`: what cannot be used is left out and told, what does not fit is an error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from awase.datasets.captioned import Captioned
from awase.datasets.columns import caption_columns, columns, groups, label_columns, labels_of, sentences_of
from awase.datasets.definitions import Definition
from awase.datasets.labelled import Labelled
from awase.datasets.naming import name_classes, names_beside, read_classes, read_set, some
from awase.datasets.rows import Layout, Names, Row
from awase.encoding.pictures import Picture
from awase.errors import DataError, PictureError

LABEL, CAPTIONS = "label", "captions"
ABSENT = "not there"  # in a note about pictures that the data name and have not got
EMPTY = "no picture in"  # in a note about classes
Labels = str | list[str]


class _LeftOut:
    """What is left out: reason -> where. Becomes one note a reason. errors: of the rows that are damaged."""

    def __init__(self) -> None:
        self._where: dict[str, list[str]] = defaultdict(list)
        self.errors: list[PictureError] = []

    def add(self, reason: str, where: str) -> None:
        self._where[reason].append(where)

    def sound(self, rows: Sequence[Row]) -> list[Row]:
        """The others, when those that are damaged are left out."""
        self.errors = [row.error for row in rows if row.error]
        for error in self.errors:
            self.add("samples that cannot be used", error.source)
        return [row for row in rows if not row.error]

    def notes(self) -> list[str]:
        return [f"left out: {reason} ({len(where):,}: {some(where, 3)})" for reason, where in self._where.items()]


# ---- classes ---------------------------------------------------------------------------------------------------------


def assemble_labelled(layout: Layout, split: str, column: str | None, definition: Definition | None) -> Labelled:
    """One split as labelled pictures. Every split of a set has the same classes in the same order."""
    left = _LeftOut()
    rows = left.sound(list(layout.splits[split]()))
    column, notes = _label_column(layout.name, rows, column)
    kept, labels = _with_labels(rows, column, left)
    if not kept:
        raise DataError(f"{layout.name} {split}: no picture with a class is left. " + "; ".join(left.notes()))
    everything = (
        rows if _known_classes(layout, column) else list(chain.from_iterable(r() for r in layout.splits.values()))
    )
    keys, names, naming = classes_of(layout, split, everything, column)
    templates, metric = read_set(layout.folder, layout.name)
    templates = templates or layout.templates or {}
    place = {key: number for number, key in enumerate(keys)}
    if definition:
        places, placing = definition.place(keys)
        place = dict(zip(keys, places, strict=True))
        called = {number: key for key, number in place.items()}
        keys = [called.get(number, key) for number, key in enumerate(definition.keys)]
        names, templates, metric, naming = definition.names, definition.templates, definition.metric, placing
    if len(keys) < 2:
        raise DataError(f"{layout.name} has one class only, {keys[0]!r}; give the folder above the folders of classes")
    targets = _targets(labels, place, len(keys))
    return Labelled(
        name=layout.name,
        split=split,
        pictures=[picture for _, picture in kept],
        targets=targets,
        keys=tuple(keys),
        names=names,
        templates=templates,
        metric=metric or ("map" if targets.ndim == 2 else "top1"),
        groups=groups([row for row, _ in kept], {column, "split"}),
        notes=(*notes, *left.notes(), *naming, *_empty_classes(targets, keys, split)),
        unusable=tuple(left.errors),
    )


def classes_of(
    layout: Layout, split: str, rows: Sequence[Row], column: str
) -> tuple[list[str], Mapping[str, tuple[str, ...]], list[str]]:
    """Keys of the classes in order, language -> their names, and notes. rows: those of every split, unless the layout
    knows its classes without them."""
    known = _known_classes(layout, column)
    found = set(known)
    for row in rows:
        label = labels_of(row, column)
        found |= set(label) if isinstance(label, list) else {label} - {None}  # type: ignore[arg-type]
    if strange := sorted(found - set(known)) if known else []:
        raise DataError(f"{layout.name} has labels outside its list of classes: {some(strange)}")
    keys = list(known) or sorted(found, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0, key))
    written = read_classes(layout.folder, split, keys)
    keys = [*written, *(key for key in keys if key not in written)]
    told: dict[str, dict[str, str]] = {}
    for source in (known, names_beside(rows, column), written):
        for key, names in source.items():
            told.setdefault(key, {}).update(names)
    return keys, *name_classes(keys, told)


def _known_classes(layout: Layout, column: str) -> Names:
    return layout.classes() if column == LABEL else {}


def _label_column(name: str, rows: Sequence[Row], asked: str | None) -> tuple[str, list[str]]:
    """The column of classes, and a note where it was a choice."""
    there, likely = columns(rows), label_columns(rows)
    if asked:
        if asked in there or f"{asked}_en" in there:
            return asked, []
        raise DataError(f"{name} has no column {asked!r}; there are {some(there, 12)}")
    if not rows:
        raise DataError(f"{name} is empty: a row for each picture is expected")
    if not likely:
        raise DataError(
            f"{name}: no column is surely the class; say which, --column or column=. There are "
            f"{some(there, 12) or 'none'}"
        )
    others = f"; others that could be: {', '.join(likely[1:])}" if likely[1:] else ""
    return likely[0], [] if likely[0] == LABEL else [f"classes are the column {likely[0]!r}{others}"]


def _with_labels(rows: Sequence[Row], column: str, left: _LeftOut) -> tuple[list[tuple[Row, Picture]], list[Labels]]:
    """Rows with a picture and a class, each picture once."""
    kept: list[tuple[Row, Picture]] = []
    labels: list[Labels] = []
    first: dict[str, int] = {}
    for row in rows:
        label = labels_of(row, column)
        if row.picture is None:
            left.add(f"pictures that are {ABSENT}", f"{row.name} in {row.where}")
        elif label is None:
            left.add("pictures without a class", row.where)
        elif row.name not in first:
            first[row.name] = len(kept)
            kept.append((row, row.picture))
            labels.append(label)
        elif label == labels[first[row.name]]:
            left.add("pictures listed before", f"{row.name} in {row.where}")
        else:
            earlier = first[row.name]
            raise DataError(
                f"{row.where}: {row.name} has the class {label!r}, and {labels[earlier]!r} in "
                f"{kept[earlier][0].where}; keep one, or give a list where pictures have several classes"
            )
    return kept, labels


def _targets(labels: Sequence[Labels], place: Mapping[str, int], classes: int) -> np.ndarray:
    """(N,) int64; (N, C) bool as soon as one picture has a list of classes."""
    if not any(isinstance(label, list) for label in labels):
        return np.array([place[str(label)] for label in labels], np.int64)
    targets = np.zeros((len(labels), classes), bool)
    for row, label in enumerate(labels):
        targets[row, [place[key] for key in (label if isinstance(label, list) else [label])]] = True
    return targets


def _empty_classes(targets: np.ndarray, keys: Sequence[str], split: str) -> list[str]:
    counts = targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=len(keys))
    empty = [key for key, count in zip(keys, counts, strict=True) if not count]
    classes, stay = (
        ("1 class has", "stays a possible answer")
        if len(empty) == 1
        else (f"{len(empty)} classes have", "stay possible answers")
    )
    return [f"{classes} {EMPTY} {split}, and {stay}: {some(empty)}"] if empty else []


# ---- sentences -------------------------------------------------------------------------------------------------------


def assemble_captioned(layout: Layout, split: str, column: str) -> Captioned:
    """One split as captioned pictures; rows of one picture are put together."""
    left = _LeftOut()
    rows = left.sound(list(layout.splits[split]()))
    column, notes = _caption_column(layout.name, rows, column)
    kept: list[Row] = []
    pictures: list[Picture] = []
    place: dict[str, int] = {}
    captions: list[str] = []
    owners: list[int] = []
    for row in rows:
        sentences = sentences_of(row, column)
        if row.picture is None:
            left.add(f"sentences whose picture is {ABSENT}", f"{row.name} in {row.where}")
            continue
        if row.name not in place:
            place[row.name] = len(kept)
            kept.append(row)
            pictures.append(row.picture)
        captions += sentences
        owners += [place[row.name]] * len(sentences)
    notes += left.notes()
    if not captions:
        raise DataError(f"{layout.name} {split}: column {column!r} holds no sentence. " + "; ".join(notes))
    if silent := len(kept) - len(set(owners)):
        notes.append(f"{silent:,} of {len(kept):,} pictures have no sentence in {column!r}, and stay in the gallery")
    return Captioned(
        name=layout.name,
        split=split,
        pictures=pictures,
        captions=captions,
        owners=np.array(owners, np.int64),
        column=column,
        groups=groups(kept, {column, "split"}),
        notes=tuple(notes),
        unusable=tuple(left.errors),
    )


def _caption_column(name: str, rows: Sequence[Row], asked: str) -> tuple[str, list[str]]:
    there, likely = columns(rows), caption_columns(rows)
    if asked in there:
        return asked, []
    if asked == CAPTIONS and likely:
        return likely[0], [f"sentences are the column {likely[0]!r}"]
    remedy = f"columns of sentences are {', '.join(likely)}" if likely else f"columns are {some(there, 12) or 'none'}"
    raise DataError(f"{name} has no column {asked!r}; {remedy}")
