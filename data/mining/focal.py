"""Which method a test's assertion is about: the focal method."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tree_sitter import Node

from data.java.frameworks import ROOT_NAMES
from data.java.syntax import field_text, text_of, type_name, walk, walk_evaluation_order
from data.mining.projects import JavaClass, Method, Project

TEST_AFFIXES = re.compile(r"^(?:Test(?=[A-Z]))?(.+?)(?:_?(?:Unit|Integration)?(?:Tests?|TestCases?|IT|Spec))?$")
LITERAL_TYPES = {
    "string_literal": "String",
    "character_literal": "char",
    "true": "boolean",
    "false": "boolean",
    "null_literal": "null",
    "class_literal": "Class",
    "lambda_expression": "lambda",
    "method_reference": "lambda",
    "instanceof_expression": "boolean",
}
PRIMITIVE_ORDER = ("byte", "short", "char", "int", "long", "float", "double")
BOXES = {"Integer": "int", "Character": "char", **{name.capitalize(): name for name in (*PRIMITIVE_ORDER, "boolean")}}
COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">=", "&&", "||"})
# What any object or collection has: a receiver of unknown type is not taken for the class under test by these.
COMMON_NAMES = frozenset(
    (
        "equals",
        "hashCode",
        "toString",
        "getClass",
        "get",
        "size",
        "length",
        "add",
        "remove",
        "put",
        "contains",
        "isEmpty",
        "iterator",
        "next",
        "hasNext",
        "close",
        "getName",
        "name",
        "getValue",
        "getKey",
        "value",
        "key",
        "apply",
        "accept",
        "test",
        "call",
        "run",
    )
)


@dataclass(frozen=True)
class Type:
    """A static type: its name as written, and the class where it belongs to the project."""

    name: str
    declared: JavaClass | None = None


ASSERTION_CHAIN = Type("<assertion>")


@dataclass(frozen=True)
class Focal:
    """The focal method, whether its call stands ``inside`` the assertion or ``before`` it, and how it was found."""

    method: Method
    position: str
    rule: str


def find_class_under_test(project: Project, test_class: JavaClass) -> JavaClass | None:
    """``FooTest``, ``TestFoo``, ``FooTests``, ``FooTestCase``, ``FooIT`` -> ``Foo``; else the longest leading words of
    the name that are a class of the same package (``StringUtilsTrimTest`` -> ``StringUtils``)."""
    outermost = list(project.enclosing(test_class))[-1]
    match = TEST_AFFIXES.match(outermost.name)
    stem = match.group(1) if match else outermost.name
    if stem != outermost.name and (found := project.named(stem, outermost)) is not None:
        return found
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|\W|_", stem)
    for count in range(len(words) - 1, 0, -1):
        found = project.named("".join(words[:count]), outermost)
        if found is not None and found.imports.package == outermost.imports.package:
            return found
    return None


class FocalFinder:
    """Resolves the calls of one test method."""

    def __init__(self, project: Project, owner: JavaClass, method: Node, source: bytes) -> None:
        self.project = project
        self.owner = owner
        self.source = source
        self.under_test = find_class_under_test(project, owner)
        self._resolved: dict[int, Method | None] = {}
        self._locals: dict[str, list[tuple[int, Node | None, Node | None]]] = {}
        for node in walk(method):
            if node.type == "local_variable_declaration":
                for item in node.children_by_field_name("declarator"):
                    self._declare(item, node.child_by_field_name("type"), item.child_by_field_name("value"))
            elif node.type in ("formal_parameter", "enhanced_for_statement", "resource"):
                self._declare(node, node.child_by_field_name("type"), node.child_by_field_name("value"))
            elif node.type == "catch_formal_parameter":
                types = next(child for child in node.named_children if child.type == "catch_type").named_children
                self._declare(node, types[0] if len(types) == 1 else None, None)
        calls = ("method_invocation", "object_creation_expression", "method_reference")
        self._calls = [node for node in walk_evaluation_order(method) if node.type in calls]

    def _declare(self, node: Node, declared: Node | None, value: Node | None) -> None:
        name = field_text(node, "name", self.source)
        if name and node.type == "enhanced_for_statement":
            value = None  # the variable is an element of the value
        self._locals.setdefault(name, []).append((node.start_byte, declared, value))

    # -- types ---------------------------------------------------------------------------------------------------

    def _find_type(self, name: str, scope: JavaClass | None = None) -> Type | None:
        if not name or re.fullmatch(r"[A-Z]\d?(\[\])*", name) or name == "var":
            return None  # a type variable, most likely
        return Type(name, self.project.resolve(name.rstrip("[]"), scope or self.owner))

    def _type_of_variable(self, name: str, position: int) -> Type | None:
        declarations = [item for item in self._locals.get(name, ()) if item[0] <= position]
        if declarations:
            _, declared, value = declarations[-1]
            written = type_name(declared, self.source)
            created = value is not None and value.type == "object_creation_expression"
            if value is not None and (created or written == "var"):
                return self.type_of(value)
            return self._find_type(written)
        for scope in self.project.enclosing(self.owner):
            for holder in self.project.ancestors(scope)[0]:
                if name in holder.fields:
                    return self._find_type(holder.fields[name], holder)
        return self._find_type(name) if name[:1].isupper() else None

    def type_of(self, node: Node) -> Type | None:
        """The static type of an expression, None where it cannot be told."""
        kind = node.type
        if kind in LITERAL_TYPES:
            return Type(LITERAL_TYPES[kind])
        if kind == "identifier":
            return self._type_of_variable(text_of(node, self.source), node.start_byte)
        if kind == "this":
            return Type(self.owner.name, self.owner)
        if kind == "parenthesized_expression":
            return self.type_of(node.named_children[0])
        if kind in ("cast_expression", "object_creation_expression"):
            return self._find_type(type_name(node.child_by_field_name("type"), self.source))
        if kind == "array_creation_expression":
            dimensions = (item for item in node.named_children if item.type.startswith("dimensions"))
            element = type_name(node.child_by_field_name("type"), self.source)
            return Type(element + "[]" * sum(text_of(item, self.source).count("[") for item in dimensions))
        if kind.endswith("integer_literal"):
            return Type("long" if text_of(node, self.source)[-1] in "lL" else "int")
        if kind.endswith("floating_point_literal"):
            return Type("float" if text_of(node, self.source)[-1] in "fF" else "double")
        if kind == "method_invocation":
            return self._type_of_call(node)
        if kind == "field_access":
            return self._type_of_field(node)
        return self._type_of_operation(node)

    def _type_of_operation(self, node: Node) -> Type | None:
        if node.type == "unary_expression":
            return self.type_of(node.child_by_field_name("operand"))  # type: ignore[arg-type]
        if node.type == "ternary_expression":
            return self.type_of(node.child_by_field_name("consequence"))  # type: ignore[arg-type]
        if node.type == "binary_expression":
            if field_text(node, "operator", self.source) in COMPARISONS:
                return Type("boolean")
            left = node
            while left.type == "binary_expression":  # a sum of thousands of strings nests as deep
                left = left.child_by_field_name("left")  # type: ignore[assignment]
            return self.type_of(left)
        return None

    def _type_of_field(self, node: Node) -> Type | None:
        name = field_text(node, "field", self.source)
        holder_node = node.child_by_field_name("object")
        holder = self.type_of(holder_node) if holder_node is not None else None
        if holder is None or holder.declared is None:
            written = text_of(node, self.source)
            found = self.project.resolve(written, self.owner) if name[:1].isupper() else None
            return Type(name, found) if found is not None else None
        for item in self.project.ancestors(holder.declared)[0]:
            if name in item.fields:
                return self._find_type(item.fields[name], item)
        return self._find_type(f"{holder.declared.qualified}.{name}") if name[:1].isupper() else None

    def _type_of_call(self, call: Node) -> Type | None:
        method = self.resolve(call)
        if method is not None:
            owner = self.project.find(method.owner, method.file)
            return self._find_type(method.returns, owner) if owner is not None else None
        receiver = call.child_by_field_name("object")
        if receiver is None:
            return ASSERTION_CHAIN if field_text(call, "name", self.source) in ROOT_NAMES else None
        return ASSERTION_CHAIN if self.type_of(receiver) == ASSERTION_CHAIN else None

    # -- methods -------------------------------------------------------------------------------------------------

    def resolve(self, call: Node) -> Method | None:
        """The method of the project that a call or method reference reaches, None where it is not the project's."""
        if call.id not in self._resolved:
            self._resolved[call.id] = None  # a call cannot need its own type
            self._resolved[call.id] = self._resolve(call)
        return self._resolved[call.id]

    def _resolve(self, call: Node) -> Method | None:
        if call.type == "method_reference":
            return self._resolve_reference(call)
        arguments_node = call.child_by_field_name("arguments")
        listed = arguments_node.named_children if arguments_node is not None else []
        arguments = [item for item in listed if "comment" not in item.type]
        if call.type == "object_creation_expression":
            created = self._find_type(type_name(call.child_by_field_name("type"), self.source))
            return self._choose_overload(created.declared, None, arguments) if created is not None else None
        name = field_text(call, "name", self.source)
        receiver = call.child_by_field_name("object")
        if receiver is None:
            return self._resolve_unqualified(name, arguments)
        if receiver.type == "super":
            parents = self.project.ancestors(self.owner)[0][1:]
            return self._choose_overload(parents[0], name, arguments) if parents else None
        holder = self.type_of(receiver)
        if holder is None:
            own = self.under_test is not None and any(item.name == name for item in self.under_test.methods)
            return self._choose_overload(self.under_test, name, arguments) if own and name not in COMMON_NAMES else None
        return self._choose_overload(holder.declared, name, arguments)

    def _resolve_reference(self, node: Node) -> Method | None:
        holder, name = node.named_children[0], text_of(node.children[-1], self.source)
        is_type = holder.type == "type_identifier"
        known = self._find_type(text_of(holder, self.source)) if is_type else self.type_of(holder)
        if known is None:
            return None
        return self._choose_overload(known.declared, None if name == "new" else name, None)

    def _resolve_unqualified(self, name: str, arguments: list[Node]) -> Method | None:
        for scope in self.project.enclosing(self.owner):
            if (found := self._choose_overload(scope, name, arguments)) is not None:
                return found
        imports = self.owner.imports
        for owner_name in (*imports.static_single.get(name, ()), *imports.static_star):
            found = self._choose_overload(self.project.find(owner_name, self.owner.file), name, arguments)
            if found is not None:
                return found
        return None

    def _choose_overload(
        self, holder: JavaClass | None, name: str | None, arguments: list[Node] | None
    ) -> Method | None:
        """The overload that fits best: by the number of arguments, then by what is known of their types.

        A ``name`` of None means a constructor; ``arguments`` of None are not known.
        """
        if holder is None:
            return None
        classes = self.project.ancestors(holder)[0] if name is not None else (holder,)
        fitting = [
            item
            for owner in classes
            for item in owner.methods
            if (item.constructor if name is None else item.name == name and not item.constructor)
            and (arguments is None or _arity_fits(item, len(arguments)))
        ]
        if not fitting:
            return None
        types = [self.type_of(item) for item in arguments] if arguments and len(fitting) > 1 else []
        best = max(fitting, key=lambda item: self._score(item, types))  # the first, hence the nearest, of equals
        return best if best.has_body else self._find_implementation(best, holder)

    def _score(self, method: Method, types: list[Type | None]) -> int:
        total = -method.varargs
        for position, known in enumerate(types):
            wanted = method.parameters[min(position, len(method.parameters) - 1)] if method.parameters else ""
            total += _score_argument(wanted, known) if known is not None else 0
            if known is not None and known.declared is not None and wanted != known.name:
                names = {item.name for item in self.project.ancestors(known.declared)[0]}
                total += 4 if wanted in names else 0
        return 2 * total

    def _find_implementation(self, method: Method, holder: JavaClass) -> Method:
        """An abstract method stands for its implementation in the class under test, where that is a subtype."""
        if self.under_test is not None and self.project.extends(self.under_test, holder):
            for owner in self.project.ancestors(self.under_test)[0]:
                for item in owner.methods:
                    if (item.name, len(item.parameters)) == (method.name, len(method.parameters)) and item.has_body:
                        return item
        return method

    # -- choice --------------------------------------------------------------------------------------------------

    def find(self, target: tuple[int, int], assertions: Iterable[Node], skip_inside: bool) -> Focal | str:
        """The focal method of the assertion(s) at the bytes ``target``, or the reason why there is none.

        The last call, in the order of evaluation, that reaches the class under test (its inherited and nested
        methods included): inside the assertion, else before it, else in an earlier assertion; then the same for the
        other classes of the project that are not tests; then constructors. ``skip_inside``: a Mockito ``verify``
        names the call that it expects, it does not make it.
        """
        start, end = target
        other_spans = [(item.start_byte, item.end_byte) for item in assertions if item.start_byte < start]
        inside: list[Node] = []
        before: list[Node] = []
        earlier: list[Node] = []
        for call in self._calls:
            if start <= call.start_byte and call.end_byte <= end:
                inside.append(call)
            elif call.end_byte <= start:
                in_other = any(a <= call.start_byte and call.end_byte <= b for a, b in other_spans)
                (earlier if in_other else before).append(call)
        places = [("before", before), ("before", earlier)]
        if not skip_inside:
            places.insert(0, ("inside", inside))
        bodiless = False
        for constructor in (False, True):
            for of_class_under_test in (True, False):
                for position, calls in places:
                    for call in reversed(calls):
                        method = self.resolve(call)
                        if method is None or method.constructor != constructor or self._is_test_code(method):
                            continue
                        if self._is_under_test(method) != of_class_under_test:
                            continue
                        if method.has_body:
                            rule = "class under test" if of_class_under_test else "other class of the project"
                            return Focal(method, position, rule)
                        bodiless = True
        return "focal method has no body" if bodiless else "no focal method"

    def _is_test_code(self, method: Method) -> bool:
        owner = self.project.find(method.owner, method.file)
        return owner is None or owner.in_tests

    def _is_under_test(self, method: Method) -> bool:
        if self.under_test is None:
            return False
        return method.owner.startswith(self.under_test.qualified + ".") or any(
            item.qualified == method.owner for item in self.project.ancestors(self.under_test)[0]
        )


def _arity_fits(method: Method, count: int) -> bool:
    return count >= len(method.parameters) - 1 if method.varargs else count == len(method.parameters)


def _score_argument(wanted: str, known: Type) -> int:
    """How well an argument of a known type suits a parameter: 5 the same, 0 to 4 convertible, -9 impossible."""
    name = known.name
    if wanted == name:
        return 5
    if wanted in PRIMITIVE_ORDER and name in PRIMITIVE_ORDER:
        steps = PRIMITIVE_ORDER.index(wanted) - PRIMITIVE_ORDER.index(name)
        return 4 - steps // 2 if steps > 0 else -9
    if BOXES.get(wanted) == name or BOXES.get(name) == wanted:
        return 2
    primitive = wanted in PRIMITIVE_ORDER or wanted == "boolean"
    if name == "null":
        return -9 if primitive else 1
    if name == "lambda":
        return -9 if primitive or wanted in ("String", "Object", "Class") or wanted.endswith("[]") else 1
    if primitive != (name in PRIMITIVE_ORDER or name == "boolean"):
        return -9 if wanted not in ("Object", "Number", "Comparable") and not re.fullmatch(r"[A-Z]\d?", wanted) else 1
    if wanted in ("Object", "CharSequence", "Comparable", "Number", "Iterable", "Collection"):
        return 1
    return 0 if known.declared is None and name != "String" and wanted.endswith("[]") == name.endswith("[]") else -3
