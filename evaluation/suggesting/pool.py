"""The candidates for one test: what the student writes, what other tests assert, and a few templates; ranked by what
speaks for each (ranking.py), so that a suggestion is not worse than a copy of the nearest test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from config.defaults import CONTEXT_PARTS
from data.java.scope import JavaScope
from data.java.statements import is_valid_java
from data.java.tokens import one_line, tokenize
from data.rows.context import list_items
from data.rows.readers import Sample
from evaluation.running.splice import with_semicolon
from evaluation.suggesting.copies import list_copies
from evaluation.suggesting.draft import MODEL, SIBLING, TEMPLATE, Draft
from evaluation.suggesting.ranking import rank
from evaluation.suggesting.templates import write_templates
from models.decoding.constraints.kept import Kept
from models.decoding.constraints.offered import find_offered
from models.decoding.constraints.reading import fits_scope

if TYPE_CHECKING:
    from evaluation.suggesting.student import Student

Check = Callable[[Sequence[Sequence[Draft]]], list[list[Draft]]]


def make_pool(sample: Sample, beams: Sequence[str] = (), copies: bool = True) -> list[Draft]:
    """The candidates of one test without repetition, and without what is no Java statement.

    Two that differ in blanks alone are the same. The order: beams, copies of siblings, templates.
    """
    found: dict[tuple[str, ...], Draft] = {}
    groups: list[tuple[str, Iterator[str]]] = [(MODEL, map(tidy, beams))]
    if copies:
        groups += [(SIBLING, (text for text, _ in list_copies(sample))), (TEMPLATE, iter(write_templates(sample)))]
    for origin, texts in groups:
        for place, text in enumerate(_without_repetition(texts), 1):
            key = tuple(tokenize(text))
            known = found.get(key)
            if known is not None:
                found[key] = replace(known, origins=(*known.origins, (origin, place)))
            elif is_valid_java(text):
                found[key] = Draft(text, ((origin, place),))
    return list(found.values())


def write_around(sample: Sample) -> list[str]:
    """The copies and templates, best first; none for a test without context."""
    return [draft.text for draft in prefer_fitting(sample, rank(sample, make_pool(sample)))] if sample.context else []


def prefer_fitting(sample: Sample, pool: Sequence[Draft]) -> list[Draft]:
    """First what compiles as far as the types and signatures of the test's context tell; else as it was."""
    context = [item.text for item in list_items(sample.context, CONTEXT_PARTS)]
    begun = Kept(find_offered("\n".join([one_line(sample.test), one_line(sample.focal), *context])))
    return sorted(pool, key=lambda draft: not begun.takes(draft.text))


def tidy(text: str) -> str:
    """A model's text as it is suggested: each statement on one line, with its semicolon."""
    return "\n".join(with_semicolon(one_line(line)) for line in text.split("\n"))


def _without_repetition(texts: Iterable[str]) -> Iterator[str]:
    return iter(dict.fromkeys(text for text in texts if text.strip()))


def fill_pools(
    samples: Sequence[Sample],
    student: Student | None,
    scopes: Sequence[JavaScope | None] = (),
    copies: bool = True,
    check: Check | None = None,
) -> list[list[Draft]]:
    """The ranked candidates of each test. Without a student: the copies and templates, nearest first.

    ``scopes``: what can be named at the place of each test; a candidate that names something else is left out, unless
    ``check`` is there, which leaves out what it refuses. Where neither is known, what does not fit the context comes
    last. Without ``copies``: what the student writes, in its own order.
    """
    beams = student.write(samples, scopes) if student is not None else [[] for _ in samples]
    pools = [make_pool(sample, found, copies) for sample, found in zip(samples, beams, strict=True)]
    if check is not None:
        pools = check(pools)
    elif scopes:
        pools = [
            [draft for draft in pool if scope is None or fits_scope(draft.text, scope)]
            for pool, scope in zip(pools, scopes, strict=True)
        ]
    if student is not None and copies:
        scores = student.score(samples, [[draft.text for draft in pool] for pool in pools])
        pools = [
            rank(sample, [replace(draft, likelihood=score) for draft, score in zip(pool, found, strict=True)])
            for sample, pool, found in zip(samples, pools, scores, strict=True)
        ]
    if check is not None or not copies:
        return pools
    known = scopes or [None] * len(samples)
    return [
        prefer_fitting(sample, pool) if scope is None else pool
        for sample, pool, scope in zip(samples, pools, known, strict=True)
    ]
