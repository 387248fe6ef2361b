"""What a prediction's own code says of it."""

from __future__ import annotations

import pytest

from evaluation.running.evidence import (
    CHANCE,
    REACHES_JDK,
    asks_for_chance,
    forbids_its_place,
    hides_code,
    reaches_jdk,
    read_as_javac,
    set_apart_assertions,
)


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
        ("checkTotal(cart, 7); assertPaid(cart); check(cart);", []),
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


def test_words_matter_where_the_file_has_the_names_already():
    assert asks_for_chance("assertEquals(0, System.nanoTime() % 2);", ()) and asks_for_chance("f(new Object());", ())
    assert not asks_for_chance("assertEquals(7, cart.total());", {"total", "java/lang/Object.<init>"})
    assert reaches_jdk('Class.forName("x");', ()) and not reaches_jdk("assertNull(cart.finalizeOrder());", {"getName"})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a();\r\nb();\rc();", "a();\nb();\nc();"),
        (r"a(); // \u000a b();", "a(); // \n b();"),
        (r"/* \uuu002A\u002f b(); /* */", "/* */ b(); /* */"),
        (r'f("\\u0041 \u0041 \u00e9");', r'f("\\u0041 A \u00e9");'),
        (r'f("\u005c");', r'f("\u005c");'),
    ],
)
def test_escapes_are_read_as_javac_reads_them(written, read):
    assert read_as_javac(written) == read
    assert hides_code(written) is (r"\u005c" in written)
