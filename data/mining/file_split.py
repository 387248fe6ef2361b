"""Splits one raw file into training and validation rows; each test class is on one side."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data.mining.split import group_kin
from data.mining.tasks import focal_link
from data.rows.readers import RowError, parse_json_line, parse_sample, read_rows
from utils.atomic_io import atomic_writer
from utils.errors import UserError


def _find_links(line: bytes) -> tuple[str, ...]:
    """What makes rows belong together: the outer classes of test and focal method and a copied focal method.

    Where no class is known: the same focal method.
    """
    sample = parse_sample(parse_json_line(line))
    source = sample.source
    classes = (source.get("test_class"), source.get("focal_class"))
    names = [str(name).partition("$")[0] for name in classes if name]
    if not names:
        return (f"focal {sample.focal}",)
    return (*(f"{source.get('project')}: {name}" for name in names), *focal_link(sample.focal))


def group_rows(path: str | Path) -> list[str]:
    """The group of each row; rows of one group must not be separated. A bad row is alone in its group, ``row N``."""
    links: list[tuple[str, ...]] = []
    for _, line in read_rows(path):
        try:
            links.append(_find_links(line))
        except RowError:
            links.append((f"row {len(links)}",))  # the training reader counts and reports it
    return group_kin(links)


def split_rows(path: str | Path, training: Path, validation: Path, share: float, seed: int) -> float:
    """Write the two files; returns the share of the rows that validate.

    The side of a group follows from ``seed`` and the group alone. Bad rows go to training. Raises UserError where a
    side would be empty.
    """
    groups = group_rows(path)
    validates = [not group.startswith("row ") and _hash_to_unit(f"{seed}:{group}") < share for group in groups]
    if len(set(validates)) < 2:
        raise UserError(
            f"--data_path {path}: the split left one side empty ({validates.count(False)} training,"
            f" {validates.count(True)} validation rows); give more rows or another --validation_split"
        )
    with atomic_writer(training, "wb") as train_file, atomic_writer(validation, "wb") as validation_file:
        for held, (_, line) in zip(validates, read_rows(path), strict=True):
            (validation_file if held else train_file).write(line.rstrip(b"\r\n") + b"\n")
    return sum(validates) / len(validates)


def _hash_to_unit(text: str) -> float:
    """A number in [0, 1) that follows from the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
