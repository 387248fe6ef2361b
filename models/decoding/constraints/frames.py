"""What reading Java keeps in mind: the operand before a place, and the brackets around it."""

from __future__ import annotations

from dataclasses import dataclass

from data.java.scope import Overload

PRIMITIVES = frozenset({"int", "long", "short", "byte", "char", "boolean", "float", "double", "void"})
# Words behind which an expression, a bracket or a block begins.
OPENING = frozenset({"if", "for", "while", "catch", "try", "switch", "synchronized"})
PLAIN = frozenset(
    {"return", "throw", "else", "do", "finally", "case", "default", "final", "break", "continue", "class"}
)
LITERALS = frozenset({"true", "false", "null"})
KEYWORDS = PRIMITIVES | OPENING | PLAIN | LITERALS | {"new", "instanceof", "assert"}
SPELT = sorted(KEYWORDS)
AFTER_DOT = ["class", "new", "super", "this"]
ROOTS = frozenset({"java", "javax", "org", "com"})
OPERATORS = frozenset("+-*/%&|^!~=")


@dataclass(frozen=True)
class Value:
    """A complete operand. ``types``: numbers of the types that it may have, none where that is not known.

    ``named``: it is the name of a type. ``plain``: it is a primitive, so that it has no members. ``open``: another
    operand may follow, as after ``++``.
    """

    types: tuple[int, ...] = ()
    named: bool = False
    plain: bool = False
    open: bool = False


ANY, NUMBER = Value(), Value(plain=True)


@dataclass(frozen=True)
class Frame:
    """An open bracket. ``kind``: call, paren, head (of a keyword), index, elements, block, generic, or free, in which
    nothing is checked. The rest describes the expression that is being written in it.

    ``overloads`` of a call, None if it is not checked; ``result``: the value once it closes, where that is known;
    ``parameters``: names that are a lambda's if an arrow follows.
    """

    kind: str
    overloads: tuple[Overload, ...] | None = None
    result: Value | None = None
    commas: int = 0
    cast: Value | None = None
    mixed: bool = False
    lambdas: bool = False
    parameters: tuple[str, ...] = ()
