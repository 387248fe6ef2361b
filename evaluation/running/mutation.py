"""Make broken versions of one Java method, to see whether an assertion notices.

A mutant returns a default value and does nothing else, negates a condition (that of a loop becomes false), drops a
statement, or replaces an operator by a similar one (``<`` by ``<=``, ``+`` by ``-``, ...). Some mutants do not compile,
such as one that subtracts strings; whoever compiles them leaves these out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest

from tree_sitter import Node

from data.java.syntax import field_text, lines_of, parse, text_of, walk
from utils.sequences import take_evenly

NUMERIC = frozenset({"byte", "short", "int", "long", "float", "double"})
BOXES = {"Boolean": "boolean", "Character": "char", "Integer": "int"} | {
    name.capitalize(): name for name in NUMERIC if name != "int"
}
OPERATORS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "%": "*",
    "<<": ">>",
    ">>": "<<",
    ">>>": "<<",
    "&": "|",
    "|": "&",
    "^": "&",
    "+=": "-=",
    "-=": "+=",
    "*=": "/=",
    "/=": "*=",
    "<<=": ">>=",
    ">>=": "<<=",
    "&=": "|=",
    "|=": "&=",
    "++": "--",
    "--": "++",
}
DROPPED = frozenset({"expression_statement", "if_statement", "switch_expression", "try_statement"})
LOOPS = frozenset({"while_statement", "do_statement", "for_statement"})
NESTED = frozenset({"class_body", "class_declaration"})


@dataclass(frozen=True)
class Mutant:
    """A whole source file with one change; ``operator``: default, condition, statement or operator."""

    operator: str
    description: str
    source: bytes


def find_method(source: bytes, name: str, lines: tuple[int, int]) -> Node | None:
    """The method or constructor of that name on these lines (counted from 1)."""
    for node in walk(parse(source)):
        of_kind = node.type in ("method_declaration", "constructor_declaration")
        if of_kind and lines_of(node) == tuple(lines) and field_text(node, "name", source) == name:
            return node
    return None


def list_default_values(returned: str) -> list[str]:
    """Expressions that a broken method of this return type might return."""
    primitive = BOXES.get(returned, returned)
    if primitive == "boolean":
        return ["false", "true"]
    if primitive == "char":
        return ["'\\0'"]
    if primitive in NUMERIC:
        return [f"({primitive}) 0", f"({primitive}) 1"]
    if returned.endswith("[]") and returned.count("[") == 1 and "<" not in returned:
        return ["null", f"new {returned[:-2]}[0]"]
    return ['""', "null"] if returned in ("String", "CharSequence", "Object") else ["null"]


def _plain(expression: str) -> str | float:
    """An expression without its cast, a number as a number, so that equal values compare as equal."""
    text = re.sub(r"^\(\s*\w+\s*\)\s*", "", expression.strip())
    try:
        return float(text.rstrip("lLfFdD"))
    except ValueError:
        return text


def _defaults(method: Node, body: Node, source: bytes) -> Iterator[tuple[Node, str]]:
    """Bodies that do nothing or return a constant, without the one that the method already has."""
    statements = [node for node in body.named_children if "comment" not in node.type]
    if method.type == "constructor_declaration":
        explicit = bool(statements) and statements[0].type == "explicit_constructor_invocation"
        if len(statements) > explicit:
            yield body, "{ " + (text_of(statements[0], source) if explicit else "") + " }"
    elif field_text(method, "type", source) == "void":
        if statements:
            yield body, "{ }"
    else:
        only = statements[0] if len(statements) == 1 and statements[0].type == "return_statement" else None
        own = _plain(text_of(only.named_children[0], source)) if only is not None and only.named_children else None
        for value in list_default_values(field_text(method, "type", source)):
            if _plain(value) != own:
                yield body, f"{{ return {value}; }}"


def _conditions(body: Node, source: bytes) -> Iterator[tuple[Node, str]]:
    for node in walk(body, skip=NESTED):
        condition = node.child_by_field_name("condition")
        if condition is None:
            continue
        inner = text_of(condition, source)
        if node.type in LOOPS:  # negated, many loops would not end
            never = "Boolean.FALSE"  # after the literal false, javac rejects the loop's body as unreachable
            yield condition, f"({never})" if condition.type == "parenthesized_expression" else never
        else:
            yield condition, f"(!({inner}))"


def _statements(body: Node, source: bytes) -> Iterator[tuple[Node, str]]:
    for node in walk(body, skip=NESTED):
        enhanced = node.type == "enhanced_for_statement"
        if (node.type in DROPPED or enhanced) and node.parent is not None and "block" in node.parent.type:
            yield node, ";"


def _operators(body: Node, source: bytes) -> Iterator[tuple[Node, str]]:
    for node in walk(body, skip=NESTED):
        if node.type in ("binary_expression", "assignment_expression", "update_expression"):
            for child in node.children:
                if child.type in OPERATORS:
                    yield child, OPERATORS[child.type]


def make_mutants(source: bytes, name: str, lines: tuple[int, int], limit: int = 12) -> list[Mutant]:
    """At most ``limit`` mutants of a method: first those that return a default value, then the other kinds in turn.

    ``source`` is the whole file, ``lines`` are the first and last of the method. There are none where the file has no
    such method, or the method has no body.
    """
    method = find_method(source, name, lines)
    body = method.child_by_field_name("body") if method is not None else None
    if method is None or body is None:
        return []

    def made(operator: str, changes: Iterator[tuple[Node, str]]) -> list[Mutant]:
        return [
            Mutant(
                operator,
                f"line {node.start_point[0] + 1}: {_shorten(text_of(node, source))} -> {_shorten(text)}",
                source[: node.start_byte] + text.encode() + source[node.end_byte :],
            )
            for node, text in changes
        ]

    in_turn = zip_longest(
        take_evenly(made("condition", _conditions(body, source)), limit),
        take_evenly(made("statement", _statements(body, source)), limit),
        take_evenly(made("operator", _operators(body, source)), limit),
    )
    rest = (item for item in chain.from_iterable(in_turn) if item is not None)
    found: dict[bytes, Mutant] = {}
    for mutant in (*made("default", _defaults(method, body, source)), *rest):
        if mutant.source != source:
            found.setdefault(mutant.source, mutant)
    return list(found.values())[:limit]


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."
