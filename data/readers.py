"""Raw rows: one JSON object a line, in every spelling that is in use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import UserError

PLACEHOLDER = "<AssertPlaceHolder>"

FOCAL_KEYS = ("focal_method", "focal_file")
TEST_KEYS = ("test_method_masked", "test_method")
TARGET_KEYS = ("assertions", "assertion", "original_target")
LITERAL_OR_BLANK = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\s+""")


class RowError(Exception):
    """A row that cannot be used; the message is a short reason, the same for all rows with the same fault."""


@dataclass(frozen=True)
class Sample:
    """One task: a test that lacks its assertion, the method under test, and the assertions a person wrote."""

    test: str
    focal: str
    assertions: tuple[str, ...]
    source: dict[str, Any] = field(default_factory=dict)
    teacher_prediction: str | None = None

    @property
    def target(self) -> str:
        """The text to be generated: one assertion a line."""
        return "\n".join(self.assertions)


def parse_json_line(line: bytes | str) -> dict[str, Any]:
    """Decode one line into an object; raise RowError where it is not one."""
    try:
        value = json.loads(line)
    except ValueError:  # covers bad JSON and bad UTF-8
        raise RowError("not valid JSON") from None
    if not isinstance(value, dict):
        raise RowError("not a JSON object")
    return value


def is_header(row: dict[str, Any]) -> bool:
    """A line without any sample field describes the file, not a sample."""
    return not any(key in row for key in FOCAL_KEYS + TEST_KEYS + TARGET_KEYS)


def _text(row: dict[str, Any], keys: tuple[str, ...], what: str) -> str:
    for key in keys:
        value = row.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise RowError(f"{what} is not a string")
        if value.strip():
            return value
    raise RowError(f"missing {what}")


def _on_one_line(text: str) -> str:
    """Blanks collapsed, except in string and character literals: there they are part of what is asserted."""
    return LITERAL_OR_BLANK.sub(lambda match: match.group(1) or " ", text).strip()


def _assertions(row: dict[str, Any]) -> tuple[str, ...]:
    for key in TARGET_KEYS:
        value = row.get(key)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in values):
            raise RowError("assertion is not a string")
        kept = tuple(_on_one_line(item) for item in values if item.strip())
        if kept:
            return kept
    raise RowError("missing assertion")


def parse_sample(row: dict[str, Any]) -> Sample:
    """Read a row in any of the spellings; raise RowError with the reason where a needed field is missing or wrong.

    A test without the placeholder (some published files have none) gets it before its last closing brace: the end of
    the test, where the missing assertion belongs.
    """
    test = _text(row, TEST_KEYS, "masked test")
    if PLACEHOLDER not in test:
        head, brace, tail = test.rpartition("}")
        test = f"{head}{PLACEHOLDER} {brace}{tail}" if brace else f"{test} {PLACEHOLDER}"
    source = row.get("source")
    prediction = row.get("teacher_prediction")
    return Sample(
        test=test,
        focal=_text(row, FOCAL_KEYS, "focal method"),
        assertions=_assertions(row),
        source=source if isinstance(source, dict) else {},
        teacher_prediction=prediction if isinstance(prediction, str) else None,
    )


def require_file(path: str | Path, flag: str, how: str) -> Path:
    """The path of a data file that exists and is not empty; ``how`` tells how to make one."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{flag}: {path} {'is a folder' if path.is_dir() else 'does not exist'}; {how}")
    if path.stat().st_size == 0:
        raise UserError(f"{flag}: {path} is empty; {how}")
    return path


def read_rows(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers (from 1) and raw bytes of the non-blank lines."""
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield number, line
