"""Tells whether a text is Java statements."""

from __future__ import annotations

from tree_sitter import Node

from data.java.syntax import parse, walk
from data.java.tokens import strip_comments

# Java allows only these expressions as statements (JLS 14.8); the grammar of tree-sitter lets any pass.
STATEMENT_EXPRESSIONS = frozenset(
    {"method_invocation", "assignment_expression", "update_expression", "object_creation_expression"}
)


# What a statement can assert with; an operator or a declaration alone checks nothing.
ASSERTING = frozenset({"method_invocation", "assert_statement", "throw_statement"})


def parse_statements(text: str) -> Node | None:
    """The block of the Java statements that ``text`` is; None where it is not one or more of them.

    Nothing, comments or lone semicolons are no statements. The last semicolon may be missing, since in some data it
    stands in the test, after the placeholder. The text is parsed inside a method, and must not leave it: ``} void
    other() {`` is no statement.
    """
    body = strip_comments(text).strip()
    if not body:
        return None
    if body[-1] not in ";}":
        body += ";"
    elif body[-1] == "}":
        body += "\n"
    head = "class A { void m() {\n"
    root = parse(f"{head}{body}\n}}}}".encode("utf-8", "replace"))
    if root.has_error or root.child_count != 1:
        return None
    members = root.children[0].child_by_field_name("body")
    if members is None or members.named_child_count != 1:
        return None
    block = members.named_children[0].child_by_field_name("body")
    if block is None or block.end_byte != root.end_byte - 1 or not block.named_child_count:
        return None
    for statement in block.named_children:
        if statement.type == "expression_statement" and statement.named_children[0].type not in STATEMENT_EXPRESSIONS:
            return None
    return block


def is_valid_java(text: str) -> bool:
    """Whether ``text`` is one or more Java statements, as ``parse_statements`` takes them."""
    return parse_statements(text) is not None


def can_assert(block: Node) -> bool:
    """Whether something in it is called or thrown; ``hello world;`` declares a variable, and is Java all the same."""
    return any(node.type in ASSERTING for node in walk(block))
