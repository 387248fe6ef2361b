"""Every score by where the answer stands in the input."""

from __future__ import annotations

import pytest

from data.rows.readers import Sample
from evaluation.reports.results import build_summary, judge
from evaluation.reports.strata import build_strata, make_strata_rows, place_answers
from evaluation.systems.models import System
from evaluation.systems.nearest_sibling import copy_nearest, rename_variables
from tests.helpers.evaluated import LetterEncoder, samples, system


@pytest.fixture(scope="module")
def judged():
    tasks = samples()
    return {
        name: judge(system(name, right), tasks, LetterEncoder(), 0)
        for name, right in (("student", 16), ("teacher", 20))
    }


def test_a_stratum_holds_what_judging_its_tasks_alone_gives(judged) -> None:
    tasks = samples()
    places = ["none" if i % 3 else "context" for i in range(len(tasks))]
    strata = build_strata(judged, places)["answer_in_input"]
    assert list(strata) == ["none", "context", "test"] and strata["test"]["tasks"] == 0
    chosen = [i for i, place in enumerate(places) if place == "none"]
    texts = [judged["student"].system.predictions[i] for i in chosen]
    alone = judge(System("student", texts), [tasks[i] for i in chosen], LetterEncoder(), 0).evaluation
    found = strata["none"]
    assert found["tasks"] == len(chosen)
    for metric in ("exact_match", "f1", "codebleu", "bleu", "semantic_similarity"):
        assert found["student"][metric]["value"] == pytest.approx(alone.value(metric))
        assert found["student"][metric]["n"] == len(chosen)
    difference = found["comparison"]["student_minus_teacher"]["exact_match"]
    expected = found["student"]["exact_match"]["value"] - found["teacher"]["exact_match"]["value"]
    assert difference["value"] == pytest.approx(expected) and "p_value_holm" in difference
    assert strata["test"]["student"]["f1"] == {"value": None, "reason": "no task has a value"}
    summary = build_summary(judged, {}, {"tasks": len(tasks)}, {}, {"answer_in_input": strata})
    _, rows = make_strata_rows(summary)
    assert [row[:3] for row in rows] == [
        [place, str(places.count(place)), name] for place in ("none", "context") for name in ("student", "teacher")
    ]


def test_the_place_is_what_the_student_was_shown_else_the_whole_row() -> None:
    sample = Sample("t() { <AssertPlaceHolder> }", "f", ("fail();",), context={"siblings": [{"assertion": "fail();"}]})
    other = Sample("t() { fail(); <AssertPlaceHolder> }", "f", ("fail();",))
    baseline = {"trivial": System("trivial", ["x", "x"])}
    assert place_answers([sample, other], baseline) == ["context", "test"]
    student = System("student", ["x", "x"], answer_places=["none", "none"])
    assert place_answers([sample, other], {**baseline, "student": student}) == ["none", "none"]


# -- the nearest sibling -----------------------------------------------------------------------------------------------

CONTEXT = {
    "locals": ["Map<K, V> map", "int n", "Stack b", "Stack a"],
    "fields": ["Stack stack = new Stack(m)", "String name"],
}


@pytest.mark.parametrize(
    ("assertion", "their_locals", "renamed"),
    [
        ("assertEquals(2, s.pop());", ["Stack s"], "assertEquals(2, b.pop());"),
        ("assertEquals(s, t);", ["Stack s", "Stack t"], "assertEquals(b, a);"),
        ("assertEquals(b, s);", ["Stack b", "Stack s"], "assertEquals(b, a);"),  # one of that name is here
        ("assertEquals(m, x.m(m));", ["Map<K,V> m", "Unknown x"], "assertEquals(map, x.m(map));"),
        ('assertEquals("s s", s.s("t"), \'s\');', ["Stack s"], 'assertEquals("s s", b.s("t"), \'s\');'),
        ("assertEquals(1, sum(2));", ["int su"], "assertEquals(1, sum(2));"),  # a method, however its name begins
        ("assertEquals(q, p);", [], "assertEquals(q, p);"),  # of unknown type
        ("assertEquals(u, v, w, x);", ["Stack u", "Stack v", "Stack w", "Stack x"], "assertEquals(b, a, stack, x);"),
    ],
)
def test_variables_are_renamed_by_type(assertion: str, their_locals: list[str], renamed: str) -> None:
    assert rename_variables({"assertion": assertion, "locals": their_locals}, CONTEXT) == renamed


def test_without_a_sibling_the_copy_is_trivial() -> None:
    assert copy_nearest(Sample("t() { <AssertPlaceHolder> }", "f", ("fail();",))) == "assertTrue(true);"
    near = {"siblings": [{"assertion": "fail(1);"}, {"assertion": "fail(2);"}]}
    assert copy_nearest(Sample("t() { <AssertPlaceHolder> }", "f", ("fail();",), context=near)) == "fail(1);"
