"""Tells whether a text is Java statements."""

from __future__ import annotations

from data.java.syntax import parse
from data.java.tokens import strip_comments

# Java allows only these expressions as statements (JLS 14.8); the grammar of tree-sitter lets any pass.
STATEMENT_EXPRESSIONS = frozenset(
    {"method_invocation", "assignment_expression", "update_expression", "object_creation_expression"}
)


def is_valid_java(text: str) -> bool:
    """Whether ``text`` is one or more Java statements; nothing, comments or lone semicolons are not.

    The last semicolon may be missing, since in some data it stands in the test, after the placeholder. The text is
    parsed inside a method, and must not leave it: ``} void other() {`` is no statement.
    """
    body = strip_comments(text).strip()
    if not body:
        return False
    if body[-1] not in ";}":
        body += ";"
    elif body[-1] == "}":
        body += "\n"
    head = "class A { void m() {\n"
    root = parse(f"{head}{body}\n}}}}".encode("utf-8", "replace"))
    if root.has_error or root.child_count != 1:
        return False
    members = root.children[0].child_by_field_name("body")
    if members is None or members.named_child_count != 1:
        return False
    block = members.named_children[0].child_by_field_name("body")
    if block is None or block.end_byte != root.end_byte - 1:
        return False
    for statement in block.named_children:
        if statement.type == "expression_statement" and statement.named_children[0].type not in STATEMENT_EXPRESSIONS:
            return False
    return block.named_child_count > 0
