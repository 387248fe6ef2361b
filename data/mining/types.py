"""Static types of a project and of the JDK: what a name stands for, subtypes, and which overload fits some arguments.

Where the sources do not tell (a library's class, say), the answer is None: not known. A choice that hangs on what is
not known is not made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from data.java.jdk import find_declaration
from data.mining.projects import JavaClass, Method, Project, index_file

PRIMITIVES = ("byte", "short", "char", "int", "long", "float", "double", "boolean")
WIDER = {
    "byte": ("short", "int", "long", "float", "double"),
    "short": ("int", "long", "float", "double"),
    "char": ("int", "long", "float", "double"),
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
}
BOXES = {"int": "Integer", "char": "Character", **{n: n.capitalize() for n in PRIMITIVES if n not in ("int", "char")}}
UNBOXED = {box: name for name, box in BOXES.items()}
VARIABLE = "<variable>"
TYPE_TOKEN = re.compile(r"[\w.$]+|[<>,?&]|\[\s*\]")


@dataclass(frozen=True)
class Type:
    """A static type: its simple name (``int[]`` for an array), its declaration where there is one, and its arguments.

    ``created``: the class of the object, where the expression is known to hold an object made by ``new``.
    A type variable has ``VARIABLE`` for its qualified name and its bound for an argument.
    """

    name: str
    declared: JavaClass | None = field(default=None, compare=False)
    args: tuple[Type | None, ...] = field(default=(), hash=False)
    qualified: str = ""
    created: JavaClass | None = field(default=None, compare=False)

    @property
    def is_array(self) -> bool:
        return self.name.endswith("[]")

    @property
    def is_primitive(self) -> bool:
        return self.name in PRIMITIVES

    def element(self) -> Type:
        return Type(self.name[:-2], self.declared, self.args, self.qualified)

    def array(self, dimensions: int = 1) -> Type:
        return Type(self.name + "[]" * dimensions, self.declared, self.args, self.qualified) if dimensions else self


NULL, LAMBDA = Type("null"), "lambda"
Environment = Mapping[str, Type | None]
Tree = tuple[str, tuple[Any, ...], int]


@dataclass(frozen=True)
class Found:
    """A method and the type, with its arguments, that declares it; ``receiver`` is the type on which it is called."""

    method: Method
    holder: Type
    receiver: Type


@lru_cache(maxsize=100_000)
def read_type(text: str) -> Tree:
    """A type's text as (name, arguments, dimensions); ``?`` is the name of a wildcard without a bound."""
    tokens = TYPE_TOKEN.findall(text)
    position = 0

    def take() -> Tree:
        nonlocal position
        name = tokens[position] if position < len(tokens) else "?"
        arguments: list[Tree] = []
        position += 1
        if name == "?":
            if tokens[position : position + 1] not in (["extends"], ["super"]):
                return "?", (), 0
            position += 1
            return take()
        while position < len(tokens) and (tokens[position] == "<" or tokens[position].startswith(".")):
            if tokens[position].startswith("."):
                name, arguments = name + tokens[position], []
                position += 1
                continue
            position += 1
            while position < len(tokens) and tokens[position] != ">":
                arguments.append(take())
                while position < len(tokens) and tokens[position] in (",", "&"):
                    ignored = tokens[position] == "&"
                    position += 1
                    if ignored:
                        take()
            position += 1
        dimensions = 0
        while position < len(tokens) and tokens[position].startswith("["):
            dimensions, position = dimensions + 1, position + 1
        return name, tuple(arguments), dimensions

    return take()


@cache
def _index_declaration(line: str) -> dict[str, JavaClass]:
    """A type of the JDK and those inside of it, by qualified name."""
    return {item.qualified: item for item in index_file("", line.encode()).classes}


@lru_cache(maxsize=1 << 16)  # most of those asked for are no types of the JDK
def find_in_jdk(qualified: str) -> JavaClass | None:
    parts = qualified.split(".")
    for count in range(2, len(parts) + 1):
        if line := find_declaration(".".join(parts[:count])):
            return _index_declaration(line).get(qualified)
    return None


def list_nested(qualified: str) -> list[str]:
    """The simple names of the types within a top-level type of the JDK."""
    inner = _index_declaration(find_declaration(qualified))
    return [item.name for item in inner.values() if item.outer == qualified]


class Types:
    """Answers questions about types, as they are written in a project's files."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lineages: dict[Type, tuple[tuple[Type, ...], bool]] = {}
        self._by_name: dict[tuple[str, str], dict[str, list[Method]]] = {}
        self._members: dict[tuple[Type, str | None, int], tuple[Found, ...]] = {}
        self._functional: dict[Type, Found | None] = {}
        self._of: dict[tuple[str, str], Type] = {}
        self._parsed: dict[tuple[str, str, str], Type | None] = {}
        self._resolved: dict[tuple[str, str, str], JavaClass | None] = {}

    # -- names -------------------------------------------------------------------------------------------------------

    def find(self, qualified: str, near: str) -> JavaClass | None:
        return self.project.find(qualified, near) or find_in_jdk(qualified)

    def resolve(self, name: str, scope: JavaClass) -> JavaClass | None:
        """The class of the project or of the JDK that a name, as written inside ``scope``, stands for."""
        key = (name, scope.qualified, scope.file)
        if key not in self._resolved:
            self._resolved[key] = self.project.resolve(name, scope) or self._resolve_inherited(name, scope)
        return self._resolved[key]

    def _resolve_inherited(self, name: str, scope: JavaClass) -> JavaClass | None:
        head, _, rest = name.partition(".")
        imports = scope.imports
        candidates = [f"{item.qualified}.{head}" for item in self.project.enclosing(scope)]
        for item in self.project.enclosing(scope):
            candidates += [f"{parent.qualified}.{head}" for parent in self.project.ancestors(item)[0][1:]]
        if head in imports.single:
            candidates.append(imports.single[head])
        else:
            candidates += [f"{package}.{head}" for package in (imports.package, *imports.star, "java.lang") if package]
        candidates += [f"{owner}.{head}" for owner in imports.static_single.get(head, ())]
        for candidate in candidates:
            if (found := self.find(f"{candidate}.{rest}" if rest else candidate, scope.file)) is not None:
                return found
        return self.find(name, scope.file) if rest else None

    def parse(self, text: str, scope: JavaClass, environment: Environment) -> Type | None:
        """The type that a text stands for inside ``scope``; None for a wildcard and for a variable not known."""
        if environment:
            return self.build(read_type(text), scope, environment)
        key = (text, scope.qualified, scope.file)
        if key not in self._parsed:
            self._parsed[key] = self.build(read_type(text), scope, environment)
        return self._parsed[key]

    def build(self, tree: Tree, scope: JavaClass, environment: Environment) -> Type | None:
        name, arguments, dimensions = tree
        if name in environment:
            known = environment[name]
            return known.array(dimensions) if known is not None else None
        if name in PRIMITIVES or name == "void":
            return Type(name).array(dimensions)
        if name in ("?", "var", ""):
            return None
        declared = self.resolve(name, scope)
        if declared is None and re.fullmatch(r"[A-Z]\d?", name):
            return None  # a type variable, most likely
        inner = tuple(self.build(item, scope, environment) for item in arguments)
        simple = name.rpartition(".")[2]
        return Type(simple, declared, inner, declared.qualified if declared else name).array(dimensions)

    def of(self, declared: JavaClass) -> Type:
        key = declared.qualified, declared.file
        if key not in self._of:
            self._of[key] = Type(declared.name, declared, (), declared.qualified)
        return self._of[key]

    # -- subtypes ----------------------------------------------------------------------------------------------------

    def environment(self, item: Type) -> dict[str, Type | None]:
        """What the type variables of a class stand for."""
        variables = item.declared.variables if item.declared is not None else {}
        known = item.args if len(item.args) == len(variables) else (None,) * len(variables)
        return dict(zip(variables, known, strict=True))

    def lineage(self, item: Type) -> tuple[tuple[Type, ...], bool]:
        """The type and its supertypes, classes before interfaces, and whether some are not known."""
        found = self._lineages.get(item)  # asked for so often that one look-up instead of four counts
        if found is None:
            self._lineages[item] = ((item,), True)  # of a class that is its own ancestor
            found = self._lineages[item] = self._find_lineage(item)
        return found

    def _find_lineage(self, item: Type) -> tuple[tuple[Type, ...], bool]:
        found: dict[str, Type] = {}
        is_open = False
        pending = [item]
        while pending:
            current = pending.pop(0)
            if current.declared is None or current.is_array or current.qualified in found:
                is_open |= current.declared is None and current.name != "Object"
                continue
            found[current.qualified] = current
            environment = self.environment(current)
            parents = [self.parse(text, current.declared, environment) for text in current.declared.parents]
            known = [parent for parent in parents if parent is not None]
            is_open |= len(known) < len(parents)
            classes = [parent for parent in known if parent.declared is not None and not parent.declared.interface]
            pending = classes + pending + [parent for parent in known if parent not in classes]
        top = find_in_jdk("java.lang.Object")
        if top is not None:
            found.setdefault(top.qualified, self.of(top))
        return tuple(found.values()), is_open

    def view(self, item: Type, qualified: str) -> Type | None:
        """The type seen as its supertype of that name, with the arguments it has there."""
        return next((parent for parent in self.lineage(item)[0] if parent.qualified == qualified), None)

    def is_subtype(self, item: Type, other: Type | None) -> bool | None:
        """Whether a reference type can be used for ``other``; None where that is not known."""
        if other is None or other.name == "Object":
            return not item.is_primitive
        if item.is_primitive or other.is_primitive:
            return item.name == other.name
        if item.name == "null":
            return True
        if item.name == LAMBDA:
            return self._takes_lambda(item, other)
        if other.qualified == VARIABLE:
            if other.is_array and not item.is_array:
                return False if item.qualified != VARIABLE else None
            bound = other.args[0] if other.args and not other.is_array else None
            return bound is None or self.is_subtype(item, bound)
        if item.qualified == VARIABLE and not item.is_array:
            return self.is_subtype(item.args[0], other) if item.args and item.args[0] is not None else False
        if item.is_array:
            if not other.is_array:
                return other.name in ("Cloneable", "Serializable")
            return self.is_subtype(item.element(), other.element())
        if other.is_array:
            return False
        if item.declared is None:
            if item.qualified.rpartition(".")[2] == other.name and other.declared is None:
                return True
            final = other.name == "String" or other.name in UNBOXED
            return False if final else None
        parents, is_open = self.lineage(item)
        if other.declared is not None:
            if any(parent.qualified == other.qualified for parent in parents):
                return True
            return None if is_open and not other.declared.file and other.declared.interface else False
        return None if is_open else False

    def _takes_lambda(self, item: Type, other: Type) -> bool | None:
        if other.is_array or other.qualified in ("java.lang.String", "java.lang.Class") or other.name in UNBOXED:
            return False
        if other.qualified == VARIABLE or other.declared is None:
            return None
        if not other.declared.interface:
            return False
        method = self.functional_method(other)
        if method is None:
            return False
        return None if item.qualified in ("", str(len(method.method.parameters))) else False

    def functional_method(self, item: Type) -> Found | None:
        """The one abstract method of a functional interface."""
        if item not in self._functional:
            self._functional[item] = self._find_functional_method(item)
        return self._functional[item]

    def _find_functional_method(self, item: Type) -> Found | None:
        abstract: dict[tuple[str, int], Found] = {}
        concrete = {(m.name, len(m.parameters)) for m in self.lineage(item)[0][-1].declared.methods}  # type: ignore[union-attr]
        for parent in self.lineage(item)[0]:
            for method in parent.declared.methods if parent.declared is not None else ():
                key = (method.name, len(method.parameters))
                if method.has_body or method.static:
                    concrete.add(key)
                elif key not in concrete:
                    abstract.setdefault(key, Found(method, parent, item))
        return next(iter(abstract.values())) if len(abstract) == 1 else None

    # -- methods -----------------------------------------------------------------------------------------------------

    def members(self, receiver: Type, name: str | None) -> tuple[Found, ...]:
        """The methods of that name, inherited ones included, nearest first; constructors for None."""
        key = receiver, name, id(receiver.created)  # which equality does not look at
        if key not in self._members:
            self._members[key] = tuple(self._find_members(receiver, name))
        return self._members[key]

    def _find_members(self, receiver: Type, name: str | None) -> Iterator[Found]:
        for parent in self.lineage(receiver)[0] if name is not None else (receiver,):
            if parent.declared is None:
                continue
            key = (parent.declared.qualified, parent.declared.file)
            if key not in self._by_name:
                index: dict[str, list[Method]] = {}
                for method in parent.declared.methods:
                    index.setdefault("" if method.constructor else method.name, []).append(method)
                self._by_name[key] = index
            for method in self._by_name[key].get(name or "", ()):
                yield Found(method, parent, receiver)


@lru_cache(maxsize=1)
def get_types(project: Project) -> Types:
    """The types of a project; one object, which remembers what it found."""
    return Types(project)
