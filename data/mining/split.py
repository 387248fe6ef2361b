"""Splits tests into training, validation and test data without leaks: what belongs together stays on one side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

LARGE = 0.1  # of a split


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

    Groups of at most ``LARGE`` of the smaller split come first, lest one project that hangs together be most of a
    split. Where they do not suffice, each split gets its part of them before larger ones fill what is left.
    """
    totals: Counter[str] = Counter()
    for group, size in zip(groups, sizes, strict=True):
        totals[group] += size
    everything = totals.total()
    room = {"test": round(test_fraction * everything), "validation": round(validation_fraction * everything)}
    largest = LARGE * min(filter(None, room.values()), default=0)
    order = sorted(totals, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    small = [group for group in order if totals[group] <= largest]
    part = min(1.0, sum(totals[group] for group in small) / max(1, sum(room.values())))
    chosen: dict[str, str] = {}
    for candidates, share in ((small, part), (order, 1.0)):
        left = {name: int(share * size) for name, size in room.items()}
        for group, split in chosen.items():
            left[split] -= totals[group]
        for group in (name for name in candidates if name not in chosen):
            fitting = next((name for name, free in left.items() if totals[group] <= free), None)
            if fitting:
                chosen[group] = fitting
                left[fitting] -= totals[group]
    return [chosen.get(group, "train") for group in groups]
