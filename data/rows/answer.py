"""Whether the answer of a task already stands in its input, so that copying it is enough."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from data.rows.readers import LITERAL_OR_BLANK

IN_TEST, IN_CONTEXT, NOT_IN_INPUT = "test", "context", "none"
ANSWER_PLACES = (NOT_IN_INPUT, IN_CONTEXT, IN_TEST)


@lru_cache(1 << 14)  # an assertion is the sibling of many
def _squeeze(text: str) -> str:
    """Without blanks, but for those in literals."""
    return LITERAL_OR_BLANK.sub(lambda match: match.group(1) or "", text)


def _stands_in(statement: str, test: str) -> bool:
    """Whether it is there, and not as the end of a longer name."""
    at = test.find(statement)
    while at > 0 and (test[at - 1].isalnum() or test[at - 1] in "_$"):
        at = test.find(statement, at + 1)
    return at >= 0


def find_answer(assertions: Iterable[str], test: str, context: Iterable[str]) -> str:
    """Where all ``assertions`` of a task stand word for word: "test" (as another statement of the masked test),
    "context" (at least one only among these assertions of other tests), or "none"."""
    wanted = [_squeeze(assertion) for assertion in assertions]
    squeezed = _squeeze(test)
    missing = [item for item in wanted if not _stands_in(item, squeezed)]
    if not missing:
        return IN_TEST
    known = {_squeeze(text).rstrip(";") for text in context}
    return IN_CONTEXT if all(item.rstrip(";") in known for item in missing) else NOT_IN_INPUT
