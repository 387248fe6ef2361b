"""Raw rows: one JSON object a line, in every spelling that is in use."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, TypedDict, cast

from typing_extensions import NotRequired  # in typing from Python 3.11 on

from data.java.normal_form import find_assertion, find_near_assertion
from data.java.tokens import PLACEHOLDER
from data.rows.context import Context, ContextError, read_context

FOCAL_KEYS = ("focal_method", "focal_file")
TEST_KEYS = ("test_method_masked", "test_method")
TARGET_KEYS = ("assertions", "assertion", "original_target")
HEADER_KEY = "distillation_header"
HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # or a whole pair: one part alone does not tell
# Literals and block comments; a string that is broken over lines; blanks and line comments.
PIECES = re.compile(
    r"""(?P<kept>\"\"\"(?:\\.|[^\\])*?\"\"\"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|/\*.*?\*/)
      |(?P<broken>"(?:\\.|[^"\\])*")|(?:\s*//[^\n]*(?:\n|\Z))+\s*|\s+""",
    re.DOTALL | re.VERBOSE,
)

# What is odd about a row that can be used all the same.
MASKED_HERE = "the test has no placeholder: it got one in place of the answer"
MASKED_NEAR = "the test has no placeholder: it got one in place of a statement much like the answer"
MASKED_AT_END = "the test has no placeholder and not the answer: it got one at its end"
MANY_PLACEHOLDERS = "the test has several placeholders: the first counts"
LIST_AS_TEXT = "the target is a list written as text: it was read as that list"
BROKEN_STRING = "the target breaks a line within a string literal: it was read as \\n"

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
    focal_confidence: str  # "high", or "low" where another method was as likely
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
    oddities: tuple[str, ...] = ()  # what the reader had to guess; data/rows/oddities.py finds more

    @property
    def target(self) -> str:
        """The text to be generated: one assertion a line."""
        return "\n".join(self.assertions)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def parse_json_line(line: bytes | str) -> Json:
    """Decode one line into an object; raise RowError where it is not one.

    NaN, Infinity and numbers too large for a float become None: JSON has none of them, but Python writes them.
    """
    try:
        value = json.loads(line, parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError:
        raise RowError("not valid UTF-8") from None
    except ValueError:
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


def _write_piece(match: re.Match[str]) -> str:
    if match["broken"]:
        return match["broken"].replace("\r", "\\r").replace("\n", "\\n")
    return match["kept"] or " "


def _join_lines(text: str) -> str:
    """Blanks collapsed, except in literals and text blocks: there they are part of what is asserted.

    A ``//`` comment goes, since on one line it would swallow what follows; a line break in a string literal, which Java
    does not have, becomes the escape that it was before something unescaped it.
    """
    return PIECES.sub(_write_piece, text.strip()).strip()


def _breaks_string(text: str) -> bool:
    return "\n" in text and any(match["broken"] for match in PIECES.finditer(text))


def _list_as_text(text: str) -> list[str] | None:
    """The list of texts that ``text`` is, as Python or JSON writes one; no Java assertion begins with a bracket."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    escaped = text.replace("\n", "\\n")  # neither kind has line breaks within its texts, but who wrote it may
    for read, written in product((json.loads, ast.literal_eval), (text, escaped)):
        try:
            value = read(written)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    return None


def _read_assertions(row: Json) -> tuple[tuple[str, ...], list[str]]:
    """The assertions, and what was odd about how they are written."""
    for key in TARGET_KEYS:
        value = row.get(key)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in values):
            raise RowError("assertion is not a string")
        lists = [_list_as_text(item.strip()) for item in values]
        parts = [part for item, found in zip(values, lists, strict=True) for part in (found or [item])]
        kept = tuple(joined for part in parts if (joined := _join_lines(part)))
        if kept:
            odd = {LIST_AS_TEXT: any(lists), BROKEN_STRING: any(map(_breaks_string, parts))}
            return kept, [name for name, holds in odd.items() if holds]
    raise RowError("missing assertion")


def _mask(test: str, assertions: tuple[str, ...]) -> tuple[str, str]:
    """The test with a placeholder, and what was odd about it."""
    left, how = list(assertions), ""
    for find, kind in ((find_assertion, MASKED_HERE), (find_near_assertion, MASKED_NEAR)):
        for assertion in list(left):
            if place := find(test, assertion):
                test = test[: place[0]] + ("" if PLACEHOLDER in test else PLACEHOLDER) + test[place[1] :]
                left.remove(assertion)
                how = kind
    if how:
        return test, how
    head, brace, tail = test.rpartition("}")
    return (f"{head}{PLACEHOLDER} {brace}{tail}" if brace else f"{test} {PLACEHOLDER}"), MASKED_AT_END


def parse_sample(row: Json) -> Sample:
    """Read a row in any of the spellings; raise RowError with the reason where a needed field is missing or wrong.

    A test without the placeholder (some published files have none) gets it in place of the assertion, if it still
    holds that, or the answer would stand in the input; else before its last closing brace: the end of the test, where
    the missing assertion belongs. ``Sample.oddities`` tells what was done.
    """
    test = _read_text(row, TEST_KEYS, "masked test")
    assertions, odd = _read_assertions(row)
    placeholders = test.count(PLACEHOLDER)
    if not placeholders:
        test, how = _mask(test, assertions)
        odd.append(how)
    elif placeholders > 1:
        odd.append(MANY_PLACEHOLDERS)
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
        oddities=tuple(odd),
    )


def read_rows(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers (from 1) and raw bytes of the non-blank lines."""
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield number, line
