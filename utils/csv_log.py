"""Files of a run that only grow: cheap to write, cut back to a checkpoint on resume, and safe on a full disk."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

FLUSH_SECONDS = 1.0
PENDING_LIMIT = 8 * 2**20

Cell = float | int | str | None  # in a row; a NumPy scalar or a tensor of one element is written as its number


class AppendFile:
    """A file that grows at its end. Writes are collected and handed to the system about once a second.

    ``length`` is the number of bytes that the system has accepted. When a write fails (disk full, permission lost),
    up to 8 MiB of text are kept and tried again later; ``warn`` is called once per failure, not once per write.
    """

    def __init__(self, path: Path, warn: Callable[[str], None], keep: bool = False) -> None:
        """``keep``: append to what the file already holds; otherwise the first write empties it."""
        self.path = path
        self.length = path.stat().st_size if keep and path.exists() else 0
        self._warn = warn
        self._descriptor: int | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._flushed_at = time.monotonic()
        self._failing = False
        self._lost = 0

    def truncate_to(self, length: int) -> None:
        """Continue after the first ``length`` bytes of the file: at the next write the rest is cut off."""
        present = self.path.stat().st_size if self.path.exists() else 0
        if present < length:
            self._warn(f"{self.path} has {present} bytes, the checkpoint says {length}: some rows are missing")
            length = self.path.read_bytes().rfind(b"\n") + 1 if present else 0  # the next row begins its own line
        self.length = length

    def write(self, data: bytes, flush: bool = False) -> None:
        """Append ``data``; with ``flush`` hand it to the system at once."""
        if self._pending_bytes + len(data) > PENDING_LIMIT:
            self._lost += 1
        else:
            self._pending.append(data)
            self._pending_bytes += len(data)
        if flush or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def flush(self, sync: bool = False) -> None:
        """Hand everything to the system, with ``sync`` also to the disk. A failure is warned about, never raised."""
        self._flushed_at = time.monotonic()
        try:
            if self._descriptor is None:
                if not self._pending and not self.length:
                    self.path.unlink(missing_ok=True)  # it is of an earlier run, and this run has written nothing
                    return
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                os.ftruncate(self._descriptor, self.length)
            view = memoryview(b"".join(self._pending))
            done = 0
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self.length + done)
            self.length += len(view)
            self._pending, self._pending_bytes = [], 0
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            self._fail(error)
        else:
            if self._failing:
                self._failing = False
                lost = f", {self._lost} lines were lost" if self._lost else ", nothing was lost"
                self._warn(f"{self.path} is being written again{lost}")

    def _fail(self, error: OSError) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # leave no half line behind, even if this process is killed next
                os.ftruncate(self._descriptor, self.length)
        if not self._failing:
            self._failing = True
            reason = error.strerror or error
            self._warn(f"cannot write {self.path} ({reason}): training goes on, the rows wait in memory")

    def close(self) -> None:
        """Write everything to the disk and close the file; safe to call twice."""
        self.flush(sync=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class CsvLog(AppendFile):
    """A CSV file with fixed columns: on resume those of its header, else the declared ones or those of row 1."""

    def __init__(self, path: Path, warn: Callable[[str], None], columns: Sequence[str] = ()) -> None:
        super().__init__(path, warn)
        self.columns = list(columns)
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._begun = False
        self._unknown: set[str] = set()

    def truncate_to(self, length: int) -> None:
        super().truncate_to(length)
        if self.length:
            with open(self.path, encoding="utf-8", newline="") as handle:
                self.columns = next(csv.reader(handle))
            self._begun = True

    def declare(self, columns: Sequence[str]) -> None:
        """Set the columns; a file that is being continued keeps those of its header."""
        if not self._begun:
            self.columns = list(columns)
        elif list(columns) != self.columns:
            self._warn(f"{self.path.name} keeps the columns it has; this run has others")

    def row(self, values: Mapping[str, Cell]) -> None:
        """Append one row. Missing values and None become empty cells; floats keep every digit (``repr``)."""
        if not self._begun:
            self.columns = self.columns or list(values)
            self._line(self.columns)
            self._begun = True
        unknown = values.keys() - set(self.columns) - self._unknown
        if unknown:
            self._unknown |= unknown
            self._warn(f"{self.path.name} has no column {', '.join(sorted(unknown))}: not written")
        self._line([_as_number(values.get(column)) for column in self.columns])

    def _line(self, cells: Sequence[Cell]) -> None:
        self._writer.writerow(cells)
        self.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def _as_number(value: Cell) -> Cell:
    """Python's own number for a NumPy scalar or a tensor of one element, whose ``repr`` is not one."""
    if value is None or type(value) in (float, int, str):
        return value
    return value.item() if hasattr(value, "item") else value


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as texts. A last line without its end, as a killed process leaves it, is not a row."""
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))
