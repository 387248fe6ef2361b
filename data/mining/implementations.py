"""Which method runs where a call names one that has no body, or that a class of the project overrides."""

from __future__ import annotations

from data.mining.projects import JavaClass, Method
from data.mining.types import Found, Types


def find_implementation(types: Types, found: Found, under_test: JavaClass | None) -> Method:
    """The method of the class of the object, where that is known; else, of a method without a body, that of the
    class under test, or the only one that there is."""
    method, receiver = found.method, found.receiver
    if method.static or method.constructor:
        return method
    dynamic = receiver.created
    if dynamic is None and not method.has_body and method.file and under_test is not None:
        seen = types.view(types.of(under_test), found.holder.qualified)
        dynamic = under_test if seen is not None else None
    if dynamic is not None:
        written = [name.partition("<")[0] for name in method.generics[0]]
        fitting = [
            item.method
            for item in types.members(types.of(dynamic), method.name)
            if len(item.method.parameters) == len(method.parameters) and item.method.has_body
        ]
        same = [item for item in fitting if list(item.generics[0]) == list(method.generics[0])]
        same = same or [item for item in fitting if [n.partition("<")[0] for n in item.generics[0]] == written]
        if same or len({item.generics[0] for item in fitting}) == 1:
            return (same or fitting)[0]
    if method.has_body or not method.file or found.holder.declared is None:
        return method
    candidates = [
        item
        for item in types.project.methods_named(method.name)
        if item.has_body and item.parameters == method.parameters
    ]
    owners = [types.project.find(item.owner, item.file) for item in candidates]
    kin = [
        item
        for item, owner in zip(candidates, owners, strict=True)
        if owner is not None and types.project.extends(owner, found.holder.declared)
    ]
    return kin[0] if len(kin) == 1 else method
