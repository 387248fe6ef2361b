"""What is odd about usable rows: nothing that stops a run, but something that its owner should know."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from data.java.normal_form import find_assertion
from data.java.statements import can_assert, parse_statements
from data.rows.readers import Sample

VISIBLE = "the answer also stands elsewhere in the test"
NO_JAVA = "the target is no Java statement"
NO_CALL = "the target calls nothing, so it asserts nothing"
COMMENT_SIGN = re.compile(r"//|/\*|\*/")


def find_oddities(sample: Sample) -> list[str]:
    """A few words for each oddity, the same for all rows that have it."""
    found = list(sample.oddities)
    uncommented = COMMENT_SIGN.sub(" ", sample.test)  # a comment shows the answer as well
    if any(find_assertion(text, one) for one in sample.assertions for text in (sample.test, uncommented)):
        found.append(VISIBLE)
    statements = parse_statements(sample.target)
    if statements is None or not can_assert(statements):
        found.append(NO_JAVA if statements is None else NO_CALL)
    return found


def count_oddities(samples: Sequence[Sample]) -> dict[str, int]:
    """Oddity -> how many of the samples have it, the most frequent first."""
    return dict(Counter(oddity for sample in samples for oddity in find_oddities(sample)).most_common())


def tell_oddities(file: str, counts: dict[str, int], rows: str) -> list[str]:
    """One sentence for each oddity of ``file``; ``rows``: how many rows were looked at, and which."""
    return [f"{file}: {count} of {rows}: {what}" for what, count in counts.items()]
