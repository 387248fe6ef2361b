"""A candidate before it is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

MODEL, SIBLING, TEMPLATE = "model", "sibling", "template"


class Checked(NamedTuple):
    """What javac says of statements at their place: why it refuses them, or the ``imports`` with which it takes them.

    ``doubt``: why it is not certain that they compile, where it takes them.
    """

    refused: str = ""
    imports: tuple[str, ...] = ()
    doubt: str = ""


@dataclass(frozen=True)
class Draft:
    """A candidate before it is judged. ``origins``: who proposes it, and at which place of that list, from 1.

    ``likelihood``: the student's mean log-likelihood of a token; NaN where no student was asked. ``checked``: what
    javac says of it; None where it was not asked.
    """

    text: str
    origins: tuple[tuple[str, int], ...]
    likelihood: float = math.nan
    checked: Checked | None = None

    @property
    def origin(self) -> str:
        """The first that proposes it: the student before the siblings before the templates."""
        return self.origins[0][0]
