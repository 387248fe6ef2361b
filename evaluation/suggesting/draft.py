"""A candidate before it is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

MODEL, SIBLING, TEMPLATE = "model", "sibling", "template"


@dataclass(frozen=True)
class Draft:
    """A candidate before it is judged. ``origins``: who proposes it, and at which place of that list, from 1.

    ``likelihood``: the student's mean log-likelihood of a token; NaN where no student was asked.
    """

    text: str
    origins: tuple[tuple[str, int], ...]
    likelihood: float = math.nan

    @property
    def origin(self) -> str:
        """The first that proposes it: the student before the siblings before the templates."""
        return self.origins[0][0]
