"""Training, validation and test data without leaks: what belongs together stays on one side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Membership:
    """Where a task belongs; tasks that share any of ``links`` (test class, its superclasses, focal class) are kin."""

    project: str
    links: tuple[str, ...]


def kin_groups(members: Sequence[Membership]) -> list[str]:
    """For each task the name of its group: the smallest link among all that are connected with it."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for member in members:
        first = root(f"{member.project}:{member.links[0]}")
        for link in member.links[1:]:
            other = root(f"{member.project}:{link}")
            first, second = min(first, other), max(first, other)
            parent[second] = first
    return [root(f"{member.project}:{member.links[0]}") for member in members]


def assign(
    groups: Sequence[str], sizes: Sequence[int], validation_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """A split for each test, given its group and its number of tasks. Groups come in an order drawn from the seed and
    fill test, then validation, up to their fraction of the tasks; a group that fits neither goes to training."""
    totals: Counter[str] = Counter()
    for group, size in zip(groups, sizes, strict=True):
        totals[group] += size
    everything = totals.total()
    room = {"test": round(test_fraction * everything), "validation": round(validation_fraction * everything)}
    chosen: dict[str, str] = {}
    for group in sorted(totals, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()):
        chosen[group] = next((name for name, left in room.items() if totals[group] <= left), "train")
        if chosen[group] in room:
            room[chosen[group]] -= totals[group]
    return [chosen[group] for group in groups]
