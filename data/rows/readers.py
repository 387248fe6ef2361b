"""Raw rows: one JSON object a line, in every spelling that is in use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from data.rows.context import Context, ContextError, read_context
from utils.errors import UserError

PLACEHOLDER = "<AssertPlaceHolder>"

FOCAL_KEYS = ("focal_method", "focal_file")
TEST_KEYS = ("test_method_masked", "test_method")
TARGET_KEYS = ("assertions", "assertion", "original_target")
HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # or a whole pair: one part alone does not tell
LITERAL_OR_BLANK = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\s+""")


Json = dict[str, Any]  # a JSON object as it was read: any keys, any values


class Source(TypedDict, total=False):
    """Where a task comes from. A mined row has all of it, an imported one what its data set tells; other keys may be
    there, too. Files are relative to the project; spans are bytes of the test's file, lines are counted from 1."""

    project: str
    test_file: str
    focal_file: str
    test_class: str  # binary names: org.example.FooTest$Inner
    test_class_abstract: bool
    test_name: str
    test_lines: Sequence[int]
    test_span: Sequence[int]
    assertion_span: Sequence[int]
    assertion_kind: str  # the first call of the assertion, such as assertEquals
    framework: str
    focal_class: str
    focal_name: str
    focal_lines: Sequence[int]
    focal_call: str  # whether the focal method is called "inside" the assertion or "before" it
    focal_rule: str  # how it was found
    answer_in_input: str  # whether the assertion also stands in the "test", else in the "context", or in "none"
    imports: list[str]
    split: str


class Row(TypedDict):
    """A raw row as the miner and the importers write it."""

    focal_method: str
    test_method_masked: str
    assertions: list[str]
    source: Source
    context: NotRequired[Context]


class RowError(Exception):
    """A row that cannot be used; the message is a short reason, the same for all rows with the same fault."""


@dataclass(frozen=True)
class Sample:
    """One task: a test that lacks its assertion, the method under test, the assertions a person wrote, and what stands
    around the test."""

    test: str
    focal: str
    assertions: tuple[str, ...]
    source: Source = field(default_factory=Source)
    teacher_prediction: str | None = None
    context: Context = field(default_factory=Context)

    @property
    def target(self) -> str:
        """The text to be generated: one assertion a line."""
        return "\n".join(self.assertions)


def _refuse_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_json_line(line: bytes | str) -> Json:
    """Decode one line into an object; raise RowError where it is not one."""
    try:
        value = json.loads(line, parse_constant=_refuse_number)
    except ValueError:  # covers bad JSON and bad UTF-8
        raise RowError("not valid JSON") from None
    except RecursionError:
        raise RowError("JSON nested too deeply") from None
    if not isinstance(value, dict):
        raise RowError("not a JSON object")
    if HALF_PAIR.search(line if isinstance(line, bytes) else line.encode(errors="replace")):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RowError("text holds half a surrogate pair") from None
    return value


def is_header(row: Json) -> bool:
    """A line without any sample field describes the file, not a sample."""
    return not any(key in row for key in FOCAL_KEYS + TEST_KEYS + TARGET_KEYS)


def _read_text(row: Json, keys: tuple[str, ...], what: str) -> str:
    for key in keys:
        value = row.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise RowError(f"{what} is not a string")
        if value.strip():
            return value
    raise RowError(f"missing {what}")


def _join_lines(text: str) -> str:
    """Blanks collapsed, except in string and character literals: there they are part of what is asserted."""
    return LITERAL_OR_BLANK.sub(lambda match: match.group(1) or " ", text).strip()


def _read_assertions(row: Json) -> tuple[str, ...]:
    for key in TARGET_KEYS:
        value = row.get(key)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in values):
            raise RowError("assertion is not a string")
        kept = tuple(_join_lines(item) for item in values if item.strip())
        if kept:
            return kept
    raise RowError("missing assertion")


def _mask(test: str, assertions: tuple[str, ...]) -> str:
    for number, assertion in enumerate(assertions):
        written = r"\s+".join(map(re.escape, assertion.split()))
        test = re.sub(written, "" if number else PLACEHOLDER, test, count=1)
    if PLACEHOLDER not in test:
        head, brace, tail = test.rpartition("}")
        test = f"{head}{PLACEHOLDER} {brace}{tail}" if brace else f"{test} {PLACEHOLDER}"
    return test


def parse_sample(row: Json) -> Sample:
    """Read a row in any of the spellings; raise RowError with the reason where a needed field is missing or wrong.

    A test without the placeholder (some published files have none) gets it in place of the assertion, if it still
    holds that, or the answer would stand in the input; else before its last closing brace: the end of the test, where
    the missing assertion belongs.
    """
    test = _read_text(row, TEST_KEYS, "masked test")
    assertions = _read_assertions(row)
    if PLACEHOLDER not in test:
        test = _mask(test, assertions)
    try:
        context = read_context(row.get("context"))
    except ContextError as error:
        raise RowError(str(error)) from None
    source = row.get("source")
    prediction = row.get("teacher_prediction")
    return Sample(
        test=test,
        focal=_read_text(row, FOCAL_KEYS, "focal method"),
        assertions=assertions,
        source=cast(Source, source if isinstance(source, dict) else {}),
        teacher_prediction=prediction if isinstance(prediction, str) else None,
        context=context,
    )


def require_file(path: str | Path, flag: str, how: str) -> Path:
    """The path of a data file that exists and is not empty; ``how`` tells how to make one."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{flag}: {path} {'is a folder' if path.is_dir() else 'does not exist'}; {how}")
    if path.stat().st_size == 0:
        raise UserError(f"{flag}: {path} is empty; {how}")
    return path


def require_two_files(train: str | None, validation: str | None, how_to_make: str) -> tuple[Path, Path]:
    """The files of --train_data_path and --val_data_path. UserError where one is missing or both are the same."""
    assert train and validation  # the command line was checked
    one = require_file(train, "--train_data_path", how_to_make)
    other = require_file(validation, "--val_data_path", how_to_make)
    if one.resolve() == other.resolve():
        raise UserError(f"--val_data_path: {other} is the training data too; validate on other rows")
    return one, other


def read_rows(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers (from 1) and raw bytes of the non-blank lines."""
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield number, line
