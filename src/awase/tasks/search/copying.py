"""Pictures that a search found -> copies in a folder. Nothing that lies there is ever written over."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from awase.encoding.finding import printable
from awase.errors import PictureError, UsageError


class Copied(NamedTuple):
    """to: the copy, which may be an equal file of an earlier run; None where `error` says why there is none."""

    path: str
    to: Path | None
    error: PictureError | None = None


def copy_into(folder: Path, paths: Iterable[str]) -> Iterator[Copied]:
    """Copies files under their own names, or "name (2).jpg" where another file has it. A bad one does not stop the
    others. Raises UsageError where `folder` cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(
            f"{folder} is no folder and cannot be made one ({problem.strerror}); name another"
        ) from problem
    for path in paths:
        try:
            yield Copied(path, _copy(path, folder))
        except OSError as problem:
            name, remedy = printable(path), "awase index brings the library up to date"
            yield Copied(path, None, PictureError(name, f"could not be copied ({problem.strerror or problem})", remedy))


def _copy(path: str, folder: Path) -> Path:
    stem, suffix = os.path.splitext(os.path.basename(path))
    for number in count(1):
        to = folder / (f"{stem}{suffix}" if number == 1 else f"{stem} ({number}){suffix}")
        try:
            with open(path, "rb") as source, open(to, "xb") as target:
                try:
                    shutil.copyfileobj(source, target)
                except BaseException:
                    to.unlink()
                    raise
            shutil.copystat(path, to)
            return to
        except FileExistsError:
            if to.is_file() and filecmp.cmp(path, to, shallow=False):
                return to
    raise AssertionError("count never ends")
