"""What reading Java keeps in mind: the operand before a place, and the brackets around it."""

from __future__ import annotations

from dataclasses import dataclass

from data.java.frameworks import WITH_DELTA
from data.java.scope import Overload

UNWANTED = 1e4  # what the score of a token loses that is written only where no other can be
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
POINT = "0."  # stands for the point with which a number begins
UNARY = frozenset("+-!~")
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
    it may be, of "b" for a boolean, "n" for a number, "t" for a text, "o" for another object.
    """

    types: tuple[int, ...] = ()
    named: bool = False
    plain: bool = False
    open: bool = False
    made: bool = False
    sorts: str = "bnto"
    stands: str = ""


ANY, NULL = Value(), Value(plain=True, sorts="to")
BOOLEAN, NUMBER = Value(plain=True, sorts="b"), Value(plain=True, sorts="n")
VOIDED = Value(plain=True)  # what an assertion gives back


@dataclass(frozen=True)
class Frame:
    """An open bracket. ``kind``: call, paren, head (of a keyword), index, elements, block, generic, or free, in which
    nothing is checked. The rest describes the expression that is being written in it.

    ``overloads`` of a call, None if it is not checked; ``result``: the value once it closes, where that is known;
    ``parameters``: names that are a lambda's if an arrow follows; ``choices``: question marks whose colon is to come;
    ``asserting``: the name of an assertion whose arguments it holds; ``given``: what each of them so far may be.
    """

    kind: str
    overloads: tuple[Overload, ...] | None = None
    result: Value | None = None
    commas: int = 0
    cast: Value | None = None
    mixed: bool = False
    lambdas: bool = False
    parameters: tuple[str, ...] = ()
    choices: int = 0
    asserting: str = ""
    given: tuple[str, ...] = ()


BLOCK = Frame("block")  # with nothing written of its next statement
