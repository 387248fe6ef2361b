"""Data files that are refused before anything else is loaded, and what they are instead. Light to import."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from pathlib import Path

from data.rows.readers import (
    FOCAL_KEYS,
    HEADER_KEY,
    TARGET_KEYS,
    TEST_KEYS,
    RowError,
    is_header,
    parse_json_line,
    parse_sample,
    read_rows,
)
from utils.errors import UserError

HOW_TO_MAKE = "make one with scripts/mine_assertions.py and train_codet5_assertions.py (docs/data.md), or try make demo"
LOOK = 1000  # rows looked at before a file is refused
PROBE = 4096  # bytes that tell what kind of file it is
WANTED = (
    f"wanted: one JSON object a line (JSONL, UTF-8) with {' or '.join(FOCAL_KEYS)}, {' or '.join(TEST_KEYS)},"
    f" {' or '.join(TARGET_KEYS)}"
)
OTHER_FILES = (
    (rb"\x1f\x8b|PK\x03\x04|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18", "compressed: unpack it first"),
    (rb"PAR1", "a Parquet file: write it as JSONL first"),
    (rb"\xff\xfe|\xfe\xff|\{\x00", "text in UTF-16: save it as UTF-8"),
    (rb"version https://git-lfs", "a pointer of Git LFS: fetch the file itself (git lfs pull)"),
    (rb"(?i)\s*<(!doctype|html)", "an HTML page: a download that failed"),
    (rb"(?:\xef\xbb\xbf)?\s*\[", "a JSON array: write each of its objects on a line of its own"),
    (rb"(?:\xef\xbb\xbf)?\s*\{\s*\n", "JSON over several lines: write each object on a line of its own"),
    (rb"(?:\xef\xbb\xbf)?[\w \"]+[,;\t][^{\n]*\n", "a table (CSV or TSV): write each of its rows as a JSON object"),
)
ARRAY_OF_LINES = rb"(?:\xef\xbb\xbf)?\s*\[\s*\n"


def require_file(path: str | Path, flag: str, how: str) -> Path:
    """The path of a data file that exists and is not empty; ``how`` tells how to make one."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{flag}: {path} {'is a folder' if path.is_dir() else 'does not exist'}; {how}")
    if path.stat().st_size == 0:
        raise UserError(f"{flag}: {path} is empty; {how}")
    return path


def require_rows(path: str | Path, flag: str, how: str) -> Path:
    """The path of a data file with a usable row among its first ``LOOK`` lines; else the UserError says what it is."""
    path = require_file(path, flag, how)
    with open(path, "rb") as handle:
        start = handle.read(PROBE)
    other = next((f"{flag}: {path} is {what}; {WANTED}" for sign, what in OTHER_FILES if re.match(sign, start)), None)
    if other and re.match(ARRAY_OF_LINES, start):  # its last row has no comma, so it would pass for a row
        raise UserError(other)
    bad: Counter[str] = Counter()
    fields: list[str] = []
    for _, line in islice(read_rows(path), LOOK):
        try:
            row = parse_json_line(line)
            if not is_header(row):
                parse_sample(row)
                return path
            fields = fields or [name for name in row if name != HEADER_KEY]
        except RowError as error:
            bad[str(error)] += 1
    if other:
        raise UserError(other)
    if bad:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in bad.most_common(3))
        raise UserError(f"{flag}: {path}: none of the first {bad.total()} rows can be used ({reasons}); {WANTED}")
    if fields:
        shown = ", ".join(fields[:8]) + (", ..." if len(fields) > 8 else "")
        raise UserError(f"{flag}: {path} has other fields ({shown}); {WANTED}")
    raise UserError(f"{flag}: {path} holds no rows; {how}")


def require_two_files(train: str | None, validation: str | None, how_to_make: str) -> tuple[Path, Path]:
    """The files of --train_data_path and --val_data_path. UserError where one cannot be used or both are the same."""
    assert train and validation  # the command line was checked
    one = require_rows(train, "--train_data_path", how_to_make)
    other = require_rows(validation, "--val_data_path", how_to_make)
    if one.resolve() == other.resolve():
        raise UserError(f"--val_data_path: {other} is the training data too; validate on other rows")
    return one, other
