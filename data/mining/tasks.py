"""Makes raw rows of a test file: one task for each assertion statement, or for each run of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from tree_sitter import Node

from data.java.assertions import Assertion, find_assertions, group_adjacent, write_target
from data.java.syntax import (
    SUBSTITUTE,
    UnreadableFile,
    lines_of,
    parse,
    read_java,
    text_of,
)
from data.java.tokens import coarse_tokens, one_line, tidy
from data.mining.context import ContextBuilder, ReadFile
from data.mining.find_tests import TestMethod, find_test_methods
from data.mining.focal import FocalFinder
from data.mining.helpers import TestScope
from data.mining.projects import Imports, Project, package_of
from data.rows.readers import PLACEHOLDER, Row, Source

COPIED_TOKENS = 40


@dataclass(frozen=True)
class Limits:
    """What is kept, in bytes and in Java tokens, and the shape of a task (``single`` or ``block``)."""

    assertions_per_task: str = "single"
    max_test_tokens: int = 1000
    max_focal_tokens: int = 1000
    max_assertion_tokens: int = 100
    max_file_bytes: int = 2_000_000


@dataclass(frozen=True)
class MinedTest:
    """The rows of one test, the links that make tests belong together, and the tokens by which copies are found."""

    rows: tuple[Row, ...]
    links: tuple[str, ...]
    tokens: tuple[str, ...]
    given_split: str = ""  # of an imported data set that comes split


@dataclass
class FileResult:
    """The tests of a file; ``counts`` of what was seen, ``left_out`` by unit (test, assertion) and reason."""

    tests: list[MinedTest] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: {"test": Counter(), "assertion": Counter()})


@lru_cache(maxsize=1 << 12)  # a focal method has many tasks
def _count_tokens(text: str) -> int:
    return len(coarse_tokens(text))


def find_problem(
    test: str, focal: str, assertions: Iterable[str], limits: Limits, tokens_of_test: int | None = None
) -> str:
    """Why a task is too long, or cannot be written down; the empty string where it can."""
    for text, limit, what in (
        *((item, limits.max_assertion_tokens, "assertion") for item in assertions),
        (test, limits.max_test_tokens, "test"),
        (focal, limits.max_focal_tokens, "focal method"),
    ):
        if SUBSTITUTE in text:
            return f"{what} is not UTF-8"
        if what == "assertion" and "\n" in text:
            return "assertion spans lines"
        counted = tokens_of_test if what == "test" else None
        if (_count_tokens(text) if counted is None else counted) > limit:
            return f"{what} too long"
    return ""


class _CutTest:
    """A test on one line, in pieces: what stands before, in and after each of its tasks' assertions.

    No blank or token reaches over the edge of an assertion, so a piece is tidied and counted once for all tasks.
    """

    def __init__(self, test: Node, source: bytes, groups: Sequence[Sequence[Assertion]]) -> None:
        edges = [edge for group in groups for edge in (group[0].node.start_byte, group[-1].node.end_byte)]
        cuts = pairwise((test.start_byte, *edges, test.end_byte))
        written = [source[start:end].decode() for start, end in cuts]
        self._pieces = [tidy(text) for text in written]
        self._words = [list_words(text) for text in written]
        self._tokens = [len(coarse_tokens(text)) for text in written]

    @property
    def whole(self) -> str:
        return "".join(self._pieces).strip()

    def mask(self, number: int) -> tuple[str, int, set[str]]:
        """The test with a placeholder for a group of assertions, its number of tokens, and its words."""
        place = 2 * number + 1
        masked = "".join((*self._pieces[:place], PLACEHOLDER, *self._pieces[place + 1 :])).strip()
        words = set().union(*self._words[:place], *self._words[place + 1 :])
        return masked, sum(self._tokens) - self._tokens[place] + 1, words


def group_by_task(assertions: list[Assertion], limits: Limits) -> list[list[Assertion]]:
    """The assertions of a test, those together that one task asks for."""
    if limits.assertions_per_task == "block":
        return list(group_adjacent(assertions))
    return [[item] for item in assertions]


def duplicate_key(test: str) -> tuple[str, ...]:
    """The tokens of a test from its parameters on: two tests that differ in name and annotations only are the same."""
    tokens = coarse_tokens(test)
    start = 0
    while start < len(tokens) and tokens[start] == "@":
        start += 2
        while tokens[start : start + 1] == ["."]:
            start += 2
        depth = 0
        while start < len(tokens) and (tokens[start] == "(" or depth):
            depth += (tokens[start] == "(") - (tokens[start] == ")")
            start += 1
    opening = tokens.index("(", start) if "(" in tokens[start:] else start
    return tuple(tokens[opening:])


@lru_cache(maxsize=1 << 12)
def focal_link(focal: str) -> tuple[str, ...]:
    """The link between tests of one method or of copies of it, also in a fork of the project.

    Short methods have none, because they look alike everywhere.
    """
    tokens = coarse_tokens(focal)
    return (f"method {hashlib.sha256(' '.join(tokens).encode()).hexdigest()}",) if len(tokens) >= COPIED_TOKENS else ()


def list_words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def select_imports(imports: Imports, words: Container[str]) -> list[str]:
    """The imports that are among the words of a piece of code, and all those with a star."""
    return [line for line in imports.lines if line.endswith(".*") or line.rpartition(".")[2] in words]


def mine_file(
    project: Project,
    root: Path,
    file: str,
    limits: Limits,
    read: ReadFile | None = None,
    names: Collection[str] | None = None,
) -> FileResult:
    """Second pass over one file, relative to the project's ``root``; ``read``: another way to the project's files.

    ``names``: of the tests that are wanted (None: all).
    """
    result = FileResult()
    read = read or (lambda name: read_java(root / name, limits.max_file_bytes))
    try:
        source = read(file)
    except (OSError, UnreadableFile):
        result.left_out["file"] = Counter(["file vanished or changed while it was mined"])
        return result
    tree = parse(source)
    builder = ContextBuilder(project, read)
    for test in find_test_methods(tree, source, project, file, package_of(tree, source)):
        if names is not None and test.name not in names:
            continue
        result.counts["tests"] += 1
        if test.problem:
            result.left_out["test"][test.problem] += 1
        else:
            try:
                _mine_test(project, test, source, limits, result, builder)
            except RecursionError:
                result.left_out["test"]["expression nested too deeply"] += 1
    return result


def _mine_test(
    project: Project,
    test: TestMethod,
    source: bytes,
    limits: Limits,
    result: FileResult,
    builder: ContextBuilder,
) -> None:
    finder = FocalFinder(project, test.owner, test.node, source)
    assertions, left_out = find_assertions(test.node, source, TestScope(finder.resolver))
    result.counts["assertions"] += len(assertions) + len(left_out)
    result.left_out["assertion"].update(left_out)
    if not assertions:
        result.left_out["test"]["no assertion"] += 1
        return
    result.counts[f"assertions of {test.framework}"] += len(assertions)
    longest = limits.max_test_tokens + limits.max_assertion_tokens
    if limits.assertions_per_task == "single" and len(coarse_tokens(text_of(test.node, source))) > longest:
        result.left_out["assertion"]["test too long"] += len(assertions)
        result.left_out["test"]["no usable assertion"] += 1
        return
    ancestors = project.ancestors(test.owner)[0]
    rows, links = [], {f"{project.name}: {item.outermost}" for item in ancestors if item.in_tests}
    groups = group_by_task(assertions, limits)
    cut = _CutTest(test.node, source, groups)
    for number, group in enumerate(groups):
        found = _make_task(test, source, finder, assertions, group, cut.mask(number), limits, builder)
        if isinstance(found, str):
            result.left_out["assertion"][found] += len(group)
        else:
            row, focal_class = found
            rows.append(row)
            links.update((f"{project.name}: {focal_class}", *focal_link(row["focal_method"])))
    if rows:
        key = duplicate_key(cut.whole)
        result.tests.append(MinedTest(tuple(rows), tuple(sorted(links)), key))
    else:
        result.left_out["test"]["no usable assertion"] += 1


@lru_cache(maxsize=1 << 12)
def _show_focal(text: bytes) -> str:
    return one_line(text.decode())


def _make_task(
    test: TestMethod,
    source: bytes,
    finder: FocalFinder,
    assertions: list[Assertion],
    group: list[Assertion],
    cut: tuple[str, int, set[str]],
    limits: Limits,
    builder: ContextBuilder,
) -> tuple[Row, str] | str:
    """A raw row and its focal class (the outermost type), or the reason why there is none."""
    start, end = group[0].node.start_byte, group[-1].node.end_byte
    focal = finder.find([item.node for item in group], start, assertions)
    if isinstance(focal, str):
        return focal
    method = focal.method
    owner = builder.project.find(method.owner, method.file)
    assert owner is not None
    try:
        focal_source = builder.read(method.file)
    except (OSError, UnreadableFile):
        return "file of the focal method vanished or changed while it was mined"
    masked, tokens, words = cut
    focal_text = _show_focal(focal_source[slice(*method.span)])
    targets = [write_target(item, source) for item in group]
    if problem := find_problem(masked, focal_text, targets, limits, tokens):
        return problem
    provenance: Source = {
        "project": builder.project.name,
        "test_file": test.owner.file,
        "focal_file": method.file,
        "test_class": test.owner.binary_name,
        "test_class_abstract": test.owner.abstract,
        "test_name": test.name,
        "test_lines": lines_of(test.node),
        "test_span": (test.node.start_byte, test.node.end_byte),
        "assertion_span": (start, end),
        "assertion_kind": group[0].kind,
        "framework": test.framework,
        "focal_class": owner.binary_name,
        "focal_name": method.name,
        "focal_lines": method.lines,
        "focal_call": focal.position,
        "focal_rule": focal.rule,
        "focal_confidence": focal.confidence,
        "imports": select_imports(test.owner.imports, words | list_words(" ".join(targets))),
    }
    context = builder.describe(finder, test, source, (start, end), method)
    row: Row = {
        "focal_method": focal_text,
        "test_method_masked": masked,
        "assertions": targets,
        "source": provenance,
        "context": context,
    }
    return row, owner.outermost
