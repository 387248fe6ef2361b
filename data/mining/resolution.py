"""Which method each call of a test reaches, as far as the sources tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tree_sitter import Node

from data.java.frameworks import ROOT_NAMES, VALUE_NAMES
from data.java.jdk import list_method_names
from data.java.syntax import field_text, text_of, type_name
from data.mining.body import CALLS, TestBody, Variable, list_arguments
from data.mining.implementations import find_implementation
from data.mining.overloads import Overloads
from data.mining.projects import JavaClass, Method, Project, read_variables
from data.mining.types import LAMBDA, NULL, PRIMITIVES, VARIABLE, WIDER, Found, Type

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


class CallResolver:
    """Resolves the calls of one test method."""

    def __init__(
        self, overloads: Overloads, owner: JavaClass, method: Node, source: bytes, under_test: JavaClass | None = None
    ) -> None:
        self.overloads = overloads
        self.types = overloads.types
        self.project: Project = self.types.project
        self.owner = owner
        self.source = source
        self.under_test = under_test
        self.body = TestBody(method, source)
        self._calls: dict[int, Call] = {}
        self._found: dict[int, Found | str] = {}
        self._typed: dict[int, Type | None] = {}
        self._own: dict[str, Type] = {}
        self._environment = self._read_type_variables(method)

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
        if scope.qualified not in self._own:
            arguments = tuple(self._environment.get(name) for name in scope.variables)
            self._own[scope.qualified] = replace(self.types.of(scope), args=arguments)
        return self._own[scope.qualified]

    # -- variables ---------------------------------------------------------------------------------------------------

    def _type_of_local(self, name: str, variable: Variable) -> Type | None:
        node, written = variable.owner, type_name(variable.declared, self.source)
        if node.type == "lambda_expression":
            return self._type_of_lambda_parameter(name, node)
        value = self.type_of(variable.value) if variable.value is not None else None
        if written == "var":
            return self._element_of(value) if node.type == "enhanced_for_statement" else value
        assert variable.declared is not None or written == ""
        known = self._parse(variable.declared, field_text(node, "dimensions", self.source))
        fresh = variable.value is not None and variable.value.type == "object_creation_expression"
        if known is not None and fresh and value is not None and name not in self.body.assigned:
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
        call = self.body.parents[self.body.parents[function.id].id]
        if call.type not in CALLS:
            return None
        if field_text(call, "name", self.source) == "assertSoftly":
            return SOFT
        self.resolve(call)
        found = self._found.get(call.id)
        if not isinstance(found, Found):
            return None
        listed = list_arguments(call)
        position = next((i for i, item in enumerate(listed) if item == function), None)
        parameters = self.overloads.expand(found, len(listed))
        interface = parameters[position] if position is not None and position < len(parameters) else None
        method = self.types.functional_method(interface) if interface is not None and interface.declared else None
        if method is None:
            return None
        named = function.child_by_field_name("parameters")
        names = [named] if named is not None and named.type == "identifier" else (named.named_children if named else [])
        index = next((i for i, item in enumerate(names) if text_of(item, self.source) == name), 0)
        types = self.overloads.parameters(method)
        known = types[index] if index < len(types) else None
        return known if known is None or not known.qualified.startswith("<") else None

    # -- types -------------------------------------------------------------------------------------------------------

    def _parse(self, node: Node | None, dimensions: str = "") -> Type | None:
        if node is None:
            return None
        text = text_of(node, self.source)
        if text.partition("<")[0].partition("[")[0].partition(".")[0] in self.body.local_types:
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
            return self._this(self.owner) if self.body.class_around(node) is None else None
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
        variable = self.body.find_variable(name, position)
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
        if name in self.body.local_types:
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
            expected = list_arguments(call)[:1]
            if (
                expected
                and expected[0].type == "class_literal"
                and field_text(call, "name", self.source) in VALUE_NAMES
            ):
                return self._parse(expected[0].named_children[0])
            return ASSERTION_CHAIN
        found = self._found.get(call.id)
        if isinstance(found, Found):
            known = self.overloads.returned(found, self._type_arguments(call))
            if found.method.name == "getClass" or known is None:
                return known
            return None if known.qualified.startswith("<") else known
        return None

    def _type_arguments(self, call: Node) -> tuple[Type | None, ...]:
        return tuple(self.type_of(item) for item in list_arguments(call))

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
        body = self.body.class_around(call)
        while body is not None:
            declared = [field_text(item, "name", self.source) for item in body.named_children]
            if name in declared:
                return Call(call, "tests")
            creation = self.body.parents[body.id]
            if creation.type == "object_creation_expression":
                known = self._parse(creation.child_by_field_name("type"))
                if known is None or known.declared is None:
                    return Call(call, "unknown")
                if members := self.types.members(known, name):
                    return self._choose(call, members)
            body = self.body.class_around(body)
        is_open = False
        for scope in self.project.enclosing(self.owner):
            if members := self.types.members(self._this(scope), name):
                return self._choose(call, members)
            is_open |= self.types.lineage(self._this(scope))[1]
        imports = self.owner.imports
        single = imports.static_single.get(name, ())
        owners = [self.types.find(owner, self.owner.file) for owner in single or imports.static_star]
        imported = [m for owner in owners if owner is not None for m in self.types.members(self.types.of(owner), name)]
        if name in ROOT_NAMES and not any(item.holder.declared.in_tests for item in imported if item.holder.declared):
            return Call(call, "assertion")
        if imported:
            return self._choose(call, imported)
        return Call(call, "outside" if single or is_open or imports.static_star else "unknown")

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
            count = len(list_arguments(call))
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
        return not isinstance(found, Found) or not self.overloads.fits(found, self._type_arguments(call))

    def _choose(self, call: Node, members: Sequence[Found]) -> Call:
        if call.type == "method_reference":
            names = {(item.method.name, item.method.generics[0]) for item in members}
            chosen: Found | str = members[0] if len(names) == 1 else "ambiguous"
        else:
            chosen = self.overloads.choose(members, self._type_arguments(call))
        self._found[call.id] = chosen
        if isinstance(chosen, str):
            ours = any(item.holder.declared is not None and item.holder.declared.file for item in members)
            return Call(call, "unknown" if ours else "outside")
        return self._place(call, chosen)

    def _place(self, call: Node, found: Found) -> Call:
        method = find_implementation(self.types, found, self.under_test)
        owner = self.project.find(method.owner, method.file) if method.file else None
        if owner is None:
            return Call(call, "outside")
        if owner.in_tests:
            return Call(call, "tests", method)
        return Call(call, "project" if method.has_body else "bodiless", method)


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
