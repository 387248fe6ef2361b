"""A few of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly_spread(items: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` of the items, in their order and from all over them."""
    return list(items) if len(items) <= limit else [items[i * len(items) // limit] for i in range(limit)]
