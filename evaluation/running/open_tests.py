"""Find the tests of a Java file that lack an assertion: where it would go, and which method it would check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tree_sitter import Node

from data.java.assertions import find_assertions, find_root_call
from data.java.source_tree import find_files
from data.java.syntax import parse, read_modifiers, text_of, walk
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
from evaluation.running.splice import Task, as_utf8
from utils.errors import UserError

BUILD_FILES = ("pom.xml", "build.gradle", "build.gradle.kts", "build.xml")
LEAVES = frozenset({"return_statement", "throw_statement", "break_statement", "continue_statement", "yield_statement"})


@dataclass(frozen=True)
class OpenTest:
    """A test that lacks an assertion. Offsets are bytes of the file as it is on disk, lines count from 1.

    The assertion goes to ``position``, between ``before`` and ``after`` (line breaks and indentation). ``source`` is
    what ProjectExecutor needs to run it; ``masked`` and ``focal`` are what the model reads.
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

    @property
    def sample(self) -> Sample:
        return Sample(self.masked, self.focal, (), context=self.context)


def find_project(file: Path) -> Path:
    """The nearest folder above a file with a build file, else the one above ``src``, else the file's own."""
    for folder in file.parents:
        if any((folder / name).is_file() for name in BUILD_FILES):
            return folder
    return next((folder.parent for folder in file.parents if folder.name == "src"), file.parent)


def find_open_tests(project_dir: Path, file: Path, method: str = "") -> tuple[list[OpenTest], dict[str, str]]:
    """The tests of ``file`` without an assertion, or all that are called ``method``; and name -> why it was left out.

    A test that expects an exception, or that calls a helper that checks something, does not lack one. Raises UserError
    for a file without tests, and for a method that is not one of them.
    """
    name = file.relative_to(project_dir).as_posix()
    sources = {path.relative_to(project_dir).as_posix(): path for path in find_files(project_dir, ".java")}
    texts = {path: as_utf8(sources[path].read_bytes())[0] for path in {**sources, name: file}}
    indexed = [index_file(path, text) for path, text in texts.items()]
    project = Project(project_dir.name, indexed)
    root = parse(texts[name])
    tests = list(find_test_methods(root, texts[name], project, name, package_of(root, texts[name])))
    if not tests:
        raise UserError(f"{file}: holds no JUnit or TestNG tests")
    if method and not any(test.name == method for test in tests):
        raise UserError(
            f"{file}#{method}: no such test; there are {', '.join(dict.fromkeys(test.name for test in tests))}"
        )
    found: list[OpenTest] = []
    left_out: dict[str, str] = {}
    builder = ContextBuilder(project, lambda path: texts[path])
    for test in tests:
        if (method and test.name != method) or (not method and not _lacks_assertion(project, test, texts[name])):
            continue
        described = test.problem or _describe(builder, test, texts, file.read_bytes())
        if isinstance(described, str):
            left_out[test.name] = described
        else:
            found.append(described)
    test_files = [item.file for item in indexed if item.may_hold_tests]
    _add_siblings(found, project, texts, name, test_files)
    return found, left_out


def _add_siblings(
    found: Sequence[OpenTest], project: Project, texts: dict[str, bytes], file: str, test_files: Sequence[str]
) -> None:
    """Put the assertions of other tests of the project into the contexts of the open tests of a file."""
    if not found:
        return

    def mine(path: str) -> list[MinedTest]:
        return mine_file(project, Path(), path, Limits(), lambda name: texts[name]).tests

    focal_classes = {test.source["focal_class"] for test in found}
    others = mine_neighbours(file, mine(file), focal_classes, texts, test_files, mine)
    asking = [MinedTest((_as_row(test, project.name),), (), ()) for test in found]
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


def _lacks_assertion(project: Project, test: TestMethod, source: bytes) -> bool:
    if test.problem:
        return False
    finder = FocalFinder(project, test.owner, test.node, source)
    assertions, left_out = find_assertions(test.node, source, TestScope(finder.resolver))
    _, annotations = read_modifiers(test.node, source)
    expects = any("expected" in text for text in annotations.values()) or any(
        text_of(call.child_by_field_name("name"), source).startswith("expect")  # type: ignore[arg-type]
        for call in filter(None, map(find_root_call, walk(test.node)))
    )
    return not assertions and not left_out and not expects


def _describe(builder: ContextBuilder, test: TestMethod, texts: dict[str, bytes], raw: bytes) -> OpenTest | str:
    project = builder.project
    source = texts[test.owner.file]
    body = test.node.child_by_field_name("body")
    assert body is not None
    position, before, after, indent = _find_place(body, test.node, source)
    finder = FocalFinder(project, test.owner, test.node, source)
    assertions, _ = find_assertions(test.node, source, TestScope(finder.resolver))
    focal = finder.find([], position, assertions)
    if isinstance(focal, str):
        return focal
    method = focal.method
    owner = project.find(method.owner, method.file)
    focal_text = texts[method.file][slice(*method.span)].decode()
    start, end = test.node.start_byte, test.node.end_byte
    masked = source[start:position].decode() + f" {PLACEHOLDER} " + source[position:end].decode()

    def on_disk(offset: int) -> int:
        return offset if len(raw) == len(source) else len(source[:offset].decode().encode("latin-1"))

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
        source={
            "test_file": test.owner.file,
            "focal_file": method.file,
            "test_class": test.owner.binary_name,
            "test_class_abstract": test.owner.abstract,
            "test_name": test.name,
            "test_span": (on_disk(start), on_disk(end)),
            "assertion_span": (on_disk(position), on_disk(position)),
            "framework": test.framework,
            "focal_class": owner.binary_name if owner else method.owner,
            "focal_name": method.name,
            "focal_lines": method.lines,
        },
        context=builder.describe(finder, test, source, (position, position), method),
    )


def _find_place(body: Node, method: Node, source: bytes) -> tuple[int, str, str, str]:
    """Where in a test's body the assertion goes: at the end, but before a return. Position, before, after, indent."""
    newline = "\r\n" if b"\r\n" in source else "\n"
    outer = _indent(method, source)
    children = list(_statements(body))
    if not children:
        indent = outer + "    "
        return body.start_byte + 1, newline + indent, newline + outer, indent
    last = children[-1]
    indent = _indent(last, source) if last.start_point[0] != body.start_point[0] else outer + "    "
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
