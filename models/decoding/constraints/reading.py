"""Reads the beginning of Java statements against what javac knows of their place: which names, members and numbers of
arguments may come next.

Where a type is not known, as after a generic method, any member may follow. So a text that is refused cannot compile,
but for some rare forms: comments, ``int x[]``, ``n-->0``, ``outer.new Inner()``, switch expressions, labels, local
classes, and lambdas in brackets, choices or arrays. One that is not refused may still fail to.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace

from data.java.scope import UNKNOWN, JavaScope, has_longer, has_prefix
from models.decoding.constraints.frames import (
    AFTER_DOT,
    ANY,
    BOOLEAN,
    DECLARING,
    INSTANCEOF,
    KEYWORDS,
    LAMBDA,
    LITERALS,
    NULL,
    NUMBER,
    OBJECT,
    OPENING,
    POINT,
    PRIMITIVES,
    ROOTS,
    SORTS_OF_PRIMITIVES,
    SPELT,
    STATEMENTS,
    VOID,
    Value,
)
from models.decoding.constraints.signs import Signs

LARGEST = 2**31
OPERANDS = sorted(KEYWORDS - STATEMENTS)  # keywords that an operand may begin with, such as "double"
NUMBER_BEGUN = re.compile(
    r"0[xX][\da-fA-F_]*(?:\.[\da-fA-F_]*)?(?:[pP]\d*)?[lLfFdD]?|0[bB][01_]*[lL]?|\d[\d_]*[lL]?"
    r"|\d[\d_]*(?:\.[\d_]*)?(?:[eE][+-]?\d*)?[fFdD]?",
    re.ASCII,
)
UNFINISHED = re.compile(r"^0[xXbB]$|^(?!0[xX]).*[eE][+-]?$|_$")


class Reading(Signs):
    """Where a text stops. ``after`` reads on; a copy is cheap."""

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
        if new.quote or len(new.frames) > 1 or (new.word and not new._settle(";")):
            return False
        return new._is_whole() and new.role == "" and not new.creating

    def takes(self, text: str) -> bool:
        """Whether this much more makes a text that may end."""
        reading = self.after(text)
        return reading is not None and reading.may_end()

    def _push(self, char: str) -> bool:
        if self.quote:
            return self._in_literal(char)
        if self.owed and char != self.owed:
            return False
        self.owed = ""
        if char.isalnum() or char in "_$":
            return self._add(char)
        if self.word[:1].isdigit() and not self.ended:
            if char == "." and "." not in self.word:
                self.word += char
                return True
            if char in "+-" and self.last in "eE" and not self.word.lower().startswith("0x"):
                self.word += char
                return True
        if char.isspace():
            self.ended = bool(self.word)
            return self.word not in STATEMENTS or self.role != "" or self._settle(char)
        if self.word and not self._settle(char):
            return False
        return self._sign(char)

    def _in_literal(self, char: str) -> bool:
        if self.escaped:
            self.escaped = False
        elif char == "\\":
            self.escaped = True
        elif char == self.quote:
            self.value = NUMBER if char == "'" else Value(self._known("String"), sorts="t")
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
        if self.word == POINT and not char.isdigit():
            return False
        if self.word[:1].isdigit() and not NUMBER_BEGUN.fullmatch(self.word + char):
            return False
        if not self.word:
            value = self.value
            if value is not None and value.named and self.role == "" and (self._frame.kind in DECLARING or value.open):
                self.role = "declared"
            if self.role == "":
                self.body = self.arrow == "seen"
            self.ended = False
            self.arrow = ""
        self.word += char
        return True

    def _begins(self) -> bool:
        """Whether the word may be the beginning of one that fits."""
        word = self.word
        if self._frame.kind in ("free", "generic") or self.role in ("declared", "annotation"):
            return True
        if self.role in ("dot", "reference"):
            types = self.receiver.types
            if self.receiver.named and self.receiver.plain:
                return "class".startswith(word)
            return (
                not types
                or any(self.scope.members(item).begins(word) for item in types)
                or has_prefix(AFTER_DOT, word)
                or (self._is_array(types) and "length".startswith(word))
            )
        if self.value is not None and not self.value.open:
            return "instanceof".startswith(word)
        if word[0].isdigit():
            return not self._begins_statement()
        if word == "instanceof" or (word in STATEMENTS and self._is_misplaced(word)):
            return self._continues()
        if self.role == "new":
            return self._begins_known(types=True) or any(name.startswith(word) for name in PRIMITIVES | ROOTS)
        return (
            self._begins_known()
            or has_prefix(SPELT, word)
            or any(name.startswith(word) for name in (*self.declared, *ROOTS))
            or self._may_be_parameter()
        )

    def _is_misplaced(self, keyword: str) -> bool:
        """Whether a word with which a statement begins cannot stand here."""
        return self._frame.kind not in (DECLARING if keyword == "final" else {"block"})

    def _continues(self) -> bool:
        """Whether a longer name that is known here, or another keyword, begins with the word."""
        return has_longer(self.scope.names.spelt, self.word) or has_longer(OPERANDS, self.word)

    def _begins_known(self, types: bool = False) -> bool:
        """Whether the word may begin a name that is known here, or of ``types`` alone."""
        names = self.scope.names
        return has_prefix(names.spelt_types if types else names.spelt, self.word)

    def _is_array(self, types: tuple[int, ...]) -> bool:
        return any(self.scope.members(item).kind == "array" for item in types)

    def _may_be_parameter(self) -> bool:
        """Whether a lambda can begin here, whose parameters may have any name."""
        frame = self._frame
        if self.word[:1].isupper() or self.value is not None or frame.mixed:
            return False
        return frame.lambdas if frame.kind == "paren" else self._takes_lambda()

    def _settle(self, following: str) -> bool:
        """Decide what the word is, knowing the character that follows it ("a" for another word)."""
        word, self.word, self.ended = self.word, "", False
        role, self.role = self.role, ""
        if self._frame.kind in ("free", "generic"):
            return True
        if word[0].isdigit():
            self.value = NUMBER
            return word != POINT and not UNFINISHED.search(word) and not _is_too_large(word)
        if role == "declared":
            self.declared = {**self.declared, word: ANY}
            if self._frame.kind == "paren":
                self._set(parameters=(*self._frame.parameters, word))
            self.value, self.naming = ANY, self._frame.kind == "block"
            return word not in KEYWORDS
        if role == "annotation":
            self.value = None
            return True
        self.asserting = word if following == "(" and word in VOID and self._is_of_framework(word, role) else ""
        if following == "(" and word in VOID and self._frame.kind not in ("block", "head") and not self.body:
            return False
        if role in ("dot", "reference"):
            return self._settle_member(word, following, role)
        if role == "new":
            return self._settle_created(word, following)
        if self.value is not None and not self.value.open:
            if word != "instanceof":
                return False
            self._operator(INSTANCEOF)
            self.role = "new"  # a type follows
            return True
        self.bare = True
        return self._settle_keyword(word) if word in KEYWORDS else self._settle_name(word, following)

    def _is_of_framework(self, assertion: str, role: str) -> bool:
        """Whether an assertion is certainly one of JUnit, of which nothing else tells what it takes."""
        return False

    def _settle_keyword(self, word: str) -> bool:
        if word in STATEMENTS and self._is_misplaced(word):
            return False
        self.value = None
        self.begun = self.begun or word in STATEMENTS
        if word == "new":
            self.role, self.creating = "new", True
        elif word in OPENING:
            self.heading = True
        elif word in PRIMITIVES:
            self.value = Value(named=True, plain=True, sorts=SORTS_OF_PRIMITIVES[word])
        elif word in LITERALS:
            self.value = NULL if word == "null" else BOOLEAN
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
            self.value = replace(self._of(names.types[word]), named=True)
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

    def _settle_member(self, word: str, following: str, role: str) -> bool:
        if (self.receiver.named and self.receiver.plain and word != "class") or (word == "class" and following == "("):
            return False
        if word in KEYWORDS and word not in AFTER_DOT:
            return False
        members = [] if word in AFTER_DOT else [self.scope.members(item) for item in self.receiver.types]
        overloads = [item for found in members for item in found.methods.get(word, ())]
        if not overloads and not all(word in (*found.types, *found.variables) or found.complete for found in members):
            members = []
        if not members:
            self.call, self.called = None, following == "(" and not self.creating
            self.value = LAMBDA if role == "reference" else OBJECT if word == "class" else ANY
            if self.creating or (role == "dot" and following != "(" and _is_spelt_like_class(word)):
                self.value = Value(named=True)
            return True
        if role == "reference":
            self.value = LAMBDA
            return bool(overloads)
        if following == "(" and not self.creating:
            if self.receiver.named:
                overloads = [item for item in overloads if item.static]
            self.call, self.called = tuple(overloads), True
            return bool(overloads)
        for found in members:
            if word in found.types:
                self.value = replace(self._of(found.types[word]), named=True)
                return True
            if word in found.variables:
                self.value = self._of(found.variables[word])
                return True
        self.value = NUMBER
        return word == "length" and self._is_array(self.receiver.types)

    def _settle_created(self, word: str, following: str) -> bool:
        names = self.scope.names
        if word in names.types:
            self.value = replace(self._of(names.types[word]), named=True, open=not self.creating)
        elif word in PRIMITIVES:
            self.value = Value(named=True)
        elif word in names.packages or word in ROOTS:
            self.value = ANY
        else:
            return False
        return True


def _is_spelt_like_class(word: str) -> bool:
    return word[0].isupper() and word.upper() != word


def _is_too_large(number: str) -> bool:
    """Whether a decimal number without a suffix is none of an int, not even behind a minus."""
    if not (number.isascii() and number.isdigit()) or number[0] == "0":
        return False
    return len(number) > len(str(LARGEST)) or int(number) > LARGEST


def fits_scope(text: str, scope: JavaScope) -> bool:
    """Whether statements name nothing that is not there, as far as javac's knowledge of the place tells."""
    return Reading(scope).takes(text)
