"""Find the tests of a Java file that lack an assertion: where it would go, and which method it would check."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from tree_sitter import Node

from data.java.assertions import find_assertions
from data.java.source_tree import find_files
from data.java.syntax import parse
from data.java.tokens import one_line
from data.mining.context import ContextBuilder
from data.mining.find_tests import TestMethod, find_test_methods
from data.mining.focal import FocalFinder
from data.mining.helpers import TestScope
from data.mining.projects import Project, index_file, package_of
from data.mining.siblings import add_siblings
from data.mining.tasks import Limits, MinedTest, mine_file
from data.rows.context import Context
from data.rows.readers import PLACEHOLDER, Row, Sample, Source
from evaluation.running.neighbours import mine_neighbours
from evaluation.running.splice import Task, as_utf8, move_to_disk
from evaluation.suggesting.focus import borrow_focal, locate_focal, refocus
from evaluation.suggesting.gaps import lacks_assertion, runs_forever
from utils.errors import UserError

ANY_FOCAL = Limits(max_focal_tokens=sys.maxsize)  # a sibling of a long method is a sibling, too
QUIET = frozenset({"test is disabled", "test has no body"})  # no gap, and nothing to tell
LEAVES = frozenset({"return_statement", "throw_statement", "break_statement", "continue_statement", "yield_statement"})


@dataclass(frozen=True)
class OpenTest:
    """A test that lacks an assertion. Offsets are bytes of the file as it is on disk, lines count from 1.

    The assertion goes to ``position``, between ``before`` and ``after`` (line breaks and indentation). ``source`` is
    what ProjectExecutor needs to run it; ``masked`` and ``focal`` are what the model reads. ``focal_as_in``: the test
    that is also about this method, where nothing in the test itself tells its method. ``find_task`` gives ``source``
    for a candidate: there its own assertion, not the other test, tells what has to be broken to see it fail.
    """

    name: str
    line: int
    position: int
    indent: str
    before: str
    after: str
    masked: str
    focal: str
    focal_name: str
    source: Task
    context: Context
    focal_as_in: str
    find_task: Callable[[str], Task]

    @property
    def sample(self) -> Sample:
        return Sample(self.masked, self.focal, (), cast(Source, self.source), context=self.context)


class OpenTests:
    """Finds the tests of a project that lack an assertion. The project is read once, for all its files."""

    def __init__(self, project_dir: Path) -> None:
        """Raises UserError for a folder without Java files."""
        self.root = project_dir
        files = find_files(project_dir, ".java")
        if not files:
            raise UserError(f"project {project_dir}: holds no Java files")
        self.texts = {path.relative_to(project_dir).as_posix(): as_utf8(path.read_bytes())[0] for path in files}
        self.index = [index_file(name, text) for name, text in self.texts.items()]
        self.project = Project(project_dir.name, self.index)
        self._builder = ContextBuilder(self.project, lambda name: self.texts[name])

    def list_test_files(self) -> list[Path]:
        """The files that may hold tests, sorted."""
        return sorted(self.root / item.file for item in self.index if item.may_hold_tests)

    def find(self, file: Path, method: str = "", raw: bytes | None = None) -> tuple[list[OpenTest], dict[str, str]]:
        """The tests of ``file`` without an assertion, or all that are called ``method``; and name -> why it was left
        out. ``raw``: its bytes, which the offsets count; they are read where they are not given.

        A test that expects an exception, or that calls a helper that checks something, does not lack one; nor does one
        that is switched off. Raises UserError for a file without tests, and for a method that is not one of them.
        """
        name = file.relative_to(self.root).as_posix()
        raw = file.read_bytes() if raw is None else raw
        source = self._read(name, raw)
        root = parse(source)
        tests = list(find_test_methods(root, source, self.project, name, package_of(root, source)))
        if not tests:
            raise UserError(f"{file}: holds no JUnit or TestNG tests")
        if method and not any(test.name == method for test in tests):
            known = ", ".join(dict.fromkeys(test.name for test in tests))
            raise UserError(f"{file}#{method}: no such test; there are {known}")
        found: list[OpenTest] = []
        left_out: dict[str, str] = {}
        mine = cache(self._mine)
        for test in tests:
            if method and test.name != method:
                continue
            problem = test.problem
            if not method and (problem in QUIET or (not problem and not lacks_assertion(self.project, test, source))):
                continue
            described = problem or _describe(self._builder, test, self.texts, raw, lambda: mine(name))
            if isinstance(described, str):
                left_out[test.name] = described
            else:
                found.append(described)
        test_files = [item.file for item in self.index if item.may_hold_tests]
        _add_siblings(found, self.project.name, self.texts, name, test_files, mine)
        return found, left_out

    def _mine(self, file: str) -> list[MinedTest]:
        return mine_file(self.project, Path(), file, ANY_FOCAL, lambda name: self.texts[name]).tests

    def _read(self, name: str, raw: bytes) -> bytes:
        """The file as UTF-8. One that the walk over the project left out, or that has changed, is taken in as it is."""
        text = as_utf8(raw)[0]
        if self.texts.get(name) != text:
            self.texts[name] = text
            self.index = [*(item for item in self.index if item.file != name), index_file(name, text)]
            self.project = Project(self.root.name, self.index)
            self._builder = ContextBuilder(self.project, lambda other: self.texts[other])
        return text


def _add_siblings(
    found: Sequence[OpenTest],
    project: str,
    texts: dict[str, bytes],
    file: str,
    test_files: Sequence[str],
    mine: Callable[[str], list[MinedTest]],
) -> None:
    """Put the assertions of other tests of the project into the contexts of the open tests of a file."""
    if not found:
        return
    focal_classes = {test.source["focal_class"] for test in found}
    others = mine_neighbours(file, mine(file), focal_classes, texts, test_files, mine)
    asking = [MinedTest((_as_row(test, project),), (), ()) for test in found]
    open_ones = {(test.source["test_class"], test.name) for test in found}
    add_siblings([*(test for test in others if _identify(test) not in open_ones), *asking])


def _identify(test: MinedTest) -> tuple[str, str]:
    source = test.rows[0]["source"]
    return source["test_class"], source["test_name"]


def _as_row(test: OpenTest, project: str) -> Row:
    """The open test as the miner would see it. The row has the very context of the test, which siblings join."""
    return {
        "focal_method": test.focal,
        "test_method_masked": test.masked,
        "assertions": [],
        "source": cast(Source, {**test.source, "project": project}),
        "context": test.context,
    }


def _describe(
    builder: ContextBuilder,
    test: TestMethod,
    texts: dict[str, bytes],
    raw: bytes,
    mine_own: Callable[[], Sequence[MinedTest]],
) -> OpenTest | str:
    """``mine_own`` gives the file's tests with assertions; they are asked where a test does not tell its method."""
    project = builder.project
    source = texts[test.owner.file]
    body = test.node.child_by_field_name("body")
    assert body is not None
    if runs_forever(body, source):
        return "its last statement is a loop without end, so nothing can follow"
    position, before, after, indent = _find_place(body, test.node, source)
    finder = FocalFinder(project, test.owner, test.node, source)
    assertions, _ = find_assertions(test.node, source, TestScope(finder.resolver))
    focal = finder.find([], position, assertions)
    if isinstance(focal, str):
        if (borrowed := borrow_focal(project, test, mine_own())) is None:
            return focal
        method, as_in = borrowed
    else:
        method, as_in = focal.method, ""
    owner = project.find(method.owner, method.file)
    focal_text = texts[method.file][slice(*method.span)].decode()
    start, end = test.node.start_byte, test.node.end_byte
    masked = source[start:position].decode() + f" {PLACEHOLDER} " + source[position:end].decode()

    def on_disk(offset: int) -> int:
        return move_to_disk(offset, source, raw)

    task: Task = {
        "test_file": test.owner.file,
        "test_class": test.owner.binary_name,
        "test_class_abstract": test.owner.abstract,
        "test_name": test.name,
        "test_span": (on_disk(start), on_disk(end)),
        "assertion_span": (on_disk(position), on_disk(position)),
        "framework": test.framework,
        **locate_focal(project, method),
    }
    return OpenTest(
        name=test.name,
        line=source.count(b"\n", 0, position) + 1,
        position=on_disk(position),
        indent=indent,
        before=before,
        after=after,
        masked=one_line(masked),
        focal=one_line(focal_text),
        focal_name=f"{owner.name if owner else method.owner}.{method.name}",
        source=task,
        context=builder.describe(finder, test, source, (position, position), method),
        focal_as_in=as_in,
        find_task=refocus(project, test, source, (position, before, after), task) if as_in else lambda _: task,
    )


def _find_place(body: Node, method: Node, source: bytes) -> tuple[int, str, str, str]:
    """Where in a test's body the assertion goes: at the end, but before a return. Position, before, after, indent."""
    newline = "\r\n" if b"\r\n" in source else "\n"
    outer, step = _indent(method, source), "\t" if b"\n\t" in source else "    "
    children = list(_statements(body))
    if not children:
        indent = outer + step
        return body.start_byte + 1, newline + indent, newline + outer, indent
    last = children[-1]
    indent = _indent(last, source) if last.start_point[0] != body.start_point[0] else outer + step
    if last.type in LEAVES:
        return last.start_byte, "", newline + indent, indent
    # The parser counts a carriage return as part of a line comment.
    end = last.end_byte - (source[last.end_byte - 1 : last.end_byte] == b"\r")
    return end, newline + indent, newline + outer if last.end_point[0] == body.end_point[0] else "", indent


def _statements(body: Node) -> Iterator[Node]:
    """Named children of a block; a comment counts, so that it stays with the statement on its line."""
    statements = [child for child in body.named_children if "comment" not in child.type]
    if statements and statements[-1].type in LEAVES:
        yield from statements
    else:
        yield from body.named_children


def _indent(node: Node, source: bytes) -> str:
    start = source.rfind(b"\n", 0, node.start_byte) + 1
    line = source[start : node.start_byte].decode()
    return line[: len(line) - len(line.lstrip())]
