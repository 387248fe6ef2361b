"""Static types of a project and of the JDK: what a name stands for, subtypes, and which overload fits some arguments.

Where the sources do not tell (a library's class, say), the answer is None: not known. A choice that hangs on what is
not known is not made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
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
    args: tuple[Type | None, ...] = ()
    qualified: str = ""
    created: JavaClass | None = field(default=None, compare=False)

    @property
    def is_array(self) -> bool:
        return self.name.endswith("[]")

    @property
    def is_primitive(self) -> bool:
        return self.name in PRIMITIVES

    def element(self) -> Type:
        return replace(self, name=self.name[:-2], created=None)

    def array(self, dimensions: int = 1) -> Type:
        return replace(self, name=self.name + "[]" * dimensions, created=None) if dimensions else self


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
def _read(text: str) -> Tree:
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


@lru_cache(maxsize=4096)
def _find_in_jdk(qualified: str) -> JavaClass | None:
    parts = qualified.split(".")
    for count in range(2, len(parts) + 1):
        if line := find_declaration(".".join(parts[:count])):
            return next((item for item in index_file("", line.encode()).classes if item.qualified == qualified), None)
    return None


class Types:
    """Answers questions about types, as they are written in a project's files."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._lineages: dict[Type, tuple[tuple[Type, ...], bool]] = {}
        self._by_name: dict[tuple[str, str], dict[str, list[Method]]] = {}
        self._resolved: dict[tuple[str, str, str], JavaClass | None] = {}
        self._parameters: dict[tuple[str, str, tuple[int, int], Type], tuple[Type | None, ...]] = {}

    # -- names -------------------------------------------------------------------------------------------------------

    def find(self, qualified: str, near: str) -> JavaClass | None:
        return self.project.find(qualified, near) or _find_in_jdk(qualified)

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
        return self._build(_read(text), scope, environment)

    def _build(self, tree: Tree, scope: JavaClass, environment: Environment) -> Type | None:
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
        inner = tuple(self._build(item, scope, environment) for item in arguments)
        simple = name.rpartition(".")[2]
        return Type(simple, declared, inner, declared.qualified if declared else name).array(dimensions)

    def of(self, declared: JavaClass) -> Type:
        return Type(declared.name, declared, (), declared.qualified)

    # -- subtypes ----------------------------------------------------------------------------------------------------

    def environment(self, item: Type) -> dict[str, Type | None]:
        """What the type variables of a class stand for."""
        variables = item.declared.variables if item.declared is not None else {}
        known = item.args if len(item.args) == len(variables) else (None,) * len(variables)
        return dict(zip(variables, known, strict=True))

    def lineage(self, item: Type) -> tuple[tuple[Type, ...], bool]:
        """The type and its supertypes, classes before interfaces, and whether some are not known."""
        if item not in self._lineages:
            self._lineages[item] = ((item,), True)  # of a class that is its own ancestor
            self._lineages[item] = self._find_lineage(item)
        return self._lineages[item]

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
        top = _find_in_jdk("java.lang.Object")
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

    # -- overloads ---------------------------------------------------------------------------------------------------

    def members(self, receiver: Type, name: str | None) -> list[Found]:
        """The methods of that name, inherited ones included, nearest first; constructors for None."""
        parents = self.lineage(receiver)[0] if name is not None else (receiver,)
        found = []
        for parent in parents:
            if parent.declared is None:
                continue
            key = (parent.declared.qualified, parent.declared.file)
            if key not in self._by_name:
                index: dict[str, list[Method]] = {}
                for method in parent.declared.methods:
                    index.setdefault("" if method.constructor else method.name, []).append(method)
                self._by_name[key] = index
            found += [Found(m, parent, receiver) for m in self._by_name[key].get(name or "", ())]
        return found

    def method_environment(self, found: Found) -> dict[str, Type | None]:
        """What names mean in a method's signature; its own type variables stand for themselves."""
        environment = self.environment(found.holder)
        scope = found.holder.declared
        for name, bound in found.method.generics[2].items():
            known = None
            if bound and scope is not None:
                tree = _read(bound)
                known = environment.get(tree[0]) or self._build((tree[0], (), tree[2]), scope, {})
            environment[name] = Type(name, None, (known,), VARIABLE)
        return environment

    def parameters(self, found: Found) -> tuple[Type | None, ...]:
        method = found.method
        key = (method.owner, method.file, method.span, found.holder)
        if key not in self._parameters:
            scope, environment = found.holder.declared, self.method_environment(found)
            assert scope is not None
            self._parameters[key] = tuple(self.parse(text, scope, environment) for text in method.generics[0])
        return self._parameters[key]

    def _fits(self, argument: Type | None, wanted: Type | None, loose: bool) -> bool | None:
        if argument is None:
            anything = wanted is None or wanted.name == "Object" or wanted.qualified == VARIABLE
            return True if loose and anything and not (wanted and wanted.is_array) else None
        if wanted is not None and argument.is_primitive and wanted.is_primitive:
            return argument.name == wanted.name or wanted.name in WIDER.get(argument.name, ())
        if wanted is None or argument.is_primitive == wanted.is_primitive:
            if argument.is_primitive:
                return loose
            return self.is_subtype(argument, wanted)
        if not loose:
            return False
        if argument.is_primitive:
            box = _find_in_jdk(f"java.lang.{BOXES[argument.name]}")
            return self.is_subtype(self.of(box), wanted) if box is not None else None
        if argument.name in UNBOXED:
            name = UNBOXED[argument.name]
            return name == wanted.name or wanted.name in WIDER.get(name, ())
        return None if argument.qualified == VARIABLE else False

    def _applies(self, found: Found, arguments: Sequence[Type | None], phase: int) -> bool | None:
        """Whether a method takes the arguments: strictly (1), with boxing (2), with a variable number (3)."""
        wanted = self.expand(found, len(arguments)) if phase == 3 else self.parameters(found)
        if (phase == 3 and not found.method.varargs) or len(wanted) != len(arguments):
            return False
        known: bool | None = True
        for argument, parameter in zip(arguments, wanted, strict=True):
            fits = self._fits(argument, parameter, phase > 1)
            if fits is False:
                return False
            known = known and fits
        return known

    def fits(self, found: Found, arguments: Sequence[Type | None]) -> bool:
        """Whether a method takes these arguments for sure."""
        return any(self._applies(found, arguments, phase) for phase in (1, 2, 3))

    def expand(self, found: Found, count: int) -> tuple[Type | None, ...]:
        """The parameters of a method with a variable number, for ``count`` arguments."""
        types = self.parameters(found)
        if not found.method.varargs or count < len(types) - 1:
            return types
        last = types[-1].element() if types[-1] is not None and types[-1].is_array else None
        return (*types[:-1], *(last for _ in range(count - len(types) + 1)))

    def choose(self, members: Sequence[Found], arguments: Sequence[Type | None]) -> Found | str:
        """The overload that Java would call (JLS 15.12.2); else "none", or "ambiguous" where too little is known."""
        seen: set[tuple[str, ...]] = set()
        distinct = []
        for item in members:
            key = tuple(parameter.name if parameter is not None else "" for parameter in self.parameters(item))
            key += ("...",) if item.method.varargs else ()
            if key not in seen:
                seen.add(key)
                distinct.append(item)
        earlier: list[Found] = []  # may be what a phase before this one finds
        for phase in (1, 2, 3):
            verdicts = [(item, self._applies(item, arguments, phase)) for item in distinct]
            sure = [item for item, verdict in verdicts if verdict]
            maybe = [item for item, verdict in verdicts if verdict is None]
            if sure:
                best = self._most_specific(sure, len(arguments), phase)
                if best is None or any(item is not best for item in earlier):
                    return "ambiguous"
                certain = all(self._is_more_specific(best, item, len(arguments), phase) for item in maybe)
                return best if certain else "ambiguous"
            earlier += [item for item in maybe if item not in earlier]
        if len(earlier) == 1:
            return earlier[0]
        return "ambiguous" if earlier else "none"

    def _most_specific(self, items: Sequence[Found], count: int, phase: int) -> Found | None:
        if len(items) == 1:
            return items[0]
        best = [x for x in items if all(x is y or self._is_more_specific(x, y, count, phase) for y in items)]
        return best[0] if best else None

    def _is_more_specific(self, one: Found, other: Found, count: int, phase: int) -> bool:
        if phase == 3:
            pairs = zip(self.expand(one, count), self.expand(other, count), strict=False)
        elif len(self.parameters(one)) != len(self.parameters(other)):
            return False
        else:
            pairs = zip(self.parameters(one), self.parameters(other), strict=True)
        return all(
            right is None
            if left is None
            else (right is not None and right.name in WIDER.get(left.name, ())) or self.is_subtype(left, right) is True
            for left, right in pairs
        )

    def returned(self, found: Found, arguments: Sequence[Type | None]) -> Type | None:
        """What a call gives; type variables of the method are inferred from the arguments."""
        scope = found.holder.declared
        assert scope is not None
        if found.method.constructor:
            return found.receiver
        environment = dict(self.method_environment(found))
        own = found.method.generics[2]
        if own:
            bound: dict[str, Type] = {}
            parameters = self.parameters(found)
            if len(parameters) != len(arguments) or (
                found.method.varargs and arguments and (arguments[-1] is None or not arguments[-1].is_array)
            ):
                parameters = self.expand(found, len(arguments))
            for wanted, argument in zip(parameters, arguments, strict=False):
                self._unify(wanted, argument, bound)
            environment.update((name, bound.get(name)) for name in own)
        return self.parse(found.method.generics[1], scope, environment)

    def _unify(self, wanted: Type | None, argument: Type | None, bound: dict[str, Type]) -> None:
        if wanted is None or argument is None or argument.name in ("null", LAMBDA):
            return
        if wanted.qualified == VARIABLE:
            depth = wanted.name.count("[]")
            if argument.name.count("[]") >= depth:
                kept = replace(argument, name=argument.name[: len(argument.name) - 2 * depth], created=None)
                box = _find_in_jdk(f"java.lang.{BOXES[kept.name]}") if kept.is_primitive else None
                bound.setdefault(wanted.name[: len(wanted.name) - 2 * depth], self.of(box) if box is not None else kept)
            return
        if wanted.args and argument.declared is not None:
            seen = self.view(argument, wanted.qualified)
            for left, right in zip(wanted.args, seen.args if seen is not None else (), strict=False):
                self._unify(left, right, bound)


@lru_cache(maxsize=1)
def get_types(project: Project) -> Types:
    """The types of a project; one object, which remembers what it found."""
    return Types(project)
