"""Where awase keeps what it can make again (graphs, fingerprints), and writing that is complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
import time
from pathlib import Path


def cache_folder() -> Path:
    """$AWASE_CACHE, or `awase` in the platform's folder for caches. Deleting it costs time, never data."""
    if chosen := os.environ.get("AWASE_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "awase" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "awase"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "awase"


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
