"""The places where some tests of a file lack an assertion, and what javac knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from data.java.scope import JavaScope
from evaluation.running.splice import as_utf8
from evaluation.suggesting.draft import Draft
from evaluation.suggesting.open_tests import OpenTest
from evaluation.suggesting.scope import ScopeService


class Places:
    """The places of open tests of one file."""

    def __init__(self, service: ScopeService, name: str, raw: bytes, tests: Sequence[OpenTest]) -> None:
        """``name``: of the file without its folder; ``raw``: its bytes, as they were when the tests were found."""
        self._service, self._name = service, name
        self._source, self._offsets = as_utf8(raw, *(test.position for test in tests))
        self._framework: str = tests[0].source["framework"]
        self.refused: list[str] = []  # of each test, once checked: why javac takes no candidate; empty where it does

    @cached_property
    def _release(self) -> int | None:
        return self._service.find_release(self._name, self._source)

    def look(self) -> list[JavaScope | str]:
        """What can be named at each, or why that is not known."""
        spans = [(at, at) for at in self._offsets]
        return self._service.look(self._name, self._source, spans, self._framework, self._release)

    def check(self, pools: Sequence[Sequence[Draft]]) -> list[list[Draft]]:
        """The candidates of each that javac does not refuse, with what it says of them."""
        texts = [[draft.text for draft in pool] for pool in pools]
        found = self._service.check(self._name, self._source, self._offsets, texts, self._framework, self._release)
        self.refused = [
            answers[0].refused if answers and all(said.refused for said in answers) else "" for answers in found
        ]
        return [
            [replace(draft, checked=said) for draft, said in zip(pool, answers, strict=True) if not said.refused]
            for pool, answers in zip(pools, found, strict=True)
        ]
