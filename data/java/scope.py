"""What code can name at a place of a Java file, as javac knows it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

UNKNOWN = -1  # a type that is not known, such as what a call infers
# What an argument may be: an array, a boolean, a number, a text, another object, null, a lambda.
ALL_SORTS = "abnto0l"


class Overload(NamedTuple):
    """A method or constructor: how many arguments it takes (``most`` None: any number), the type that it returns, and
    the sorts that each parameter takes (``accepts`` None: not known)."""

    static: bool
    least: int
    most: int | None
    returns: int
    accepts: tuple[str, ...] | None = None

    def takes(self, count: int) -> bool:
        return self.least <= count and (self.most is None or count <= self.most)

    def takes_more_than(self, count: int) -> bool:
        return self.most is None or count < self.most

    def takes_lambda(self, place: int) -> bool:
        """Whether the argument at this place, from 0, may be a lambda."""
        return self.accepts is None or "l" in self._at(place)

    def suits(self, given: Sequence[str]) -> bool:
        """Whether arguments that may be of these sorts fit, as far as they are given."""
        if self.accepts is None:
            return True
        return all(not set(sorts).isdisjoint(self._at(place)) for place, sorts in enumerate(given))

    def _at(self, place: int) -> str:
        """The sorts that the parameter at this place takes; the last one may stand for many."""
        return self.accepts[min(place, len(self.accepts) - 1)] if self.accepts else ""


@dataclass
class Names:
    """Named things: variables or fields and types with the number of their type, methods with their overloads.

    ``complete``: whether there are no others; ``sorts``: what a value with these members may be, of ALL_SORTS.
    """

    variables: dict[str, int] = field(default_factory=dict)
    methods: dict[str, list[Overload]] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    importable: dict[str, list[Overload]] = field(default_factory=dict)
    constructors: list[Overload] = field(default_factory=list)
    packages: set[str] = field(default_factory=set)
    kind: str = "declared"  # or array, or primitive
    component: int = UNKNOWN
    complete: bool = True
    sorts: str = ALL_SORTS

    @cached_property
    def spelt(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.variables, *self.methods, *self.types, *self.importable, *self.packages})

    @cached_property
    def spelt_types(self) -> list[str]:
        """The names that types begin with, sorted."""
        return sorted({*self.types, *self.packages})

    def begins(self, prefix: str) -> bool:
        """Whether a name may begin with ``prefix``."""
        return not self.complete or has_prefix(self.spelt, prefix)


def has_prefix(names: Sequence[str], prefix: str) -> bool:
    """Whether one of the sorted ``names`` begins with ``prefix``."""
    place = bisect_left(names, prefix)
    return place < len(names) and names[place].startswith(prefix)


def has_longer(names: Sequence[str], word: str) -> bool:
    """Whether one of the sorted ``names`` begins with ``word`` and goes on."""
    place = bisect_right(names, word)
    return place < len(names) and names[place].startswith(word)


class JavaScope:
    """The names at a place, and the members of the types in play, which ``ask`` gives by number."""

    def __init__(self, names: Names, ask: Callable[[int], Names]) -> None:
        self.names = names
        self._ask = ask
        self._members: dict[int, Names] = {}

    def members(self, type_: int) -> Names:
        """What a value of this type has."""
        if type_ not in self._members:
            self._members[type_] = self._ask(type_)
        return self._members[type_]


def read_names(lines: Iterable[str]) -> Names:
    """Names from the lines of evaluation/running/java/ScopeService.java, which explains them."""
    names = Names()
    methods = {"M": names.methods, "I": names.importable}
    for line in lines:
        sign, *words = line.split("\t")
        if sign in "MIC":
            name, static, least, varargs, returns, accepts = words
            fewest, taken = int(least), tuple(accepts.split(",")) if accepts else ()
            overload = Overload(static == "1", fewest, None if varargs == "1" else fewest, int(returns), taken)
            if sign == "C":
                names.constructors.append(overload)
            else:
                methods[sign].setdefault(name, []).append(overload)
        elif sign == "v":
            names.variables.setdefault(words[0], int(words[1]))
        elif sign == "t":
            names.types.setdefault(words[0], int(words[1]))
        elif sign == "k":
            names.kind, names.component, names.sorts = words[0], int(words[1]), words[2]
        elif sign == "p":
            names.packages.add(words[0])
    return names
