"""Where awase keeps what it can make again (graphs, fingerprints), and writing that is complete or absent."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

CHECKSUMS = "checksums.json"
PAGE, PAGES = 4096, 256  # of a large file, what its checksum looks at


def cache_folder() -> Path:
    """$AWASE_CACHE, or `awase` in the platform's folder for caches. Deleting it costs time, never data.
    A process whose user has no home folder gets a cache that ends with it."""
    if chosen := os.environ.get("AWASE_CACHE"):
        return Path(os.path.expanduser(chosen))
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "awase" / "cache"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "awase"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "awase"
    except RuntimeError:  # no HOME, and a user whom the system does not know, as in containers
        return _temporary()


@cache
def _temporary() -> Path:
    """Not a fixed name below /tmp: there, anybody could lay out a cache for somebody else to trust."""
    folder = Path(tempfile.mkdtemp(prefix="awase-cache-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that another process sees whole or not at all. A folder that cannot be written to is no error:
    a cache that cannot be kept is only slower."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except OSError:
            os.unlink(name)


def fingerprint_of(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes. Remembered under everything that a change of the file changes too (path, size,
    times, inode), so that a large file is read once. A file written in the last two seconds is not remembered: within
    one tick of the clock it could change again unnoticed."""
    found = file.stat()
    seen = (str(file.resolve()), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    memory = cache_folder() / "fingerprints" / hashlib.sha256(repr(seen).encode()).hexdigest()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        remembered = memory.read_text()
        if re.fullmatch("[0-9a-f]{64}", remembered):
            return remembered
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > 2 * 10**9:
        write_atomically(memory, digest.encode())
    return digest


def checksum_of(file: Path) -> str:
    """SHA-256 (hex) of a file's size and of 256 pages of 4 KiB spread evenly over it, or of all of a smaller file: some
    milliseconds for a file of any size.

    It catches a file cut off, filled with zeros or noise, or of another model, and any damaged run longer than 1/256 of
    the file; a single flipped bit it most likely does not."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb", buffering=0) as stream:
        if size <= PAGE * PAGES:
            digest.update(stream.read())
        else:
            for page in range(PAGES):
                stream.seek((size - PAGE) * page // (PAGES - 1))
                digest.update(stream.read(PAGE))
    return digest.hexdigest()


def write_checksums(folder: Path) -> None:
    """Writes beside the files of a folder what `is_intact` compares them with."""
    sums = {file.name: checksum_of(file) for file in sorted(folder.iterdir())}
    (folder / CHECKSUMS).write_text(json.dumps(sums))


def is_intact(folder: Path) -> bool:
    """Whether all files are there that `write_checksums` saw, and look as they did then."""
    try:
        sums = json.loads((folder / CHECKSUMS).read_bytes())
        return bool(sums) and all(checksum_of(folder / name) == found for name, found in sums.items())
    except (OSError, ValueError, AttributeError):
        return False
