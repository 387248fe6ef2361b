"""What reading Java keeps in mind: the operand before a place, and the brackets around it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from data.java.frameworks import WITH_DELTA
from data.java.scope import ALL_SORTS, Overload

UNWANTED = 1e4  # what the score of a token loses that is written only where no other can be
PRIMITIVES = frozenset({"int", "long", "short", "byte", "char", "boolean", "float", "double", "void"})
SORTS_OF_PRIMITIVES = dict.fromkeys(PRIMITIVES, "n") | {"boolean": "b", "void": ""}
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
POINT = "0."  # stands for the point with which a number begins
UNARY = frozenset("+-!~")
# How operators are kept that are no single sign, or that a sign alone does not tell.
SHIFT, INSTANCEOF = "s", "i"
COMPARING = re.compile(f"[=!<>]=|[<>{INSTANCEOF}]|&&|[|][|]")  # what gives a boolean, whatever stands beside it
# Words with which a statement begins, or a part of one, and others that are no operand.
STATEMENTS = OPENING | PLAIN | {"assert", "public", "private", "protected", "static", "throws", "extends", "import"}
CLAIMS = frozenset({"assertTrue", "assertFalse"})  # they need a boolean
# Assertions that give nothing back, so that they are no argument.
VOID = CLAIMS | {f"assert{rest}" for rest in ("Null", "NotNull", "Same", "NotSame")} | set(WITH_DELTA)
QUALIFIERS = frozenset({"Assert", "Assertions", "TestCase"})  # classes of these assertions
DECLARING = frozenset({"block", "head", "paren"})  # brackets in which a type may be followed by a new name


@dataclass(frozen=True)
class Value:
    """A complete operand. ``types``: numbers of the types that it may have, none where that is not known.

    ``stands``: what it is beside a value: "this", "package", "assertions" (a class of them), or nothing.
    ``named``: it is the name of a type. ``plain``: it has no members, as a primitive or null. ``open``: another operand
    may follow, as after ``++``. ``made``: it was just created, so that the body of a class may follow. ``sorts``: what
    it may be (``data.java.scope.ALL_SORTS``).
    """

    types: tuple[int, ...] = ()
    named: bool = False
    plain: bool = False
    open: bool = False
    made: bool = False
    sorts: str = ALL_SORTS
    stands: str = ""


ANY, NULL = Value(), Value(plain=True, sorts="ato0")
ARRAY, LAMBDA, OBJECT = Value(sorts="a"), Value(sorts="l"), Value(sorts="o")
BOOLEAN, NUMBER = Value(plain=True, sorts="b"), Value(plain=True, sorts="n")
VOIDED = Value(plain=True, sorts="")  # what an assertion gives back


@dataclass(frozen=True)
class Frame:
    """An open bracket. ``kind``: call, paren, head (of a keyword), index, elements, block, generic, or free, in which
    nothing is checked. The rest describes the expression that is being written in it.

    ``overloads`` of a call, None if it is not checked; ``result``: the value once it closes, where that is known;
    ``operators``: those of the expression so far; ``parameters``: names that are a lambda's if an arrow follows;
    ``choices``: question marks whose colon is to come; ``given``: the sorts of a call's arguments so far;
    ``asserting``: the assertion that they are for, if it is one; ``arrow``: the sorts of a lambda.
    """

    kind: str
    overloads: tuple[Overload, ...] | None = None
    result: Value | None = None
    cast: Value | None = None
    operators: str = ""
    lambdas: bool = False
    parameters: tuple[str, ...] = ()
    choices: int = 0
    asserting: str = ""
    given: tuple[str, ...] = ()
    arrow: str = ""

    @property
    def mixed(self) -> bool:
        """Whether the expression has operators, so that it is no single operand."""
        return bool(self.operators)

    @property
    def sorts(self) -> str:
        """What an expression with these operators may be."""
        others = COMPARING.sub("", self.operators)
        if "?" in others or "=" in others:
            return ALL_SORTS  # a choice, or an assignment
        if others != self.operators:
            return "b"
        if "+" in others:
            return "nt"
        if "!" in others:
            return "b"
        return "n" if frozenset("&|^").isdisjoint(others) else "nb"


BLOCK = Frame("block")  # with nothing written of its next statement
