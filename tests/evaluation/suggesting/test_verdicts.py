"""Which candidates are run, and which is taken."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from evaluation.running.outcomes import Outcome
from evaluation.suggesting.draft import MODEL, Draft
from evaluation.suggesting.verdicts import choose, judge

BEST = Outcome("passed", "", True, True, True)
WEAK = Outcome("passed", "", True, True, False)
FAILED = Outcome("failed", "", True, False, False)
SLOW = Outcome("timeout", "", True, False, False)
WRONG = Outcome("compile error", "", False, False, False)


class Runs:
    """Remembers what was run; what a candidate shows is its text."""

    def __init__(self, shown: dict[str, Outcome]) -> None:
        self.shown, self.asked = shown, []

    def execute(self, tasks: Sequence[object], predictions: Sequence[str]) -> list[Outcome]:
        self.asked.append(list(predictions))
        return [self.shown[text[0]] for text in predictions]


@pytest.mark.parametrize(
    ("pool", "run", "taken"),
    [
        ("bfffffff", 2, "b"),
        ("wb", 2, "b"),
        ("ffbbbbbb", 6, "b"),  # in waves, of which the first is short
        ("ffffffff", 8, None),
        ("wwwwwwww", 8, None),
        ("ssbbbbbb", 6, "b"),  # a candidate may wait for ever where another does not
        ("ssssssbb", 6, None),
        ("cssssssb", 8, "b"),
        ("csssssssbb", 10, "b"),
        ("csssssscccb", 10, None),
        ("fsssssssb", 9, "b"),
        ("ccbbbbbb", 6, "b"),
    ],
)
def test_candidates_are_run_until_one_is_good_or_all_are_too_slow(pool, run, taken):
    shown = {"b": BEST, "w": WEAK, "f": FAILED, "s": SLOW, "c": WRONG}
    runs = Runs(shown)
    drafts = [Draft(f"{kind}{place}", ((MODEL, place),)) for place, kind in enumerate(pool)]
    (found,) = judge(runs, [SimpleNamespace(find_task=lambda text: {})], [drafts])
    assert sum(map(len, runs.asked)) == run == len(found)
    chosen = choose(found)
    assert (found[chosen].assertion[0] if chosen is not None else None) == taken
    if taken:
        assert found[chosen].rank == pool.index(taken) + 1  # the first of the best


def test_tests_are_run_side_by_side_and_each_ends_on_its_own():
    runs = Runs({"b": BEST, "f": FAILED})
    pools = [[Draft(f"{kind}{i}", ((MODEL, 1),)) for i, kind in enumerate(text)] for text in ("fff", "bff", "", "f")]
    judge(runs, [SimpleNamespace(find_task=lambda text: {})] * 4, pools)
    assert runs.asked == [["f0", "f1", "b0", "f1", "f0"], ["f2"]]
