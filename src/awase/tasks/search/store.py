"""What a picture library answers: the verbs of every store, and what goes through them.

A store is a snapshot of rows (one a picture) and their vectors: what is written after it was opened is seen after
`refresh`. The one that comes with awase is a directory (`library.py`); a shared or distributed vector database would be
another class with these verbs, chosen by its address. Queries, scores and models are unknown here: vectors come in,
ids, cosines and facts go out.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from awase.errors import LibraryError, UsageError

if TYPE_CHECKING:
    from awase.tasks.search.library import Library

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """What is known of one picture of a library."""

    id: int
    """Names the row while the store's `generation` stays the same; later pictures have higher ids."""
    path: str
    """Absolute; names that are no valid Unicode carry surrogates, as `os.fsdecode` gives them."""
    root: str
    """The folder given to `awase index` that it lies in; "" for a picture whose folder was forgotten."""
    size: int
    """Of the file, in bytes."""
    time: float
    """When the file was changed, seconds since 1970."""
    moment: str
    """`taken`, or the time of the file (local) where EXIF has none: what `after` and `before` look at."""
    taken: str | None
    """EXIF's date of the shot, local time, "2024-05-03T14:10:59"."""
    camera: str | None
    """EXIF's make and model in one, "Canon EOS R6"."""
    latitude: float | None
    """EXIF's place, degrees, north positive."""
    longitude: float | None
    """Degrees, east positive."""
    width: int
    """Pixels of the picture as it is shown, upright."""
    height: int
    format: str
    """ "JPEG", "PNG", "WebP", "HEIC", ...: by content, whatever the file's name says."""
    content: bytes
    """BLAKE2b of the file, 16 bytes: equal for copies."""
    likeness: int
    """Perceptual hash, 64 bits (dHash, Krawetz 2013): the number of bits that differ is how unlike two pictures look.
    Up to about 6 a resized or saved-again copy; flat pictures (one colour) are all alike."""
    caption: str | None
    """EXIF's description of the picture, where somebody wrote one; else None."""


FilterKind = Literal["folder", "after", "before", "camera", "type", "size", "near"]


@dataclass(frozen=True)
class Span:
    """Bounds of a size, inclusive; None leaves an end open. of: the file's "bytes", "pixels" (width x height), or the
    longer "side" in pixels."""

    of: Literal["bytes", "pixels", "side"]
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Circle:
    """All places within `kilometres` of a point, degrees north and east."""

    latitude: float
    longitude: float
    kilometres: float


@dataclass(frozen=True)
class Filter:
    """One condition on a row. Raises UsageError for a value that does not fit the kind."""

    kind: FilterKind
    value: str | Span | Circle
    """folder: the name of a folder on the way to the picture, or several ("holidays/2024"), or an absolute path; letter
    case does not matter. after, before: "2024", "2024-05", "2024-05-03" or "2024-05-03T14:00": from its beginning on,
    or earlier than it. camera: a part of make and model. type: "jpeg", "png", ... size: a Span. near: a Circle."""
    without: bool = False
    """Take the rows that do not meet the condition; those of which it cannot be said (no place) are among them."""

    def __post_init__(self) -> None:
        expected = {"size": Span, "near": Circle}.get(self.kind, str)
        if not isinstance(self.value, expected):
            raise UsageError(f"{self.kind}: a {expected.__name__} is expected, and {self.value!r} was given")
        if self.kind in ("after", "before") and not re.fullmatch(_DATE, str(self.value)):
            raise UsageError(f"{self.kind}:{self.value}: give a date as 2024, 2024-05, 2024-05-03 or 2024-05-03T14:00")


_DATE = r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])(T\d\d(:\d\d(:\d\d)?)?)?)?)?"


class Store(Protocol):
    """Reading a library. Arrays of ids are int64; ids that the store did not give out are refused with LibraryError."""

    @property
    def address(self) -> str:
        """Where it is: a directory here, what opens it again in general."""
        ...

    @property
    def stamp(self) -> Mapping[str, Any]:
        """`Clip.stamp()` of the model that made the vectors: only its queries make sense here."""
        ...

    @property
    def model(self) -> str:
        """What `awase.load` opens to get that model: a path, a hub name, or "awase" for the bundled one."""
        ...

    @property
    def adapters(self) -> Sequence[str]:
        """And the adapters that it puts on that model: folders."""
        ...

    @property
    def dimension(self) -> int:
        """D, numbers a vector."""
        ...

    @property
    def identity(self) -> str:
        """Drawn when it was made: another library has another, also where it took this one's place."""
        ...

    @property
    def generation(self) -> int:
        """Ids stay what they are while this does; compacting counts it up."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def nearest(self, queries: Vectors, k: int, among: Ids | None = None) -> tuple[Ids, Vectors]:
        """The k rows of highest cosine for each query, best first, equal ones by id.

        queries: (Q, D) of any length. among: consider only these ids.
        Returns ids and cosines, both (Q, min(k, rows considered)); the cosines are exact whatever found the rows."""
        ...

    def vectors(self, ids: Ids) -> Vectors:
        """(n, D) unit vectors, in the order of `ids`."""
        ...

    def rows(self, ids: Sequence[int] | Ids) -> list[Row]:
        """What is known of them, in the order of `ids`."""
        ...

    def thumbnails(self, ids: Sequence[int] | Ids) -> list[bytes | None]:
        """A small JPEG of each (longer side at most 256 pixels, upright), in the order of `ids`."""
        ...

    def select(self, filters: Sequence[Filter]) -> Ids:
        """Ids of the rows that meet all filters, ascending; of every row where there are none."""
        ...

    def sample(self, n: int, seed: int = 0) -> Ids:
        """min(n, len) different ids drawn at random, ascending; the same for the same library and seed."""
        ...

    def find(self, path: str | os.PathLike[str]) -> int | None:
        """The id of the picture at a path, or None."""
        ...

    def roots(self) -> list[str]:
        """The folders that it was made from."""
        ...

    def refresh(self) -> bool:
        """Sees what was written since; True if there was anything. Not while another thread asks."""
        ...

    def close(self) -> None:
        """May be called twice."""
        ...


def open_library(address: str | os.PathLike[str] | None = None) -> Library:
    """An existing library, to read; None is the default one. Raises LibraryError where there is none, or a damaged."""
    from awase.tasks.search.library import Library

    return Library(Path(address) if address is not None else default_library())


def default_library() -> Path:
    """$AWASE_LIBRARY, or `awase/library` in the platform's folder for a user's data: one library of any number of
    folders, so that folders of pictures, which may be read-only or synchronised, stay as they are."""
    if chosen := os.environ.get("AWASE_LIBRARY"):
        return Path(os.path.expanduser(chosen))
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "awase" / "library"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "awase" / "library"
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "awase" / "library"
    except RuntimeError as problem:
        raise UsageError("this user has no home folder; say where the library is with --db DB") from problem


class Made(Protocol):
    """What tells which model a library belongs to; every `Store` does."""

    @property
    def address(self) -> str: ...
    @property
    def stamp(self) -> Mapping[str, Any]: ...
    @property
    def model(self) -> str: ...
    @property
    def adapters(self) -> Sequence[str]: ...


def check_model(store: Made, stamp: Mapping[str, Any]) -> None:
    """Raises LibraryError, with the command that mends it, unless `stamp` (`Clip.stamp()`) is the library's own."""
    if dict(stamp) == dict(store.stamp):
        return
    different = [name for name in store.stamp if stamp.get(name) != store.stamp[name]]
    told = "; ".join(f"{name} {_short(store.stamp[name])}, not {_short(stamp.get(name))}" for name in different)
    raise LibraryError(
        f"{store.address}: was made by another model ({told}), and vectors of two models cannot be compared; "
        f"give {flags_of(store)}, or none; if you did, that model itself has changed: awase index FOLDER --db NEW"
    )


def flags_of(store: Made) -> str:
    """The flags of the command line that open the library's own model."""
    stamp = store.stamp
    flags = ["--model", store.model, "--engine", stamp["engine"], "--precision", stamp["precision"]]
    flags += [part for adapter in store.adapters for part in ("--adapter", adapter)]
    return shlex.join(flags + ["--fast"] * bool(stamp["fast"]))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 20 else text[:12] + "..."
