"""Who owns a data folder? One process at a time; the kernel releases the lock when that process dies."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from engine.errors import DataFolderLocked, DataFolderReadOnly

LOCK_FILE = "LOCK"


class FolderLock:
    """An exclusive lock on a data folder, held from construction to `release`.

    Raises:
        DataFolderLocked: another process (or another engine in this one) holds it; the message names the owner.
        DataFolderReadOnly: the folder cannot be created or written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(folder / LOCK_FILE, "a+")  # noqa: SIM115 (held open as long as the lock)
        except OSError as error:
            raise DataFolderReadOnly(str(folder), error.strerror or str(error)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise DataFolderLocked(str(folder), owner) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} ({' '.join(sys.argv)[:200]})")
        self._file.flush()

    def release(self) -> None:
        """Give the folder up; a second call does nothing."""
        self._file.close()
