"""Which method a test's assertion is about: the focal method. One rule, for mining and for suggestions.

The rule asks, in this order, and takes the first answer:

1. Which method of the class under test does the test's name name, if the test calls it?
2. Which method of the project does the assertion call?
3. Which call made, or changed, what the assertion looks at? Of an assertion that looks at nothing (``fail()``, a
   ``verify``): the last call before it.
4. Where no assertion is there yet, a method of the class under test that the name names but nothing calls.

Constructors come last. Where an answer needs to know where a call leads, and the sources do not tell, there is none.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tree_sitter import Node

from data.java.assertions import Assertion, find_chain_root
from data.java.syntax import field_text, text_of, walk
from data.mining.body import list_receivers
from data.mining.overloads import get_overloads
from data.mining.projects import JavaClass, Method, Project
from data.mining.resolution import Call, CallResolver
from data.mining.types import Type

TEST_AFFIXES = re.compile(r"^(?:Test(?=[A-Z]))?(.+?)(?:_?(?:Unit|Integration)?(?:Tests?|TestCases?|IT|Spec))?$")


def find_class_under_test(project: Project, test_class: JavaClass) -> JavaClass | None:
    """``FooTest``, ``TestFoo``, ``FooTests``, ``FooTestCase``, ``FooIT`` -> ``Foo``; else the longest leading words of
    the name that are a class of the same package (``StringUtilsTrimTest`` -> ``StringUtils``)."""
    outermost = list(project.enclosing(test_class))[-1]
    match = TEST_AFFIXES.match(outermost.name)
    stem = match.group(1) if match else outermost.name
    if stem != outermost.name and (found := project.named(stem, outermost)) is not None:
        return found
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|\W|_", stem)
    for count in range(len(words) - 1, 0, -1):
        found = project.named("".join(words[:count]), outermost)
        if found is not None and found.imports.package == outermost.imports.package:
            return found
    return None


@dataclass(frozen=True)
class Focal:
    """The focal method; its call stands ``inside`` the assertion or ``before`` it, or is yet to be written (``none``).

    ``rule`` says how it was found; ``confidence`` is "low" where another method was as likely.
    """

    method: Method
    position: str
    rule: str
    confidence: str


NAME, INSIDE, MADE, LAST = "test name", "called in the assertion", "makes what is asserted", "last call before"
UNCLEAR, BODILESS, NOTHING = "focal method is unclear", "focal method has no body", "no focal method"
VALUES = frozenset({"String", "Integer", "Long", "Double", "Boolean", "Float", "Short", "Byte", "Character"})


def split_words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def count_named_words(test_name: str, method_name: str) -> int:
    """How many words of a method's name a test's name begins with, all or none: 2 for ``testPushAllOfNone`` and
    ``pushAll``, 1 for ``totalOfTwo`` and ``getTotal``."""
    wanted = split_words(test_name)
    wanted = wanted[1:] if wanted[:1] in (["test"], ["should"]) else wanted
    words = split_words(method_name)
    forms = [words, words[1:]] if words[:1] in (["get"], ["is"], ["has"]) else [words]
    for form in forms:
        if form and wanted[1 : len(form)] == form[1:] and wanted[:1] in ([form[0]], [form[0] + "s"], [form[0] + "es"]):
            return len(form)
    return 0


class FocalFinder:
    """Finds the focal methods of one test's assertions."""

    def __init__(self, project: Project, owner: JavaClass, method: Node, source: bytes) -> None:
        self.project = project
        self.owner = owner
        self.source = source
        self.under_test = find_class_under_test(project, owner)
        self.resolver = CallResolver(get_overloads(project), owner, method, source, self.under_test)
        self.body = self.resolver.body
        ancestors = project.ancestors(self.under_test)[0] if self.under_test is not None else ()
        self._under_test = frozenset(item.qualified for item in ancestors)
        self._ends = [call.end_byte for call in self.body.calls]
        self._name = field_text(method, "name", source)
        self._named = self._list_named()
        self._assertions: Sequence[Assertion] = ()
        self._asserted: set[int] = set()
        self._mentions: dict[int, frozenset[str]] = {}  # of statements

    def find(self, targets: Sequence[Node], position: int, assertions: Sequence[Assertion]) -> Focal | str:
        """The focal method of the assertions ``targets``, which begin at the byte ``position``; or why there is none.

        Without targets: that of an assertion which is still to be written there. ``assertions`` are all of the test: a
        call in an earlier one counts less. What a Mockito ``verify`` names is a call that it expects, not one it makes.
        """
        verifies = bool(targets) and all(item.kind.startswith("verify") for item in assertions if item.node in targets)
        self._note_asserted(assertions)
        inside = [] if verifies else [node for target in targets for node in self._list_calls_in(target)]
        before = self.body.calls[: bisect_right(self._ends, position)]
        reached = self._resolve(inside)
        return (
            self._find_named(before, inside)
            or self._find_inside(targets, reached, constructors=False)
            or (None if targets else self._find_uncalled())
            or self._find_before(targets, position, before)
            or self._find_inside(targets, reached, constructors=True)
            or self._find_before(targets, position, before, constructors=True)
            or NOTHING
        )

    def _list_calls_in(self, node: Node) -> list[Node]:
        """The calls in a node of the test, in the order in which they are made."""
        ending = self.body.calls[bisect_right(self._ends, node.start_byte) : bisect_right(self._ends, node.end_byte)]
        return [call for call in ending if call.start_byte >= node.start_byte]

    def _note_asserted(self, assertions: Sequence[Assertion]) -> None:
        """Remember which calls stand in an assertion."""
        if self._assertions is assertions:
            return
        self._assertions = assertions
        starts = [item.node.start_byte for item in assertions]
        for call in self.body.calls:
            place = bisect_right(starts, call.start_byte) - 1
            if place >= 0 and _holds(assertions[place].node, call):
                self._asserted.add(call.id)

    def _resolve(self, nodes: Sequence[Node]) -> list[Call]:
        """The calls that lead, or may lead, to code of the project."""
        calls = (self.resolver.resolve(node) for node in nodes)
        return [call for call in calls if call.place in ("project", "bodiless", "unknown")]

    def type_of(self, node: Node) -> Type | None:
        """The static type of an expression of the test, None where it is not known."""
        found = self.resolver.type_of(node)
        return found if found is not None and found.name not in ("null", "lambda") else None

    # -- the four questions ------------------------------------------------------------------------------------------

    def _list_named(self) -> dict[int, int]:
        """The calls that the test's name may name -> how many words of it their methods' names are."""
        if self.under_test is None:
            return {}
        found = {}
        for call in self.body.calls:
            if call.type != "object_creation_expression":
                name = call.child_by_field_name("name") if call.type == "method_invocation" else call.children[-1]
                words = count_named_words(self._name, text_of(name, self.source)) if name is not None else 0
                if words:
                    found[call.id] = words
        return found

    def _find_named(self, before: Sequence[Node], inside: Sequence[Node]) -> Focal | None:
        best: tuple[int, Focal] | None = None
        for position, nodes in (("before", before), ("inside", inside)) if self._named else ():
            for call in self._resolve([node for node in nodes if node.id in self._named]):
                method, words = call.method, self._named[call.node.id]
                if method is None or call.place != "project" or method.constructor or not self._is_under_test(method):
                    continue
                if best is None or words >= best[0]:
                    best = words, Focal(method, position, NAME, "high")
        return best[1] if best is not None else None

    def _find_inside(self, targets: Sequence[Node], calls: list[Call], constructors: bool) -> Focal | str | None:
        receivers = {item.id for call in calls for item in list_receivers(call.node)}
        free = [call for call in calls if call.node.id not in receivers]
        candidates = [call for call in free if call.method is not None and call.method.constructor == constructors]
        candidates = [call for call in candidates if call.place == "project"]
        doubtful = [call for call in free if call.place != "project"]
        if not candidates:
            if doubtful and not constructors:
                return BODILESS if all(call.place == "bodiless" for call in doubtful) else UNCLEAR
            return None
        best = max(
            candidates, key=lambda call: (*self._rank(call), _in_actual_value(targets, call.node), call.node.end_byte)
        )
        rivals = [call for call in candidates if call.method != best.method and self._rank(call) == self._rank(best)]
        unsure = doubtful or any(not _holds(best.node, rival.node) for rival in rivals)
        assert best.method is not None
        return Focal(best.method, "inside", INSIDE, "low" if unsure else "high")

    def _find_before(
        self, targets: Sequence[Node], position: int, before: Sequence[Node], constructors: bool = False
    ) -> Focal | str | None:
        names = self._list_variables(targets)
        rule = MADE if names else LAST
        related = self._resolve(self._find_related(names, position) if names else self._find_near(targets, before))
        wanted = [call for call in related if call.method is None or call.method.constructor == constructors]
        candidates = [call for call in wanted if call.place == "project" and call.method is not None]
        if not candidates and names and not all(self._is_local_value(name) for name in names):
            rule = LAST  # a field, say: what changes it cannot be seen
            candidates = [
                call
                for call in self._resolve(before)
                if call.place == "project"
                and call.method is not None
                and call.method.constructor == constructors
                and self._is_under_test(call.method)
            ]
            if candidates:
                method = candidates[-1].method
                assert method is not None
                return Focal(method, "before", rule, "low")
        if not candidates:
            return UNCLEAR if any(call.place == "unknown" for call in wanted) and not constructors else None

        def rank(call: Call) -> tuple[bool, ...]:
            return (*self._rank(call), call.node.id not in self._asserted, self._assigned(call.node) in names)

        best = max(reversed(candidates), key=rank)
        rivals = [call for call in candidates if call.method != best.method and rank(call) == rank(best)]
        assert best.method is not None
        unsure = rivals or (best.node.id in self._asserted and self._assigned(best.node) not in names)
        return Focal(best.method, "before", rule, "low" if unsure else "high")

    def _find_uncalled(self) -> Focal | None:
        """A getter, say, that only the missing assertion would call.

        Of overloads the one of whose types the test's name says most (``decodeBuffer``: ``decode(Buffer)``), then that
        of fewest parameters.
        """
        best: tuple[tuple[int, int, int], Method] | None = None
        mentioned = set(split_words(self._name))
        for owner in self.project.ancestors(self.under_test)[0] if self.under_test is not None else ():
            for method in owner.methods:
                words = count_named_words(self._name, method.name)
                if not words or not method.has_body or method.constructor:
                    continue
                types = {word for name in method.parameters for word in split_words(name.replace("[]", "Array"))}
                rank = (words, len(types & mentioned), -len(method.parameters))
                if best is None or rank > best[0]:
                    best = rank, method
        return Focal(best[1], "none", NAME, "high") if best is not None else None

    # -- evidence ----------------------------------------------------------------------------------------------------

    def _is_under_test(self, method: Method) -> bool:
        if self.under_test is None:
            return False
        return method.owner in self._under_test or method.owner.startswith(self.under_test.qualified + ".")

    def _rank(self, call: Call) -> tuple[bool, ...]:
        method = call.method
        assert method is not None
        factory = method.static and method.returns.rpartition(".")[2] == method.owner.rpartition(".")[2]
        return self._is_under_test(method), not factory

    def _list_variables(self, targets: Sequence[Node]) -> frozenset[str]:
        """The variables and fields that the targets mention."""
        return frozenset(name for target in targets for name in self._mentioned(target))

    def _mentioned(self, node: Node) -> Iterator[str]:
        for item in walk(node):
            parent = self.body.parents.get(item.id)
            if item.type != "identifier" or parent is None:
                continue
            name = text_of(item, self.source)
            if parent.type == "method_invocation" and parent.child_by_field_name("name") == item:
                continue
            if self.body.find_variable(name, item.start_byte) is not None or self.resolver.is_field(name):
                yield name

    def _is_local_value(self, name: str) -> bool:
        return not self.resolver.is_field(name)

    def _assigned(self, node: Node) -> str:
        """The variable that holds the value of a statement's expression, or the empty string."""
        statement = self.body.statement_of(node)
        if statement.type in ("local_variable_declaration", "resource"):
            holders = statement.children_by_field_name("declarator") or [statement]
            return next((field_text(item, "name", self.source) for item in holders if _holds(item, node)), "")
        inner = statement.named_children[0] if statement.named_children else None
        if inner is not None and inner.type == "assignment_expression":
            target = inner.child_by_field_name("left")
            return next(self._mentioned(target), "") if target is not None else ""
        return ""

    def _find_related(self, names: Iterable[str], position: int) -> list[Node]:
        """The calls before a byte of the file, in statements that made or could change one of the variables, or what
        these were made of."""
        known = set(names)
        found: list[Node] = []
        for statement in reversed(self.body.statements):
            if statement.start_byte >= position:
                continue
            if not known.isdisjoint(self._caught_in(statement)):
                found += self._list_calls_in(statement)
                continue
            if statement.id not in self._mentions:
                self._mentions[statement.id] = frozenset(self._mentioned(statement))
            mentioned = self._mentions[statement.id]
            assigned = self._assigned(statement.named_children[-1]) if statement.named_children else ""
            changed = {name for name in mentioned & known if not self._is_value(name, statement.end_byte)}
            if assigned not in known and not changed:
                continue
            found += self._list_calls_in(statement)
            if assigned in known:
                known |= mentioned
        earlier = {call.id: call for call in found if call.end_byte <= position}
        return sorted(earlier.values(), key=lambda call: call.end_byte)

    def _caught_in(self, statement: Node) -> Iterator[str]:
        """The names of the exceptions that a statement may throw, as the ``catch`` clauses around it call them."""
        inner, outer = statement, self.body.parents.get(statement.id)
        while outer is not None:
            if outer.type.startswith("try_") and inner.type == "block":
                for clause in outer.named_children:
                    if clause.type == "catch_clause":
                        yield field_text(clause.named_children[0], "name", self.source)
            inner, outer = outer, self.body.parents.get(outer.id)

    def _is_value(self, name: str, position: int) -> bool:
        """Whether a variable holds something that no call can change."""
        known = self.resolver.type_of_name(name, position)
        return known is not None and (known.is_primitive or known.name in VALUES)

    def _find_near(self, targets: Sequence[Node], before: Sequence[Node]) -> Sequence[Node]:
        """Of an assertion that looks at no variable: the calls before it, in its block for ``fail()``."""
        block = self.body.parents.get(targets[0].id) if targets else None
        near = [call for call in before if block is not None and _holds(block, call)]
        return near if self._resolve(near) else before


def _holds(outer: Node, inner: Node) -> bool:
    return outer.start_byte <= inner.start_byte and inner.end_byte <= outer.end_byte


def _in_actual_value(targets: Sequence[Node], node: Node) -> bool:
    """Whether a call stands in what an assertion looks at: the argument of ``assertThat``, not of ``isEqualTo``."""
    roots = (find_chain_root(item.named_children[0] if item.named_children else None) for item in targets)
    arguments = (root.child_by_field_name("arguments") for root in roots if root is not None)
    return any(item is not None and _holds(item, node) for item in arguments)
