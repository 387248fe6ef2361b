"""Whether the answer of a task already stands in its input, so that copying it is enough."""

from __future__ import annotations

from collections.abc import Iterable

from data.java.normal_form import find_tokens, spell

IN_TEST, IN_CONTEXT, NOT_IN_INPUT = "test", "context", "none"
ANSWER_PLACES = (NOT_IN_INPUT, IN_CONTEXT, IN_TEST)


def find_answer(assertions: Iterable[str], test: str, context: Iterable[str]) -> str:
    """Where all ``assertions`` of a task stand, token for token: "test" (as another statement of the masked test),
    "context" (at least one only among these assertions of other tests), or "none"."""
    tokens = spell(test)
    missing = [wanted for wanted in map(spell, assertions) if find_tokens(tokens, wanted) is None]
    if not missing:
        return IN_TEST
    return IN_CONTEXT if {spell(text) for text in context}.issuperset(missing) else NOT_IN_INPUT
