"""The variables that a test can name: fields with their first values, and locals in scope at a place of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tree_sitter import Node

from data.java.syntax import field_text, read_modifiers, text_of, walk
from data.java.tokens import coarse_tokens, one_line

VALUE_TOKENS = 12  # a longer first value of a field is left out
SCOPES = frozenset({"block", "for_statement", "enhanced_for_statement", "try_with_resources_statement", "catch_clause"})
SCOPES |= {"lambda_expression", "method_declaration", "switch_block_statement_group", "constructor_body"}
SET_UP = frozenset({"Before", "BeforeEach", "BeforeAll", "BeforeClass", "BeforeMethod", "BeforeTest"})


@dataclass(frozen=True)
class Field:
    """A field as a developer reads it: ``List<String> names = new ArrayList<>()``."""

    name: str
    text: str
    private: bool


def _join(declared: str, value: str) -> str:
    return f"{declared} = {value}" if value and len(coarse_tokens(value)) <= VALUE_TOKENS else declared


def read_fields(members: Sequence[Node], source: bytes) -> tuple[Field, ...]:
    """The fields among the declarations in the body of a type. The value that a set-up method gives takes the initial
    one's place."""
    declared: dict[str, tuple[str, str, bool]] = {}
    for child in members:
        if child.type not in ("field_declaration", "constant_declaration"):
            continue
        words, _ = read_modifiers(child, source)
        written = one_line(field_text(child, "type", source))
        for item in child.children_by_field_name("declarator"):
            name = field_text(item, "name", source)
            shown = f"{written}{field_text(item, 'dimensions', source)} {name}"
            declared[name] = shown, one_line(field_text(item, "value", source)), "private" in words
    for method in members if declared else ():
        if method.type == "method_declaration" and _is_set_up(method, source):
            for node in walk(method):
                if node.type == "assignment_expression" and field_text(node, "operator", source) == "=":
                    name = field_text(node, "left", source).removeprefix("this.")
                    if name in declared:
                        shown, _, private = declared[name]
                        declared[name] = shown, one_line(field_text(node, "right", source)), private
    return tuple(Field(name, _join(shown, value), private) for name, (shown, value, private) in declared.items())


def _is_set_up(method: Node, source: bytes) -> bool:
    if field_text(method, "name", source) == "setUp":
        return True
    _, annotations = read_modifiers(method, source)
    return any(name.rpartition(".")[2] in SET_UP for name in annotations)


def list_locals(method: Node, source: bytes, position: int, infer: Callable[[Node], str]) -> list[tuple[str, str]]:
    """(name, ``Type name``) of the locals in scope at the byte ``position`` of a test, the latest first.

    ``infer`` tells the type of an expression for ``var`` and the like; an empty string where it cannot be told.
    """
    found: dict[str, str] = {}
    for node, name, written, value in _declarations(method, source, position):
        scope = node
        while scope.parent is not None and scope.type not in SCOPES:
            scope = scope.parent
        if not _holds(scope, position):
            continue
        if written in ("", "var"):
            written = infer(value) if value is not None else ""
        found.pop(name, None)
        found[name] = f"{written} {name}" if written else name
    return list(reversed(found.items()))


def _declarations(method: Node, source: bytes, position: int) -> Iterator[tuple[Node, str, str, Node | None]]:
    """(a node in its scope, name, type as written, value) of the locals declared before the position, in order."""
    for node in walk(method):
        if node.start_byte >= position:
            continue
        inside: Node | None = node
        name, written = field_text(node, "name", source), one_line(field_text(node, "type", source))
        if node.type == "local_variable_declaration" and node.end_byte <= position:
            for item in node.children_by_field_name("declarator"):
                shape = written + field_text(item, "dimensions", source)
                yield node, field_text(item, "name", source), shape, item.child_by_field_name("value")
            continue
        if node.type == "resource":
            inside = node.parent.parent.child_by_field_name("body") if node.parent and node.parent.parent else None
        elif node.type == "enhanced_for_statement":
            inside = node.child_by_field_name("body")
        elif node.type == "catch_formal_parameter":
            inside = node.parent
            types = next((child for child in node.named_children if child.type == "catch_type"), None)
            written = one_line(text_of(types, source)) if types is not None else ""
        elif node.type == "instanceof_expression":
            outer = node.parent.parent if node.parent is not None else None
            inside = outer.child_by_field_name("consequence") if outer and outer.type == "if_statement" else None
            written = one_line(field_text(node, "right", source))
        elif node.type != "formal_parameter":
            continue
        if name and inside is not None and (node.type == "formal_parameter" or _holds(inside, position)):
            value = node.child_by_field_name("value") if node.type == "resource" else None
            yield inside, name, written + field_text(node, "dimensions", source), value


def _holds(node: Node, position: int) -> bool:
    return node.start_byte <= position <= node.end_byte
