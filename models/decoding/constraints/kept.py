"""Reads the beginning of Java statements that are kept to what their input offers: its names, and the types and
signatures that it shows."""

from __future__ import annotations

from dataclasses import replace

from data.java.frameworks import ROOT_NAMES
from data.java.scope import UNKNOWN, Overload, has_longer, has_prefix
from models.decoding.constraints.frames import AFTER_DOT, ANY, ROOTS, VOID, Value
from models.decoding.constraints.grammar import Grammar
from models.decoding.constraints.offered import Offered
from models.decoding.constraints.shown import list_usual_methods

WITH_ARGUMENTS = (Overload(False, 1, None, UNKNOWN),)
FLUENT = ROOT_NAMES - VOID - {"fail"}  # a chain of calls may follow whose names the input need not have
SORTED_ROOTS = sorted(ROOT_NAMES)
THIS, PACKAGE = Value(stands="this"), Value(stands="package")


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
        if self.receiver.stands == "package":
            return True
        if self.receiver.stands == "this":
            return has_prefix(self.offered.spelt, self.word)
        if self.receiver.named and self.word[0].isupper():
            return True
        return super()._begins() and (self._is_free() or any(has_prefix(names, self.word) for names in self._usual()))

    def _usual(self) -> tuple[list[str], ...]:
        """What any object may have as members, sorted."""
        return self.offered.dotted, list_usual_methods(), AFTER_DOT, SORTED_ROOTS

    def _is_free(self) -> bool:
        """Whether the receiver may have other members than the usual ones, or all that it has are known."""
        types = self.receiver.types
        if self.fluent or self._is_known_in_full() or any(self.shown.may_be_of_jdk(item) for item in types):
            return True
        return self.receiver.named and not types

    def _is_known_in_full(self) -> bool:
        types = self.receiver.types
        return bool(types) and all(self.scope.members(item).complete for item in types)

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
            if self._may_be_hidden(word, following):
                self.declared = {**self.declared, word: ANY}
            self.value = self.declared.get(word) or self._of(names.variables[word])
        elif word == "this":
            self.value = THIS
        elif word in ROOTS and following == ".":
            self.value = PACKAGE
        elif len(word) == 1 and word.isupper() and word not in self.offered.constants:
            self.value = Value(self._known("?"), named=True)  # a type variable
        else:
            return super()._settle_name(word, following)
        return True

    def _may_be_hidden(self, word: str, following: str) -> bool:
        """Whether the name of a variable here may be that of a lambda's parameter, of any type."""
        lambdas = self._frame.kind == "paren" and following in ",)"
        return (lambdas or following == "-") and self._may_be_parameter_named(word)

    def _with_arguments(self, word: str) -> tuple[Overload, ...] | None:
        """What is known of a method whose signature is not."""
        return WITH_ARGUMENTS if word in self.offered.never_empty else None

    def _settle_member(self, word: str, following: str, role: str) -> bool:
        self.fluent = self.fluent or word in FLUENT
        if self.receiver.stands == "package" and role == "dot":
            self.value = self._spelt_as(word) if word[0].isupper() else PACKAGE
            return following == "." or word[0].isupper()
        if self.receiver.stands == "this" and role == "dot":
            return word in self.offered.names and self._settle_name(word, following)
        if role == "dot" and not self.creating and word not in AFTER_DOT:
            if following != "(" and self._may_be_nested(word):
                self.value = Value(named=True)
                return True
            constant = self.receiver.named and word.upper() == word and following != "("
            if not constant and not self._is_free() and not any(word in names for names in self._usual()):
                return False
            static = self.receiver.named and not self._is_known_in_full() and bool(self.receiver.types)
            if following != "(" and static and word[0].islower() and word not in self.offered.members:
                return False
        if not super()._settle_member(word, following, role):
            return False
        if self.called and self.call is None and not any(map(self.shown.may_be_of_jdk, self.receiver.types)):
            self.call = self._with_arguments(word)
        elif not self.called and role == "dot" and not self.creating and self.value == ANY and word != "length":
            return word not in self.offered.methods
        return True

    def _may_be_nested(self, word: str) -> bool:
        """Whether a word behind a class's name may be a class within it."""
        if not self.receiver.named or self.receiver.plain or not self._spelt_as(word).named:
            return False
        if self._is_known_in_full():
            return any(word in self.scope.members(item).types for item in self.receiver.types)
        return word in self.offered.names or word in self.offered.members

    def _settle_created(self, word: str, following: str) -> bool:
        if not super()._settle_created(word, following):
            return False
        if self.value is not None and not self.value.plain:
            self.value = replace(self._of(self.shown.number(word)), named=True, open=self.value.open)
        return True

    def _spelt_as(self, word: str) -> Value:
        found = super()._spelt_as(word)
        if not found.named or word == "var":
            return found
        if word in self.offered.constants:
            return Value(open=True)
        return replace(self._of(self.shown.number(word)), named=True, stands=found.stands)
