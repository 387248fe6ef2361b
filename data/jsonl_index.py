"""Where each line of a JSONL file starts, so that rows are read by seek and memory does not grow with the file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.atomic_io import atomic_writer
from utils.cache import cache_dir

BLOCK = 1 << 22
PROBE = 1 << 16


@dataclass(frozen=True)
class JsonlIndex:
    """``starts`` [n] int64 byte offsets of the non-blank complete lines, ``lengths`` [n] their bytes."""

    path: Path
    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)


def _stamp(path: Path) -> str:
    """What tells one state of the file from another: size, time, and a hash of both ends."""
    status = path.stat()
    digest = hashlib.sha256(f"{status.st_size}:{status.st_mtime_ns}:".encode())
    with open(path, "rb") as handle:
        digest.update(handle.read(PROBE))
        handle.seek(max(0, status.st_size - PROBE))
        digest.update(handle.read(PROBE))
    return digest.hexdigest()


def _scan(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and lengths of the lines. A last line without its newline counts where it is a whole JSON object."""
    ends: list[np.ndarray] = []
    position = 0
    with open(path, "rb") as handle:
        while block := handle.read(BLOCK):
            ends.append(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10).astype(np.int64) + position)
            position += len(block)
        stops = np.concatenate(ends) if ends else np.zeros(0, dtype=np.int64)
        last = int(stops[-1]) + 1 if len(stops) else 0
        if last < position:
            handle.seek(last)
            if handle.read().rstrip().endswith(b"}"):
                stops = np.append(stops, position)
    starts = np.concatenate([[0], stops[:-1] + 1]).astype(np.int64) if len(stops) else stops
    lengths = stops - starts
    kept = lengths > 1
    return starts[kept], lengths[kept]


def _places(path: Path) -> list[Path]:
    beside = path.with_name(path.name + ".idx")
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return [beside, cache_dir("index") / f"{name}.idx"]


def open_index(path: str | Path) -> JsonlIndex:
    """The index of ``path``: read from ``path.idx`` (or the cache, in a read-only folder) if it still fits, else built."""
    path = Path(path)
    stamp = np.frombuffer(_stamp(path).encode(), dtype=np.uint8)
    for place in _places(path):
        try:
            stored = np.load(place, allow_pickle=False)
            if stored["stamp"].tobytes() == stamp.tobytes():
                return JsonlIndex(path, stored["starts"], stored["lengths"])
        except (OSError, ValueError, KeyError, EOFError):
            continue
        except Exception as error:  # zipfile.BadZipFile: a damaged index is built again like a missing one
            if type(error).__name__ != "BadZipFile":
                raise
    starts, lengths = _scan(path)
    for place in _places(path):
        try:
            with atomic_writer(place, "wb") as handle:
                np.savez(handle, stamp=stamp, starts=starts, lengths=lengths)
            break
        except OSError:
            continue
    return JsonlIndex(path, starts, lengths)


class RowReader:
    """Reads rows of an index by seek; one open file a process, so it may be used after a fork."""

    def __init__(self, index: JsonlIndex) -> None:
        self.index = index
        self._descriptor: int | None = None
        self._owner = 0

    def __call__(self, row: int) -> bytes:
        if self._descriptor is None or self._owner != os.getpid():
            self._descriptor = os.open(self.index.path, os.O_RDONLY)
            self._owner = os.getpid()
        return os.pread(self._descriptor, int(self.index.lengths[row]), int(self.index.starts[row]))

    def __getstate__(self) -> dict:
        return {"index": self.index, "_descriptor": None, "_owner": 0}
