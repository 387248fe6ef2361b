"""Where each line of a JSONL file starts, so that rows are read by seek and memory does not grow with the file."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from data.rows.readers import RowError, parse_json_line
from utils.atomic_io import atomic_writer
from utils.cache import cache_dir
from utils.errors import UserError

VERSION = 2
BLOCK = 1 << 20
PROBE = 1 << 16
# Longer than any row that a program writes (dense fp32 logits of 512 positions in hex: 126 MiB).
MAX_ROW_BYTES = 1 << 30
LOGITS = b'"teacher_logits_compressed"'
PUBLISHED_LOGITS = b'"compressed_logits"'


@dataclass(frozen=True)
class JsonlIndex:
    """The n lines that are not blank: ``starts`` and ``lengths`` [n] int64 in bytes, without the newline;
    ``text_lengths`` [n] int64: bytes without the stored logits; ``cut_off``: the last line is no whole JSON object and
    has no newline (its writer died or is still writing). It counts as a bad row like any other.
    """

    path: Path
    starts: np.ndarray
    lengths: np.ndarray
    text_lengths: np.ndarray
    cut_off: bool

    def __len__(self) -> int:
        return len(self.starts)


def _make_stamp(path: Path) -> tuple[str, int]:
    """A hash that differs between two states of the file (over its size, time and both ends), and the size."""
    status = path.stat()
    digest = hashlib.sha256(f"{VERSION}:{status.st_size}:{status.st_mtime_ns}:".encode())
    with open(path, "rb") as handle:
        digest.update(handle.read(PROBE))
        handle.seek(max(0, status.st_size - PROBE))
        digest.update(handle.read(PROBE))
    return digest.hexdigest(), status.st_size


def _count_logit_bytes(line: bytes) -> int:
    """How long the string with the stored logits is, 0 where there is none."""
    at = line.find(LOGITS) + len(LOGITS)
    if at < len(LOGITS):
        at = line.find(PUBLISHED_LOGITS)
        at = line.find(b'"data"', at) + len(b'"data"') if at >= 0 else 0
        if at < len(b'"data"'):
            return 0
    start = line.find(b'"', at) + 1
    end = line.find(b'"', start)
    return (end if end >= 0 else len(line)) - start if start else 0


def _is_object(line: bytes) -> bool:
    try:
        parse_json_line(line)
    except RowError:
        return False
    return True


def _scan(path: Path, size: int) -> JsonlIndex:
    """The lines in the first ``size`` bytes; what is appended meanwhile belongs to the next state of the file."""
    starts = array("q")
    lengths = array("q")
    texts = array("q")
    position, cut_off = 0, False
    with open(path, "rb", buffering=BLOCK) as handle:
        while line := handle.readline(min(MAX_ROW_BYTES, size - position)):
            ended = line.endswith(b"\n")
            if len(line) == MAX_ROW_BYTES and not ended:
                raise UserError(f"{path}: a line from byte {position} on is longer than 1 GiB; this is no JSONL file")
            if not line.isspace():
                starts.append(position)
                lengths.append(len(line) - ended)
                texts.append(lengths[-1] - _count_logit_bytes(line))
                cut_off = not ended and not _is_object(line)
            position += len(line)
    first, size_of, text = (np.array(part, dtype=np.int64) for part in (starts, lengths, texts))
    return JsonlIndex(path, first, size_of, text, cut_off)


def _list_places(path: Path) -> Iterator[Path]:
    """Where an index may be kept: next to its file, or in the cache where that folder is read-only."""
    yield path.with_name(path.name + ".idx")
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    with suppress(OSError):  # no home that can be written: the index is built again each time
        yield cache_dir("index") / f"{name}.idx"


def open_index(path: str | Path) -> JsonlIndex:
    """The index of ``path``: read from ``path.idx`` (the cache, in a read-only folder) if it still fits, else built."""
    path = Path(path)
    text, size = _make_stamp(path)
    stamp = np.frombuffer(text.encode(), dtype=np.uint8)
    for place in _list_places(path):
        # An index that is missing, damaged or of another version is built again.
        with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), np.load(place) as stored:
            if stored["stamp"].tobytes() == stamp.tobytes():
                starts, lengths, texts = (stored[name] for name in ("starts", "lengths", "text_lengths"))
                return JsonlIndex(path, starts, lengths, texts, bool(stored["cut_off"]))
    index = _scan(path, size)
    for place in _list_places(path):
        with suppress(OSError):  # a full or read-only disk costs the next start a scan, nothing else
            with atomic_writer(place, "wb") as handle:
                np.savez(
                    handle,
                    stamp=stamp,
                    cut_off=np.array(index.cut_off),
                    starts=index.starts,
                    lengths=index.lengths,
                    text_lengths=index.text_lengths,
                )
            break
    return index


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
