"""One raw file into training and validation, each test class on one side."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data.mining.split import kin_groups
from data.mining.tasks import focal_link
from data.readers import RowError, parse_json_line, parse_sample, read_rows
from utils.atomic_io import atomic_writer
from utils.errors import UserError


def _links(line: bytes) -> tuple[str, ...]:
    """What makes rows kin: the outer classes of test and focal method, a copied method; else the same focal method."""
    sample = parse_sample(parse_json_line(line))
    source = sample.source
    names = [str(source[key]).partition("$")[0] for key in ("test_class", "focal_class") if source.get(key)]
    if not names:
        return (f"focal {sample.focal}",)
    return (*(f"{source.get('project')}: {name}" for name in names), *focal_link(sample.focal))


def split_rows(path: str | Path, training: Path, validation: Path, share: float, seed: int) -> None:
    """Write the two files; which side a group of kin goes to follows from ``seed`` and the group. Bad rows train.

    Raises UserError where a side would be empty.
    """
    links: list[tuple[str, ...]] = []
    for _, line in read_rows(path):
        try:
            links.append(_links(line))
        except RowError:
            links.append((f"row {len(links)}",))  # the training reader counts and reports it
    groups = kin_groups(links)
    counts = {training: 0, validation: 0}
    with atomic_writer(training, "wb") as train_file, atomic_writer(validation, "wb") as validation_file:
        for group, (_, line) in zip(groups, read_rows(path), strict=True):
            digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
            validates = not group.startswith("row ") and int.from_bytes(digest[:8], "big") / 2**64 < share
            (validation_file if validates else train_file).write(line.rstrip(b"\r\n") + b"\n")
            counts[validation if validates else training] += 1
    if not all(counts.values()):
        raise UserError(
            f"--data_path {path}: the split left one side empty ({counts[training]} training, {counts[validation]}"
            " validation rows); give more rows or another --validation_split"
        )
