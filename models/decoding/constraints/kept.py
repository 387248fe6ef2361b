"""Reads the beginning of Java statements that are kept to what their input offers: its names, and the types and
signatures that it shows."""

from __future__ import annotations

from data.java.scope import UNKNOWN, Overload, has_longer, has_prefix
from models.decoding.constraints.frames import AFTER_DOT, ANY, VOID, Value
from models.decoding.constraints.grammar import Grammar
from models.decoding.constraints.offered import ROOT_NAMES, Offered
from models.decoding.constraints.shown import list_usual_methods

WITH_ARGUMENTS = (Overload(False, 1, None, UNKNOWN, "1"),)
FLUENT = ROOT_NAMES - VOID - {"fail"}  # what a chain of calls may follow whose names the input need not have


class Kept(Grammar):
    """Where a text stops. A name is what the input says it is; one that the input does not have is what it is spelt
    like. Members of a type that is not known in full are those that the input names anywhere, or usual ones."""

    def __init__(self, offered: Offered) -> None:
        super().__init__(offered.scope)
        self.offered = offered
        self.shown = offered.scope
        self.message_first = offered.message_first
        self.fluent = False  # whether an assertion such as assertThat has come

    def _continues(self) -> bool:
        return has_longer(self.offered.spelt, self.word)

    def _known(self, name: str) -> tuple[int, ...]:
        number = self.shown.number(name)
        return () if number == UNKNOWN else (number,)

    def _begins(self) -> bool:
        if self.role not in ("dot", "reference") or self._frame.kind in ("free", "generic"):
            return super()._begins()
        if self.role == "dot" and self.before == "this":
            return has_prefix(self.offered.spelt, self.word)
        if self.receiver.named and self.word[0].isupper():
            return True
        return super()._begins() and (self._is_known_in_full() or self._is_usual(self.word, prefix=True))

    def _is_known_in_full(self) -> bool:
        """Whether all members of the receiver are known."""
        types = self.receiver.types
        return bool(types) and all(self.scope.members(item).complete for item in types)

    def _is_usual(self, word: str, prefix: bool = False) -> bool:
        """Whether any object may have a member of this name, or of one that begins with it."""
        if self.fluent or any(self.shown.may_be_of_jdk(item) for item in self.receiver.types):
            return True
        if prefix:
            return any(has_prefix(names, word) for names in (self.offered.dotted, list_usual_methods(), AFTER_DOT))
        return word in self.offered.members or word in self.offered.called or word in list_usual_methods()

    def _settle_name(self, word: str, following: str) -> bool:
        self.fluent = self.fluent or word in FLUENT
        names = self.scope.names
        if following == "(":
            if word[0].isupper() and word not in self.offered.calls:
                return False  # of a class: it needs "new"
            if not super()._settle_name(word, following):
                return False
            self.call = tuple(names.methods.get(word, ())) or self._with_arguments(word)
            return True
        if word in self.offered.methods:
            return False
        if word in self.declared:
            self.value = self.declared[word]
        elif word in names.variables:
            self.value = self._of(names.variables[word])
        else:
            return super()._settle_name(word, following)
        return True

    def _with_arguments(self, word: str) -> tuple[Overload, ...] | None:
        """What is known of a method whose signature is not: the input may never call it without arguments."""
        return WITH_ARGUMENTS if word in self.offered.never_empty else None

    def _settle_member(self, word: str, following: str, role: str) -> bool:
        self.fluent = self.fluent or word in FLUENT
        if role == "dot" and not self.creating and word not in AFTER_DOT:
            if self.qualifier == "this" and word not in self.offered.names:
                return False
            if following != "(" and self._may_be_nested(word):
                self.value = Value(named=True)
                return True
            if following != "(" and self.receiver.named and word[0].islower() and word not in self.offered.members:
                return False
            if not self._is_known_in_full() and not self._is_usual(word):
                return False
        if not super()._settle_member(word, following, role):
            return False
        if self.called:
            self.call = self.call if self.call is not None else self._with_arguments(word)
        elif role == "dot" and not self.creating and self.value == ANY and word != "length":
            return word not in self.offered.methods
        return True

    def _may_be_nested(self, word: str) -> bool:
        """Whether a word behind a class's name may be a class within it."""
        if not self.receiver.named or self.receiver.plain or not self._spelt_as(word).named:
            return False
        members = [self.scope.members(item) for item in self.receiver.types]
        if members and all(item.complete for item in members):
            return any(word in item.types for item in members)
        return word in self.offered.names or word in self.offered.members

    def _settle_created(self, word: str, following: str) -> bool:
        if not super()._settle_created(word, following):
            return False
        if self.value is not None and not self.value.plain:
            self.value = Value(self._known(word), named=True, open=self.value.open)
        return True

    def _spelt_as(self, word: str) -> Value:
        found = super()._spelt_as(word)
        if len(word) == 1 and word.isupper():
            return Value(named=True)  # a type variable
        return Value(self._known(word), named=True) if found.named and word != "var" else found
