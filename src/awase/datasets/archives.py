"""Archives read in place: a member opens like a path, again and again and in many threads; nothing is ever unpacked.

tar, tar.gz and zip. A name inside an archive is only a label: nothing is written under it, so that no path trick has a
target. It knows nothing of pictures or of data sets.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from awase.errors import DataError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MEBIBYTE = 1 << 20
BOMB = 50
"""An archive that unfolds to more than this many times its own size (and a gibibyte) is refused: pictures hardly
shrink, text shrinks tenfold at most."""
HEADERS = 1 << 20
"""Bytes that a tar may have between two members: a name of 4,096 bytes with its attributes is far below."""
DAMAGE = (OSError, EOFError, ValueError, OverflowError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error)
"""What the standard library raises on archives that are cut short, damaged or made by an enemy."""


@dataclass(frozen=True)
class Member:
    """A file inside an archive. name: "data/birds.tar/robin/1.jpg"; size: bytes, as the archive claims."""

    name: str
    size: int
    archive: Tar | Zip = field(repr=False)
    place: Any = field(repr=False)  # where the archive keeps it: an offset, or zip's own record

    def open(self, mode: str = "rb") -> BinaryIO:
        """A new stream of the member's bytes; any number may be open at once."""
        return self.archive.open(self)


def open_archive(source: Path | Member) -> Tar | Zip:
    """The archive's list of members, read once while the file stays as it is. An archive may lie in an archive, but no
    deeper. Raises DataError where it is damaged."""
    name = source.name if isinstance(source, Member) else str(source)
    try:
        if isinstance(source, Member):
            if isinstance(source.archive.source, Member):
                raise ValueError("archives in archives in archives are not opened")
            return _open_archive(source)
        status = source.stat()
        return _open_archive(source, status.st_size, status.st_mtime_ns)
    except DAMAGE as problem:
        raise DataError(f"{name} cannot be read as an archive ({problem}): copy or download it again") from problem


@lru_cache(maxsize=32)
def _open_archive(source: Path | Member, *_version: int) -> Tar | Zip:
    return (Zip if source.name.lower().endswith(".zip") else Tar)(source)


class Tar:
    """A tar file: its members lie in one piece each, at an offset. path: the file on disk."""

    def __init__(self, source: Path | Member) -> None:
        self.source, self.path = source, _on_disk(source)
        self._file = _seekable(source)
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self.members, self.folders = self._listed()

    def _listed(self) -> tuple[dict[str, Member], list[str]]:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        members, folders = {}, []
        headers = _Headers(self._file)
        with tarfile.open(fileobj=cast(IO[bytes], headers), mode="r:") as tar:
            for entry in tar:
                headers.left = HEADERS
                if entry.size < 0:
                    raise ValueError(f"{entry.name} claims {entry.size:,} bytes")  # tarfile would go round in circles
                if entry.isdir():
                    folders.append(entry.name)
                elif entry.isreg() and not entry.issparse():
                    if entry.offset_data + entry.size > size:
                        raise EOFError(f"it is cut short: {entry.name} ends behind the end of the file")
                    members[entry.name] = Member(_name(self, entry.name), entry.size, self, entry.offset_data)
            self._file.seek(tar.offset)  # tarfile takes a damaged header for the end
            if self._file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise ValueError(f"it is damaged at byte {tar.offset:,}")
        return members, folders

    def read_at(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread") and not isinstance(self._file, io.BufferedReader):
            return os.pread(self._file.fileno(), length, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)

    def open(self, member: Member) -> BinaryIO:
        return io.BufferedReader(_Span(self, member.place, member.size))


class _Headers:
    """A tar as tarfile walks from header to header, which takes a header's word for how much of it to read at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.left = file, HEADERS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise ValueError(f"a header at byte {self.tell():,} claims to be longer than any is")
        return self._file.read(size)


class Zip:
    """A zip file; the standard library's, which guards its file with a lock of its own. path: the file on disk."""

    def __init__(self, source: Path | Member) -> None:
        self.source, self.path = source, _on_disk(source)
        self._zip = zipfile.ZipFile(_seekable(source))
        entries = self._zip.infolist()
        self.folders = [entry.filename for entry in entries if entry.is_dir()]
        self.members = {
            entry.filename: Member(_name(self, entry.filename), entry.file_size, self, entry)
            for entry in entries
            if not entry.is_dir()
        }

    def open(self, member: Member) -> BinaryIO:
        return cast(BinaryIO, self._zip.open(member.place))


class _Span(io.RawIOBase):
    """The bytes of a tar's member as a stream."""

    def __init__(self, tar: Tar, start: int, length: int) -> None:
        self._tar, self._start, self._length, self._position = tar, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._length - self._position))
        data = self._tar.read_at(self._start + self._position, wanted) if wanted else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _on_disk(source: Path | Member) -> Path:
    return source.archive.path if isinstance(source, Member) else source


def _name(archive: Tar | Zip, inner: str) -> str:
    outer = archive.source
    return f"{outer.name if isinstance(outer, Member) else outer}/{inner}"


def _seekable(source: Path | Member) -> IO[bytes]:
    """The archive's bytes, to be read from any place. Compressed ones have no way to a member but through all before
    it: they are unfolded once, into a file without a name."""
    with source.open("rb") as file:
        compressed, size = file.read(2) == b"\x1f\x8b", file.seek(0, os.SEEK_END)
    if compressed:
        with source.open("rb") as file, gzip.open(file) as stream:
            return _unfolded(cast(IO[bytes], stream), size)
    if isinstance(source, Member) and isinstance(source.archive, Zip):
        with source.open("rb") as stream:
            return _unfolded(stream, source.place.compress_size)
    return source.open("rb") if isinstance(source, Member) else source.open("rb", buffering=0)


def _unfolded(stream: IO[bytes], size: int) -> IO[bytes]:
    limit = max(1024 * MEBIBYTE, BOMB * size)
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - stays open as long as the archive
    try:
        while part := stream.read(MEBIBYTE):
            file.write(part)
            if file.tell() > limit:
                raise ValueError(f"it unfolds to over {BOMB} times its own size")
    except BaseException:
        file.close()
        raise
    return file
