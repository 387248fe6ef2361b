"""The body of a test as it is written: its statements, its calls, and the variables and types declared in it."""

from __future__ import annotations

from dataclasses import dataclass

from tree_sitter import Node

from data.java.syntax import field_text, list_nodes, text_of

STATEMENTS = ("statement", "declaration", "resource")
CHANGING = frozenset({"expression_statement", "local_variable_declaration", "resource"})
CALLS = frozenset({"method_invocation", "object_creation_expression", "method_reference"})
READ_KINDS = frozenset(
    (
        "class_body",
        "formal_parameter",
        "enhanced_for_statement",
        "resource",
        "catch_formal_parameter",
        "instanceof_expression",
        "lambda_expression",
        "assignment_expression",
        "update_expression",
    )
)


@dataclass
class Variable:
    """A local variable, which its name means in the bytes from ``start`` to ``end``; ``declared``: its written type."""

    start: int
    end: int
    declared: Node | None
    value: Node | None
    owner: Node


class TestBody:
    """What one walk over a test method shows."""

    __test__ = False  # pytest would take it for a test class

    def __init__(self, method: Node, source: bytes) -> None:
        self.source = source
        self.parents: dict[int, Node] = {}  # Node.parent looks for it from the root
        self.assigned: set[str] = set()
        self.local_types: set[str] = set()
        self._has_classes = False
        self._variables: dict[str, list[Variable]] = {}
        nodes = list_nodes(method)
        for node in nodes:
            for child in node.named_children:
                self.parents[child.id] = node
        kinds = [node.type for node in nodes]
        for node, kind in zip(nodes, kinds, strict=True):
            if kind in READ_KINDS or kind.endswith("_declaration"):
                self._read_declaration(node, kind)
        self.statements = [node for node, kind in zip(nodes, kinds, strict=True) if kind in CHANGING]
        calls = [node for node, kind in zip(nodes, kinds, strict=True) if kind in CALLS]
        # In the order in which they are made: what a call takes before the call.
        self.calls = sorted(calls, key=lambda node: (node.end_byte, -node.start_byte))

    def _read_declaration(self, node: Node, kind: str) -> None:
        self._has_classes |= kind == "class_body"
        type_node, value = node.child_by_field_name("type"), node.child_by_field_name("value")
        block = self.parents.get(node.id, node)
        if kind == "local_variable_declaration":
            for item in node.children_by_field_name("declarator"):
                self._declare(item, block, type_node, item.child_by_field_name("value"))
        elif kind == "formal_parameter":
            self._declare(node, self.parents.get(block.id, block), type_node, None)
        elif kind == "enhanced_for_statement":
            self._declare(node, node, type_node, value)
        elif kind == "resource":
            self._declare(node, self.parents.get(block.id, block), type_node, value)
        elif kind == "catch_formal_parameter":
            types = next(child for child in node.named_children if child.type == "catch_type").named_children
            self._declare(node, block, types[0] if len(types) == 1 else None, None)
        elif kind == "instanceof_expression" and node.child_by_field_name("name") is not None:
            around = block
            while around.id in self.parents and around.type not in ("block", "lambda_expression"):
                around = self.parents[around.id]
            self._declare(node, around, node.child_by_field_name("right"), None)
        elif kind == "lambda_expression":
            parameters = node.child_by_field_name("parameters")
            if parameters is not None and parameters.type in ("identifier", "inferred_parameters"):
                names = [parameters] if parameters.type == "identifier" else parameters.named_children
                for item in names:
                    name = text_of(item, self.source)
                    variable = Variable(node.start_byte, node.end_byte, None, None, node)
                    self._variables.setdefault(name, []).append(variable)
        elif kind in ("assignment_expression", "update_expression"):
            target = node.child_by_field_name("left") or node.named_children[0]
            self.assigned.add(text_of(target, self.source))
        elif kind.endswith("_declaration") and kind not in ("method_declaration", "field_declaration"):
            self.local_types.add(field_text(node, "name", self.source))

    def _declare(self, node: Node, block: Node, declared: Node | None, value: Node | None) -> None:
        name = field_text(node, "name", self.source)
        variable = Variable(node.start_byte, block.end_byte, declared, value, node)
        self._variables.setdefault(name, []).append(variable)

    def statement_of(self, node: Node) -> Node:
        """The innermost statement or declaration that a node of the test stands in."""
        while not node.type.endswith(STATEMENTS):
            node = self.parents[node.id]
        return node

    def find_variable(self, name: str, position: int) -> Variable | None:
        """The local variable that a name means at a byte of the file."""
        known = [item for item in self._variables.get(name, ()) if item.start <= position <= item.end]
        return known[-1] if known else None

    def class_around(self, node: Node) -> Node | None:
        """The body of the innermost class inside of the test method that holds a node."""
        if not self._has_classes:
            return None
        current = self.parents.get(node.id)
        while current is not None and current.type != "class_body":
            current = self.parents.get(current.id)
        return current


def list_arguments(call: Node) -> list[Node]:
    listed = call.child_by_field_name("arguments")
    return [item for item in listed.named_children if "comment" not in item.type] if listed is not None else []


def list_receivers(call: Node) -> list[Node]:
    """The calls on whose results a call is made, innermost last."""
    found = []
    receiver = call.child_by_field_name("object")
    while receiver is not None:
        if receiver.type in CALLS:
            found.append(receiver)
        inner = receiver.child_by_field_name("object")
        if inner is None and receiver.type in ("parenthesized_expression", "cast_expression"):
            inner = receiver.named_children[-1]
        receiver = inner
    return found
