"""Which statements of a syntax tree are assertions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from data.java.frameworks import (
    ASSERT_NAMES,
    BDD_NAMES,
    CHAINED_NAMES,
    NAMES_BY_QUALIFIER,
    NAMES_BY_TYPE,
    ROOT_NAMES,
    VALUE_NAMES,
)
from data.java.syntax import field_text, list_nodes, text_of, walk
from data.java.tokens import join_text_block, one_line

HELPER = "helper of the project"
STRINGS = frozenset({"string_literal", "text_block"})  # a text block is either, by the version of the grammar


@dataclass(frozen=True)
class Assertion:
    """An assertion: a statement, or the expression that a lambda consists of. ``kind`` is the name of the call that its
    chain begins with."""

    node: Node
    kind: str


class Scope:
    """What the names in a test stand for. This one knows nothing: each name is taken for the framework's."""

    bdd = True  # whether `then(...)` is an assertion here

    def is_helper(self, call: Node) -> bool:
        """Whether a call reaches a method of the project's own tests, which means more than the framework's does."""
        return False

    def asserts(self, call: Node | None) -> bool:
        """Whether a call reaches a method of the project's own tests that asserts something."""
        return False

    def type_of_variable(self, variable: Node) -> str:
        """The simple name of a variable's type, or the empty string."""
        return ""


def find_chain_root(expression: Node | None) -> Node | None:
    """The first call of a chain: ``assertThat(x)`` in ``assertThat(x).isNull()``; None for anything but a call."""
    if expression is None or expression.type != "method_invocation":
        return None
    while (receiver := expression.child_by_field_name("object")) is not None and receiver.type == "method_invocation":
        expression = receiver
    return expression


def find_root_call(statement: Node) -> Node | None:
    """The first call of the chain that a statement consists of."""
    return find_chain_root(statement.named_children[0]) if statement.type == "expression_statement" else None


def _chain_names(expression: Node, source: bytes) -> Iterator[str]:
    call: Node | None = expression
    while call is not None and call.type == "method_invocation":
        yield field_text(call, "name", source)
        call = call.child_by_field_name("object")


def recognise_assertion(expression: Node | None, source: bytes, scope: Scope) -> str:
    """The name of the assertion that an expression makes, or the empty string."""
    call = find_chain_root(expression)
    if call is None or expression is None:
        return ""
    name = field_text(call, "name", source)
    receiver = call.child_by_field_name("object")
    if receiver is None:
        if name in ROOT_NAMES and (scope.bdd or name not in BDD_NAMES) and not scope.is_helper(call):
            return name
    else:
        qualifier = text_of(receiver, source).rpartition(".")[2]
        known = NAMES_BY_QUALIFIER.get(qualifier)
        if known is None and qualifier.isidentifier():
            known = NAMES_BY_TYPE.get(scope.type_of_variable(receiver))
        if known is not None and name in known and not (qualifier in ("this", "super") and scope.is_helper(call)):
            return name
    return next((item for item in _chain_names(expression, source) if item in CHAINED_NAMES), "")


def is_named_like_helper(name: str) -> bool:
    """Whether a method is called ``assertFoo``, ``verifyFoo`` or ``checkFoo``, whoever wrote it."""
    return any(name.startswith(word) and name[len(word) :][:1].isupper() for word in ("assert", "verify", "check"))


def looks_like_helper(statement: Node, source: bytes) -> bool:
    """Whether a statement calls something with such a name."""
    call = find_root_call(statement)
    return call is not None and is_named_like_helper(text_of(call.child_by_field_name("name"), source))  # type: ignore[arg-type]


def _find_value(node: Node) -> Node | None:
    """The expression whose value a declaration or an assignment of one variable stores."""
    if node.type == "local_variable_declaration":
        declarators = node.children_by_field_name("declarator")
        return declarators[0].child_by_field_name("value") if len(declarators) == 1 else None
    if node.type == "expression_statement" and node.named_children[0].type == "assignment_expression":
        return node.named_children[0].child_by_field_name("right")
    return None


def walk_assertions(method: Node, source: bytes, scope: Scope) -> Iterator[tuple[Assertion, str]]:
    """The outermost assertions of a test in source order, each with the reason why it is no task, or an empty one."""
    end = method.start_byte
    for node in list_nodes(method):
        if node.end_byte <= end:
            continue  # inside the lambda of the assertion before
        found, reason = _judge_node(node, source, scope)
        if found is not None:
            if not reason:
                end = found.node.end_byte
            yield found, reason


def _judge_node(node: Node, source: bytes, scope: Scope) -> tuple[Assertion | None, str]:
    """The assertion that a node of a test is, and why it is no task; None where it is no assertion."""
    if node.type == "lambda_expression":
        body = node.child_by_field_name("body")
        if body is not None and (kind := recognise_assertion(body, source, scope)):
            return Assertion(body, kind), ""
    elif (value := _find_value(node)) is not None:
        kind = recognise_assertion(value, source, scope)
        if kind in VALUE_NAMES:
            return Assertion(node, kind), ""
        if kind in ASSERT_NAMES:
            return Assertion(node, kind), "result of the assertion is used later"
    elif node.type == "expression_statement":
        if kind := recognise_assertion(node.named_children[0], source, scope):
            return Assertion(node, kind), ""
        call = find_root_call(node)
        if call is not None and (looks_like_helper(node, source) or scope.asserts(call)):
            return Assertion(node, field_text(call, "name", source)), HELPER
    return None, ""


def find_assertions(method: Node, source: bytes, scope: Scope) -> tuple[list[Assertion], list[str]]:
    """The outermost assertions of a test in source order, and the reasons why others were left out."""
    judged = list(walk_assertions(method, source, scope))
    return [found for found, reason in judged if not reason], [reason for _, reason in judged if reason]


def write_target(assertion: Assertion, source: bytes) -> str:
    """The text of an assertion on one line, text blocks too; with a semicolon, also where it is what a lambda consists
    of."""
    start, text = assertion.node.start_byte, source[assertion.node.start_byte : assertion.node.end_byte]
    blocks = [node for node in walk(assertion.node) if node.type in STRINGS] if b'"""' in text else []
    for node in reversed(blocks):
        if (literal := text_of(node, source)).startswith('"""'):
            text = text[: node.start_byte - start] + join_text_block(literal).encode() + text[node.end_byte - start :]
    line = one_line(text.decode())
    return line if line.endswith((";", "}")) else f"{line};"


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
