"""Splits tests into training, validation and test data without leaks: what belongs together stays on one side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

LARGE = 0.1  # a group above this share of a split is left for training while smaller ones can fill the split


def group_kin(links: Sequence[Sequence[str]]) -> list[str]:
    """For each test the name of its group, which is the group's smallest link.

    Tests that share a link (a test class, one of its superclasses, a focal class, a copied method) are in one group.
    So are those that are connected over other tests.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for shared in links:
        for link in shared[1:]:
            first, second = sorted((root(shared[0]), root(link)))
            parent[second] = first
    return [root(shared[0]) for shared in links]


def assign(
    groups: Sequence[str], sizes: Sequence[int], validation_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """A split for each test, given its group and its number of tasks. Groups come in an order drawn from the seed and
    fill test, then validation, up to their fraction of the tasks; a group that fits neither goes to training.

    Groups of more than ``LARGE`` of a split come last, lest one project that hangs together be most of the split."""
    totals: Counter[str] = Counter()
    for group, size in zip(groups, sizes, strict=True):
        totals[group] += size
    everything = totals.total()
    room = {"test": round(test_fraction * everything), "validation": round(validation_fraction * everything)}
    large = LARGE * min(filter(None, room.values()), default=0)
    chosen: dict[str, str] = {}

    def turn(name: str) -> tuple[bool, bytes]:
        return totals[name] > large, hashlib.sha256(f"{seed}:{name}".encode()).digest()

    for group in sorted(totals, key=turn):
        chosen[group] = next((name for name, left in room.items() if totals[group] <= left), "train")
        if chosen[group] in room:
            room[chosen[group]] -= totals[group]
    return [chosen[group] for group in groups]
