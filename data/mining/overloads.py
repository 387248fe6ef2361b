"""Which overload of a method fits some arguments (JLS 15.12.2), and what a call of it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from data.mining.projects import Project
from data.mining.types import (
    BOXES,
    LAMBDA,
    UNBOXED,
    VARIABLE,
    WIDER,
    Found,
    Type,
    Types,
    find_in_jdk,
    get_types,
    read_type,
)


class Overloads:
    """Chooses among the methods of one name. What it found is remembered."""

    def __init__(self, types: Types) -> None:
        self.types = types
        self._parameters: dict[tuple[int, Type], tuple[Type | None, ...]] = {}
        self._chosen: dict[tuple[int, tuple[Type | None, ...]], tuple[tuple[Found, ...], Found | str]] = {}

    def method_environment(self, found: Found) -> dict[str, Type | None]:
        """What names mean in a method's signature; its own type variables stand for themselves."""
        environment = self.types.environment(found.holder)
        scope = found.holder.declared
        for name, bound in found.method.generics[2].items():
            known = None
            if bound and scope is not None:
                tree = read_type(bound)
                known = environment.get(tree[0]) or self.types.build((tree[0], (), tree[2]), scope, {})
            environment[name] = Type(name, None, (known,), VARIABLE)
        return environment

    def parameters(self, found: Found) -> tuple[Type | None, ...]:
        method = found.method
        key = id(method), found.holder  # the project and the JDK's index keep their methods
        if key not in self._parameters:
            scope, environment = found.holder.declared, self.method_environment(found)
            assert scope is not None
            self._parameters[key] = tuple(self.types.parse(text, scope, environment) for text in method.generics[0])
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
            return self.types.is_subtype(argument, wanted)
        if not loose:
            return False
        if argument.is_primitive:
            box = find_in_jdk(f"java.lang.{BOXES[argument.name]}")
            return self.types.is_subtype(self.types.of(box), wanted) if box is not None else None
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

    def choose(self, members: Sequence[Found], arguments: tuple[Type | None, ...]) -> Found | str:
        """The overload that Java would call (JLS 15.12.2); else "none", or "ambiguous" where too little is known."""
        if not isinstance(members, tuple):
            return self._choose(members, arguments)
        key = (
            id(members),
            arguments,
        )  # Types.members gives the same tuple again; kept here, so that its id stays its own
        if key not in self._chosen:
            self._chosen[key] = members, self._choose(members, arguments)
        return self._chosen[key][1]

    def _choose(self, members: Sequence[Found], arguments: tuple[Type | None, ...]) -> Found | str:
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
            earlier += [item for item in maybe if all(item is not other for other in earlier)]
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
            else (right is not None and right.name in WIDER.get(left.name, ()))
            or self.types.is_subtype(left, right) is True
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
        return self.types.parse(found.method.generics[1], scope, environment)

    def _unify(self, wanted: Type | None, argument: Type | None, bound: dict[str, Type]) -> None:
        if wanted is None or argument is None or argument.name in ("null", LAMBDA):
            return
        if wanted.qualified == VARIABLE:
            depth = wanted.name.count("[]")
            if argument.name.count("[]") >= depth:
                kept = replace(argument, name=argument.name[: len(argument.name) - 2 * depth], created=None)
                box = find_in_jdk(f"java.lang.{BOXES[kept.name]}") if kept.is_primitive else None
                bound.setdefault(
                    wanted.name[: len(wanted.name) - 2 * depth], self.types.of(box) if box is not None else kept
                )
            return
        if wanted.args and argument.declared is not None:
            seen = self.types.view(argument, wanted.qualified)
            for left, right in zip(wanted.args, seen.args if seen is not None else (), strict=False):
                self._unify(left, right, bound)


@lru_cache(maxsize=1)
def get_overloads(project: Project) -> Overloads:
    """Those of a project; one object, which remembers what it found."""
    return Overloads(get_types(project))
