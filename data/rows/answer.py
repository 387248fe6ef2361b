"""Whether the answer of a task already stands in its input, so that copying it is enough."""

from __future__ import annotations

from collections.abc import Iterable

from data.java.normal_form import find_tokens, spell

IN_TEST, IN_CONTEXT, NOT_IN_INPUT = "test", "context", "none"
ANSWER_PLACES = (NOT_IN_INPUT, IN_CONTEXT, IN_TEST)


def find_answer(assertions: Iterable[str], test: str, context: Iterable[str]) -> str:
    """Where all ``assertions`` of a task stand, token for token: "test" (as another statement of the masked test),
    "context" (at least one only among these assertions of other tests), or "none"."""
    answers = [spell(assertion) for assertion in assertions]
    # To take a test apart takes long, and most lack a word of the answer. Nor is it asked for again.
    likely = any(all(token in test for token in answer if token.isidentifier()) for answer in answers)
    tokens = spell.__wrapped__(test) if likely else ()
    missing = [answer for answer in answers if find_tokens(tokens, answer) is None]
    if not missing:
        return IN_TEST
    return IN_CONTEXT if {spell(text) for text in context}.issuperset(missing) else NOT_IN_INPUT
