"""Candidates made of what a failing run showed: the observed value, the exception that came, the other truth value.

They hold today whether or not the code is right, so they are never the model's, and a person has to check them.
"""

from __future__ import annotations

import re

from tree_sitter import Node

from data.java.frameworks import FRAMEWORKS
from data.java.syntax import field_text, parse, text_of, walk

LABEL = "holds today, check it"
OPPOSITES = {
    "assertTrue": "assertFalse",
    "assertFalse": "assertTrue",
    "assertNull": "assertNotNull",
    "assertNotNull": "assertNull",
}
COMPARED = re.compile(r"expected:\s?(?:[\w.$]+)?<(.*)> but was:\s?([\w.$]*)<(.*)>$", re.DOTALL)
OTHER_EXCEPTION = re.compile(r"(?:nexpected exception (?:type )?thrown|expected).*?but was:? ?<([\w.$]+)", re.DOTALL)
RAISED = re.compile(r"([a-z][\w.$]*\.[A-Z]\w*(?:Exception|Error))\b")
NUMBER = re.compile(r"-?\d+(?:\.\d+(?:E-?\d+)?)?")
LITERALS = frozenset(
    {
        "decimal_integer_literal",
        "hex_integer_literal",
        "decimal_floating_point_literal",
        "string_literal",
        "character_literal",
        "true",
        "false",
        "unary_expression",
    }
)
HEAD = "class A { void m() { "


def repair(statement: str, reason: str, framework: str) -> str:
    """The statement with what the run showed in place of what it expected; empty where that cannot be written down.

    ``reason``: the error of the run, as in Outcome.
    """
    source = f"{HEAD}{statement} }} }}".encode("utf-8", "replace")
    calls = (node for node in walk(parse(source)) if node.type == "method_invocation")
    call = next(calls, None)
    if call is None:
        return ""
    name = field_text(call, "name", source)
    arguments = call.child_by_field_name("arguments")
    given = [child for child in arguments.named_children if "comment" not in child.type] if arguments else []
    failed = "AssertionError" in reason or "AssertionFailedError" in reason or "ComparisonFailure" in reason
    if name in OPPOSITES and failed:
        place = call.child_by_field_name("name")
        return _replace(source, place, OPPOSITES[name]) if place is not None else ""
    if name == "assertEquals" and failed:
        return _observe(source, given, reason, framework)
    if name in ("assertThrows", "assertThrowsExactly") and given and (found := OTHER_EXCEPTION.search(reason)):
        return _replace(source, given[-2 if len(given) == 2 else 0], f"{_as_written(found.group(1))}.class")
    if not failed and (raised := RAISED.match(reason)) and framework == "junit5":
        return _expect(source, given, _as_written(raised.group(1)))
    return ""


def _replace(source: bytes, node: Node, text: str) -> str:
    whole = source[: node.start_byte] + text.encode() + source[node.end_byte :]
    return whole.decode()[len(HEAD) : -len(" } }")]


def _as_written(name: str) -> str:
    """A class as code names it: those of java.lang without their package."""
    return name.removeprefix("java.lang.").replace("$", ".")


def _observe(source: bytes, given: list[Node], reason: str, framework: str) -> str:
    """``assertEquals`` with the value that was found in place of its literal, or of the expected value."""
    found = COMPARED.search(reason)
    facts = FRAMEWORKS.get(framework)
    first = int(bool(facts and facts.message_first and len(given) == 3 and given[0].type == "string_literal"))
    if found is None or len(given) < first + 2:
        return ""
    expected, kind, actual = found.groups()
    if all(node.type in LITERALS for node in given[first : first + 2]):  # it looks at nothing
        return ""
    place, shown = given[first], actual
    if place.type not in LITERALS and given[first + 1].type in LITERALS:  # the arguments stand in the other order
        place, shown = given[first + 1], expected
    value = _write_literal(text_of(place, source), place.type, shown, kind, reason)
    return _replace(source, place, value) if value and value != text_of(place, source) else ""


def _write_literal(written: str, type_: str, shown: str, kind: str, reason: str) -> str:
    if shown in ("true", "false", "null"):
        return shown
    if type_ == "string_literal" or "ComparisonFailure" in reason:
        if "ComparisonFailure" in reason:  # it marks what differs, and cuts what does not
            if "..." in shown or shown.count("[") != 1 or shown.count("]") != 1:
                return ""
            shown = shown.replace("[", "").replace("]", "")
        return '"' + shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if type_ == "character_literal":
        return f"'{shown}'" if len(shown) == 1 and shown not in "'\\" else ""
    if not NUMBER.fullmatch(shown):
        return ""
    ending = written[-1] if written[-1:] in "lLfFdD" and not written.lower().startswith("0x") else ""
    return shown + ({"java.lang.Long": "L", "java.lang.Float": "f"}.get(kind) or ending)


def _expect(source: bytes, given: list[Node], exception: str) -> str:
    """``assertThrows`` around the call that raised an exception."""
    call = next((node for argument in given for node in walk(argument) if node.type == "method_invocation"), None)
    return f"assertThrows({exception}.class, () -> {text_of(call, source)});" if call is not None else ""
