"""Which method each call of a test reaches, as far as the sources tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tree_sitter import Node

from data.java.frameworks import ROOT_NAMES
from data.java.jdk import list_method_names
from data.java.syntax import field_text, text_of, type_name, walk, walk_evaluation_order
from data.mining.projects import JavaClass, Method, Project, read_variables
from data.mining.types import LAMBDA, NULL, PRIMITIVES, VARIABLE, WIDER, Found, Type, Types

STATEMENTS = ("statement", "declaration", "resource")
CALLS = frozenset({"method_invocation", "object_creation_expression", "method_reference"})
COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">=", "&&", "||"})
ASSERTION_CHAIN = Type("<assertion>")
SOFT = Type("SoftAssertions")


@dataclass(frozen=True)
class Call:
    """Where a call leads.

    ``place``: "project" (``method`` is its code), "tests" (``method`` is test code), "bodiless" (only a declaration, of
    which several classes have an implementation), "outside" (a library), "assertion", or "unknown".
    """

    node: Node
    place: str
    method: Method | None = None


@dataclass
class _Variable:
    start: int
    end: int
    declared: Node | None
    value: Node | None
    owner: Node


class CallResolver:
    """Resolves the calls of one test method."""

    def __init__(
        self, types: Types, owner: JavaClass, method: Node, source: bytes, under_test: JavaClass | None = None
    ) -> None:
        self.types = types
        self.project: Project = types.project
        self.owner = owner
        self.source = source
        self.under_test = under_test
        self._has_classes = False
        self._calls: dict[int, Call] = {}
        self._found: dict[int, Found | str] = {}
        self._typed: dict[int, Type | None] = {}
        self._variables: dict[str, list[_Variable]] = {}
        self._assigned: set[str] = set()
        self._local_types: set[str] = set()
        self._environment = self._read_type_variables(method)
        self.parents: dict[int, Node] = {}  # Node.parent looks for it from the root
        self._statements: dict[int, Node] = {}
        for node in walk(method):
            own = node.type.endswith(STATEMENTS)
            self._statements[node.id] = node if own else self._statements[self.parents[node.id].id]
            self.parents.update((child.id, node) for child in node.named_children)
        for node in walk(method):
            self._read_declaration(node)
        self.calls = [node for node in walk_evaluation_order(method) if node.type in CALLS]
        kinds = ("expression_statement", "local_variable_declaration", "resource")
        self.statements = [node for node in walk(method) if node.type in kinds]

    def _read_type_variables(self, method: Node) -> dict[str, Type | None]:
        """The type variables in force in the test."""
        bounds = read_variables(method, self.source)
        for scope in self.project.enclosing(self.owner):
            bounds = {**scope.variables, **bounds}
        plain: dict[str, Type | None] = {}
        for name, bound in bounds.items():
            known = self.types.parse(bound.partition("<")[0], self.owner, {}) if bound and bound not in bounds else None
            plain[name] = Type(name, None, (known,), VARIABLE)
        return plain

    def _this(self, scope: JavaClass) -> Type:
        """A class as its own code sees it: its type variables stand for themselves."""
        arguments = tuple(self._environment.get(name) for name in scope.variables)
        return replace(self.types.of(scope), args=arguments)

    # -- variables ---------------------------------------------------------------------------------------------------

    def _read_declaration(self, node: Node) -> None:
        self._has_classes |= node.type == "class_body"
        kind, type_node, value = node.type, node.child_by_field_name("type"), node.child_by_field_name("value")
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
                    variable = _Variable(node.start_byte, node.end_byte, None, None, node)
                    self._variables.setdefault(name, []).append(variable)
        elif kind in ("assignment_expression", "update_expression"):
            target = node.child_by_field_name("left") or node.named_children[0]
            self._assigned.add(text_of(target, self.source))
        elif kind.endswith("_declaration") and kind not in ("method_declaration", "field_declaration"):
            self._local_types.add(field_text(node, "name", self.source))

    def _declare(self, node: Node, block: Node, declared: Node | None, value: Node | None) -> None:
        name = field_text(node, "name", self.source)
        variable = _Variable(node.start_byte, block.end_byte, declared, value, node)
        self._variables.setdefault(name, []).append(variable)

    def statement_of(self, node: Node) -> Node:
        """The innermost statement or declaration that a node of the test stands in."""
        return self._statements[node.id]

    def find_variable(self, name: str, position: int) -> _Variable | None:
        """The local variable that a name means at a byte of the file."""
        known = [item for item in self._variables.get(name, ()) if item.start <= position <= item.end]
        return known[-1] if known else None

    def _type_of_local(self, name: str, variable: _Variable) -> Type | None:
        node, written = variable.owner, type_name(variable.declared, self.source)
        if node.type == "lambda_expression":
            return self._type_of_lambda_parameter(name, node)
        value = self.type_of(variable.value) if variable.value is not None else None
        if written == "var":
            return self._element_of(value) if node.type == "enhanced_for_statement" else value
        assert variable.declared is not None or written == ""
        known = self._parse(variable.declared, field_text(node, "dimensions", self.source))
        fresh = variable.value is not None and variable.value.type == "object_creation_expression"
        if known is not None and fresh and value is not None and name not in self._assigned:
            return replace(known, created=value.created)
        return known

    def _element_of(self, value: Type | None) -> Type | None:
        if value is None:
            return None
        if value.is_array:
            return value.element()
        seen = self.types.view(value, "java.lang.Iterable")
        return seen.args[0] if seen is not None and seen.args else None

    def _type_of_lambda_parameter(self, name: str, function: Node) -> Type | None:
        call = self.parents[self.parents[function.id].id]
        if call.type not in CALLS:
            return None
        if field_text(call, "name", self.source) == "assertSoftly":
            return SOFT
        self.resolve(call)
        found = self._found.get(call.id)
        if not isinstance(found, Found):
            return None
        listed = _arguments(call)
        position = next((i for i, item in enumerate(listed) if item == function), None)
        parameters = self.types.expand(found, len(listed)) if found.method.varargs else self.types.parameters(found)
        interface = parameters[position] if position is not None and position < len(parameters) else None
        method = self.types.functional_method(interface) if interface is not None and interface.declared else None
        if method is None:
            return None
        named = function.child_by_field_name("parameters")
        names = [named] if named is not None and named.type == "identifier" else (named.named_children if named else [])
        index = next((i for i, item in enumerate(names) if text_of(item, self.source) == name), 0)
        types = self.types.parameters(method)
        known = types[index] if index < len(types) else None
        return known if known is None or not known.qualified.startswith("<") else None

    # -- types -------------------------------------------------------------------------------------------------------

    def _parse(self, node: Node | None, dimensions: str = "") -> Type | None:
        if node is None:
            return None
        text = text_of(node, self.source)
        if text.partition("<")[0].partition("[")[0].partition(".")[0] in self._local_types:
            return None
        return self.types.parse(text + dimensions, self.owner, self._environment)

    def type_of(self, node: Node) -> Type | None:
        """The static type of an expression, None where it is not known."""
        if node.id not in self._typed:
            self._typed[node.id] = None  # an expression cannot need its own type
            self._typed[node.id] = self._find_type(node)
        return self._typed[node.id]

    def _find_type(self, node: Node) -> Type | None:
        kind = node.type
        if kind in ("identifier", "type_identifier"):
            return self.type_of_name(text_of(node, self.source), node.start_byte)
        if kind == "method_invocation":
            return self._type_of_call(node)
        if kind == "field_access":
            return self._type_of_field(node)
        if kind == "object_creation_expression":
            return self._type_of_creation(node)
        if kind in ("parenthesized_expression", "update_expression"):
            return self.type_of(node.named_children[-1])
        if kind == "this":
            return self._this(self.owner) if self._around(node) is None else None
        if kind == "cast_expression":
            return self._parse(node.child_by_field_name("type"))
        if kind == "array_access":
            array = self.type_of(node.child_by_field_name("array"))  # type: ignore[arg-type]
            return array.element() if array is not None and array.is_array else None
        if kind == "array_creation_expression":
            dimensions = (item for item in node.named_children if item.type.startswith("dimensions"))
            count = sum(text_of(item, self.source).count("[") for item in dimensions)
            return self._parse(node.child_by_field_name("type"), "[]" * count)
        if kind in ("lambda_expression", "method_reference"):
            named = node.child_by_field_name("parameters") if kind == "lambda_expression" else None
            parameters = str(1 if named.type == "identifier" else named.named_child_count) if named is not None else ""
            return Type(LAMBDA, qualified=parameters)
        return self._type_of_literal(node) or self._type_of_operation(node)

    def _type_of_literal(self, node: Node) -> Type | None:
        kind, text = node.type, text_of(node, self.source)
        if kind == "string_literal" or kind == "text_block":
            return self.types.parse("java.lang.String", self.owner, {})
        if kind.endswith("integer_literal"):
            return Type("long" if text[-1] in "lL" else "int")
        if kind.endswith("floating_point_literal"):
            return Type("float" if text[-1] in "fF" and not text.startswith("0x") else "double")
        if kind in ("true", "false", "instanceof_expression"):
            return Type("boolean")
        if kind == "character_literal":
            return Type("char")
        if kind == "null_literal":
            return NULL
        if kind == "class_literal":
            known = self.types.parse("java.lang.Class", self.owner, {})
            return replace(known, args=(self._parse(node.named_children[0]),)) if known is not None else None
        return None

    def _type_of_operation(self, node: Node) -> Type | None:
        if node.type == "assignment_expression":
            return self.type_of(node.child_by_field_name("left"))  # type: ignore[arg-type]
        if node.type == "unary_expression":
            known = self.type_of(node.child_by_field_name("operand"))  # type: ignore[arg-type]
            return _promote(known, known)
        if node.type == "ternary_expression":
            sides = [self.type_of(node.child_by_field_name(name)) for name in ("consequence", "alternative")]  # type: ignore[arg-type]
            if NULL in sides:
                return sides[1 - sides.index(NULL)]
            return sides[0] if sides[0] == sides[1] else None
        if node.type == "binary_expression":
            operator = field_text(node, "operator", self.source)
            if operator in COMPARISONS:
                return Type("boolean")
            chain = node
            sides = []
            while chain.type == "binary_expression":  # a sum of thousands of strings nests as deep
                sides.append(self.type_of(chain.child_by_field_name("right")))  # type: ignore[arg-type]
                chain = chain.child_by_field_name("left")  # type: ignore[assignment]
            sides.append(self.type_of(chain))
            if operator == "+" and (text := next((side for side in sides if side and side.name == "String"), None)):
                return text
            if operator in ("<<", ">>", ">>>"):
                return _promote(sides[-1], sides[-1])
            known = sides[-1]
            for side in sides[:-1]:
                known = _promote(known, side)
            return known
        return None

    def is_field(self, name: str) -> bool:
        """Whether a name is a field of the test's class, its ancestors in the project or a class around it."""
        return any(
            name in holder.fields
            for scope in self.project.enclosing(self.owner)
            for holder in self.project.ancestors(scope)[0]
        )

    def type_of_name(self, name: str, position: int) -> Type | None:
        """The type of a variable, a field or a class, as a name means it at a byte of the file."""
        variable = self.find_variable(name, position)
        if variable is not None:
            return self._type_of_local(name, variable)
        for scope in self.project.enclosing(self.owner):
            if (known := self._type_of_member(self._this(scope), name)) is not None:
                return known
        for owner in (*self.owner.imports.static_single.get(name, ()), *self.owner.imports.static_star):
            declared = self.types.find(owner, self.owner.file)
            known = self._type_of_member(self.types.of(declared), name) if declared is not None else None
            if known is not None:
                return known
        if name in self._local_types:
            return None
        return self.types.parse(name, self.owner, {}) if name[:1].isupper() else None

    def _type_of_member(self, holder: Type, name: str) -> Type | None:
        for parent in self.types.lineage(holder)[0]:
            if parent.declared is not None and name in parent.declared.field_types:
                return self.types.parse(
                    parent.declared.field_types[name], parent.declared, self.types.environment(parent)
                )
        return None

    def _type_of_field(self, node: Node) -> Type | None:
        name = field_text(node, "field", self.source)
        holder_node = node.child_by_field_name("object")
        if name == "this":
            return self._parse(holder_node)
        holder = self.type_of(holder_node) if holder_node is not None else None
        if holder is not None and holder.is_array:
            return Type("int") if name == "length" else None
        if holder is not None and holder.declared is not None:
            known = self._type_of_member(holder, name)
            if known is not None or not name[:1].isupper():
                return known
        if name[:1].isupper():
            declared = self.types.resolve("".join(text_of(node, self.source).split()), self.owner)
            return self.types.of(declared) if declared is not None else None
        return None

    def _type_of_creation(self, node: Node) -> Type | None:
        known = self._parse(node.child_by_field_name("type"))
        if known is None or any(child.type == "class_body" for child in node.named_children):
            return known
        if "<>" in field_text(node, "type", self.source):
            known = replace(known, args=())
        return replace(known, created=known.declared)

    def _type_of_call(self, call: Node) -> Type | None:
        reached = self.resolve(call)
        if reached.place == "assertion":
            return ASSERTION_CHAIN
        found = self._found.get(call.id)
        if isinstance(found, Found):
            known = self.types.returned(found, [self.type_of(item) for item in _arguments(call)])
            if found.method.name == "getClass" or known is None:
                return known
            return None if known.qualified.startswith("<") else known
        return None

    # -- calls -------------------------------------------------------------------------------------------------------

    def resolve(self, call: Node) -> Call:
        """Where a call or a method reference leads."""
        if call.id not in self._calls:
            self._calls[call.id] = Call(call, "unknown")  # a call cannot need its own type
            self._calls[call.id] = self._resolve(call)
        return self._calls[call.id]

    def _resolve(self, call: Node) -> Call:
        if call.type == "object_creation_expression":
            known = self._parse(call.child_by_field_name("type"))
            return self._reach(call, known, None)
        if call.type == "method_reference":
            holder, name = call.named_children[0], text_of(call.children[-1], self.source)
            known = self.type_of(holder) if holder.type != "generic_type" else self._parse(holder)
            return self._reach(call, known, None if name == "new" else name)
        name = field_text(call, "name", self.source)
        receiver = call.child_by_field_name("object")
        if any(child.type == "super" for child in call.named_children):
            return self._reach_super(call, name)
        if receiver is None:
            return self._resolve_unqualified(call, name)
        known = self.type_of(receiver)
        if known == ASSERTION_CHAIN:
            return Call(call, "assertion")
        return self._reach(call, known, name)

    def _reach_super(self, call: Node, name: str) -> Call:
        parents, is_open = self.types.lineage(self._this(self.owner))
        members = [item for parent in parents[1:] for item in self.types.members(parent, name) if item.holder == parent]
        return self._choose(call, members) if members else Call(call, "unknown" if is_open else "outside")

    def _resolve_unqualified(self, call: Node, name: str) -> Call:
        body = self._around(call)
        while body is not None:
            declared = [field_text(item, "name", self.source) for item in body.named_children]
            if name in declared:
                return Call(call, "tests")
            creation = self.parents[body.id]
            if creation.type == "object_creation_expression":
                known = self._parse(creation.child_by_field_name("type"))
                if known is None or known.declared is None:
                    return Call(call, "unknown")
                if members := self.types.members(known, name):
                    return self._choose(call, members)
            body = self._around(body)
        is_open = False
        for scope in self.project.enclosing(self.owner):
            if members := self.types.members(self._this(scope), name):
                return self._choose(call, members)
            is_open |= self.types.lineage(self._this(scope))[1]
        imports = self.owner.imports
        single = imports.static_single.get(name, ())
        owners = [self.types.find(owner, self.owner.file) for owner in single or imports.static_star]
        members = [m for owner in owners if owner is not None for m in self.types.members(self.types.of(owner), name)]
        if name in ROOT_NAMES and not any(item.holder.declared.in_tests for item in members if item.holder.declared):
            return Call(call, "assertion")
        if members:
            return self._choose(call, members)
        return Call(call, "outside" if single or is_open or imports.static_star else "unknown")

    def _around(self, node: Node) -> Node | None:
        """The body of the innermost class inside of the test method that holds a node."""
        if not self._has_classes:
            return None
        current = self.parents.get(node.id)
        while current is not None and current.type != "class_body":
            current = self.parents.get(current.id)
        return current

    def _reach(self, call: Node, receiver: Type | None, name: str | None) -> Call:
        if receiver is None:
            return self._guess(call, name)
        if receiver.is_array or receiver.is_primitive:
            return Call(call, "outside")
        if receiver.qualified == VARIABLE:
            bound = receiver.args[0] if receiver.args else None
            return self._reach(call, bound, name) if bound is not None else self._guess(call, name)
        if receiver.declared is None:
            return Call(call, "outside")
        members = self.types.members(receiver, name)
        if not members:
            implicit = name is None or not self.types.lineage(receiver)[1]
            return Call(call, "outside" if implicit or not receiver.declared.file else "unknown")
        return self._choose(call, members)

    def _guess(self, call: Node, name: str | None) -> Call:
        """A call on something of unknown type: of the project where nothing else has a method of that name."""
        owners = self.project.methods_named(name) if name is not None else ()
        if not owners or name is None:
            return Call(call, "unknown" if name is None else "outside")
        if len(owners) == 1 and name not in list_method_names():
            method = owners[0]
            count = len(_arguments(call))
            if call.type == "method_invocation" and count == len(method.parameters) and not method.varargs:
                declared = self.project.find(method.owner, method.file)
                assert declared is not None
                holder = self.types.of(declared)
                self._found[call.id] = Found(method, holder, holder)
                return Call(call, "project" if method.has_body else "bodiless", method)
        return Call(call, "unknown")

    def may_be_inherited(self, call: Node) -> bool:
        """Whether a call without a receiver may reach a method that the class inherits from a library.

        So it is where the class has a supertype from there, and no method of the project's fits for sure.
        """
        if not any(self.types.lineage(self._this(scope))[1] for scope in self.project.enclosing(self.owner)):
            return False
        found = self._found.get(call.id)
        return not isinstance(found, Found) or not self.types.fits(found, [self.type_of(i) for i in _arguments(call)])

    def _choose(self, call: Node, members: list[Found]) -> Call:
        if call.type == "method_reference":
            names = {(item.method.name, item.method.generics[0]) for item in members}
            chosen: Found | str = members[0] if len(names) == 1 else "ambiguous"
        else:
            chosen = self.types.choose(members, [self.type_of(item) for item in _arguments(call)])
        self._found[call.id] = chosen
        if isinstance(chosen, str):
            ours = any(item.holder.declared is not None and item.holder.declared.file for item in members)
            return Call(call, "unknown" if ours else "outside")
        return self._place(call, chosen)

    def _place(self, call: Node, found: Found) -> Call:
        method = self._find_implementation(found)
        owner = self.project.find(method.owner, method.file) if method.file else None
        if owner is None:
            return Call(call, "outside")
        if owner.in_tests:
            return Call(call, "tests", method)
        return Call(call, "project" if method.has_body else "bodiless", method)

    def _find_implementation(self, found: Found) -> Method:
        """The method of the class of the object, where that is known; else, of a method without a body, that of the
        class under test, or the only one that there is."""
        method, receiver = found.method, found.receiver
        if method.static or method.constructor:
            return method
        dynamic = receiver.created
        if dynamic is None and not method.has_body and method.file and self.under_test is not None:
            seen = self.types.view(self.types.of(self.under_test), found.holder.qualified)
            dynamic = self.under_test if seen is not None else None
        if dynamic is not None:
            written = [name.partition("<")[0] for name in method.generics[0]]
            fitting = [
                item.method
                for item in self.types.members(self.types.of(dynamic), method.name)
                if len(item.method.parameters) == len(method.parameters) and item.method.has_body
            ]
            same = [item for item in fitting if list(item.generics[0]) == list(method.generics[0])]
            same = same or [item for item in fitting if [n.partition("<")[0] for n in item.generics[0]] == written]
            if same or len({item.generics[0] for item in fitting}) == 1:
                return (same or fitting)[0]
        if method.has_body or not method.file or found.holder.declared is None:
            return method
        candidates = [
            item
            for item in self.project.methods_named(method.name)
            if item.has_body and item.parameters == method.parameters
        ]
        owners = [self.project.find(item.owner, item.file) for item in candidates]
        kin = [
            item
            for item, owner in zip(candidates, owners, strict=True)
            if owner is not None and self.project.extends(owner, found.holder.declared)
        ]
        return kin[0] if len(kin) == 1 else method


def _arguments(call: Node) -> list[Node]:
    listed = call.child_by_field_name("arguments")
    return [item for item in listed.named_children if "comment" not in item.type] if listed is not None else []


def _promote(left: Type | None, right: Type | None) -> Type | None:
    """The type of an arithmetic operation (JLS 5.6)."""
    names = []
    for side in (left, right):
        if side is None:
            return None
        name = {"Integer": "int", "Character": "char"}.get(side.name, side.name.lower())
        if name not in PRIMITIVES:
            return None
        names.append(name)
    if "boolean" in names:
        return Type("boolean")
    return Type(
        max(
            (*names, "int"),
            key=lambda name: ("int", *WIDER["int"]).index(name) if name in ("int", *WIDER["int"]) else -1,
        )
    )


def list_receivers(call: Node) -> Iterator[Node]:
    """The calls on whose results a call is made, innermost last."""
    receiver = call.child_by_field_name("object")
    while receiver is not None:
        if receiver.type in CALLS:
            yield receiver
        inner = receiver.child_by_field_name("object")
        if inner is None and receiver.type in ("parenthesized_expression", "cast_expression"):
            inner = receiver.named_children[-1]
        receiver = inner
