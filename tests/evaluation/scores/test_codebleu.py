"""CodeBLEU: where it agrees with codebleu 0.7.0 and where it must not."""

import json
from pathlib import Path

import pytest

from data.java.tokens import tokenize
from evaluation.scores.codebleu import (
    codebleu,
    dataflow_match,
    ngram_match,
    syntax_match,
    view_in_context,
    view_method,
    weighted_ngram_match,
)

FILE = json.loads((Path(__file__).parent / "golden/codebleu.json").read_text())
GOLDEN, TRAPS = FILE["pairs"], FILE["traps"]
CONTEXT = ("void test() { Sum sum = new Sum(2); int result = sum.plus(3); String other = name();", "}")


@pytest.mark.parametrize("pair", GOLDEN, ids=range(len(GOLDEN)))
def test_agrees_with_the_common_package_on_whole_methods(pair):
    reference, hypothesis = pair["reference"], pair["hypothesis"]
    tokens = reference.split(), hypothesis.split()
    views = view_method(reference), view_method(hypothesis)
    assert ngram_match(*tokens) == pytest.approx(pair["ngram_match_score"])
    assert weighted_ngram_match(*tokens) == pytest.approx(pair["weighted_ngram_match_score"])
    assert syntax_match(*views) == pytest.approx(pair["syntax_match_score"])
    assert dataflow_match(*views) == pytest.approx(pair["dataflow_match_score"])
    assert codebleu(reference, hypothesis) == pytest.approx(pair["codebleu"])


def test_white_space_and_comments_do_not_count():
    for pair in GOLDEN:
        dense = pair["hypothesis"].replace(" (", "(").replace(" ;", ";").replace("{", "{ // why\n")
        assert codebleu(pair["reference"], dense) == pytest.approx(pair["codebleu"])


def test_no_data_flow_is_no_gift():
    """Data flow that no text has counts as found in codebleu 0.7.0; here it is left out of the mean."""
    assert dataflow_match(*(view_in_context(t, "", "") for t in ("assertTrue(true);", "fail(1);"))) is None
    assert codebleu("assertTrue(true);", "fail(1);", ("", "")) < 0.1
    assert codebleu("assertTrue(true);", "", ("", "")) == 0


# What the same pairs deserve: nothing, nearly nothing, everything, everything.
@pytest.mark.parametrize(("trap", "low", "high"), list(zip(TRAPS, (0, 0, 1, 1), (0, 0.1, 1, 1), strict=True)))
def test_differs_on_purpose_where_the_common_package_misleads(trap, low, high):
    ours = codebleu(trap["reference"], trap["hypothesis"], CONTEXT)
    assert low - 1e-9 <= ours <= high + 1e-9
    assert abs(ours - trap["codebleu"]) > 0.15


def test_short_text_matches_itself():
    for text in ("fail()", "fail();", "x", "assertTrue(a);"):
        assert codebleu(text, text, CONTEXT) == pytest.approx(1.0)


def test_copied_test_earns_nothing():
    """However long the test around it, the score is of the assertion."""
    long = (CONTEXT[0] + " int a = 1; use(a);" * 40, CONTEXT[1])
    for hypothesis in ("assertNull(other);", "assertEquals(5, result);"):
        short_score = codebleu("assertEquals(4, result);", hypothesis, CONTEXT)
        assert codebleu("assertEquals(4, result);", hypothesis, long) == pytest.approx(short_score)
        assert short_score < 0.95


def test_data_flow_in_the_test_tells_variables_apart():
    reference = view_in_context("assertEquals(5, result);", *CONTEXT)
    assert reference.flow == [("result", "comesFrom", ("result",))]
    assert dataflow_match(reference, view_in_context("assertTrue(result > 0);", *CONTEXT)) == 1
    assert dataflow_match(reference, view_in_context("assertEquals(5, other);", *CONTEXT)) == 0
    assert dataflow_match(reference, view_in_context("assertEquals(5, unknown);", *CONTEXT)) == 0


def test_earlier_call_of_the_same_method_is_no_data_flow():
    before = "void test() { int a = one(); assertEquals(1, a);"
    assert view_in_context("assertEquals(1, 2);", before, "}").flow == []


@pytest.mark.parametrize("hypothesis", ["", "  ", "// nothing", "}{", "é漢字(((", "assertEquals(((("])
def test_anything_is_scored_between_0_and_1(hypothesis):
    for context in (None, CONTEXT, ("é 漢 {", "}")):
        assert 0 <= codebleu("assertEquals(5, result);", hypothesis, context) < 0.5
    if not tokenize(hypothesis):
        assert codebleu("assertEquals(5, result);", hypothesis, CONTEXT) == 0
