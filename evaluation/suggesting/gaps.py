"""Whether a test lacks an assertion: nothing in it could fail, whatever the code under test returns."""

from __future__ import annotations

import re

from tree_sitter import Node

from data.java.assertions import find_assertions
from data.java.syntax import field_text, read_modifiers, text_of, walk
from data.mining.find_tests import TestMethod
from data.mining.focal import FocalFinder
from data.mining.helpers import TestScope
from data.mining.projects import Project

# Calls that check something, wherever they stand in a chain: Awaitility's untilAsserted, StepVerifier's verifyComplete,
# RestAssured's statusCode, ExpectedException's expect. A method under test may be called validate, too.
CHECKING = re.compile(
    r"(?:assert|verify|check|expect|fail|ensure|should|must|validate|until|awaitUntil)(?:[A-Z_]\w*)?|statusCode"
)
THROWN = re.compile(r"\b(?:Assertion(?:Failed)?Error|ComparisonFailure)\b")
EXPECTS = re.compile(r"\bexpected")


def lacks_assertion(project: Project, test: TestMethod, source: bytes) -> bool:
    """Whether nothing in a test checks anything: no assertion of a known framework, of Java or of a helper."""
    finder = FocalFinder(project, test.owner, test.node, source)
    scope = TestScope(finder.resolver)
    assertions, left_out = find_assertions(test.node, source, scope)
    _, annotations = read_modifiers(test.node, source)
    if assertions or left_out or any(EXPECTS.search(text) for text in annotations.values()):
        return False
    return not any(_checks(node, source, scope) for node in walk(test.node))


def _checks(node: Node, source: bytes, scope: TestScope) -> bool:
    if node.type == "assert_statement":
        return True
    if node.type == "throw_statement":
        return THROWN.search(text_of(node, source)) is not None
    if node.type == "method_reference":
        return CHECKING.fullmatch(text_of(node.children[-1], source)) is not None
    if node.type != "method_invocation":
        return False
    if scope.asserts(node):
        return True
    named = CHECKING.fullmatch(field_text(node, "name", source)) is not None
    return named and scope.resolver.resolve(node).place != "project"


def runs_forever(body: Node, source: bytes) -> bool:
    """Whether a block ends with a loop that never ends: javac refuses what would stand behind it."""
    statements = [child for child in body.named_children if "comment" not in child.type]
    last = statements[-1] if statements else None
    if last is None or last.type not in ("while_statement", "do_statement", "for_statement"):
        return False
    condition = field_text(last, "condition", source).strip("() ")
    endless = condition == "true" or (last.type == "for_statement" and not condition)
    return endless and not any(node.type == "break_statement" for node in walk(last))
