"""The candidates that are taken for the tests of one file, such that javac takes the file with all of them.

Each candidate was judged alone, in a block of its own or in a copy of its test. What is written has all of them, and
the project may be compiled for an older release of Java than the JDK's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluation.running.splice import as_utf8
from evaluation.suggesting.apply import insert_suggestions
from evaluation.suggesting.open_tests import OpenTest
from evaluation.suggesting.scope import ScopeService
from evaluation.suggesting.verdicts import REFUSED, Candidate, choose

Chosen = list[int | None]


def choose_together(
    service: ScopeService,
    name: str,
    raw: bytes,
    tests: Sequence[OpenTest],
    found: Sequence[list[Candidate]],
    find_more: Callable[[int], list[Candidate]] = lambda place: [],
) -> Chosen:
    """The place of the candidate that is taken for each test, or None. ``name``: of the file, ``raw``: its bytes.

    A candidate in ``found`` that javac refuses beside those before it is marked, and the next one takes its place.
    ``find_more``: further candidates of the test at a place, where none is left. Where javac refuses the file as it is,
    nothing can be told.
    """
    release = service.find_release(name, as_utf8(raw)[0])

    def refuse(chosen: Chosen) -> str:
        picks = [(test, items[at]) for test, items, at in zip(tests, found, chosen, strict=False) if at is not None]
        return service.compile(name, as_utf8(insert_suggestions(raw, picks))[0], release)

    chosen = [choose(items) for items in found]
    done = 0  # so many tests have candidates that go together
    while any(at is not None for at in chosen[done:]) and refuse(chosen):
        if not done and refuse([]):
            break
        place = bisect_left(range(len(chosen)), True, lo=done, key=lambda last: bool(refuse(chosen[: last + 1])))
        items = found[place]
        while (at := chosen[place]) is not None and (error := refuse(chosen[: place + 1])):
            items[at] = replace(items[at], status=REFUSED, reason=error, compiled=False, passed=None, nontrivial=None)
            if choose(items) is None:
                items += find_more(place)
            chosen[place] = choose(items)
        done = place + 1
    return chosen
