"""Which statements of a syntax tree are assertions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tree_sitter import Node

from data.java.frameworks import ASSERT_NAMES, NAMES_BY_QUALIFIER, ROOT_NAMES
from data.java.syntax import text_of, walk

NESTED_TYPES = frozenset({"class_body", "class_declaration"})


@dataclass(frozen=True)
class Assertion:
    """An assertion statement; ``kind`` is the name of the call that the chain begins with."""

    node: Node
    kind: str


def find_root_call(statement: Node) -> Node | None:
    """The first call of the chain that a statement consists of: ``assertThat(x)`` in ``assertThat(x).isNull();``."""
    call = statement.named_children[0] if statement.type == "expression_statement" else None
    if call is None or call.type != "method_invocation":
        return None
    while (receiver := call.child_by_field_name("object")) is not None and receiver.type == "method_invocation":
        call = receiver
    return call


def recognise_assertion(statement: Node, source: bytes, helpers: Collection[str], in_order: Collection[str]) -> str:
    """The name of the assertion that a statement makes, or the empty string.

    ``helpers`` are the methods that the test class has of its own: a call of one of these is not a known assertion.
    ``in_order`` are the variables that hold a Mockito ``InOrder``.
    """
    call = find_root_call(statement)
    if call is None:
        return ""
    name = text_of(call.child_by_field_name("name"), source)  # type: ignore[arg-type]
    receiver = call.child_by_field_name("object")
    if receiver is None:
        return name if name in ROOT_NAMES and name not in helpers else ""
    qualifier = text_of(receiver, source).rpartition(".")[2]
    if name == "verify" and qualifier in in_order:
        return name
    return name if name in NAMES_BY_QUALIFIER.get(qualifier, ()) else ""


def is_named_like_helper(name: str) -> bool:
    """Whether a method is called ``assertFoo``, ``verifyFoo`` or ``checkFoo``, whoever wrote it."""
    return any(name.startswith(word) and name[len(word) :][:1].isupper() for word in ("assert", "verify", "check"))


def looks_like_helper(statement: Node, source: bytes) -> bool:
    """Whether a statement calls something with such a name."""
    call = find_root_call(statement)
    return call is not None and is_named_like_helper(text_of(call.child_by_field_name("name"), source))  # type: ignore[arg-type]


def find_assertions(
    method: Node, source: bytes, helpers: Collection[str], in_order: Collection[str]
) -> tuple[list[Assertion], list[str]]:
    """The outermost assertion statements of a test in source order, and the reasons why others were left out."""
    found: list[Assertion] = []
    left_out: list[str] = []
    for node in walk(method, skip=NESTED_TYPES):
        if found and node.end_byte <= found[-1].node.end_byte:
            continue  # inside the lambda of the assertion before
        if node.type == "expression_statement":
            if kind := recognise_assertion(node, source, helpers, in_order):
                found.append(Assertion(node, kind))
            elif looks_like_helper(node, source):
                left_out.append("helper of the project")
        elif node.type in ("local_variable_declaration", "assignment_expression"):
            value = node.children_by_field_name("declarator")[0] if "local" in node.type else node
            if text_of(value, source).partition("=")[2].strip().partition("(")[0].rpartition(".")[2] in ASSERT_NAMES:
                left_out.append("result of the assertion is used later")
    for node in walk(method):
        if node.type == "class_body":
            left_out += [
                "inside an anonymous class"
                for inner in walk(node, skip=NESTED_TYPES)
                if inner.type == "expression_statement" and recognise_assertion(inner, source, helpers, in_order)
            ]
    return found, left_out


def group_adjacent(assertions: list[Assertion]) -> Iterator[list[Assertion]]:
    """Runs of assertion statements that follow one another, with nothing but comments between."""
    run: list[Assertion] = []
    for item in assertions:
        if run and _next_statement(run[-1].node) != item.node:
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def _next_statement(node: Node) -> Node | None:
    following = node.next_named_sibling
    while following is not None and following.type in ("line_comment", "block_comment"):
        following = following.next_named_sibling
    return following
