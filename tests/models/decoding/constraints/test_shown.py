"""Decoding by names keeps to the types and signatures that an input shows, against javac."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

from models.decoding.constraints.grammar import Grammar
from models.decoding.constraints.java import State
from models.decoding.constraints.kept import Kept
from models.decoding.constraints.offered import find_offered
from tests.helpers.java_project import need_jdk

CONTEXT = """static org.junit.Assert
Cart cart
List<String> names = new ArrayList<>()
String label = "x"
boolean open = true
int[] counts
Object any
T[] all
assertEquals(0.5, cart.weight(), 1e-9); // weighs
assertSame(Cart.EMPTY, cart); // isEmpty
assertEquals(Cart.Kind.Large, other.kind()); // isLarge
int Cart.total()
static Cart Cart.of(String...)
boolean Cart.add(String, int)
boolean Cart.add(String)
Cart Cart.copy()
String Cart.label()
int size(Cart)"""
TEST = "@Test public void adds() { Cart other = new Cart(); long many = 3; other.total(); <AssertPlaceHolder> }"
METHOD = "public boolean add(String name) { return add(name, 1); }"
SOURCE = """package shop;
import java.util.*;
import static org.junit.Assert.*;
class CartTest<T> {
    static class Cart {
        static final Cart EMPTY = new Cart();
        int total() { return 0; }
        static Cart of(String... names) { return EMPTY; }
        boolean add(String name, int count) { return true; }
        boolean add(String name) { return add(name, 1); }
        Cart copy() { return this; }
        String label() { return ""; }
        double weight() { return 0; }
        enum Kind { SMALL, Large }
        Kind kind() { return Kind.Large; }
    }
    Cart cart;
    List<String> names = new ArrayList<>();
    String label = "x";
    boolean open = true;
    int[] counts;
    Object any;
    T[] all;
    int size(Cart cart) { return 0; }
"""
ASSERT = """package org.junit;
public class Assert {
    public static void assertTrue(boolean a) { }
    public static void assertTrue(String m, boolean a) { }
    public static void assertFalse(boolean a) { }
    public static void assertFalse(String m, boolean a) { }
    public static void assertEquals(Object a, Object b) { }
    public static void assertEquals(String m, Object a, Object b) { }
    public static void assertEquals(long a, long b) { }
    public static void assertEquals(String m, long a, long b) { }
    public static void assertEquals(double a, double b, double d) { }
    public static void assertEquals(String m, double a, double b, double d) { }
    public static void assertSame(Object a, Object b) { }
    public static void assertSame(String m, Object a, Object b) { }
    public static void assertArrayEquals(int[] a, int[] b) { }
    public static void assertArrayEquals(String m, int[] a, int[] b) { }
    public static void assertNull(Object a) { }
    public static void assertNull(String m, Object a) { }
}
"""
WHOLE = [
    "assertTrue(cart.add(label));",
    'assertTrue("a" + label, cart.add("b", 2));',
    'assertTrue("a".equals(label));',
    "assertTrue(names.isEmpty() == open);",
    "assertFalse(label, names.contains(other.label()));",
    "assertEquals(3, other.total());",
    "assertEquals(label, 3, cart.copy().total());",
    "assertEquals(0.5, cart.weight(), 1e-9);",
    'assertEquals("m", 0.5, cart.weight(), 1e-9);',
    "assertEquals(Cart.of(), Cart.of(label, names.get(0)));",
    "assertEquals(many, counts.length);",
    "assertEquals(Cart.Kind.Large, any);",
    "assertEquals(-2147483648, counts[0]);",
    "assertEquals(new ArrayList<String>(3), names.subList(0, 1));",
    "assertSame(label, any, null);",
    "assertSame(Cart.EMPTY, Cart.EMPTY.copy());",
    "assertNull(label, null);",
    "assertNull(all[0]);",
    "assertEquals(1, size(cart));",
    "assertTrue(label.matches(any.toString()));",
    "assertEquals(Double.NaN, Integer.MAX_VALUE, 0);",
    'assertArrayEquals("m", new int[] { 1 }, counts);',
    'for (String one : names) { assertTrue("of " + one, label.startsWith(one)); }',
]
REFUSED = [
    'assertTrue("a");',
    "assertTrue(label);",
    "assertTrue(null);",
    "assertTrue(cart.total());",
    "assertFalse(3);",
    "assertTrue(open, label);",
    "assertTrue(cart.copy(), label);",
    "assertTrue(cart.add());",
    "assertTrue(cart.add(label, 1, 2));",
    "assertTrue(names.isBlank());",
    "assertTrue(names.contains(label, label));",
    "assertEquals(1, label.size());",
    "assertEquals(cart, cart, label);",
    "assertEquals(1, 2, 3, 4);",
    "assertEquals(cart);",
    "assertSame(cart, other, any.copy());",
    "assertEquals(label, Cart.label());",
    "assertEquals(1, cart.total);",
    "assertEquals(1, size());",
    "assertEquals(cart, Cart());",
    "assertEquals(cart, Cart);",
    "assertNull(null.label());",
    "assertEquals.total();",
    "assertSame(cart, other).total();",
    "assertArrayEquals(1, counts);",
    "assertEquals(1, cart.tally());",
    "assertEquals(Cart.kinds, cart);",
    "assertTrue(this.shut);",
    "assertTrue(Math > many);",
    "assertTrue(Arrays.equals());",
    "assertEquals(1, counts.size());",
    "assertEquals(1, new ArrayList(1, 2).size());",
]


def offered():
    return find_offered("\n".join((TEST, METHOD, CONTEXT)))


def refuses(text: str) -> bool:
    reading = Kept(offered()).after(text)
    return reading is None or not reading.may_end()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[str, bool]:
    """Whether javac compiles each assertion, all in one class."""
    need_jdk()
    folder = tmp_path_factory.mktemp("javac")
    local = "Cart other = new Cart(); long many = 3; "
    methods = [f"    void t{place}() {{ {local}{text} }}" for place, text in enumerate([*WHOLE, *REFUSED])]
    (folder / "CartTest.java").write_text("\n".join([SOURCE.rstrip("\n"), *methods, "}\n"]))
    (folder / "Assert.java").write_text(ASSERT)
    files = [str(path) for path in folder.glob("*.java")]
    words = ["javac", "-proc:none", "-Xmaxerrs", "1000", "-d", str(folder), *files]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stderr
    wrong = {int(line) for line in re.findall(r"CartTest\.java:(\d+): error", said)}
    start = SOURCE.count("\n") + 1
    return {text: start + place not in wrong for place, text in enumerate([*WHOLE, *REFUSED])}


@pytest.mark.parametrize("text", WHOLE)
def test_what_compiles_is_not_refused(text, compiled):
    assert compiled[text] and not refuses(text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_does_not_suit_the_shown_types_is_refused(text, compiled):
    assert not compiled[text] and refuses(text)


def test_a_number_is_not_too_large_and_a_member_no_keyword():
    assert refuses("assertEquals(9999999999, many);") and not refuses("assertEquals(9999999999L, many);")
    assert refuses("assertEquals(1, cart.true.total());")


def test_nothing_is_refused_at_the_end_that_could_go_on():
    """Each beginning of what compiles can be written."""
    for text in WHOLE:
        reading = Kept(offered())
        for char in text:
            reading = reading.after(char)
            assert reading is not None, text


def test_a_class_of_the_jdks_name_is_not_taken_for_it():
    """vavr has a List of its own, whose methods the input calls."""
    test = "void t() { List<String> all = List.of(1).append(2); all.head(); <AssertPlaceHolder> }"
    context = "static org.junit.Assert\nList<String> all\nassertTrue(all.head()); // other"
    reading = Kept(find_offered(f"{test}\n{METHOD}\n{context}"))
    assert reading.after("assertEquals(1, all.last());") is not None


LIKELY = """static org.junit.Assert
Cart cart
String label
int count
List<Cart> carts
assertTrue(cart.add(label, 1, 2)); // third
assertEquals(1, new Reader(this).read()); // readsThis
assertTrue(handler.handle(this).isDone()); // handles
assertEquals(Large, cart.kind()); // isLarge
assertEquals(4, Build.Codes.M); // known
boolean Cart.add(String)
boolean Cart.add(int)
int Cart.find(Map<String, List<T>>, int)
Bag newWith(T...)
String A.get(int)
Map.Entry<String, Integer> Cart.entry()
Adds done"""


@pytest.mark.parametrize(
    "text",
    [
        "assertTrue(cart.add(label, 1, 2));",
        "assertEquals(1, new Reader(this).read());",
        "assertTrue(handler.handle(this).isDone());",
        "assertNull(this.cart);",
        "assertEquals(1, this.count);",
        "assertEquals(2, this.own);",
        "assertNull(this.newWith());",
        "assertEquals(1, cart.find(null, 3));",
        'assertEquals("a", maybe.get());',
        "carts.forEach(label -> assertTrue(label.add(1)));",
        "carts.forEach((label) -> assertTrue(label.add(1)));",
        "assertEquals(Large, cart.kind());",
        "assertTrue(Build.Codes.M > 3);",
        "assertEquals(3, cart.entry().getValue());",
        "assertEquals(1, carts.stream().filter(x -> true).count());",
        "assertNull(System.out);",
        "assertEquals(Thread.State.NEW, state);",
        "assertEquals(java.util.Arrays.asList(1), cart.entry());",
        "org.junit.Assert.assertEquals(1, count);",
        "assertEquals(037777777777, count);",
        "assertTrue(done);",
    ],
)
def test_what_the_input_shows_is_not_refused(text):
    """Overloads that are shown in part, a receiver this, nested types, and names that hide others."""
    test = "@Test public void t() { Optional<String> maybe = cart.first(); this.own = 2; <AssertPlaceHolder> }"
    reading = Kept(find_offered(f"{test}\n{METHOD}\n{LIKELY}")).after(text)
    assert reading is not None and reading.may_end()


@pytest.mark.parametrize("text", ["assertTrue(result.Count > 0);", 'assertTrue("a" instanceof Object);', "f(²);"])
def test_without_an_input_only_the_grammar_counts(text):
    assert Grammar().after(text) is not None and State().after(text) is not None


@pytest.mark.parametrize(
    "number", ["0x1FeL", "1e-9", ".5f", "1_000L", "0b101", "5.", "5d", "1.0e+3d", "0x1.0p-55", "08"]
)
def test_numbers_are_written_as_java_writes_them(number):
    assert Grammar().after(f"f({number})") is not None
    for wrong in ("5De", "1e", ".D", "1.2.3", "0x", "1_", "7g"):
        assert Grammar().after(f"f({wrong})") is None


def test_the_framework_tells_where_a_message_stands():
    later = replace(offered(), message_first=False)
    assert find_offered(f"{TEST}\n{METHOD}\norg.junit.jupiter.api.Assertions").message_first is False
    assert find_offered(f"{TEST}\n{METHOD}\norg.junit.Assert\norg.junit.jupiter.api.Assertions").message_first is None
    for text, first, last in (
        ('assertTrue("m", open);', True, False),
        ('assertTrue(open, "m");', False, True),
        ('assertSame(cart, other, "m");', False, True),
        ('assertSame("m", cart, other);', True, False),
    ):
        assert [Kept(one).after(text) is not None for one in (offered(), later)] == [first, last]
