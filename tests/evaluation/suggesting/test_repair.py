"""What a failing run makes of a candidate: the value, the exception or the truth value that was observed."""

from __future__ import annotations

import pytest

from evaluation.suggesting.repair import repair
from evaluation.suggesting.verdicts import Candidate

J4, J5 = "java.lang.AssertionError: ", "org.opentest4j.AssertionFailedError: "
CF = "org.junit.ComparisonFailure: "


@pytest.mark.parametrize(
    ("statement", "reason", "framework", "expected"),
    [
        ("assertEquals(4, c.total());", J4 + "expected:<4> but was:<3>", "junit4", "assertEquals(3, c.total());"),
        ("assertEquals(4L, c.total());", J4 + "expected:<4> but was:<3>", "junit4", "assertEquals(3L, c.total());"),
        (
            "assertEquals(4, c.total());",
            J4 + "expected: java.lang.Integer<4> but was: java.lang.Long<4>",
            "junit4",
            "assertEquals(4L, c.total());",
        ),
        (
            'assertEquals("sum", 4, c.total());',
            J4 + "sum expected:<4> but was:<3>",
            "junit4",
            'assertEquals("sum", 3, c.total());',
        ),
        (
            'assertEquals(4, c.total(), "sum");',
            J5 + "sum ==> expected: <4> but was: <3>",
            "junit5",
            'assertEquals(3, c.total(), "sum");',
        ),
        ("assertEquals(c.total(), 4);", J4 + "expected:<3> but was:<4>", "junit4", "assertEquals(c.total(), 3);"),
        (
            "assertEquals(a.size(), c.total());",
            J4 + "expected:<1> but was:<3>",
            "junit4",
            "assertEquals(3, c.total());",
        ),
        (
            "assertEquals(1.5, c.mean(), 0);",
            J4 + "expected:<1.5> but was:<-2.0E-4>",
            "junit4",
            "assertEquals(-2.0E-4, c.mean(), 0);",
        ),
        (
            'assertEquals("ab", c.name());',
            CF + 'expected:<[a]b> but was:<[x"]b>',
            "junit4",
            'assertEquals("x\\"b", c.name());',
        ),
        ('assertEquals("ab", c.name());', J5 + "expected: <ab> but was: <>", "junit5", 'assertEquals("", c.name());'),
        (
            "assertEquals(true, c.is());",
            J4 + "expected:<true> but was:<false>",
            "junit4",
            "assertEquals(false, c.is());",
        ),
        ("assertTrue(c.isEmpty());", "java.lang.AssertionError", "junit4", "assertFalse(c.isEmpty());"),
        ("Assert.assertNull(c.x());", J4 + "expected null, but was:<1>", "junit4", "Assert.assertNotNull(c.x());"),
        (
            "assertThrows(A.class, () -> c.x());",
            J5 + "Unexpected exception type thrown, expected: <a.A> but was: <java.lang.IllegalStateException>",
            "junit5",
            "assertThrows(IllegalStateException.class, () -> c.x());",
        ),
        (
            "assertEquals(1, c.label(null));",
            "java.lang.NullPointerException: name",
            "junit5",
            "assertThrows(NullPointerException.class, () -> c.label(null));",
        ),
    ],
)
def test_what_was_observed_takes_the_place_of_what_was_expected(statement, reason, framework, expected):
    assert repair(statement, reason, framework) == expected


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("assertEquals(4, c.total());", "line 3: cannot find symbol symbol: method total()"),
        ("assertEquals(4, c.name());", J4 + "expected:<4> but was:<shop.Cart@1f>"),
        ('assertEquals("a", c.name());', CF + "expected:<...aa[b]> but was:<...aa[c]>"),
        ("assertTrue(c.isEmpty());", "java.lang.NullPointerException: x"),  # JUnit 4 may have no assertThrows
        ("x++;", "java.lang.AssertionError"),
        ('assertEquals("a", true);', J4 + "expected:<a> but was:<true>"),
        ("assertEquals(", J4 + "expected:<4> but was:<3>"),
        ("assertEquals(3, c.total());", J4 + "expected:<3> but was:<3>"),
    ],
)
def test_what_cannot_be_written_down_is_not_repaired(statement, reason):
    assert repair(statement, reason, "junit4") == ""


def test_a_repaired_candidate_says_so():
    item = Candidate(
        "assertEquals(3, x);", 1, "run", status="passed", compiled=True, passed=True, nontrivial=True, killed="k"
    )
    assert item.verdict() == "holds today, check it: passes; fails when broken (k)"
