"""What other tests assert, as candidates for a test."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data.rows.context import Sibling
from data.rows.readers import Sample
from evaluation.systems.nearest_sibling import rename_variables


def list_copies(sample: Sample) -> Iterator[tuple[str, Sibling]]:
    """What the siblings assert, nearest first, with variables renamed; behind each the same about this test's method,
    where the sibling calls another one. With each text the sibling that it is from."""
    own = sample.source.get("focal_name", "")
    for sibling in sample.context.get("siblings", ()):
        text = rename_variables(sibling, sample.context)
        yield text, sibling
        if edited := _about_method(text, sibling, own):
            yield edited, sibling
    for stranger in sample.context.get("retrieved", ()):
        yield rename_variables(stranger, sample.context), stranger


def _about_method(text: str, sibling: Sibling, own: str) -> str:
    """The sibling's assertion with a call of ``own`` in place of that of its own method; empty where it makes none."""
    theirs = sibling.get("focal_name", "")
    if not own or not theirs or own == theirs:
        return ""
    edited = re.sub(rf"(?<=\.){re.escape(theirs)}(?=\()", own, text)
    return edited if edited != text else ""
