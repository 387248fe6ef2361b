"""Assertions that any developer would try first: the value of a getter, that something is there, that it throws."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from tree_sitter import Node

from data.java.syntax import field_text, parse, read_modifiers, text_of, type_name, walk
from data.java.tokens import PLACEHOLDER, one_line
from data.mining.types import PRIMITIVES
from data.rows.context import split_declaration
from data.rows.readers import Sample

MAX_LITERALS, MAX_PAIRS, MAX_STATES, MAX_TEMPLATES = 2, 2, 2, 12
BOOLEAN = frozenset({"boolean", "Boolean"})
WHOLE = frozenset({"byte", "short", "int", "long", "Byte", "Short", "Integer", "Long"})
REAL = frozenset({"float", "double", "Float", "Double"})
LITERALS = {
    **dict.fromkeys(("String", "CharSequence"), frozenset({"string_literal"})),
    **dict.fromkeys(("char", "Character"), frozenset({"character_literal"})),
    **dict.fromkeys(WHOLE, frozenset({"decimal_integer_literal", "hex_integer_literal"})),
    **dict.fromkeys(REAL, frozenset({"decimal_floating_point_literal", "decimal_integer_literal"})),
}
COLLECTION = re.compile(r"(?:String|Collection|List|Set|Map|Queue|Deque|Bag|Stack|Vector)$")  # they have isEmpty()
OPTIONAL = re.compile(r"Optional(?:Int|Long|Double)?$")
GETTER = re.compile(r"([\w.]+(?:<.*>)?(?:\[\])*) (\w+)\.(\w+)\(\)")  # int Stack.size()
THROWN = re.compile(r"\bthrow new ([A-Z][\w.]*)\s*\(")
DOCUMENTED = re.compile(r"@throws ([A-Z]\w*)")


@dataclass(frozen=True)
class _Focal:
    """The method under test: its parameters' types, what it returns, and what it may throw."""

    name: str
    static: bool
    returns: str
    parameters: tuple[str, ...]
    throws: tuple[str, ...]


def write_templates(sample: Sample) -> list[str]:
    """The templates that fit a task, the most useful first. Most are wrong; to run them tells which.

    They look at what the method returned, else at the state of its object; then at the latest variable.
    """
    focal = _read_focal(sample)
    if focal is None:
        return []
    root, source = _parse_test(sample)
    test = _Test(sample, root, source)
    value = _find_value(test, focal)
    looked_at = [(focal.returns, value)] if value else list(_list_states(test, focal))
    found = [text for written, shown in looked_at for text in _compare(test, written, shown)]
    found += _provoke(test, focal)
    if test.locals and test.locals[0].name not in (value, *_find_receivers(test, focal)):
        found += _compare(test, test.locals[0].written, test.locals[0].name)
    return list(dict.fromkeys(found))[:MAX_TEMPLATES]


@dataclass(frozen=True)
class _Variable:
    name: str
    written: str  # its type, without arguments


@dataclass(frozen=True)
class _Test:
    """A test as it is read: the root and the bytes of its syntax tree."""

    sample: Sample
    root: Node
    source: bytes

    @property
    def focal_owner(self) -> str:
        """The simple name of the class that has the method; empty where it is not known."""
        return re.split(r"[.$]", self.sample.source.get("focal_class", ""))[-1]

    @cached_property
    def locals(self) -> list[_Variable]:
        """Latest first."""
        return _read_variables(self.sample.context.get("locals", ()))

    @cached_property
    def variables(self) -> list[_Variable]:
        """The locals, then the fields."""
        return [*self.locals, *_read_variables(self.sample.context.get("fields", ()))]

    def list_literals(self, written: str) -> list[str]:
        """The latest literals of a type."""
        kinds = LITERALS.get(written, frozenset())
        nodes = [node for node in walk(self.root) if node.type in kinds]
        return list(dict.fromkeys(text_of(node, self.source) for node in reversed(nodes)))[:MAX_LITERALS]


def _read_variables(declared: Iterable[str]) -> list[_Variable]:
    pairs = map(split_declaration, declared)
    return [_Variable(name, _without_arguments(written)) for written, name in pairs if written]


def _without_arguments(written: str) -> str:
    """``Map<String, Integer>`` -> ``Map``."""
    return re.sub(r"<.*>", "", written)


def _read_focal(sample: Sample) -> _Focal | None:
    source = f"class A {{ {sample.focal} }}".encode("utf-8", "replace")
    method = next((node for node in walk(parse(source)) if node.type == "method_declaration"), None)
    if method is None or method.has_error:
        return None
    words, _ = read_modifiers(method, source)
    parameters = method.child_by_field_name("parameters")
    types = [
        type_name(item.child_by_field_name("type"), source)
        for item in (parameters.named_children if parameters is not None else ())
        if item.type in ("formal_parameter", "spread_parameter")
    ]
    thrown = [*THROWN.findall(sample.focal), *DOCUMENTED.findall(sample.context.get("doc", ""))]
    return _Focal(
        field_text(method, "name", source),
        "static" in words,
        type_name(method.child_by_field_name("type"), source),
        tuple(types),
        tuple(dict.fromkeys(thrown)),
    )


def _parse_test(sample: Sample) -> tuple[Node, bytes]:
    source = f"class A {{ {sample.test.replace(PLACEHOLDER, ';')} }}".encode("utf-8", "replace")
    return parse(source), source


def _find_receivers(test: _Test, focal: _Focal) -> list[str]:
    """What the method can be called on: its class where it is static, else variables of that type, locals first."""
    owner = test.focal_owner
    if focal.static:
        return [owner] if owner else []
    return [item.name for item in test.variables if owner and item.written == owner]


def _find_value(test: _Test, focal: _Focal) -> str:
    """An expression for what the method returned: the variable that holds it, else the call as the test makes it, else
    a call with the variables that fit; the empty string where there is none."""
    if focal.returns == "void":
        return ""
    made = (node for node in walk(test.root) if node.type == "method_invocation")
    calls = [node for node in made if field_text(node, "name", test.source) == focal.name]
    for call in reversed(calls):
        holder = call.parent
        if holder is not None and holder.type == "variable_declarator":
            return field_text(holder, "name", test.source)
    if calls and calls[-1].parent is not None and calls[-1].parent.type == "expression_statement":
        return one_line(text_of(calls[-1], test.source))
    receivers = _find_receivers(test, focal)
    given = _find_arguments(test, focal, receivers) if receivers else None
    return f"{receivers[0]}.{focal.name}({', '.join(given)})" if given is not None else ""


def _find_arguments(test: _Test, focal: _Focal, receivers: Sequence[str]) -> list[str] | None:
    """A variable for each parameter, the latest of its type that is not used yet; None where one has none."""
    free = [item for item in test.variables if item.name not in receivers]
    found = []
    for parameter in focal.parameters:
        fits = (item for item in free if _fits(item.written, parameter))
        if (item := next(fits, None)) is None:
            return None
        free.remove(item)
        found.append(item.name)
    return found


def _fits(written: str, parameter: str) -> bool:
    """Whether a variable may stand for a parameter; any object for one of type ``Object`` or of a type variable."""
    return written == parameter or ((parameter == "Object" or len(parameter) == 1) and written not in PRIMITIVES)


def _list_states(test: _Test, focal: _Focal) -> Iterator[tuple[str, str]]:
    """Types and calls that tell the state of the object that the method was called on: ``stack.size()``."""
    receivers = [] if focal.static else _find_receivers(test, focal)
    getters = (GETTER.fullmatch(text) for text in test.sample.context.get("members", ()))
    told = [found.groups() for found in getters if found and found[2] == test.focal_owner and found[1] != "void"]
    for written, _, name in told[:MAX_STATES] if receivers else ():
        yield _without_arguments(written), f"{receivers[0]}.{name}()"


def _compare(test: _Test, written: str, value: str) -> Iterator[str]:
    """What may hold of a value of a type."""
    if written in BOOLEAN:
        yield f"assertTrue({value});"
        yield f"assertFalse({value});"
        return
    delta = ", 0" if written in REAL else ""
    for literal in test.list_literals(written):
        yield f"assertEquals({literal}, {value}{delta});"
    equal = "assertArrayEquals" if written.endswith("[]") else "assertEquals"
    others = (item.name for item in test.variables if item.written == written and item.name != value)
    for other in islice(others, MAX_PAIRS):
        yield f"{equal}({other}, {value}{delta});"
    if written in WHOLE:
        yield f"assertEquals(0, {value});"
        yield f"assertEquals(1, {value});"
    if OPTIONAL.search(written):
        yield f"assertTrue({value}.isPresent());"
        yield f"assertFalse({value}.isPresent());"
    if COLLECTION.search(written):
        yield f"assertFalse({value}.isEmpty());"
        yield f"assertTrue({value}.isEmpty());"
    if written.endswith("[]"):
        yield f"assertTrue({value}.length > 0);"
        yield f"assertEquals(0, {value}.length);"
    if written not in WHOLE | REAL | {*PRIMITIVES}:
        yield f"assertNotNull({value});"
        yield f"assertNull({value});"


def _provoke(test: _Test, focal: _Focal) -> Iterator[str]:
    """``assertThrows`` with the arguments that methods mostly refuse."""
    receivers = _find_receivers(test, focal)
    if not receivers or not focal.parameters or not focal.throws or not _knows_throws(test.sample):
        return
    arguments = ", ".join(_refused_argument(name) for name in focal.parameters)
    yield f"assertThrows({focal.throws[0]}.class, () -> {receivers[0]}.{focal.name}({arguments}));"


def _knows_throws(sample: Sample) -> bool:
    """JUnit 5 has assertThrows, JUnit 4 since 4.13; there the class has to use it already."""
    siblings = sample.context.get("siblings", ())
    return sample.source.get("framework") == "junit5" or any("assertThrows(" in s["assertion"] for s in siblings)


def _refused_argument(written: str) -> str:
    if written == "boolean":
        return "false"
    if written == "char":
        return "' '"
    return f"{'(' + written + ') ' if written in ('byte', 'short') else ''}-1" if written in WHOLE | REAL else "null"
