"""Reads the beginning of Java statements of whose names nothing is known: only their grammar counts."""

from __future__ import annotations

from data.java.scope import JavaScope, Names
from models.decoding.constraints.frames import ANY, PRIMITIVES, QUALIFIERS, Value
from models.decoding.constraints.reading import Reading

NOTHING_KNOWN = JavaScope(Names(complete=False), lambda _: Names(complete=False))


class Grammar(Reading):
    """Where a text stops. A name that is spelt like a class may be one, or a constant; all others are variables.

    A blank does not follow a blank, so that a text does not end in blanks alone.
    """

    def __init__(self, scope: JavaScope = NOTHING_KNOWN) -> None:
        super().__init__(scope)

    def _push(self, char: str) -> bool:
        return not (char.isspace() and self.last.isspace() and not self.quote) and super()._push(char)

    def _begins_known(self, types: bool = False) -> bool:
        return True

    def _continues(self) -> bool:
        return True

    def _is_of_framework(self, assertion: str, role: str) -> bool:
        return (role == "" or self.receiver.stands == "assertions") and assertion not in self.scope.names.methods

    def _settle_name(self, word: str, following: str) -> bool:
        if following == "(":
            if word in ("this", "super"):
                return False
            self.call, self.called = None, True
        elif word == "super" and following not in ".:":
            return False
        else:
            self.value = self._spelt_as(word)
        return True

    def _settle_member(self, word: str, following: str, role: str) -> bool:
        if not super()._settle_member(word, following, role):
            return False
        if not self.called and not self.creating and role == "dot" and self._spelt_as(word).named:
            self.value = Value(named=True)
        return True

    def _settle_created(self, word: str, following: str) -> bool:
        self.value = Value(named=True, plain=word in PRIMITIVES, open=not self.creating)
        return self.value.plain or word[0].isupper() or following == "."

    def _comma(self) -> bool:
        frame = self._frame
        if frame.kind == "paren" and frame.lambdas and not frame.mixed and self.value == ANY:
            self._set(parameters=(*frame.parameters, ""))  # of a lambda, without their types
        return super()._comma()

    def _spelt_as(self, word: str) -> Value:
        """What a name is that nothing is known of."""
        if not word[0].isupper():
            return Value(named=True) if word == "var" else ANY
        if word.upper() == word:
            return Value(open=True)  # a constant, or a type such as URI or E
        return Value(named=True, stands="assertions" if word in QUALIFIERS else "")
