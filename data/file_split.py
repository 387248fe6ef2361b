"""One raw file into training and validation, each test class on one side."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data.readers import RowError, parse_json_line, parse_sample, read_rows
from utils.atomic_io import atomic_writer
from utils.errors import UserError


def _group(line: bytes) -> str:
    """What must stay together: the test class where it is known, else rows of the same focal method."""
    sample = parse_sample(parse_json_line(line))
    source = sample.source
    if source.get("test_class"):
        return f"{source.get('project')}:{source['test_class']}"
    return sample.focal


def split_rows(path: str | Path, training: Path, validation: Path, share: float, seed: int) -> None:
    """Write the two files; which side a group goes to follows from ``seed`` and the group alone. Bad rows train.

    Raises UserError where a side would be empty.
    """
    counts = {training: 0, validation: 0}
    with atomic_writer(training, "wb") as train_file, atomic_writer(validation, "wb") as validation_file:
        for _, line in read_rows(path):
            try:
                digest = hashlib.sha256(f"{seed}:{_group(line)}".encode()).digest()
                validates = int.from_bytes(digest[:8], "big") / 2**64 < share
            except RowError:
                validates = False  # the training reader counts and reports it
            (validation_file if validates else train_file).write(line.rstrip(b"\r\n") + b"\n")
            counts[validation if validates else training] += 1
    if not all(counts.values()):
        raise UserError(
            f"--data_path {path}: the split left one side empty ({counts[training]} training, {counts[validation]}"
            " validation rows); give more rows or another --validation_split"
        )
