"""Which parts of a row's context a model is shown: what is asked for, what was seen before, what the rows have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from config.defaults import CONTEXT_PARTS, MAX_CONTEXT_TOKENS
from data.rows.tokenization import TextFormat
from utils.errors import UserError


@dataclass(frozen=True)
class ContextChoice:
    """What --context, --max_context_tokens and --allow_other_context say; None: not given."""

    parts: Sequence[str] | None = None
    max_tokens: int | None = None
    allow_other: bool = False

    def choose(self, seen: TextFormat | None, who: str, rows_have_some: bool, rows: str) -> TextFormat:
        """The format to show.

        ``seen``: what the model or its teacher, named by ``who``, has seen (None: there is no such model).
        ``rows_have_some``: whether the rows, named by ``rows``, have a context. Raises UserError for another context
        than was seen, unless that is allowed, and where the rows have none of what is to be shown.
        """
        known = seen or TextFormat()
        if self.parts is None:
            parts = known.context if seen is not None else CONTEXT_PARTS if rows_have_some else ()
        elif list(self.parts) == ["all"]:
            parts = CONTEXT_PARTS
        else:
            parts = tuple(part for part in CONTEXT_PARTS if part in self.parts)
        tokens = self.max_tokens or (known.max_context_tokens if seen is not None else MAX_CONTEXT_TOKENS)
        apart = known.sets_nearest_apart(parts)
        chosen = replace(known, context=parts, max_context_tokens=tokens, nearest_apart=apart)
        if self.allow_other:
            return chosen
        if parts and not rows_have_some:
            asked = f"--context {' '.join(self.parts)}" if self.parts else f"{who} saw {describe(chosen)}"
            raise UserError(
                f"{asked}: the rows of {rows} hold no context; mine them again, or give --allow_other_context to go on"
                " without"
            )
        if seen is not None and describe(chosen) != describe(known):
            raise UserError(
                f"--context: {describe(chosen)} is to be shown, but {who} saw {describe(known)}; leave the flag out, or"
                " give --allow_other_context to compare"
            )
        return chosen


def describe(format_: TextFormat) -> str:
    """The context of a format in words."""
    if not format_.context:
        return "no context"
    every = set(format_.context) == set(CONTEXT_PARTS)
    apart = ", the nearest assertion apart" if format_.shows_nearest_apart else ""
    return f"{'all' if every else ' '.join(format_.context)} in {format_.max_context_tokens} tokens{apart}"
