"""A choice from a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def take_evenly(items: Sequence[T], limit: int) -> list[T]:
    """At most ``limit`` of the items, in their order and at equal distances, the first among them."""
    return list(items) if len(items) <= limit else [items[i * len(items) // limit] for i in range(limit)]
