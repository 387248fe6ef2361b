"""What the calls and variables in a test stand for, as far as the search for assertions has to know."""

from __future__ import annotations

from tree_sitter import Node

from data.java.assertions import Scope
from data.mining.projects import JavaClass, Method
from data.mining.resolution import CallResolver

MAX_DEPTH = 3


class TestScope(Scope):
    """Knows the methods of the project's own tests. A method is a helper by what it does, not by how it is called."""

    __test__ = False  # pytest would take it for a test class

    def __init__(self, resolver: CallResolver) -> None:
        self.resolver = resolver
        self.bdd = any("BDD" in line for line in resolver.owner.imports.lines)

    def is_helper(self, call: Node) -> bool:
        """An overload of the tests' own fits the call, and it does not just pass it on to the framework's."""
        reached = self.resolver.resolve(call)
        if reached.place == "tests":
            return reached.method is None or not (reached.method.forwards or self.resolver.may_be_inherited(call))
        return reached.place == "unknown" and not self.resolver.may_be_inherited(call)

    def asserts(self, call: Node | None) -> bool:
        method = self.resolver.resolve(call).method if call is not None else None
        return method is not None and self._asserts(method, MAX_DEPTH)

    def _asserts(self, method: Method, depth: int) -> bool:
        owner = self.resolver.project.find(method.owner, method.file)
        if owner is None or not owner.in_tests:
            return False
        called = self._called(owner, method) if depth and not method.asserts else ()
        return method.asserts or any(self._asserts(item, depth - 1) for item in called)

    def _called(self, owner: JavaClass, method: Method) -> list[Method]:
        known = (item for parent in self.resolver.project.ancestors(owner)[0] for item in parent.methods)
        return [item for item in known if item.name in method.calls and item != method]

    def type_of_variable(self, variable: Node) -> str:
        known = self.resolver.type_of(variable)
        return known.name if known is not None else ""
