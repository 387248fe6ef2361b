"""Assertions that any developer would try first: the value of a getter, that something is there, that it throws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from data.java.syntax import field_text, parse, read_modifiers, text_of, type_name, walk
from data.java.tokens import PLACEHOLDER, one_line
from data.rows.readers import Sample

MAX_LITERALS = 2
WHOLE = frozenset({"byte", "short", "int", "long", "Byte", "Short", "Integer", "Long"})
REAL = frozenset({"float", "double", "Float", "Double"})
LITERALS = {
    **dict.fromkeys(("String", "CharSequence"), frozenset({"string_literal"})),
    **dict.fromkeys(("char", "Character"), frozenset({"character_literal"})),
    **dict.fromkeys(WHOLE, frozenset({"decimal_integer_literal", "hex_integer_literal"})),
    **dict.fromkeys(REAL, frozenset({"decimal_floating_point_literal", "decimal_integer_literal"})),
}
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
    """The templates that fit a task, the most useful first. Most are wrong; to run them tells which."""
    focal = _read_focal(sample)
    if focal is None:
        return []
    value = _find_value(sample, focal)
    found = list(_compare(sample, focal, value)) if value else []
    return [*found, *_provoke(sample, focal)]


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


def _find_receivers(sample: Sample, focal: _Focal) -> list[str]:
    """What the method can be called on: its class where it is static, else variables of that type, locals first."""
    owner = re.split(r"[.$]", sample.source.get("focal_class", ""))[-1]
    if focal.static:
        return [owner] if owner else []
    declared = [*sample.context.get("locals", ()), *sample.context.get("fields", ())]
    pairs = (text.partition("=")[0].split("//")[0].strip().rpartition(" ") for text in declared)
    return [name for written, _, name in pairs if owner and written.partition("<")[0] == owner]


def _find_value(sample: Sample, focal: _Focal) -> str:
    """An expression for what the method returned: the variable that holds it, else the call as the test makes it, else
    a call without arguments; the empty string where there is none."""
    if focal.returns == "void":
        return ""
    root, source = _parse_test(sample)
    made = (node for node in walk(root) if node.type == "method_invocation")
    calls = [node for node in made if field_text(node, "name", source) == focal.name]
    for call in reversed(calls):
        holder = call.parent
        if holder is not None and holder.type == "variable_declarator":
            return field_text(holder, "name", source)
    if calls and calls[-1].parent is not None and calls[-1].parent.type == "expression_statement":
        return one_line(text_of(calls[-1], source))
    receivers = _find_receivers(sample, focal)
    return f"{receivers[0]}.{focal.name}()" if receivers and not focal.parameters else ""


def _compare(sample: Sample, focal: _Focal, value: str) -> Iterator[str]:
    if focal.returns in ("boolean", "Boolean"):
        yield f"assertTrue({value});"
        yield f"assertFalse({value});"
        return
    root, source = _parse_test(sample)
    kinds = LITERALS.get(focal.returns, frozenset())
    literals = dict.fromkeys(text_of(node, source) for node in reversed(list(walk(root))) if node.type in kinds)
    for literal in list(literals)[:MAX_LITERALS]:
        yield f"assertEquals({literal}, {value}{', 0' if focal.returns in REAL else ''});"
    if focal.returns not in WHOLE | REAL | {"char"}:
        yield f"assertNotNull({value});"


def _provoke(sample: Sample, focal: _Focal) -> Iterator[str]:
    """``assertThrows`` with the arguments that methods mostly refuse."""
    receivers = _find_receivers(sample, focal)
    if not receivers or not focal.parameters or not focal.throws or not _knows_throws(sample):
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
