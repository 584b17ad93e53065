"""Which pictures are meant: files, folders, patterns and addresses -> a list of sources. It opens none of them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from awase.errors import UsageError

# Names that a search through folders takes; hidden ones are not.
_PICTURE_NAME = re.compile(
    r"[^.].*\.(jpe?g|jpe|jfif|a?png|webp|gif|tiff?|bmp|dib|p[bgnp]m|avif|hei[cf]|hif)", re.DOTALL | re.IGNORECASE
)
_PATTERN = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Found:
    """pictures: sources in the order given, as text (a Path weighs six times as much). passed_over: how many files in
    folders, or matched by patterns, are not named like pictures (hidden ones are not counted)."""

    pictures: list[str]
    passed_over: int


def find_pictures(paths: Iterable[str | os.PathLike[str]]) -> list[str | Path]:
    """The pictures that folders, patterns, files and addresses name, in the order given, each folder's sorted by path.

    A file is taken whatever its name, an address unchanged. Folders are searched to every depth (links to folders are
    not followed) for the names of pictures (.jpg, .heic, ...), hidden ones skipped; so is the ** of a pattern. What
    does not exist, a folder that is named like a picture or may not be listed are handed on, so that opening them
    says so and the others go on.

    Raises UsageError where nothing at all is found, and for one path where a list of them is expected.
    """
    return [picture if is_address(picture) else Path(picture) for picture in search(paths).pictures]


def search(paths: Iterable[str | os.PathLike[str]]) -> Found:
    """`find_pictures`, and how many other files were passed over on the way."""
    given = _listed(paths)
    found: list[str] = []
    others: set[str] = set()
    unmatched = 0
    for path in given:
        if is_address(path):
            found.append(str(path))
        elif os.path.lexists(path) or not _PATTERN.search(path):
            below = _below(Path(path)) if os.path.isdir(path) else ([str(Path(path))], [])
            found += below[0]
            others.update(below[1])
        else:
            pictures, rest = _matched(Path(path))
            unmatched += not pictures and not rest
            found += pictures or ([] if rest else [str(Path(path))])
            others.update(rest)
    if given and len(found) == unmatched:
        where = ", ".join(map(printable, given[:3])) + (", ..." if len(given) > 3 else "")
        told = f"; {files_passed_over(len(others))}" if others else ""
        raise UsageError(f"no pictures found in {where}{told}; check the name, or name a file to have it opened")
    return Found(found, len(others))


def pictures_below(folder: str) -> Found:
    """The pictures of one folder, to every depth, sorted; none is no error. What cannot be listed is among them."""
    pictures, others = _below(Path(folder))
    return Found(pictures, len(others))


def files_passed_over(count: int) -> str:
    return f"{count:,} other file{'s' if count > 1 else ''} passed over"


def is_picture_name(name: str) -> bool:
    """Whether a file's name (without its folder) is that of a picture: .jpg, .heic, ..., and not hidden."""
    return _PICTURE_NAME.fullmatch(name) is not None


def is_address(source: object) -> bool:
    """Whether a source is an address, of any scheme (which are fetched is `fetching.py`'s business), and not a path."""
    schemes = r"(?i)[a-z][a-z0-9+.-]+://|(https?|file|ftp|gopher|data):"
    return isinstance(source, str) and re.match(schemes, source) is not None


def printable(text: str) -> str:
    """A name for messages: whatever a terminal would not print is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _listed(paths: object) -> list[str]:
    if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable):
        raise UsageError(f"a list of paths is expected, and {paths!r} was given; put one path in a list")
    listed = list(paths)
    for path in listed:
        if not isinstance(path, str | os.PathLike):
            raise UsageError(f"a path is a string or a Path, and {path!r} was given")
        if path == "":
            raise UsageError("an empty name was given; name a file, a folder, a pattern or an address")
    return [os.fsdecode(path) for path in listed]


def _below(folder: Path) -> tuple[list[str], list[str]]:
    """The pictures of a folder, sorted by the parts of their paths, and its other files, to every depth."""
    found: list[str] = []
    others: list[str] = []

    def cannot_list(problem: OSError) -> None:
        found.append(str(Path(problem.filename)))

    for place, folders, files in os.walk(str(folder), onerror=cannot_list):
        found += [os.path.join(place, name) for name in files + folders if is_picture_name(name)]
        others += [
            os.path.join(place, name) for name in files if not name.startswith(".") and not is_picture_name(name)
        ]
        folders[:] = [name for name in folders if not name.startswith(".") and not is_picture_name(name)]
    return sorted(found, key=lambda path: path.replace(os.sep, "\0")), others


def _matched(pattern: Path) -> tuple[list[str], list[str]]:
    """The pictures that a pattern's matches are or hold, each once, and the other files."""
    found: dict[str, None] = {}
    others: list[str] = []
    for match in sorted(set(_matches(Path(pattern.anchor), _parts(pattern)))):
        if os.path.islink(match) and os.path.isdir(match) and "**" in pattern.parts:
            continue
        if os.path.isdir(match):
            pictures, rest = _below(match)
            found.update(dict.fromkeys(pictures))
            others += rest
        elif is_picture_name(match.name):
            found[str(match)] = None
        else:
            others.append(str(match))
    return list(found), others


def _parts(pattern: Path) -> list[str]:
    """A pattern's parts below its root, ** never twice in a row."""
    parts = list(pattern.parts[1:] if pattern.anchor else pattern.parts)
    return [part for i, part in enumerate(parts) if not (part == "**" and parts[i - 1 : i] == ["**"])]


def _matches(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Paths below `folder` that the parts match. ** goes through real folders only, so that links in circles end."""
    if not parts or parts == ["**"]:
        yield folder
    elif parts[0] == "**":
        for place, folders, _ in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from _matches(Path(place), parts[1:])
    elif not _PATTERN.search(parts[0]):
        if os.path.lexists(folder / parts[0]):
            yield from _matches(folder / parts[0], parts[1:])
    else:
        for name in _names_in(folder):
            hidden = name.startswith(".") and not parts[0].startswith(".")
            if fnmatch.fnmatch(name, parts[0]) and not hidden:
                yield from _matches(folder / name, parts[1:])


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # no folder, or it may not be listed: nothing in it matches
        return []
