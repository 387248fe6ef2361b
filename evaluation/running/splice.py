"""Put an assertion into its test file, and make the other assertions of the test harmless."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tree_sitter import Node

from data.java.assertions import Scope, find_root_call, walk_assertions
from data.java.frameworks import FRAMEWORKS
from data.java.syntax import parse, text_of

Task = Mapping[str, Any]  # the ``source`` object of a mined row (docs/data.md)
CALL = re.compile(r"(?:\b(Assert|Assertions)\s*\.\s*|(?<![\w.]))(assert\w+|fail)\s*\(")
DECLARATION = re.compile(r"(?:final\s+)?[\w.]+(?:<[^;=]*>)?(?:\[\])*\s+\w+\s*=[^=]")
HEADERS = ("package_declaration", "import_declaration")
PLACES = "judged$.Place"
PLACES_SOURCE = """package judged$;
public final class Place {
    public static volatile String reached = "";
    public static synchronized void reach(int number) {
        if (!(" " + reached).contains(" " + number + " ")) reached += number + " ";
    }
}
"""
HARMLESS = (b"try { ", b" } catch (Throwable ignored$) { }")


@dataclass(frozen=True)
class Spliced:
    """A test file as text; ``lines``: those of the statement, from 1."""

    text: str
    lines: range


@dataclass(frozen=True)
class Imports:
    """Those of a Java file. ``end``: the byte behind the last, else behind the package, where one can be added; 0 where
    the file has neither. ``names``: as they are written behind ``import``."""

    end: int
    names: frozenset[str]


def as_utf8(source: bytes, *offsets: int) -> tuple[bytes, tuple[int, ...]]:
    """A Java file (UTF-8, else ISO 8859-1, which accepts any byte) as UTF-8, and the byte offsets moved accordingly."""
    if source.startswith(codecs.BOM_UTF8):
        source = b"   " + source[3:]
    try:
        source.decode()
    except UnicodeDecodeError:
        moved = tuple(len(source[:offset].decode("latin-1").encode()) for offset in offsets)
        return source.decode("latin-1").encode(), moved
    return source, offsets


def with_semicolon(statement: str) -> str:
    """The statement with its last semicolon, which some data keep after the placeholder."""
    stripped = statement.strip()
    return stripped if not stripped or stripped[-1] in ";}" else stripped + ";"


def move_to_disk(offset: int, source: bytes, raw: bytes) -> int:
    """Where an offset of ``source``, which ``as_utf8`` made of ``raw``, lies in that."""
    return offset if len(raw) == len(source) else len(source[:offset].decode().encode("latin-1"))


@lru_cache(maxsize=16)
def find_imports(source: bytes) -> Imports:
    """The imports of a file in UTF-8; what looks like one in a comment or in a text block is none."""
    found: list[Node] = []
    for node in parse(source).children:
        if node.type not in HEADERS and node.is_named and "comment" not in node.type:
            break  # the first type; what follows is none, even where the parser takes it for one
        found += [node] if node.type in HEADERS else []
    names = (text_of(node, source).removesuffix(";") for node in found if node.type == HEADERS[1])
    return Imports(
        max((node.end_byte for node in found), default=0),
        frozenset(" ".join(name.split()[1:]).replace(" .", ".").replace(". ", ".") for name in names),
    )


def splice(source: bytes, span: tuple[int, int], statement: str, imports: Iterable[str] = ()) -> Spliced:
    """Replace the bytes ``span`` of a test file by a statement on lines of its own, and add ``imports`` to it."""
    body = with_semicolon(statement).encode("utf-8", "replace")
    if source[: span[1]].rstrip().endswith(b")") and span[0] < span[1]:  # the expression that a lambda consists of
        body = b"{ " + body + b" }"
    head, tail = source[: span[0]], source[span[1] :]
    added = "".join(f" import {line};" for line in imports).encode()
    if added:  # on the line of the last import, so that no line moves
        last = find_imports(source).end
        head = head[:last] + added + head[last:]
    first = head.count(b"\n") + 2
    whole = head + b"\n" + body + b"\n" + tail
    return Spliced(whole.decode(), range(first, first + body.count(b"\n") + 1))


def mark_places(source: bytes, spans: Mapping[tuple[int, int], int]) -> str:
    """The file with a statement before each of these assertions that notes its number in PLACES when it is reached."""
    pieces, last = [], 0
    for (start, end), number in sorted(spans.items()):
        text = with_semicolon(source[start:end].decode())
        # One statement, since it may be all that an if governs; but a variable must stay in its scope.
        opening, closing = ("", "") if DECLARATION.match(text) else ("{ ", " }")
        # On a line of its own: an empty place may stand behind a comment.
        pieces += [source[last:start], f"\n{opening}{PLACES}.reach({number}); {text}{closing}".encode()]
        last = end
    return b"".join((*pieces, source[last:])).decode()


def find_missing_imports(source: bytes, framework: str, statement: str) -> list[str]:
    """Imports of the framework's own assertion methods that a statement calls and the file does not import.

    The model sees the test, not the file's imports, and any editor would add these. No other imports are guessed.
    """
    facts = FRAMEWORKS.get(framework)
    if facts is None or not facts.assertion_class:
        return []
    owner = facts.assertion_class
    needed: dict[str, None] = {}
    for qualifier, name in CALL.findall(statement):
        if name not in facts.assertions:
            continue
        if not qualifier:
            needed[f"static {owner}.{name}"] = None
        elif owner.endswith(f".{qualifier}"):
            needed[owner] = None
    present = find_imports(source).names
    return [line for line in needed if line not in present and f"static {owner}.*" not in present]


def silence_other_assertions(
    source: bytes, span: tuple[int, int], test_span: tuple[int, int]
) -> tuple[bytes, tuple[int, int]]:
    """The file with each other assertion of the test made harmless, and where ``span`` is then.

    An assertion becomes ``try { assertion } catch (Throwable ignored) { }``: its calls are still made, but it cannot
    fail, so a failure comes from the one at ``span``. One whose value is stored stays, since later code needs it.
    """
    test = parse(source).descendant_for_byte_range(*test_span)
    pieces = []
    last = 0
    shift = 0
    for assertion, _ in walk_assertions(test, source, Scope()) if test is not None else ():
        start, end = assertion.node.start_byte, assertion.node.end_byte
        if start < last or (end > span[0] and start < span[1]):  # within one that is harmless already, or the own place
            continue
        before, after = HARMLESS
        if assertion.node.parent is not None and assertion.node.parent.type == "lambda_expression":
            before, after = b"{ " + before, b";" + after + b" }"
        elif find_root_call(assertion.node) is None:
            continue
        pieces += [source[last:start], before, source[start:end], after]
        last = end
        if end <= span[0]:
            shift += len(before) + len(after)
    return b"".join((*pieces, source[last:])), (span[0] + shift, span[1] + shift)


def find_span_problem(source: bytes, task: Task) -> str:
    """Why the bytes that a task would replace are not the assertion that was mined; empty if they are.

    An empty span is a place that lacks an assertion.
    """
    start, end = task["assertion_span"]
    if start == end <= len(source):
        return ""
    text = source[start:end].decode("utf-8", "replace")
    if not text.rstrip().endswith((";", "}", ")")) or task.get("assertion_kind", "") not in text:
        return "test file changed since it was mined"
    return ""
