"""Which tests lack an assertion: what checks something is no gap, however it is written."""

from __future__ import annotations

import pytest

from evaluation.suggesting.open_tests import OpenTests

CART = "package shop; public class Cart { public int total() { return 0; } public boolean validate() { return true; } }"
HELPER = """package shop;
class Checks {
    static void same(int a, int b) { if (a != b) throw new AssertionError(); }
    static int pass(int a) { return a; }
}
"""


def find(tmp_path, body, annotation="@Test", imports=""):
    for name, text in {
        "src/main/java/shop/Cart.java": CART,
        "src/test/java/shop/Checks.java": HELPER,
        "src/test/java/shop/CartTest.java": (
            f"package shop; import org.junit.Test; {imports} public class CartTest {{\n"
            f"  {annotation} public void testTotal() throws Exception {{ Cart cart = new Cart(); {body} }}\n}}\n"
        ),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return OpenTests(tmp_path).find(tmp_path / "src/test/java/shop/CartTest.java")


@pytest.mark.parametrize(
    "body",
    [
        "assert cart.total() == 0;",
        "if (cart.total() != 0) { throw new AssertionError(\"sum\"); }",
        "if (cart.total() != 0) throw new org.opentest4j.AssertionFailedError();",
        "await().until(() -> cart.total() == 0);",
        "org.awaitility.Awaitility.await().atMost(1, SECONDS).untilAsserted(() -> ask(cart));",
        "given().when().get(\"/cart\").then().statusCode(200);",
        "StepVerifier.create(cart.flow()).expectNext(1).verifyComplete();",
        "Checks.same(0, cart.total());",
        "int x = Checks.pass(1); Runnable run = () -> Checks.same(0, cart.total()); run.run();",
        "java.util.Arrays.asList(1).forEach(this::assertFine);",
        "thrown.expect(Exception.class); cart.total();",
        "rule.check(cart.total());",
    ],
)  # fmt: skip
def test_what_checks_is_no_gap(tmp_path, body):
    assert find(tmp_path, body) == ([], {})


def test_expected_exceptions_are_no_gap(tmp_path):
    assert find(tmp_path, "cart.total();", "@Test(expected = Exception.class)") == ([], {})
    assert find(tmp_path, "cart.total();", "@org.junit.Ignore @Test") == ([], {})


@pytest.mark.parametrize(
    "body",
    [
        "cart.total();",
        "cart.validate();",  # the method under test, whatever its name
        "int x = Checks.pass(cart.total());",
        "try { cart.total(); } catch (RuntimeException e) { }",
        "if (cart.total() != 0) throw new IllegalStateException();",
    ],
)
def test_what_cannot_fail_is_a_gap(tmp_path, body):
    (test,), left_out = find(tmp_path, body)
    assert test.name == "testTotal" and left_out == {}


@pytest.mark.parametrize("loop", ["while (true) { cart.total(); }", "for (;;) cart.total();", "do { } while (true);"])
def test_nothing_can_stand_behind_an_endless_loop(tmp_path, loop):
    tests, left_out = find(tmp_path, f"cart.total(); {loop}")
    assert tests == [] and "loop without end" in left_out["testTotal"]


def test_a_loop_that_breaks_ends(tmp_path):
    (test,), _ = find(tmp_path, "while (true) { cart.total(); break; }")
    assert test.name == "testTotal"


def test_a_test_that_does_not_parse_is_named(tmp_path):
    tests, left_out = find(tmp_path, "cart.total(;")
    assert tests == [] and left_out == {"testTotal": "test does not parse"}
