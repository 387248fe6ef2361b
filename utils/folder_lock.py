"""One process at a time writes into a folder."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

from utils.errors import UserError

LOCK = ".lock"
NO_LOCKS = "its file system has no locks; make sure that no second process writes into it"
# A run that was told to stop still writes its checkpoint. A job that Slurm restarts waits longer: a network file system
# releases the locks of a dead node only after a minute or two.
PATIENCE_SECONDS = 180.0 if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" else 20.0


class FolderLock:
    """Keeps other processes out of a folder until ``release``, or until this process has ended in whatever way.

    Child processes do not inherit the lock. ``held`` is False where the file system has no locks. Raises UserError
    where another process holds the folder for longer than ``PATIENCE_SECONDS``.
    """

    def __init__(self, folder: Path) -> None:
        self._file = open(folder / LOCK, "a")  # noqa: SIM115
        self.held = self._acquire(folder)

    def _acquire(self, folder: Path) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        told = False
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except (BlockingIOError, PermissionError):
                if not told:
                    print(f"{folder}: another process writes into it; waiting", file=sys.stderr, flush=True)
                    told = True
                if time.monotonic() > deadline:
                    self._file.close()
                    raise UserError(
                        f"--output_dir {folder}: another process writes into it, or its node has just died;"
                        " wait for its end, or name another folder"
                    ) from None
                time.sleep(0.1)
            except OSError:
                return False

    def release(self) -> None:
        self._file.close()
