"""The candidates of tests, with what running them showed; and which one is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evaluation.running.outcomes import Outcome
from evaluation.running.splice import Task, find_missing_imports
from evaluation.suggesting.draft import Draft
from evaluation.suggesting.open_tests import OpenTest
from evaluation.suggesting.repair import LABEL, repair

NOT_RUN, RUN, REFUSED, TIMEOUT = "not run", "run", "compile error", "timeout"
BEST = 3
FIRST_WAVE, WAVE = 2, 4  # candidates of a test that are run before it is known whether more are needed
SLOW = 6  # so many that all exceed the time limit are enough


class Judge(Protocol):
    """What runs candidates: a ProjectExecutor, or something that remembers what one has shown."""

    def execute(self, tasks: Sequence[Task], predictions: Sequence[str], /) -> list[Outcome]: ...


@dataclass(frozen=True)
class Candidate:
    """A suggested assertion. ``rank``: its place in the student's order of the pool, from 1; ``origin``: who proposed
    it (model, sibling, template or run); the rest as in Outcome."""

    assertion: str
    rank: int
    origin: str = "model"
    likelihood: float | None = None
    status: str = NOT_RUN
    reason: str = ""
    compiled: bool | None = None
    passed: bool | None = None
    nontrivial: bool | None = None
    imports: tuple[str, ...] = ()
    killed: str = ""

    @property
    def grade(self) -> int:
        """3: passes, and fails once the focal method is broken; 2: passes, no mutants; 1: compiles; 0: the rest."""
        if self.passed:
            return {True: 3, None: 2, False: 1}[self.nontrivial]
        return int(bool(self.compiled))

    @property
    def acceptable(self) -> bool:
        """Whether it may be written into the file. So may what was not run: the user asked for that."""
        return self.status == NOT_RUN or self.grade >= 2

    def verdict(self) -> str:
        """What running it showed, for people."""
        return f"{LABEL}: {self._shown()}" if self.origin == RUN else self._shown()

    def _shown(self) -> str:
        return {
            3: f"passes; fails when broken ({self.killed})",
            2: "passes; no way found to break the method",
            1: "passes, whatever the method does" if self.passed else f"{self.status}: {self.reason}",
            0: f"{self.status}: {self.reason}" if self.reason else self.status,
        }[self.grade]


def make_candidate(draft: Draft, rank: int, outcome: Outcome) -> Candidate:
    """A draft with what running it showed."""
    return Candidate(
        draft.text,
        rank,
        draft.origin,
        _tell_likelihood(draft),
        outcome.status,
        outcome.reason,
        outcome.compiled,
        outcome.passed,
        outcome.nontrivial,
        outcome.imports,
        outcome.killed,
    )


def leave_unjudged(test: OpenTest, drafts: Sequence[Draft], java: bytes) -> list[Candidate]:
    """The candidates in the student's order, with what javac said of them; ``java``: the file as UTF-8."""
    found: list[Candidate] = []
    for rank, draft in enumerate(drafts, 1):
        item = Candidate(draft.text, rank, draft.origin, _tell_likelihood(draft))
        if (checked := draft.checked) is None:
            imports = find_missing_imports(java, test.source["framework"], draft.text)
            found.append(replace(item, imports=tuple(imports)))
        elif checked.doubt:
            reason = f"javac cannot tell whether it compiles ({checked.doubt})"
            found.append(replace(item, imports=checked.imports, reason=reason))
        else:
            found.append(replace(item, imports=checked.imports, reason="javac accepts it", compiled=True))
    return found


def _tell_likelihood(draft: Draft) -> float | None:
    return None if math.isnan(draft.likelihood) else draft.likelihood


def judge(executor: Judge, tests: Sequence[OpenTest], drafts: Sequence[Sequence[Draft]]) -> list[list[Candidate]]:
    """The candidates of each test, best first: by what running them showed, then by the student's order.

    They are run in that order, a few at a time, until one passes and can fail; those behind it are left out. So are
    those behind SLOW that all exceed the time limit: it is the test that takes so long.
    """
    judged: list[list[Candidate]] = [[] for _ in tests]
    asking = [place for place, found in enumerate(drafts) if found]
    start, end = 0, FIRST_WAVE
    while asking:
        wave = [(place, start + i, draft) for place in asking for i, draft in enumerate(drafts[place][start:end])]
        tasks = [tests[place].find_task(draft.text) for place, _, draft in wave]
        outcomes = executor.execute(tasks, [draft.text for _, _, draft in wave])
        for (place, rank, draft), outcome in zip(wave, outcomes, strict=True):
            judged[place].append(make_candidate(draft, rank + 1, outcome))
        ran = {place: [item.status for item in judged[place] if item.compiled] for place in asking}
        slow = {place for place, statuses in ran.items() if len(statuses) >= SLOW and set(statuses) == {TIMEOUT}}
        start, end = end, end + WAVE
        asking = [
            place
            for place in asking
            if start < len(drafts[place])
            and place not in slow
            and not any(item.grade == BEST for item in judged[place])
        ]
    return [sorted(found, key=lambda item: (-item.grade, item.rank)) for found in judged]


def judge_rest(
    executor: Judge, test: OpenTest, drafts: Sequence[Draft], judged: Sequence[Candidate]
) -> list[Candidate]:
    """The candidates of a test that were left out, judged as the others were."""
    known = {item.assertion for item in judged}
    (found,) = judge(executor, [test], [[draft for draft in drafts if draft.text not in known]])
    return [replace(item, rank=len(judged) + item.rank) for item in found]


def mend(executor: Judge, tests: Sequence[OpenTest], judged: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
    """The candidates, and where none may be written, behind them what their runs make of them, judged as well."""
    drafts: list[list[Draft]] = []
    for test, found in zip(tests, judged, strict=True):
        failed = [] if any(item.acceptable for item in found) else found
        texts = (repair(item.assertion, item.reason, test.source["framework"]) for item in failed)
        known = {item.assertion for item in found}
        new = [text for text in dict.fromkeys(texts) if text and text not in known]
        drafts.append([Draft(text, ((RUN, place),)) for place, text in enumerate(new[:WAVE], 1)])
    mended = judge(executor, tests, drafts)
    return [
        [*found, *(replace(item, rank=len(found) + item.rank) for item in new)]
        for found, new in zip(judged, mended, strict=True)
    ]


def choose(candidates: Sequence[Candidate]) -> int | None:
    """The place of the one that is taken: the first that may be written; None where there is none."""
    return next((place for place, item in enumerate(candidates) if item.acceptable), None)
