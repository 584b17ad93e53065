"""A folder, on disk or inside an archive, as one small tree: names -> folders, names -> files that `open("rb")`.

A path may go on inside an archive: "data/domains.tar" is a folder, and so is "data/domains.tar/domains/aid30". Folders
are listed when someone looks into them. Hidden names and "__MACOSX" are passed over. It knows nothing of pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from awase.datasets.archives import SUFFIXES, Member, Tar, Zip, open_archive
from awase.errors import DataError

File = Path | Member
Contents = tuple[dict[str, "Folder"], dict[str, File]]
DEEPEST = 32
"""Folders within folders; what lies deeper, or goes round in circles through links, is passed over."""
TEXT_LIMIT = 1 << 30
"""Bytes of one metadata file: twice those of COCO's largest, instances_train2017.json."""


class Folder:
    """`location` opens it again. Names are sorted by code point, as torchvision's ImageFolder sorts them."""

    def __init__(self, location: str, contents: Callable[[Folder], Contents], parent: Folder | None = None) -> None:
        self.location, self.parent = location, parent
        self.outside: tuple[str, ...] = ()
        """Of an archive: names of members that lead out of it or lie too deep, and are passed over."""
        self._list = contents

    @cached_property
    def _contents(self) -> Contents:
        return self._list(self)

    @property
    def folders(self) -> dict[str, Folder]:
        return self._contents[0]

    @property
    def files(self) -> dict[str, File]:
        return self._contents[1]

    @property
    def name(self) -> str:
        """The last part of the location, without an archive's suffix."""
        return stem(os.path.basename(os.path.abspath(self.location)))

    @property
    def path(self) -> Path | None:
        """Where it lies on disk; None inside an archive."""
        return Path(self.location) if os.path.isdir(self.location) else None

    def walk(self, below: str = "") -> Iterator[tuple[str, File]]:
        """Every file at every depth with its path from here: those of a folder first, then those of its folders."""
        for name, file in self.files.items():
            yield below + name, file
        for name, folder in self.folders.items():
            yield from folder.walk(f"{below}{name}/")

    def find(self, path: str) -> File | None:
        """The file at a relative path with / or \\; None where there is none."""
        *folders, name = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
        here = self
        for part in folders:
            if part not in here.folders:
                return None
            here = here.folders[part]
        return here.files.get(name)

    def above(self) -> Folder | None:
        """The folder that it lies in, on disk even where nobody asked for that one."""
        if self.parent or not self.path:
            return self.parent
        absolute = Path(os.path.abspath(self.location))
        return _on_disk(absolute.parent) if absolute.parent != absolute else None

    def sibling(self, name: str) -> File | None:
        """A file beside this folder. The folder above need not be one that may be listed."""
        if self.parent:
            return self.parent.files.get(name)
        file = Path(os.path.abspath(self.location)).parent / name
        return file if self.path and os.path.isfile(file) else None


def open_folder(path: str | os.PathLike[str]) -> tuple[Folder, str | None]:
    """The folder that a path names; where the path names a file that is no archive, that file's folder and its name.

    Raises DataError where nothing is there, or the archive is damaged."""
    given = Path(path)
    if given.is_dir():
        return _on_disk(given), None
    for outer in (given, *given.parents):
        if outer.is_file():
            if is_archive(outer.name):
                return _inside(_of_archive(outer), given.relative_to(outer), given)
            if outer == given:
                return _on_disk(given.parent), given.name
    raise DataError(f"{given} does not exist: check the path")


def open_inner(folder: Folder, name: str) -> Folder:
    """An archive that lies in a folder, as a folder."""
    return _of_archive(folder.files[name], folder)


def is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """A name without the suffix of an archive."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def read_text(file: File, limit: int | None = None) -> str:
    """A file of UTF-8 text, with or without a byte order mark, of TEXT_LIMIT bytes at most or another number. Raises
    DataError that names the file."""
    limit = limit or TEXT_LIMIT
    name = shown(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except Exception as problem:  # a decompressor may raise anything on a stranger's archive
        raise DataError(f"{name} cannot be read ({problem}): copy or download it again") from problem
    if len(data) > limit:
        raise DataError(f"{name} is over the limit of {limit:,} bytes for a file of text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{name} is not UTF-8 (byte {problem.start:,}): save it as UTF-8") from problem


def shown(file: File) -> str:
    """What messages call a file."""
    return file.name if isinstance(file, Member) else str(file)


def version(file: File) -> tuple[int, ...]:
    """What changes when a file on disk is written again; a member stays what its archive was when opened."""
    if isinstance(file, Member):
        return ()
    status = file.stat()
    return status.st_size, status.st_mtime_ns


# ---- on disk ---------------------------------------------------------------------------------------------------------


def _on_disk(path: Path, parent: Folder | None = None, above: frozenset[tuple[int, int]] = frozenset()) -> Folder:
    """above: device and inode of the folders that it lies in, by which links in circles are told."""

    def contents(folder: Folder) -> Contents:
        folders: dict[str, Folder] = {}
        files: dict[str, File] = {}
        try:
            status = path.stat()
            here = above | {(status.st_dev, status.st_ino)}
            if len(here) == len(above) or len(here) > DEEPEST:
                return folders, files
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            is_folder = [entry.is_dir() for entry in entries]
        except OSError as problem:
            raise DataError(f"{path} cannot be listed ({problem.strerror}): check its permissions") from problem
        for entry, inner in zip(entries, is_folder, strict=True):
            if _hidden(entry.name):
                continue
            if inner:
                folders[entry.name] = _on_disk(path / entry.name, folder, here)
            elif entry.is_file() or not os.path.exists(entry.path):  # a broken link is a file that someone will miss
                files[entry.name] = path / entry.name  # and a pipe or a device is none
        return folders, files

    return Folder(str(path), contents, parent)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


# ---- inside an archive -----------------------------------------------------------------------------------------------


def _of_archive(file: File, parent: Folder | None = None) -> Folder:
    archive = open_archive(file)
    folder = _nested(shown(file), _tree(archive), parent)
    folder.outside = _outside(archive)
    return folder


@lru_cache(maxsize=32)
def _tree(archive: Tar | Zip) -> dict[str, Any]:
    """Name -> Member, or the same again for a folder. Made once, for many sets may be opened in one archive."""
    root: dict[str, Any] = {}
    for name in archive.folders:
        _descend(root, _parts(name))
    for name, member in archive.members.items():
        if parts := _parts(name):
            _descend(root, parts[:-1])[parts[-1]] = member
    return root


@lru_cache(maxsize=32)
def _outside(archive: Tar | Zip) -> tuple[str, ...]:
    return tuple(name for name in archive.members if ".." in (parts := _plain(name)) or len(parts) > DEEPEST)


def _parts(name: str) -> list[str]:
    """Components of a member's name; none where it is hidden, leads out of the archive or lies too deep."""
    parts = _plain(name)
    return [] if len(parts) > DEEPEST or any(map(_hidden, parts)) else parts


def _plain(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _descend(folder: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    for part in parts:
        inner = folder.setdefault(part, {})
        if isinstance(inner, Member):  # a file and a folder of one name: the folder has more to give
            inner = folder[part] = {}
        folder = inner
    return folder


def _nested(location: str, tree: dict[str, Any], parent: Folder | None) -> Folder:
    def contents(folder: Folder) -> Contents:
        names = sorted(tree)
        folders = {n: _nested(f"{location}/{n}", tree[n], folder) for n in names if not isinstance(tree[n], Member)}
        return folders, {n: tree[n] for n in names if isinstance(tree[n], Member)}

    return Folder(location, contents, parent)


def _inside(root: Folder, rest: Path, given: Path) -> tuple[Folder, str | None]:
    folder = root
    for depth, part in enumerate(rest.parts):
        if part in folder.folders:
            folder = folder.folders[part]
        elif part in folder.files and is_archive(part):
            folder = open_inner(folder, part)
        elif part in folder.files and depth == len(rest.parts) - 1:
            return folder, part
        else:
            there = ", ".join([*folder.folders, *folder.files][:8]) or "nothing"
            raise DataError(f"{given}: {folder.location} holds no {part!r}; it holds {there}")
    return folder, None
