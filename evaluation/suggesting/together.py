"""The candidates that are taken for the tests of one file, such that javac takes the file with all of them.

Each candidate was judged alone, in a block of its own or in a copy of its test. What is written has all of them, and
the project may be compiled for an older release of Java than the JDK's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evaluation.running.splice import as_utf8
from evaluation.suggesting.apply import insert_suggestions
from evaluation.suggesting.open_tests import OpenTest
from evaluation.suggesting.scope import ScopeService
from evaluation.suggesting.verdicts import REFUSED, Candidate, choose

Chosen = list[int | None]


def choose_together(
    service: ScopeService, name: str, raw: bytes, tests: Sequence[OpenTest], found: Sequence[list[Candidate]]
) -> Chosen:
    """The place of the candidate that is taken for each test, or None. ``name``: of the file, ``raw``: its bytes.

    A candidate in ``found`` that javac refuses beside those before it is marked, and the next one takes its place.
    Where javac refuses the file as it is, nothing can be told.
    """
    release = service.class_path.release or service.class_path.built_for

    def refuse(chosen: Chosen) -> str:
        picks = [(test, items[at]) for test, items, at in zip(tests, found, chosen, strict=False) if at is not None]
        return service.compile(name, [as_utf8(insert_suggestions(raw, picks))[0]], release)[0]

    chosen = [choose(items) for items in found]
    if not any(at is not None for at in chosen) or not refuse(chosen):
        return chosen
    if refuse([]):  # it may be built for this release with what only a newer JDK has
        release = None
        if not refuse(chosen) or refuse([]):
            return chosen
    taken: Chosen = []
    for items in found:
        while (at := choose(items)) is not None and (error := refuse([*taken, at])):
            items[at] = replace(items[at], status=REFUSED, reason=error, compiled=False, passed=None, nontrivial=None)
        taken.append(at)
    return taken
