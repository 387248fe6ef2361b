"""Reads the beginning of Java statements against what javac knows of their place: which names, members and numbers of
arguments may come next.

Where a type is not known, as after a generic method, any member may follow. So a text that is refused cannot compile;
one that is not may still fail to.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from data.java.scope import UNKNOWN, JavaScope, Overload, has_prefix
from models.decoding.constraints.frames import (
    AFTER_DOT,
    ANY,
    KEYWORDS,
    LITERALS,
    NUMBER,
    OPENING,
    OPERATORS,
    PRIMITIVES,
    ROOTS,
    SPELT,
    Frame,
    Value,
)


class Reading:
    """Where a text stops. ``feed`` reads on; a copy is cheap."""

    def __init__(self, scope: JavaScope) -> None:
        self.scope = scope
        self.frames: tuple[Frame, ...] = (Frame("block"),)
        self.value: Value | None = None
        self.word = ""
        self.ended = False  # whether a blank came after the word
        self.role = ""  # of the word: dot, new, reference, declared, annotation; empty for any other
        self.receiver = ANY  # what stood before a dot or two colons
        self.call: tuple[Overload, ...] | None = None  # what is named, if a bracket opens its arguments
        self.called = False  # whether a bracket opens arguments
        self.creating = False
        self.heading = False  # whether a keyword has come that a bracket follows
        self.arrow = ""  # "wanted" where nothing but an arrow can follow, "seen" right behind one
        self.quote = ""
        self.escaped = False
        self.last = ""  # the last character
        self.declared: dict[str, Value] = {}

    def after(self, text: str) -> Reading | None:
        """The place after more text; None if it cannot become Java that compiles here."""
        new = copy.copy(self)
        for char in text:
            if not new._push(char):
                return None
            new.last = char
        return new if not new.word or new.ended or new._begins() else None

    def may_end(self) -> bool:
        """Whether the text may end here."""
        new = copy.copy(self)
        return not new.quote and len(new.frames) == 1 and (not new.word or new._settle(";"))

    # -- characters ----------------------------------------------------------------------------------------------

    @property
    def _frame(self) -> Frame:
        return self.frames[-1]

    def _set(self, **changes: object) -> None:
        self.frames = (*self.frames[:-1], replace(self.frames[-1], **changes))  # type: ignore[arg-type]

    def _push(self, char: str) -> bool:
        if self.quote:
            return self._in_literal(char)
        if char.isalnum() or char in "_$":
            return self._add(char)
        if self.word[:1].isdigit() and not self.ended:
            if char == ".":
                self.word += char
                return True
            if char in "+-" and self.last in "eE" and not self.word.lower().startswith("0x"):
                self.word += char
                return True
        if char.isspace():
            self.ended = bool(self.word)
            return True
        if self.word and not self._settle(char):
            return False
        return self._sign(char)

    def _in_literal(self, char: str) -> bool:
        if self.escaped:
            self.escaped = False
        elif char == "\\":
            self.escaped = True
        elif char == self.quote:
            self.value = NUMBER if char == "'" else Value(self._known("String"))
            self.quote = ""
        return True

    def _known(self, name: str) -> tuple[int, ...]:
        number = self.scope.names.types.get(name, UNKNOWN)
        return () if number == UNKNOWN else (number,)

    def _add(self, char: str) -> bool:
        if self.arrow == "wanted":
            return False
        if self.word and self.ended and not self._settle("a"):
            return False
        if not self.word:
            if self.value is not None and self.value.named and self.role == "":
                self.role = "declared"
            self.ended = False
            self.arrow = ""
        self.word += char
        return True

    # -- words ---------------------------------------------------------------------------------------------------

    def _begins(self) -> bool:
        """Whether the word may be the beginning of one that fits."""
        word, names = self.word, self.scope.names
        if self._frame.kind in ("free", "generic") or word[0].isdigit() or self.role in ("declared", "annotation"):
            return True
        if self.role in ("dot", "reference"):
            types = self.receiver.types
            return (
                not types
                or any(self.scope.members(item).begins(word) for item in types)
                or has_prefix(AFTER_DOT, word)
                or (self._is_array(types) and "length".startswith(word))
            )
        if self.value is not None and not self.value.open:
            return "instanceof".startswith(word)
        if self.role == "new":
            return has_prefix(names.spelt_types, word) or any(name.startswith(word) for name in PRIMITIVES | ROOTS)
        return (
            names.begins(word)
            or has_prefix(SPELT, word)
            or any(name.startswith(word) for name in (*self.declared, *ROOTS))
            or self._may_be_parameter()
        )

    def _is_array(self, types: tuple[int, ...]) -> bool:
        return any(self.scope.members(item).kind == "array" for item in types)

    def _may_be_parameter(self) -> bool:
        """Whether a lambda can begin here, whose parameters may have any name."""
        frame = self._frame
        if self.word[:1].isupper() or self.value is not None or frame.mixed:
            return False
        return frame.lambdas if frame.kind == "paren" else self._takes_lambda()

    def _takes_lambda(self) -> bool:
        frame = self._frame
        if frame.kind != "call":
            return frame.kind == "block" and len(self.frames) > 1
        return frame.overloads is None or any(item.takes_lambda(frame.commas) for item in frame.overloads)

    def _settle(self, following: str) -> bool:
        """Decide what the word is, knowing the character that follows it ("a" for another word)."""
        word, self.word, self.ended = self.word, "", False
        role, self.role = self.role, ""
        if self._frame.kind in ("free", "generic"):
            return True
        if word[0].isdigit():
            self.value = NUMBER
            return True
        if role == "declared":
            self.declared = {**self.declared, word: ANY}
            if self._frame.kind == "paren":
                self._set(parameters=(*self._frame.parameters, word))
            self.value = None
            return True
        if role == "annotation":
            self.value = None
            return True
        if role in ("dot", "reference"):
            return self._settle_member(word, following, role)
        if role == "new":
            return self._settle_created(word)
        if self.value is not None and not self.value.open:
            if word != "instanceof":
                return False
            self._operator()
            return True
        return self._settle_keyword(word) if word in KEYWORDS else self._settle_name(word, following)

    def _settle_keyword(self, word: str) -> bool:
        self.value = None
        if word == "new":
            self.role, self.creating = "new", True
        elif word in OPENING:
            self.heading = True
        elif word in PRIMITIVES:
            self.value = Value(named=True)
        elif word in LITERALS:
            self.value = ANY if word == "null" else NUMBER
        return word != "instanceof"

    def _settle_name(self, word: str, following: str) -> bool:
        names = self.scope.names
        if following == "(":
            if word in ("this", "super"):
                return False
            overloads = names.methods.get(word) or names.importable.get(word)
            self.call, self.called = tuple(overloads or ()), True
            return overloads is not None
        if word in self.declared:
            self.value = self.declared[word]
        elif word in names.variables:
            self.value = self._of(names.variables[word])
        elif word in names.types:
            self.value = Value(self._of(names.types[word]).types, named=True)
        elif following == "." and (word in names.packages or word in ROOTS):
            self.value = ANY
        elif self._may_be_parameter_named(word) and following in "-,)":
            if self._frame.kind == "paren":
                self._set(parameters=(*self._frame.parameters, word))
                self.value = ANY
            else:
                self.declared = {**self.declared, word: ANY}
                self.arrow = "wanted"
        else:
            return False
        return True

    def _may_be_parameter_named(self, word: str) -> bool:
        self.word = word
        found = self._may_be_parameter()
        self.word = ""
        return found

    def _of(self, type_: int) -> Value:
        if type_ == UNKNOWN:
            return ANY
        return NUMBER if self.scope.members(type_).kind == "primitive" else Value((type_,))

    def _settle_member(self, word: str, following: str, role: str) -> bool:
        types = self.receiver.types
        if not types or word in AFTER_DOT:
            self.value, self.call, self.called = ANY, None, following == "("
            if self.creating:
                self.value = Value(named=True)
            return True
        members = [self.scope.members(item) for item in types]
        overloads = [item for found in members for item in found.methods.get(word, ())]
        if role == "reference":
            self.value = ANY
            return bool(overloads)
        if following == "(" and not self.creating:
            if self.receiver.named:
                overloads = [item for item in overloads if item.static]
            self.call, self.called = tuple(overloads), True
            return bool(overloads)
        for found in members:
            if word in found.types:
                self.value = Value(self._of(found.types[word]).types, named=True)
                return True
            if word in found.variables:
                self.value = self._of(found.variables[word])
                return True
        self.value = NUMBER
        return word == "length" and self._is_array(types)

    def _settle_created(self, word: str) -> bool:
        names = self.scope.names
        if word in names.types:
            self.value = Value(self._of(names.types[word]).types, named=True)
        elif word in PRIMITIVES:
            self.value = Value(named=True)
        elif word in names.packages or word in ROOTS:
            self.value = ANY
        else:
            return False
        return True

    # -- signs ---------------------------------------------------------------------------------------------------

    def _operator(self) -> None:
        self.value = None
        self._set(mixed=True)

    def _sign(self, char: str) -> bool:
        if self.arrow == "wanted" and char != "-" and not (char == ">" and self.last == "-"):
            return False
        if self.role in ("dot", "reference") and char != "<":
            return False  # a name is missing
        kind = self._frame.kind
        if kind == "free" or (kind == "generic" and char not in "<>"):
            return self._in_free(char)
        if self.called and char != "(":
            self.called = False
        if char == "<":
            return self._less()
        if char == ">":
            return self._greater()
        if char in "\"'":
            if self.value is not None and not self.value.open:
                return False
            self.quote = char
            return True
        if char in "([{":
            return {"(": self._open_paren, "[": self._open_index, "{": self._open_brace}[char]()
        if char in ")]}":
            return self._close(char)
        if char == ",":
            return self._comma()
        if char == ".":
            return self._dot()
        if char == ":":
            if self.last == ":":
                self.role = "reference"
                self._set(mixed=False)
                return True
            self.receiver = self.value or ANY
            self._operator()
            return True
        if char == ";":
            self.value, self.creating = None, False
            self._set(mixed=False, cast=None)
            return kind in ("block", "head")
        if char == "@":
            self.role = "annotation"
            return True
        if char in OPERATORS or char == "?":
            twice = char in "+-" and self.last == char
            self._operator()
            if twice:
                self.value = Value(plain=True, open=True)
            return True
        return False

    def _in_free(self, char: str) -> bool:
        """In an anonymous class, only its end is looked for."""
        if char in "\"'":
            self.quote = char
        elif char == "{":
            self.frames = (*self.frames, Frame("free"))
        elif char == "}":
            if self._frame.kind == "generic":
                return False
            self.frames = self.frames[:-1]
            self.value = ANY
        return True

    def _less(self) -> bool:
        if self._frame.kind == "generic" or self.role == "dot" or (self.value is not None and self.value.named):
            # What it is a generic form of does not tell the types of its members.
            dotted = self.role == "dot"
            self.frames = (*self.frames, Frame("generic", result=None if dotted else Value(named=True)))
            return True
        if self.value is None:
            return False
        self._operator()
        return True

    def _greater(self) -> bool:
        if self._frame.kind == "generic":
            result = self._frame.result
            self.frames = self.frames[:-1]
            if self._frame.kind != "generic":
                self.value = result
                self.role = "" if result is not None else "dot"
            return True
        if self.last == "-":
            self.arrow, self.value = "seen", None
            self._set(mixed=False, cast=None)
            return True
        self._operator()
        return True

    def _open_paren(self) -> bool:
        if self.called:
            self.frames = (*self.frames, Frame("call", self.call))
            self.called, self.value = False, None
        elif self.creating and self.value is not None:
            types = self.value.types
            made = tuple(item for number in types for item in self.scope.members(number).constructors)
            self.frames = (*self.frames, Frame("call", made or None, Value(types)))
            self.creating, self.value = False, None
        elif self.heading:
            self.frames = (*self.frames, Frame("head"))
            self.heading, self.value = False, None
        else:
            if self.value is not None and not self.value.open:
                return False
            lambdas = self._frame.cast is not None or (self._takes_lambda() and not self._frame.mixed)
            self.frames = (*self.frames, Frame("paren", lambdas=lambdas))
            self.value = None
        return True

    def _open_index(self) -> bool:
        value = self.value
        if value is not None and (value.named or self.creating):
            self.frames = (*self.frames, Frame("index", result=Value(named=True)))
        elif value is not None and not value.plain:
            parts = tuple(part for item in value.types for part in self._of(self.scope.members(item).component).types)
            plain = any(self._of(self.scope.members(item).component).plain for item in value.types)
            self.frames = (*self.frames, Frame("index", result=NUMBER if plain else Value(parts)))
        else:
            return False
        self.value = None
        return True

    def _open_brace(self) -> bool:
        if self.arrow == "seen" or self.heading:
            kind = "block"
        elif self.value is not None and self.value.named:
            kind = "elements"
        elif self.value is not None:
            kind = "free"
        else:
            kind = "elements" if self._frame.kind == "elements" else "block"
        self.frames = (*self.frames, Frame(kind))
        self.arrow, self.heading, self.creating, self.value = "", False, False, None
        return True

    def _close(self, char: str) -> bool:
        frame = self._frame
        if len(self.frames) == 1 or char != {"index": "]", "block": "}", "elements": "}"}.get(frame.kind, ")"):
            return False
        value = frame.cast or (ANY if frame.mixed else self.value)
        if frame.mixed and self.value is None and frame.kind in ("call", "paren"):
            return False
        self.frames = self.frames[:-1]
        if frame.kind == "call":
            return self._close_call(frame)
        if frame.kind == "paren":
            return self._close_paren(frame, value)
        if frame.kind == "index":
            self.value = frame.result
        elif frame.kind == "head":
            self.value, self.heading = None, True
        else:
            self.value = ANY if frame.kind == "elements" or self._frame.kind == "call" else None
            self.heading = frame.kind == "block" and self._frame.kind == "block"
        return True

    def _close_call(self, frame: Frame) -> bool:
        given = self.value is not None or frame.mixed
        if frame.commas and not given:
            return False
        count = frame.commas + given
        fitting = None if frame.overloads is None else [item for item in frame.overloads if item.takes(count)]
        if fitting == []:
            return False
        if frame.result is not None or fitting is None:
            self.value = frame.result or ANY
            return True
        values = [self._of(item.returns) for item in fitting]
        if any(item == ANY for item in values):
            self.value = ANY
        elif all(item.plain for item in values):
            self.value = NUMBER
        else:
            self.value = Value(tuple(dict.fromkeys(number for item in values for number in item.types)))
        return True

    def _close_paren(self, frame: Frame, value: Value | None) -> bool:
        if frame.parameters or value is None:
            if not frame.lambdas:
                return False
            self.declared = {**self.declared, **dict.fromkeys(frame.parameters, ANY)}
            self.arrow, self.value = "wanted", None
        elif value.named:
            self._set(cast=Value(value.types))
            self.value = None
        else:
            self.value = value
        return True

    def _comma(self) -> bool:
        frame = self._frame
        if frame.kind == "call":
            if self.value is None and not frame.mixed:
                return False
            count = frame.commas + 1
            if frame.overloads is not None and not any(item.takes_more_than(count) for item in frame.overloads):
                return False
        elif frame.kind == "index" or (frame.kind == "paren" and not frame.parameters):
            return False
        self.value, self.creating = None, False
        self._set(commas=frame.commas + 1, cast=None, mixed=False)
        return True

    def _dot(self) -> bool:
        value = self.value
        if value is None or (value.plain and not value.named):
            return False
        self.role, self.receiver, self.value = "dot", value, None
        return True


def fits_scope(text: str, scope: JavaScope) -> bool:
    """Whether statements name nothing that is not there, as far as javac's knowledge of the place tells."""
    reading = Reading(scope).after(text)
    return reading is not None and reading.may_end()
