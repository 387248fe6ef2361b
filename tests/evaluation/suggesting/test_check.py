"""Which candidates javac takes at places of a file, as it would take each of them alone."""

from __future__ import annotations

import pytest

from evaluation.running.splice import as_utf8
from evaluation.suggesting.draft import Checked

pytestmark = pytest.mark.jdk
SOURCE = """package shop;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import java.io.*;
import java.util.*;
import org.junit.Test;
public class ATest {
  private final Map<String, List<Integer>> prices = new HashMap<>();
  static void read(String name) throws IOException { }
  static <T extends Comparable<T>> T largest(List<T> items) { return items.get(0); }
  @Test public void testA() {
    int n = 0; List<Integer> sizes = new ArrayList<>();
    FIRST
  }
  @Test public void testB() throws IOException {
    String name = "b";
    SECOND
    return;
  }
}
"""
ASSERT_TRUE = ("static org.junit.Assert.assertTrue",)


def check(
    service, first: list[str], second: list[str] = (), source: str | bytes = SOURCE, name: str = "ATest.java"
) -> list[list[Checked]]:
    """What is said of candidates for the two places of a file."""
    raw = source.encode() if isinstance(source, str) else source
    at = raw.index(b"FIRST")
    raw = raw.replace(b"FIRST", b"")
    text, places = as_utf8(raw.replace(b"SECOND", b""), at, raw.index(b"SECOND"))
    return service.check(name, text, places, [first, second], "junit4")


GOOD = [
    "assertEquals(0, n);",
    "assertEquals(3, largest(sizes).intValue());",
    'assertEquals(sizes, prices.get("a"));',
    "assertThrows(IOException.class, () -> read(null));",
    "Exception e = assertThrows(Exception.class, () -> read(null));\nassertEquals(null, e.getMessage());",
    "Exception e = null; // the same name as in another one",
    "assertEquals(1, n++);",
    "assertThrows(Exception.class, () -> sizes.get(n));",  # but for the one before it
    "try { read(null); } catch (IOException e) { }",
    "throw new IllegalStateException();",
    'assertEquals("}", "{");',
    "assertEquals(Integer.valueOf(1), sizes.get(0));",
    "assertEquals(Integer.valueOf(1), (Object) sizes);",
    "assertEquals(sizes, 1);",  # whose equals may say anything
    "assertEquals(null, n);",
    "assertEquals(1.0, 2.0, 0.1);",
    'assertThrows(AssertionError.class, () -> assertEquals("a", 1));',
]
BAD = {
    "assertEquals(largest(prices), 1);": "cannot be applied",
    'assertEquals(1, prices.get("a").get(0).trim());': "cannot find symbol",
    'int wrong = "text";': "incompatible types",
    "assertEquals(0);": "no suitable method found for assertEquals",
    "read(null);": "unreported exception java.io.IOException",
    "assertEquals(0, name.length());": "cannot find symbol",
    "String n = null;": "already defined",
    "int unset; assertEquals(0, unset);": "might not have been initialized",
    "assertEquals(0, n); }": "",
    "} {": "ends a block",
    "} } void other() { {": "ends a block",
    "} else {": "ends a block",
    "assertEquals(0, n); /* open": "unclosed comment",
    "assertEquals(0, \\u007d n);": "",
    'assertEquals("open, n);': "unclosed string literal",
    "try { n++; } catch (IOException e) { }": "never thrown",
    "break;": "break outside switch or loop",
    "assertEquals(1, sizes.isEmpty());": "compares java.lang.Integer with java.lang.Boolean, never equal",
    'assertEquals("n", "a text", n);': "compares java.lang.String with java.lang.Integer, never equal",
    "assertEquals(Thread.State.NEW, prices);": "never equal",
    "assertEquals(1.0, 2.0);": "no double values without a delta",
    'assertEquals("text", 1.0, n * 0.5);': "no double values without a delta",
    "int m = 0; m++; assertThrows(Exception.class, () -> sizes.get(m));": "effectively final",
}


def test_each_is_judged_as_if_it_stood_there_alone(service):
    first, second = check(
        service, [*GOOD, *BAD], ["read(name);", "assertEquals(0, n);", "assertEquals(1, name.length());"]
    )
    assert [answer.refused for answer in first[: len(GOOD)]] == [""] * len(GOOD)
    said = dict(zip(BAD, (answer.refused for answer in first[len(GOOD) :]), strict=True))
    assert {text: reason for text, reason in said.items() if not reason or BAD[text] not in reason} == {}
    assert [bool(answer.refused) for answer in second] == [False, True, False]
    assert not any(answer.doubt or answer.imports for answer in (*first, *second))


def test_the_imports_of_assertions_are_named_where_they_are_needed(service):
    texts = [
        "assertTrue(n == 0);",
        "assertTrue(3);",
        "assertEquals(0, n);",
        "Assert.assertEquals(0, n);",
        "assertNot(n);",
    ]
    (first, _) = check(service, texts)
    assert [answer.imports for answer in first] == [ASSERT_TRUE, (), (), ("org.junit.Assert",), ()]
    assert [bool(answer.refused) for answer in first] == [False, True, False, False, True]
    assert "boolean" in first[1].refused  # not that assertTrue is not known


def test_imports_stand_behind_the_last_one_whatever_a_text_holds(service):
    source = SOURCE.replace("String name =", 'String text = """\nimport java.util.*;\n"""; String name =')
    first, second = check(service, ["assertTrue(n == 0);"], ["assertTrue(name == null);"], source)
    assert first == second == [Checked(imports=ASSERT_TRUE)]


def test_a_file_may_be_called_as_its_user_likes(service):
    first, _ = check(
        service, ["assertEquals(0, n);", "assertEquals(0);"], [], SOURCE.replace("public c", "c"), "A [1] %.java"
    )
    assert [bool(answer.refused) for answer in first] == [False, True] and not first[0].doubt


def test_a_whole_file_is_compiled_for_a_release(service):
    body = SOURCE.replace("SECOND", "")
    versions = [body.replace("FIRST", text).encode() for text in ("", "assertEquals(0);", "List.of(1);")]
    of_8, of_jdk = ([service.compile("ATest.java", text, release) for text in versions] for release in (8, None))
    line = SOURCE[: SOURCE.index("FIRST")].count("\n") + 1
    assert [text[: len(f"line {line}: ")] for text in of_8] == ["", f"line {line}: ", f"line {line}: "]
    assert "cannot find symbol" in of_8[2] and of_jdk[2] == of_jdk[0] == "" and of_jdk[1] == of_8[1]


def test_javac_that_does_not_answer_is_ended(service, monkeypatch):
    monkeypatch.setattr("evaluation.suggesting.scope.SECONDS", 0.0)
    first, _ = check(service, ["assertEquals(0, n);"])
    assert first == [Checked(doubt="javac gave no answer within 0.0 s")]
    monkeypatch.undo()
    first, _ = check(service, ["assertEquals(0, n);"])
    assert first == [Checked()]


@pytest.mark.parametrize("package", ["", "package shop; "])
def test_imports_can_be_added_to_a_file_without_any(service, package):
    source = package + "class ATest { void a() { FIRST } void b() { SECOND } }"
    first, _ = check(service, ["assertTrue(1 == 0);"], source=source)
    assert first == [Checked(imports=ASSERT_TRUE)]


def test_an_import_that_breaks_the_file_spoils_none_that_needs_another(service):
    """JUnit's fail would hide the one that the file imports with a star."""
    source = SOURCE.replace("import java.io.*;", "import java.io.*; import static shop.ATest.Own.*;")
    source = source.replace("return;", "fail(3); return; } static class Own { static void fail(int code) { }")
    (first, _) = check(service, ["fail();", "assertTrue(n == 0);", "fail(4);"], source=source)
    assert [answer.imports for answer in first] == [(), ASSERT_TRUE, ()]
    assert [bool(answer.refused) for answer in first] == [True, False, False]


def test_a_file_that_does_not_compile_leaves_a_doubt(service):
    source = SOURCE.replace('String name = "b";', "Missing name = null;")
    (first, second) = check(service, ["assertEquals(0, n);", "read(null);", "assertTrue(n == 0);"], ["fail();"], source)
    line = SOURCE[: SOURCE.index("String name = ")].count("\n") + 1
    doubt = f"line {line}: cannot find symbol symbol: class Missing location: class shop.ATest"
    assert first[0] == Checked(doubt=doubt) and "unreported" in first[1].refused
    assert first[2] == Checked(imports=ASSERT_TRUE, doubt=doubt)
    assert second == [Checked(imports=("static org.junit.Assert.fail",), doubt=doubt)]
    half = SOURCE.replace("static void read", "int x = ; static void read")  # errors of syntax hide no others
    (first, _) = check(service, ["assertEquals(0, n);", "assertEquals(0);"], source=half)
    assert first[0].doubt.endswith("illegal start of expression") and first[1].refused


def test_offsets_count_whatever_the_file_is_written_in(service):
    source = SOURCE.replace("int n = 0;", '\tint n = 0; // "\u00e9\u00fc"\n').replace("\n", "\r\n")
    texts = ["assertEquals(0, n);", "assertEquals(0, m);"]
    for raw in (
        source.encode("latin-1"),
        source.replace("\u00e9", "\U0001f600").encode(),
        b"\xef\xbb\xbf" + source.encode(),
    ):
        first, second = check(service, texts, ['assertEquals("\u00e9", name);', "assertEquals(n, name);"], raw)
        assert [bool(answer.refused) for answer in (*first, *second)] == [False, True, False, True]
        assert not first[0].doubt


def test_a_place_that_is_not_reached_is_no_fault_of_the_file(service):
    source = SOURCE.replace("FIRST", "try { throw new Error(); } finally { n++; } FIRST")
    first, second = check(service, ["assertEquals(0, n);", "assertEquals(0, 1);"], ["assertEquals(0, 1);"], source)
    assert [answer.refused for answer in first] == ["unreachable statement"] * 2 and second == [Checked()]


def test_nothing_to_check_and_a_jvm_that_ended(service):
    assert check(service, []) == [[], []]
    service._process.kill()
    service._process.wait()
    gone = Checked(doubt="the JVM ended")
    assert check(service, ["assertEquals(0, n);"] * 2, ["assertTrue(n);"]) == [
        [gone, gone],
        [Checked(imports=ASSERT_TRUE, doubt="the JVM ended")],
    ]
    assert check(service, ["assertEquals(0, n);"]) == [[Checked()], []]
