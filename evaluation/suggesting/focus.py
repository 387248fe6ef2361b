"""The method that an open test is about where nothing in it tells: that of a similar test, or of the candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypedDict

from tree_sitter import Node

from data.java.assertions import find_assertions
from data.java.syntax import parse, walk
from data.mining.find_tests import TestMethod
from data.mining.focal import FocalFinder, split_words
from data.mining.helpers import TestScope
from data.mining.projects import Method, Project
from data.mining.tasks import MinedTest
from data.rows.readers import Source
from evaluation.running.splice import Task


class FocalPlace(TypedDict):
    """The part of a task that names its focal method."""

    focal_file: str
    focal_class: str
    focal_name: str
    focal_lines: tuple[int, int]


def locate_focal(project: Project, method: Method) -> FocalPlace:
    owner = project.find(method.owner, method.file)
    return {
        "focal_file": method.file,
        "focal_class": owner.binary_name if owner else method.owner,
        "focal_name": method.name,
        "focal_lines": method.lines,
    }


def borrow_focal(project: Project, test: TestMethod, others: Sequence[MinedTest]) -> tuple[Method, str] | None:
    """The focal method of another test of the class, and that test's name: of the one whose name is most alike, among
    equals the method that most tests of the class check, then the nearest in the file.

    None where no name has a word in common and no method is that of half the tests.
    """
    outermost = list(project.enclosing(test.owner))[-1].binary_name
    sources = [
        other.rows[0]["source"]
        for other in others
        if other.rows[0]["source"]["test_class"].partition("$")[0] == outermost
        and other.rows[0]["source"]["test_name"] != test.name
    ]
    checked = Counter(map(_place_of, sources))
    common = max(2, len(sources) / 2)
    words, line = _count_words(test.name), test.node.start_point[0]

    def rank(source: Source) -> tuple[float, int, int]:
        theirs = _count_words(source["test_name"])
        alike = (words & theirs).total() / max(1, (words | theirs).total())
        return alike, checked[_place_of(source)], -abs(source["test_lines"][0] - line)

    for source in sorted(sources, key=rank, reverse=True):
        alike, count, _ = rank(source)
        if not alike and count < common:
            break  # the others are less alike, and no more common
        owner = project.find(source["focal_class"].replace("$", "."), source["focal_file"])
        for method in owner.methods if owner is not None else ():
            if method.lines == tuple(source["focal_lines"]):
                return method, source["test_name"]
    return None


def _count_words(test_name: str) -> Counter[str]:
    return Counter(word for word in split_words(test_name) if word != "test")


def _place_of(source: Source) -> tuple[str, tuple[int, ...]]:
    return source["focal_file"], tuple(source["focal_lines"])


def refocus(
    project: Project, test: TestMethod, source: bytes, place: tuple[int, str, str], known: Task
) -> Callable[[str], Task]:
    """What tells, for a candidate, the task with the focal method that the test would have with it: by the rule of the
    miner, which needs an assertion. ``known``: the task where there is none.

    ``place``: the byte of the ``source`` where a candidate goes, and what stands before and after it.
    """
    position, before, after = place

    def find(assertion: str) -> Task:
        written = before.encode() + assertion.encode("utf-8", "replace")
        text = source[:position] + written + after.encode() + source[position:]
        node = _method_at(parse(text), test.node.start_byte)
        if node is None:
            return known
        finder = FocalFinder(project, test.owner, node, text)
        assertions, _ = find_assertions(node, text, TestScope(finder.resolver))
        new = [item.node for item in assertions if position <= item.node.start_byte < position + len(written)]
        focal = finder.find(new, new[0].start_byte, assertions) if new else ""
        return known if isinstance(focal, str) else {**known, **locate_focal(project, focal.method)}

    return find


def _method_at(root: Node, start: int) -> Node | None:
    return next((node for node in walk(root) if node.type == "method_declaration" and node.start_byte == start), None)
