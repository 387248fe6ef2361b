"""What a prediction's own code says of it."""

from __future__ import annotations

import pytest

from evaluation.running.evidence import CHANCE, REACHES_JDK, forbids_its_place, set_apart_assertions


@pytest.mark.parametrize(
    ("statement", "lines"),
    [
        ("assertEquals(7, cart.total());", ["assertEquals(7, cart.total());"]),
        ("cart.total(); assertTrue(true); cart.clear();", ["assertTrue(true);"]),
        (
            "Assert.assertTrue(a);assertThat(x)\n    .isNull();",
            ["Assert.assertTrue(a);", "assertThat(x)", "    .isNull();"],
        ),
        ("try { cart.label(null); fail(); } catch (Error e) { }", ["fail();"]),
        ("list.forEach(x -> assertNull(x));", ["list.forEach(x -> assertNull(x));"]),
        ("assertAll(() -> { cart.total(); assertTrue(a); });", ["assertTrue(a);"]),
        ("checkTotal(cart, 7); check(cart);", ["checkTotal(cart, 7);"]),
        ("if (x) throw new AssertionError(); throw new Error();", ["throw new AssertionError();"]),
        ("assert cart.total() == 7;", ["assert cart.total() == 7;"]),
        ("cart.total();", []),
        ('String s = "ä"; assertNull(s);', ["assertNull(s);"]),
    ],
)
def test_assertions_stand_on_lines_of_their_own(statement, lines):
    text, found = set_apart_assertions(statement)
    assert [text.split("\n")[line] for line in sorted(found)] == lines
    assert text.replace("\n", "").replace(" ", "") == statement.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(
    ("statement", "forbids"),
    [
        ('fail("no name");', True),
        ("Assert.fail();", True),
        ("throw new AssertionError(x);", True),
        ("assertTrue(false);", False),
        ("fail(); assertTrue(x);", False),
        ("if (x) fail();", False),
    ],
)
def test_what_forbids_its_place(statement, forbids):
    assert forbids_its_place(statement) is forbids


def test_names_that_matter():
    assert all(
        map(CHANCE.fullmatch, ("nanoTime", "java/util/Random", "java/lang/Object.toString", "java/time/Instant"))
    )
    assert not any(map(CHANCE.fullmatch, ("total", "java/lang/Object", "java/util/List", "assertEquals")))
    assert all(map(REACHES_JDK.fullmatch, ("sun/misc/Unsafe", "forName", "java/lang/reflect/Field")))
    assert not any(map(REACHES_JDK.fullmatch, ("java/lang/invoke/LambdaMetafactory", "java/lang/String", "getName")))
