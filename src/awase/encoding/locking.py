"""A folder that one process at a time may write in. The system lets go of the lock when the process ends, however."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

from awase.errors import UsageError

ATTEMPTS = 10  # to catch a lock file that its holder is just removing


class FolderLock:
    """Holds `folder`, made where absent, until `release` or the end of this process.

    Raises UsageError while someone else holds it, which proposes `instead`; OSError where nothing can be written."""

    def __init__(self, folder: Path, instead: str = "give --out another name") -> None:
        self._path = folder / "lock"
        holder = ""
        for _ in range(ATTEMPTS):
            with contextlib.suppress(FileExistsError):  # not exist_ok=True, which trips over a folder that just went
                folder.mkdir()
            try:
                file: BinaryIO = self._path.open("a+b", buffering=0)
            except FileNotFoundError:  # the folder went between the two calls
                continue
            taken = _take(file)
            if taken and self._names(file):
                self._file = file
                with contextlib.suppress(OSError):  # only a courtesy to whoever comes second
                    file.truncate(0)
                    file.write(str(os.getpid()).encode())
                return
            if not taken:
                file.seek(0)
                holder = file.read(20).decode("ascii", "replace")
            file.close()
            if not taken:
                break
        who = f"another run (process {holder})" if holder.isdigit() else "another run"
        raise UsageError(f"{folder}: {who} is writing here; wait until it ends, or {instead}")

    @property
    def held(self) -> bool:
        return not self._file.closed

    def release(self) -> None:
        """Lets go, and removes the folder if nothing else is in it. Releasing twice is no error."""
        if not self.held:
            return
        # Removed while it is ours: afterwards the name could be another's lock. Windows removes no open file, but there
        # an open file of another's is as safe, so that the order can be the other way round.
        if sys.platform != "win32":
            _remove(self._path)
        self._file.close()
        if sys.platform == "win32":
            _remove(self._path)
        with contextlib.suppress(OSError):
            self._path.parent.rmdir()

    def _names(self, file: BinaryIO) -> bool:
        """Whether the lock file's name still leads to `file`, not to one made after its holder removed it."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _take(file: BinaryIO) -> bool:
    """Locks an open file without waiting; False when another open file holds the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 30)  # a locked byte cannot be read, so lock one far behind the text
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
