"""The variables that a test can name: fields with their first values, and locals in scope at a place of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tree_sitter import Node

from data.java.syntax import field_text, list_nodes, read_modifiers, text_of, walk
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
    if b"Before" not in source[method.start_byte : method.end_byte]:
        return False
    _, annotations = read_modifiers(method, source)
    return any(name.rpartition(".")[2] in SET_UP for name in annotations)


@dataclass(frozen=True)
class Local:
    """A local variable; ``scope``: the bytes in which it can be named; ``written``: its type, empty where it is to be
    told by ``value``."""

    name: str
    written: str
    scope: tuple[int, int]
    value: Node | None


def find_locals(method: Node, source: bytes) -> list[Local]:
    """The parameters and local variables of a test, in source order."""
    found: list[Local] = []
    for node in list_nodes(method):
        if (read := DECLARATIONS.get(node.type)) is not None:
            found += read(node, source)
    return found


def locals_at(variables: Sequence[Local], position: int, infer: Callable[[Node], str]) -> dict[str, str]:
    """Name -> ``Type name`` of those in scope at a byte of the file, the latest first.

    ``infer`` tells the type of an expression where none is written; an empty string where it cannot be told.
    """
    found: dict[str, str] = {}
    for item in variables:
        start, end = item.scope
        if start <= position <= end:
            written = item.written or (infer(item.value) if item.value is not None else "")
            found.pop(item.name, None)
            found[item.name] = f"{written} {item.name}" if written else item.name
    return dict(reversed(found.items()))


def _read_type(node: Node, source: bytes, field: str = "type") -> str:
    written = one_line(field_text(node, field, source))
    return "" if written == "var" else written + field_text(node, "dimensions", source)


def _to_end_of_scope(node: Node) -> tuple[int, int]:
    scope = node
    while scope.parent is not None and scope.type not in SCOPES:
        scope = scope.parent
    return node.end_byte, scope.end_byte


def _inside(node: Node | None) -> tuple[int, int]:
    return (node.start_byte, node.end_byte) if node is not None else (1, 0)


def _of_statement(node: Node, source: bytes) -> Iterator[Local]:
    written, scope = _read_type(node, source), _to_end_of_scope(node)
    for item in node.children_by_field_name("declarator"):
        shape = written + field_text(item, "dimensions", source)
        yield Local(field_text(item, "name", source), shape, scope, item.child_by_field_name("value"))


def _of_parameter(node: Node, source: bytes) -> Iterator[Local]:
    yield Local(field_text(node, "name", source), _read_type(node, source), _to_end_of_scope(node), None)


def _of_resource(node: Node, source: bytes) -> Iterator[Local]:
    statement = node.parent.parent if node.parent is not None else None
    body = statement.child_by_field_name("body") if statement is not None else None
    if name := field_text(node, "name", source):
        yield Local(name, _read_type(node, source), _inside(body), node.child_by_field_name("value"))


def _of_loop(node: Node, source: bytes) -> Iterator[Local]:
    yield Local(
        field_text(node, "name", source), _read_type(node, source), _inside(node.child_by_field_name("body")), None
    )


def _of_handler(node: Node, source: bytes) -> Iterator[Local]:
    types = next((child for child in node.named_children if child.type == "catch_type"), None)
    written = one_line(text_of(types, source)) if types is not None else ""
    yield Local(field_text(node, "name", source), written, _inside(node.parent), None)


def _of_pattern(node: Node, source: bytes) -> Iterator[Local]:
    """``if (x instanceof Foo foo)``: in the statement that follows."""
    statement = node.parent.parent if node.parent is not None else None
    if statement is not None and statement.type == "if_statement" and (name := field_text(node, "name", source)):
        body = statement.child_by_field_name("consequence")
        yield Local(name, _read_type(node, source, "right"), _inside(body), None)


def _of_lambda(node: Node, source: bytes) -> Iterator[Local]:
    """The parameters without types: what they are is told by the names themselves."""
    parameters = node.child_by_field_name("parameters")
    if parameters is not None and parameters.type in ("identifier", "inferred_parameters"):
        for item in [parameters] if parameters.type == "identifier" else parameters.named_children:
            yield Local(text_of(item, source), "", _inside(node), item)


DECLARATIONS: dict[str, Callable[[Node, bytes], Iterator[Local]]] = {
    "local_variable_declaration": _of_statement,
    "formal_parameter": _of_parameter,
    "resource": _of_resource,
    "enhanced_for_statement": _of_loop,
    "catch_formal_parameter": _of_handler,
    "instanceof_expression": _of_pattern,
    "lambda_expression": _of_lambda,
}
