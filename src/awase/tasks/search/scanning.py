"""What has changed below some folders since a library last looked. Nothing is opened here, and nothing written."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from awase.encoding.finding import pictures_below
from awase.tasks.search.entries import File, Refusal, prefixes, time_of


@dataclass(frozen=True)
class Known:
    """What a library knows of the folders. files: path -> (size, mtime). refusals: by path. pixels: the limit now; what
    was refused under another one is looked at again."""

    files: Mapping[str, tuple[int, int]]
    refusals: Mapping[str, Refusal]
    pixels: int


@dataclass
class Changes:
    """What an index has to do."""

    todo: list[File] = field(default_factory=list)
    """Files that are new or were changed."""
    unchanged: int = 0
    """Pictures that are as they were."""
    refused: list[Refusal] = field(default_factory=list)
    """Files that held no picture, and have not changed since."""
    gone: list[str] = field(default_factory=list)
    """Paths of the library at which there is no file any more."""
    absent: dict[str, int] = field(default_factory=dict)
    """Folders that are not there, or empty, as where a drive is not mounted; and how many of their pictures stay."""
    unsettled: int = 0
    """Files left for later, since somebody may still be writing them."""
    passed_over: int = 0
    """Files that are not named like pictures."""


def changes(roots: Sequence[str], known: Known, until: float = float("inf")) -> Changes:
    """Compares folders with what a library knows of them, by size and time of each file.

    until: seconds since 1970; files changed later are left for the next time."""
    found, present = Changes(), set[str]()
    unseen: list[str] = []  # folders that could not be looked into: what is known of them stays
    for root in roots:
        here = pictures_below(root)
        if not os.path.isdir(root) or not here.pictures:
            kept = sum(map(str.startswith, known.files, repeat(prefixes([root]))))
            if kept or not os.path.isdir(root):
                found.absent[root] = kept
                unseen.append(root)
                continue
        found.passed_over += here.passed_over
        for path in here.pictures:
            if path not in present:
                present.add(path)
                _compare(path, known, until, found, unseen)
    inside, kept_back = prefixes(roots), prefixes(unseen)
    found.gone = [
        path
        for path in {**known.files, **known.refusals}
        if path not in present and path.startswith(inside) and not path.startswith(kept_back)
    ]
    return found


def _compare(path: str, known: Known, until: float, found: Changes, unseen: list[str]) -> None:
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing, or gone since: opening it says so
        found.todo.append(File(path, 0, 0))
        return
    seen, refusal = (status.st_size, time_of(status)), known.refusals.get(path)
    if stat.S_ISDIR(status.st_mode):
        unseen.append(path)
        found.todo.append(File(path, 0, 0))
    elif known.files.get(path) == seen:
        found.unchanged += 1
    elif refusal and (refusal.file.size, refusal.file.mtime) == seen and refusal.pixels == known.pixels:
        found.refused.append(refusal)
    elif status.st_mtime > until:
        found.unsettled += 1
    else:
        found.todo.append(File(path, *seen))
