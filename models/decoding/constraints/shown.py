"""The scope that an input shows: the types of its variables, and the methods whose signatures stand in its context.

The types of java.lang and the collections of java.util are known in full, others as far as they are shown, by their
simple names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from data.java.frameworks import ROOT_NAMES
from data.java.jdk import list_type_names
from data.java.scope import ALL_SORTS, UNKNOWN, JavaScope, Names, Overload
from data.mining.projects import JavaClass
from data.mining.types import find_in_jdk, list_nested
from models.decoding.constraints.frames import PRIMITIVES, QUALIFIERS, SORTS_OF_PRIMITIVES

TYPE = r"[A-Za-z_$][\w$.]*(?:<[\w$.<>\[\],?& ]*>)?(?:\[\])*"
# Lines of a context: a signature, "static int Type.name(int, String...)", and a variable, "Type name = value".
SIGNATURE = re.compile(rf"^(static )?({TYPE}) (?:([\w$]+)\.)?([\w$]+)\(([\w$.<>\[\],?& ]*)\)$", re.MULTILINE)
VARIABLE = re.compile(rf"^({TYPE}) ([A-Za-z_$][\w$]*)(?: = .*)?$", re.MULTILINE)
# A variable that a test declares.
LOCAL = re.compile(rf"(?<![\w$.@])({TYPE})\s+([a-z_$][\w$]*)\s*(?=[=;:])")
MEMBER = re.compile(r"(?<![\w$.])([A-Za-z_$][\w$]*)\.([a-z_$][\w$]*)(?!\w)")
LIKE_VARIABLE = re.compile(r"[A-Z\d_?]*|[A-Z]\w*[a-z]T")  # how type variables are spelt: T, KEY, InputT
ARGUMENTS = re.compile(r"<[^<>]*>")
# What values of these types may be. Those of other types are other objects.
SORTS = SORTS_OF_PRIMITIVES | {"Boolean": "b", "String": "t"}
SORTS |= dict.fromkeys(("Byte", "Short", "Integer", "Long", "Float", "Double", "Character"), "n")
# Assertions take them for what they give.
SORTS |= {"BooleanSupplier": "bol", "Supplier": "tol"}
# Parameters of these types take others, too; a value of such a type may be a type variable's, whose bound is shown.
SORTS |= dict.fromkeys(("Object", "Comparable", "Serializable", "Cloneable", "Number", "CharSequence"), ALL_SORTS)
SORTS |= dict.fromkeys(("Constable", "ConstantDesc"), ALL_SORTS)
UTILITIES = frozenset({"Arrays", "Collections", "Objects"})
USUAL = """java.lang.Object java.lang.String java.lang.StringBuilder java.lang.Boolean java.lang.Character
java.lang.Number java.lang.Integer java.lang.Long java.lang.Double java.lang.Class java.lang.Enum
java.lang.Throwable java.lang.Iterable java.util.ListIterator java.util.ArrayList java.util.SortedSet
java.util.Deque java.util.SortedMap java.util.Map.Entry java.util.Arrays java.util.Collections
java.util.Objects java.util.Optional java.util.stream.Stream"""
ROOT_INTERFACES = frozenset({"java.util.Collection", "java.util.Map", "java.util.Iterator"})


def drop_type_arguments(text: str) -> str:
    """Java without what stands in angle brackets."""
    while (shorter := ARGUMENTS.sub("", text)) != text:
        text = shorter
    return text


def _plain(written: str) -> str:
    """A type without its package and arguments: ``java.util.List<String>[]`` -> ``List[]``."""
    return drop_type_arguments(written).replace("...", "[]").rpartition(".")[2].strip()


def _is_variable(name: str) -> bool:
    """Whether a type is spelt as type variables are."""
    return len(name) < 3 and name.isupper()


def _sorts_of(name: str) -> str:
    """What a value of a type may be."""
    if name.endswith("[]"):
        return "a"
    return ALL_SORTS if LIKE_VARIABLE.fullmatch(name) else SORTS.get(name, "o")


def _accepted_by(written: str) -> str:
    """The sorts that a parameter of a type takes."""
    name = _plain(written.replace("...", ""))
    sorts = _sorts_of(name)
    return sorts if name in PRIMITIVES else f"{sorts}0l" if "o" in sorts else f"{sorts}0"


def _list_ancestors(found: JavaClass) -> Iterator[JavaClass]:
    """A type of the JDK and all that it inherits from."""
    yield found
    for name in found.supertypes:
        if (parent := find_in_jdk(name)) is not None:
            yield from _list_ancestors(parent)


@lru_cache(maxsize=1024)
def _find_known(name: str) -> tuple[JavaClass, ...]:
    """The type of java.lang, or the collection of java.util, of this simple name, and what it inherits from."""
    root = find_in_jdk("java.lang.Object")
    if (found := find_in_jdk(f"java.lang.{name}")) is not None:
        lineage = tuple(_list_ancestors(found))
    elif (found := find_in_jdk(f"java.util.{name}")) is not None:
        lineage = tuple(_list_ancestors(found))
        if name not in UTILITIES and ROOT_INTERFACES.isdisjoint(item.qualified for item in lineage):
            return ()
    else:
        return ()
    return (*lineage, root) if root is not None else lineage


@lru_cache(maxsize=2)
def list_usual_methods(empty: bool = False) -> list[str]:
    """The methods of types that most code uses, sorted; ``empty``: only those that can be called without arguments."""
    types = (item for name in USUAL.split() if (item := find_in_jdk(name)) is not None)
    methods = (method for item in types for one in _list_ancestors(item) for method in one.methods)
    return sorted({method.name for method in methods if not empty or len(method.parameters) == method.varargs})


class ShownScope(JavaScope):
    """What an input shows. A type that it does not know in full may have members that are not among its names."""

    def __init__(self, test: str, context: str, calls: Collection[tuple[str, int]]) -> None:
        """``test``: the masked test; ``context``: the lines of its context; ``calls``: what the input calls, with how
        many arguments: a method that is called with another number than its signatures tell has more of them."""
        self._spelt: list[str] = []
        self._numbers: dict[str, int] = {}
        self._listed: dict[str, Names] = {}
        names = Names(complete=False)
        super().__init__(names, self._describe)
        for static, returns, owner, name, written in SIGNATURE.findall(context):
            held = self._listed.setdefault(owner, Names(complete=False)) if owner else names
            parameters = [part for part in drop_type_arguments(written).split(",") if part.strip()]
            one = self._overload(bool(static), parameters, written.rstrip().endswith("..."), returns)
            held.methods.setdefault(name, []).append(one)
        for written, name in LOCAL.findall(test):
            before = names.variables.get(name)
            now = self.number(written) if written not in ("return", "throw", "else", "case") else UNKNOWN
            names.variables[name] = now if before in (None, now) else UNKNOWN
        declared = SIGNATURE.split(context, maxsplit=1)[0]  # behind the signatures comes documentation
        names.variables.update({name: self.number(written) for written, name in VARIABLE.findall(declared)})
        for held in (names, *self._listed.values()):
            for name, count in calls:
                if name in held.methods and not any(item.takes(count) for item in held.methods[name]):
                    del held.methods[name]
        for name, method in MEMBER.findall(f"{test}\n{context}"):
            number = names.variables.get(name, self.number(name) if name[0].isupper() else UNKNOWN)
            found = self.members(number) if number != UNKNOWN else names
            if found.complete and found.kind == "declared" and method not in (*found.methods, *found.variables):
                self._members[number] = Names(complete=False)  # another type of that name

    def number(self, written: str) -> int:
        """The number of a type, as it is written."""
        name = _plain(written)
        if not name or name == "var" or _is_variable(name.rstrip("[]")):
            return UNKNOWN
        if name not in self._numbers:
            self._numbers[name] = len(self._spelt)
            self._spelt.append(name)
        return self._numbers[name]

    def may_be_of_jdk(self, number: int) -> bool:
        """Whether the JDK has a type of this name."""
        return self._spelt[number] in list_type_names()

    def _overload(self, static: bool, parameters: Sequence[str], varargs: bool, returns: str = "") -> Overload:
        count = len(parameters)
        accepts = [_accepted_by(written) for written in parameters]
        if varargs:
            accepts[-1] += "a0"
        return Overload(static, count - varargs, None if varargs else count, self.number(returns), tuple(accepts))

    def _describe(self, number: int) -> Names:
        """The members of a type."""
        name = self._spelt[number]
        if name in PRIMITIVES:
            return Names(kind="primitive", sorts=SORTS[name])
        if name.endswith("[]"):
            found = self._describe_known(_find_known("Object"))
            found.kind, found.component = "array", self.number(name[:-2])
        elif name in self._listed:
            found = self._listed[name]
        elif name in QUALIFIERS:
            found = Names(methods={one: [Overload(True, 0, None, UNKNOWN)] for one in ROOT_NAMES})
        elif lineage := _find_known(name):
            found = self._describe_known(lineage)
        else:
            found = Names(complete=False)
        found.sorts = _sorts_of(name)
        return found

    def _describe_known(self, lineage: tuple[JavaClass, ...]) -> Names:
        found = Names()
        for item in lineage:
            for method in item.methods:
                parameters = ["?" if one in method.generics[2] else one for one in method.parameters]
                if not method.constructor:
                    returns = "" if method.returns in method.generics[2] else method.returns
                    one = self._overload(method.static, parameters, method.varargs, returns)
                    found.methods.setdefault(method.name, []).append(one)
                elif item is lineage[0]:
                    found.constructors.append(self._overload(False, parameters, method.varargs))
            found.variables |= {name: self.number(type_) for name, type_ in item.fields.items()}
            found.types |= dict.fromkeys(list_nested(item.qualified), UNKNOWN)
        return found
