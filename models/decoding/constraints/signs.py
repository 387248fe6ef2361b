"""Brackets, operators and separators: what reading Java does at each sign that is no name, number or literal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data.java.frameworks import ARITY, WITH_DELTA
from data.java.scope import ALL_SORTS, UNKNOWN, JavaScope, Overload
from models.decoding.constraints.frames import (
    ANY,
    ARRAY,
    BLOCK,
    CLAIMS,
    LAMBDA,
    OPERATORS,
    POINT,
    SHIFT,
    UNARY,
    VOIDED,
    Frame,
    Value,
)

MESSAGE = frozenset("tl")  # sorts of a message that comes last


class Signs:
    """Where a text stops, and what a sign does there. Each method says whether the text can still become Java."""

    message_first: bool | None = None  # whether assertions take their message first, else last; None: not known

    def __init__(self, scope: JavaScope) -> None:
        self.scope = scope
        self.frames: tuple[Frame, ...] = (BLOCK,)
        self.begun = False  # whether a keyword has begun the statement
        self.naming = False  # whether the statement declares a variable, so that a comma may follow
        self.value: Value | None = None
        self.word = ""
        self.ended = False  # whether a blank came after the word
        self.role = ""  # of the word: dot, new, reference, declared, annotation; empty for any other
        self.receiver = ANY  # what stood before a dot or two colons
        self.call: tuple[Overload, ...] | None = None  # what is named, if a bracket opens its arguments
        self.called = False  # whether a bracket opens arguments
        self.asserting = ""  # the assertion whose arguments they are
        self.creating = False
        self.heading = False  # whether a keyword has come that a bracket follows
        self.arrow = ""  # "wanted" where nothing but an arrow can follow, "seen" right behind one
        self.body = False  # whether the operand began right behind an arrow
        self.bare = False  # whether a name or a closed bracket came last, which an arrow may follow
        self.owed = ""  # the only sign that may follow the last one
        self.quote = ""
        self.escaped = False
        self.last = ""  # the last character
        self.declared: dict[str, Value] = {}

    @property
    def _frame(self) -> Frame:
        return self.frames[-1]

    def _set(self, **changes: object) -> None:
        self.frames = (*self.frames[:-1], replace(self.frames[-1], **changes))  # type: ignore[arg-type]

    def _takes_lambda(self) -> bool:
        frame = self._frame
        if frame.kind != "call":
            return frame.kind == "block" and (len(self.frames) > 1 or frame.mixed)
        return frame.overloads is None or any(item.takes_lambda(len(frame.given)) for item in frame.overloads)

    def _of(self, type_: int) -> Value:
        if type_ == UNKNOWN:
            return ANY
        found = self.scope.members(type_)
        if found.kind == "primitive":
            return Value(plain=True, sorts=found.sorts)
        return Value((type_,), sorts=found.sorts)

    def _operator(self, sign: str) -> None:
        before = self._frame.operators
        if sign in "<>" and before[-1:] in (sign, SHIFT) and self.last == sign:
            before, sign = before[:-1], SHIFT
        self.value = None
        self._set(operators=before + sign)

    def _sign(self, char: str) -> bool:
        bare, self.bare = self.bare or self.arrow == "wanted", False
        self.begun = self.begun and char not in ";{}"
        if self.arrow == "wanted" and char != "-" and not (char == ">" and self.last == "-"):
            return False
        if self.arrow == "seen" and char != "{":
            if char in ")],;}:.?":
                return False  # a body is missing
            self.arrow = ""
        if self.role == "new" or (self.role in ("dot", "reference") and char != "<"):
            return False  # a name is missing
        kind = self._frame.kind
        if kind == "free" or (kind == "generic" and char not in "<>"):
            return self._in_free(char)
        if self.called and char != "(":
            self.called = False
        if self.creating and self.value is not None and char not in "(.[<>{":
            return False
        if self._is_bare_type() and char not in "[.)":
            return False
        if char == "<":
            return self._less()
        if char == ">":
            return self._greater(bare)
        if char in "\"'":
            if (self.value is not None and not self.value.open) or self._begins_statement():
                return False
            self.quote = char
            return True
        if char in "([{":
            return {"(": self._open_paren, "[": self._open_index, "{": self._open_brace}[char]()
        if char in ")]}":
            return self._close(char, bare)
        if char == ",":
            return self._comma()
        if char == ".":
            return self._dot()
        if char == ":":
            return self._colon()
        if char == ";":
            whole = self._is_whole()
            self.value, self.creating, self.naming = None, False, False
            self._set(operators="", cast=None, choices=0, arrow="")
            return whole and kind in ("block", "head")
        if char == "@":
            self.role = "annotation"
            return True
        if char in OPERATORS or char == "?":
            if self.value is None and char not in UNARY and not self._is_second(char):
                return False
            if self.value is not None and not self.value.sorts:
                return False  # of void
            self._set(choices=self._frame.choices + (char == "?"))
            self.owed = "=" if char == "!" and self.value is not None and not self.value.open else ""
            self.bare = bare and char == "-"
            twice = char in "+-" and self.last == char
            self._operator(char)
            if twice:
                self.value = Value(plain=True, open=True)
            return True
        return False

    def _in_free(self, char: str) -> bool:
        """In an anonymous class, only its end is looked for."""
        if self._frame.kind == "generic":
            return char in ",.?&[]@"
        if char in "\"'":
            self.quote = char
        elif char == "{":
            self.frames = (*self.frames, Frame("free"))
        elif char == "}":
            self.frames = self.frames[:-1]
            self.value = ANY
        return True

    def _colon(self) -> bool:
        """Of a choice, a label, a loop, or one of the two of a reference."""
        frame = self._frame
        if self.last == ":":
            self.role = "reference"
            self._set(operators=frame.operators[:-1], choices=frame.choices + 1)
            return True
        alone = frame.kind in ("block", "head")  # where one needs no question mark
        if self.value is None and not alone:
            return False
        self.receiver = self.value or ANY
        self._operator(":")
        self._set(choices=frame.choices - 1)
        self.owed = ":" if frame.choices < 1 and not alone else ""
        return True

    def _less(self) -> bool:
        if self._frame.kind == "generic" or self.role == "dot" or (self.value is not None and self.value.named):
            # What it is a generic form of does not tell the types of its members.
            dotted = self.role == "dot"
            if dotted and self.receiver.plain:
                return False
            self.frames = (*self.frames, Frame("generic", result=None if dotted else Value(named=True)))
            return True
        if self.value is None and self.last != "<":
            return False
        self._operator("<")
        return True

    def _greater(self, bare: bool) -> bool:
        if self._frame.kind == "generic":
            result = self._frame.result
            self.frames = self.frames[:-1]
            if self._frame.kind != "generic":
                self.value = result
                self.role = "" if result is not None else "dot"
            return True
        if self.last == "-":
            self.arrow, self.value = "seen", None
            self._set(operators="", cast=None, arrow=(self._frame.cast or LAMBDA).sorts)
            return bare
        if (self.value is None and self.last != ">") or self._is_class():
            return False  # half of a shift, or the name of a class
        self._operator(">")
        return True

    def _open_paren(self) -> bool:
        if self.called:
            self.frames = (*self.frames, Frame("call", self.call, asserting=self.asserting))
            self.called, self.value = False, None
        elif self.creating and self.value is not None:
            types = self.value.types
            made = tuple(item for number in types for item in self.scope.members(number).constructors)
            result = Value(types, made=True, sorts=self.value.sorts)
            self.frames = (*self.frames, Frame("call", made or None, result))
            self.creating, self.value = False, None
        elif self.heading:
            self.frames = (*self.frames, Frame("head"))
            self.heading, self.value = False, None
        else:
            if self.value is not None and not self.value.open:
                return False
            free = not self._frame.mixed or self._frame.kind == "block"
            lambdas = self._frame.cast is not None or (self._takes_lambda() and free)
            self.frames = (*self.frames, Frame("paren", lambdas=lambdas))
            self.value = None
        return True

    def _open_index(self) -> bool:
        value = self.value
        if value is not None and (value.named or value.open or self.creating):
            self.frames = (*self.frames, Frame("index", result=replace(ARRAY, named=True)))
        elif value is not None and not value.plain:
            parts = [self._of(self.scope.members(item).component) for item in value.types]
            self.frames = (*self.frames, Frame("index", result=_join(parts)))
        else:
            return False
        self.value, self.creating = None, False
        return True

    def _open_brace(self) -> bool:
        if self.arrow == "seen" or self.heading:
            kind = "block"
        elif self.value is not None and self.value.named:
            kind = "elements"
        elif self.value is not None:
            if not self.value.made:
                return False
            kind = "free"
        else:
            kind = "elements" if self._frame.kind == "elements" or self._frame.mixed else "block"
        self.frames = (*self.frames, Frame(kind))
        self.arrow, self.heading, self.creating, self.value = "", False, False, None
        return True

    def _close(self, char: str, bare: bool) -> bool:
        frame = self._frame
        if len(self.frames) == 1 or char != {"index": "]", "block": "}", "elements": "}"}.get(frame.kind, ")"):
            return False
        value = Value(sorts=frame.sorts) if frame.mixed else frame.cast or self.value
        if frame.kind in ("call", "paren", "index", "elements") and not self._is_whole():
            return False
        if frame.kind in ("call", "index", "elements") and not frame.mixed and self._is_class():
            return False
        if self._is_bare_type() and (frame.kind != "paren" or frame.mixed):
            return False  # it is no cast
        if frame.kind == "index" and self.value is None and not (frame.result and frame.result.named):
            return False
        if frame.kind == "index" and self.value is not None and "n" not in self._sorts(frame):
            return False
        self.frames = self.frames[:-1]
        if frame.kind == "call":
            return self._close_call(frame)
        if frame.kind == "paren":
            self.bare = bare
            return self._close_paren(frame, value)
        if frame.kind == "index":
            self.value = frame.result
        elif frame.kind == "head":
            self.value, self.heading = None, True
        else:
            self.value = ARRAY if frame.kind == "elements" else ANY if self._frame.kind == "call" else None
            self.heading = frame.kind == "block" and self._frame.kind == "block"
        return True

    def _close_call(self, frame: Frame) -> bool:
        given = self.value is not None or frame.mixed
        if frame.given and not given:
            return False
        sorts = (*frame.given, *[self._sorts(frame)] * given)
        if frame.asserting and not self._suits(frame.asserting, sorts):
            return False
        fitting = [item for item in frame.overloads or () if item.takes(len(sorts)) and item.suits(sorts)]
        if frame.overloads is not None and not fitting:
            return False
        if frame.asserting:
            self.value = VOIDED
            return True
        if frame.result is not None or not fitting:
            self.value = frame.result or ANY
            return True
        self.value = _join([self._of(item.returns) for item in fitting])
        return True

    def _close_paren(self, frame: Frame, value: Value | None) -> bool:
        if frame.parameters or value is None:
            if not frame.lambdas:
                return False
            self.declared = {**self.declared, **dict.fromkeys(frame.parameters, ANY)}
            self.arrow, self.value = "wanted", None
        elif value.named:
            # The first of several casts counts.
            self._set(cast=self._frame.cast or Value(value.types, sorts=value.sorts))
            self.value = None
        else:
            self.value = value
        return True

    def _comma(self) -> bool:
        frame = self._frame
        if not self._is_whole() or (frame.kind in ("call", "elements") and self.value is None):
            return False
        if frame.kind in ("call", "elements") and not frame.mixed and self._is_class():
            return False
        given = (*frame.given, self._sorts(frame)) if frame.kind == "call" else ()
        if frame.kind == "call":
            fitting = [item for item in frame.overloads or () if item.takes_more_than(len(given)) and item.suits(given)]
            if frame.overloads is not None and not fitting:
                return False
        elif frame.kind == "block" and self.naming:
            self._set(operators="", cast=None)
            self.value = Value(named=True)  # another name follows
            return True
        elif frame.kind in ("index", "block") or (frame.kind == "paren" and not frame.parameters):
            return False
        if frame.asserting and not self._takes_more(frame.asserting, given):
            return False
        self.value, self.creating = None, False
        self._set(cast=None, operators="", choices=0, given=given, arrow="")
        return True

    def _sorts(self, frame: Frame) -> str:
        """What the argument that ends here in ``frame`` may be."""
        return frame.arrow or (frame.sorts if frame.mixed else (frame.cast or self.value or ANY).sorts)

    def _suits(self, assertion: str, given: Sequence[str]) -> bool:
        """Whether an assertion takes arguments that may be of these sorts."""
        wanted = ARITY[assertion]
        forms = [given]
        if self.message_first is not False and given and "t" in given[0]:
            forms.append(given[1:])
        if self.message_first is not True and given and not MESSAGE.isdisjoint(given[-1]):
            forms.append(given[:-1])
        needed = frozenset("a" if assertion == "assertArrayEquals" else ALL_SORTS)
        if assertion in CLAIMS:
            needed = frozenset("b" if self.message_first else "bl")
        for form in forms:
            delta = assertion in WITH_DELTA and len(form) == wanted + 1 and "n" in form[-1]
            if (len(form) == wanted or delta) and not any(needed.isdisjoint(sorts) for sorts in form[:wanted]):
                return True
        return False

    def _takes_more(self, assertion: str, given: Sequence[str]) -> bool:
        """Whether an assertion takes another argument behind such."""
        message = (self.message_first is not False and "t" in given[0]) or self.message_first is not True
        return len(given) < ARITY[assertion] + (assertion in WITH_DELTA) + message

    def _is_whole(self) -> bool:
        """Whether no operand is missing or of void, and no colon is."""
        lacking = self.value is None or not self.value.sorts
        return not (lacking and self._frame.mixed) and self._frame.choices <= 0

    def _is_second(self, char: str) -> bool:
        """Whether a sign is the second one of an operator."""
        return self.last in OPERATORS | {"<", ">"} if char == "=" else char == self.last and char in "&|"

    def _begins_statement(self) -> bool:
        """Whether a statement begins here, which a literal cannot begin."""
        return self.value is None and self._frame == BLOCK and self.arrow == "" and not self.begun

    def _is_bare_type(self) -> bool:
        """Whether the operand is a primitive type's name, which is no value."""
        return self.value is not None and self.value.named and self.value.plain

    def _is_class(self) -> bool:
        """Whether the operand is a class's name, which is no value."""
        return self.value is not None and self.value.named and bool(self.value.types)

    def _dot(self) -> bool:
        value = self.value
        if value is None:
            self.word = POINT
            return not self._begins_statement()
        if value.plain and not value.named:
            return False
        self.role, self.receiver, self.value = "dot", value, None
        return True


def _join(values: Sequence[Value]) -> Value:
    """An operand that is one of these."""
    if not values or ANY in values:
        return ANY
    sorts = "".join({sort: "" for item in values for sort in item.sorts})
    if all(item.plain for item in values):
        return Value(plain=True, sorts=sorts)
    return Value(tuple(dict.fromkeys(number for item in values for number in item.types)), sorts=sorts)
