"""The parts of execution that need no JVM: splicing, mutants, class paths."""

from __future__ import annotations

import os

import pytest

from evaluation.running.class_path import resolve_class_path
from evaluation.running.jdk import Jdk, find_jdk
from evaluation.running.mutation import list_default_values, make_mutants
from evaluation.running.splice import (
    PLACES,
    Imports,
    as_utf8,
    find_imports,
    find_missing_imports,
    find_span_problem,
    mark_places,
    silence_other_assertions,
    splice,
)
from tests.helpers.java_project import MAIN, junit_jars, need_jdk, write_project
from utils.errors import UserError

TEST = b"""package p;
import org.junit.Test;

class T {
    @Test public void t() {
        assertTrue(a);
        PLACE;
        foo.assertAll(() -> { assertTrue(b); });
        checkBar(c);
        use(d);
    }
    @Test public void u() { assertTrue(e); }
}
"""
SPAN = (TEST.index(b"PLACE;"), TEST.index(b"PLACE;") + 6)
TEST_SPAN = (TEST.index(b"@Test"), TEST.index(b"\n    @Test public void u"))


# -- splicing --------------------------------------------------------------------------------------------------------


def test_a_statement_stands_on_lines_of_its_own():
    spliced = splice(TEST, SPAN, "one();\ntwo()")
    lines = spliced.text.split("\n")
    assert [lines[number - 1] for number in spliced.lines] == ["one();", "two();"]
    assert spliced.text.replace("\none();\ntwo();\n", "PLACE;") == TEST.decode()


def test_imports_move_no_line():
    spliced = splice(TEST, SPAN, "one();", ["static a.B.c", "d.E"])
    assert spliced.text.split("\n")[1] == "import org.junit.Test; import static a.B.c; import d.E;"
    assert spliced.lines == splice(TEST, SPAN, "one();").lines
    no_imports = b"package p;\nclass T { PLACE; }"
    assert splice(no_imports, (21, 27), "x();", ["d.E"]).text.startswith("package p; import d.E;\n")
    assert splice(b"class T { PLACE; }", (10, 16), "x();", ["d.E"]).text.startswith(" import d.E;class T")


def test_offsets_survive_other_encodings():
    latin = "/* é */ class T { ü PLACE; }".encode("latin-1")
    source, (start, end) = as_utf8(latin, latin.index(b"PLACE"), latin.index(b"PLACE") + 6)
    assert source[start:end] == b"PLACE;" and source.decode() == "/* é */ class T { ü PLACE; }"
    marked = b"\xef\xbb\xbfclass T { PLACE; }"
    source, (start, end) = as_utf8(marked, 13, 19)
    assert source[start:end] == b"PLACE;" and source.startswith(b"   class")


def test_other_assertions_lose_their_verdict_and_keep_their_calls():
    source, (start, end) = silence_other_assertions(TEST, SPAN, TEST_SPAN)
    assert source[start:end] == b"PLACE;" and source.count(b"\n") == TEST.count(b"\n")
    text = source.decode()
    for assertion in ("assertTrue(a);", "foo.assertAll(() -> { assertTrue(b); });", "checkBar(c);"):
        assert "try { " + assertion + " } catch (Throwable ignored$) { }" in text
    assert text.count("ignored$") == 3  # neither use(d) nor the other test


def test_a_lambda_s_assertion_becomes_a_block_and_one_whose_value_is_stored_stays():
    source = b"""class T { @Test public void t() {
        Exception e = assertThrows(X.class, () -> x());
        items.forEach(item -> assertNotNull(item));
        PLACE;
    } }"""
    at = source.index(b"PLACE;")
    test_span = (source.index(b"@Test"), source.rindex(b"}", 0, source.rindex(b"}")) + 1)
    text = silence_other_assertions(source, (at, at + 6), test_span)[0].decode()
    assert "item -> { try { assertNotNull(item); } catch (Throwable ignored$) { } });" in text
    assert "        Exception e = assertThrows(X.class, () -> x());" in text and text.count("ignored$") == 1


@pytest.mark.parametrize(
    ("header", "framework", "statement", "expected"),
    [
        ("", "junit4", "assertNull(x);", ["static org.junit.Assert.assertNull"]),
        ("", "junit5", "assertNull(x);", ["static org.junit.jupiter.api.Assertions.assertNull"]),
        ("", "junit3", "assertNull(x);", []),
        ("", "junit4", "Assert.assertNull(x);", ["org.junit.Assert"]),
        ("", "junit5", "Assert.assertNull(x);", []),
        ("", "junit4", "foo.assertNull(x);", []),
        ("", "junit4", "assertFoo(x);", []),
        ("", "junit4", "assertDoesNotThrow(x);", []),
        ("import static org.junit.Assert.assertNull;", "junit4", "assertNull(x);", []),
        ("import static org.junit.Assert.*;", "junit4", "assertNull(x); fail();", []),
    ],
)
def test_missing_imports(header, framework, statement, expected):
    assert find_missing_imports(f"package p;\n{header}\nclass T {{ }}".encode(), framework, statement) == expected


TEXT_BLOCK = b'''// import not.One;
package p; /* import not.Two; */ import java . util.List; // import not.Three;
import static org.junit.Assert.*;

class T { String s = """
import not.Four;
package q;
"""; void t() { PLACE; } }
'''


def test_imports_are_those_of_the_syntax_tree():
    found = find_imports(TEXT_BLOCK)
    assert TEXT_BLOCK[: found.end].endswith(b"Assert.*;")
    assert found.names == {"java.util.List", "static org.junit.Assert.*"}
    assert find_imports(b"package p; class T { void t( { }") == Imports(len("package p;"), frozenset())
    assert find_imports(b"class T { } import a.B;").end == find_imports(b"").end == 0


def test_an_import_is_not_put_into_a_text(tmp_path):
    at = TEXT_BLOCK.index(b"PLACE;")
    text = splice(TEXT_BLOCK, (at, at + 6), "assertThat(1);", ["static a.B.assertThat"]).text
    assert "import static org.junit.Assert.*; import static a.B.assertThat;\n" in text


def test_a_span_that_no_longer_holds_the_assertion():
    assert find_span_problem(TEST, {"assertion_span": SPAN, "assertion_kind": "PLACE"}) == ""
    assert find_span_problem(TEST, {"assertion_span": SPAN, "assertion_kind": "assertTrue"})
    assert find_span_problem(TEST, {"assertion_span": (SPAN[0], SPAN[1] - 1), "assertion_kind": "PLACE"})


# -- mutants ---------------------------------------------------------------------------------------------------------

SOURCE = b"""class A {
    int f(int x) {
        if (x < 0) {
            return -1;
        }
        log(x);
        while (x > 9) { x -= 1; }
        return x + 1;
    }
    A(int x) { super(); this.x = x; }
    void g() { f(1); }
    abstract void h();
    String f(String s) { return s; }
}
"""


def test_mutants_of_a_method():
    sources = {mutant.source for mutant in make_mutants(SOURCE, "f", (2, 9), 50)}

    def changed(old: bytes, new: bytes) -> bytes:
        assert SOURCE.count(old) == 1
        return SOURCE.replace(old, new)

    body = SOURCE[SOURCE.index(b"{\n        if") : SOURCE.index(b"\n    A(int")]
    assert sources == {
        changed(body, b"{ return (int) 0; }"),
        changed(body, b"{ return (int) 1; }"),
        changed(b"(x < 0)", b"(!((x < 0)))"),
        changed(b"(x > 9)", b"(Boolean.FALSE)"),
        changed(b"if (x < 0) {\n            return -1;\n        }", b";"),
        changed(b"log(x);", b";"),
        changed(b"x -= 1;", b";"),
        changed(b"x < 0", b"x <= 0"),
        changed(b"x > 9", b"x >= 9"),
        changed(b"x -= 1", b"x += 1"),
        changed(b"x + 1", b"x - 1"),
    }


def test_mutants_of_constructors_void_and_overloads():
    constructor = [mutant.source for mutant in make_mutants(SOURCE, "A", (10, 10))]
    assert SOURCE.replace(b"{ super(); this.x = x; }", b"{ super(); }") in constructor
    assert [mutant.source for mutant in make_mutants(SOURCE, "g", (11, 11))] == [
        SOURCE.replace(b"{ f(1); }", b"{ }"),
        SOURCE.replace(b"f(1);", b";"),
    ]
    strings = [mutant.source for mutant in make_mutants(SOURCE, "f", (13, 13))]
    assert strings == [SOURCE.replace(b"{ return s; }", text) for text in (b'{ return ""; }', b"{ return null; }")]


@pytest.mark.parametrize(
    ("method", "left"),
    [
        (b"void f() { /* nothing */ }", []),
        (b"A() { super(); }", []),
        (b"int f() { return 0; }", [b"{ return (int) 1; }"]),
        (b"long f() { return (long) 1L; }", [b"{ return (long) 0; }"]),
        (b"boolean f() { return false; }", [b"{ return true; }"]),
        (b"Object f() { return null; }", [b'{ return ""; }']),
    ],
)
def test_a_method_is_not_replaced_by_itself(method, left):
    source = b"class A {\n" + method + b"\n}\n"
    found = make_mutants(source, "A" if method.startswith(b"A") else "f", (2, 2), 12)
    body = method[method.index(b"{") :]
    assert [one.source for one in found if one.operator == "default"] == [source.replace(body, new) for new in left]


def test_no_mutants_where_there_is_no_body():
    assert make_mutants(SOURCE, "h", (12, 12)) == [] and make_mutants(SOURCE, "f", (1, 2)) == []


def test_the_limit_keeps_defaults_and_some_of_each_operator():
    kept = make_mutants(SOURCE, "f", (2, 9), 5)
    assert [mutant.operator for mutant in kept] == ["default", "default", "condition", "statement", "operator"]


@pytest.mark.parametrize(
    ("returned", "values"),
    [
        ("boolean", ["false", "true"]),
        ("Integer", ["(int) 0", "(int) 1"]),
        ("char", ["'\\0'"]),
        ("byte[]", ["null", "new byte[0]"]),
        ("List<String>", ["null"]),
        ("String", ['""', "null"]),
    ],
)
def test_default_values(returned, values):
    assert list_default_values(returned) == values


# -- class paths -----------------------------------------------------------------------------------------------------


def test_a_folder_without_java(tmp_path):
    with pytest.raises(UserError, match="holds no Java files"):
        resolve_class_path(tmp_path, None, Jdk(tmp_path, 17))
    with pytest.raises(UserError, match="no such folder"):
        resolve_class_path(tmp_path / "gone", None, Jdk(tmp_path, 17))


@pytest.mark.jdk
def test_classes_are_made_once_and_again_after_a_change(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    root, jdk = write_project(tmp_path / "project"), find_jdk()
    (root / "src/test/resources").mkdir()
    (root / "src/test/resources/names.txt").write_text("x")
    first = resolve_class_path(root, junit_jars(), jdk)
    assert (first.folders[0] / "shop/CartTest.class").is_file() and (first.folders[0] / "names.txt").is_file()
    assert (first.folders[1] / "shop/Cart.class").is_file()
    assert not list(root.rglob("*.class"))  # nothing is written into the project
    assert resolve_class_path(root, junit_jars(), jdk) == first
    (root / "src/test/resources/names.txt").write_text("longer")
    assert resolve_class_path(root, junit_jars(), jdk).folders != first.folders


@pytest.mark.jdk
def test_compiled_classes_are_used_unless_they_are_older_than_the_sources(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    root = write_project(tmp_path / "project")
    for folder in ("target/classes", "target/test-classes"):
        (root / folder).mkdir(parents=True)
        (root / folder / "Made.class").write_bytes(b"built")
    taken = resolve_class_path(root, junit_jars(), find_jdk())
    assert (taken.folders[1] / "Made.class").read_bytes() == b"built"
    assert all(root not in folder.parents for folder in taken.folders)
    for path in root.rglob("Made.class"):
        os.utime(path, (1, 1))
    compiled = resolve_class_path(root, junit_jars(), find_jdk())
    assert (compiled.folders[1] / "shop/Cart.class").is_file() and not (compiled.folders[1] / "Made.class").exists()


@pytest.mark.jdk
@pytest.mark.parametrize("stale", ["main", "test"])
def test_neither_main_nor_test_classes_may_be_stale(tmp_path, monkeypatch, stale):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    root = write_project(tmp_path / "project")
    (root / "src/main/resources").mkdir(parents=True)
    (root / "src/main/resources/link").symlink_to("nowhere")
    for part, folder in (("main", "target/classes"), ("test", "target/test-classes")):
        (root / folder).mkdir(parents=True)
        (root / folder / "Made.class").write_bytes(b"built")
        if part == stale:
            os.utime(root / folder / "Made.class", (1, 1))
    found = resolve_class_path(root, junit_jars(), find_jdk())
    assert not any((folder / "Made.class").exists() for folder in found.folders)


@pytest.mark.jdk
def test_a_plain_folder_with_its_own_jars(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "plain"
    (root / "lib").mkdir(parents=True)
    for path in junit_jars():
        (root / "lib" / path.name).symlink_to(path)
    (root / "Foo.java").write_text("class Foo { int one() { return 1; } }")
    (root / "src" / "java" / "text").mkdir(parents=True)
    (root / "src" / "java" / "text" / "names.properties").write_text("a = b")
    (root / "FooTest.java").write_text("class FooTest extends junit.framework.TestCase { public void testOne() { } }")
    found = resolve_class_path(root, None, find_jdk())
    assert (found.folders[0] / "FooTest.class").is_file() and (found.folders[0] / "Foo.class").is_file()
    assert (found.folders[0] / "text" / "names.properties").is_file()
    assert len(found.jars) == len(junit_jars())


@pytest.mark.parametrize(
    ("assertion", "prediction", "marked"),
    [
        ("assertEquals(1, x());", "\nassertNull(y);\n", "\n{ MARK assertEquals(1, x()); }"),
        ("Exception e = assertThrows(x);", "\nassertNull(y);\n", "\nMARK Exception e = assertThrows(x);"),
        ("assertEquals(1, s.x())", "\n{ assertNull(y); }\n", "\n{ MARK assertEquals(1, s.x()); }"),
    ],
)
def test_a_lambda_s_expression_becomes_a_block_and_a_variable_keeps_its_scope(assertion, prediction, marked):
    source = f"void t() {{ f(() -> {assertion}) }}".encode()
    span = (source.index(assertion.encode()), source.index(assertion.encode()) + len(assertion))
    assert splice(source, span, "assertNull(y)").text == source.decode().replace(assertion, prediction)
    assert mark_places(source, {span: 0}) == source.decode().replace(
        assertion, marked.replace("MARK", f"{PLACES}.reach(0);")
    )
    assert find_span_problem(source, {"assertion_span": span, "assertion_kind": "assert"}) == ""


def test_an_empty_place_behind_a_comment_is_marked_on_a_line_of_its_own():
    source = b"void t() { f(); // why\n}"
    end = source.index(b"\n")
    assert mark_places(source, {(end, end): 3}).splitlines()[1].startswith(f"{{ {PLACES}.reach(3);")


def test_resources_that_an_earlier_build_made_are_found_and_hidden_sources_are_not(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    root = write_project(tmp_path / "project")
    made = root / "target" / "classes" / "shop" / "zones.dat"  # without classes the build is not a finished one
    made.parent.mkdir(parents=True)
    made.write_text("UTC")
    hidden = root / ".pc" / "fix.patch" / MAIN
    hidden.mkdir(parents=True)
    (hidden / "Cart.java").write_text("package shop; public class Cart { broken }")
    (folder, *_) = [path for path in resolve_class_path(root, junit_jars(), find_jdk()).folders if path.name == "main"]
    assert (folder / "shop" / "zones.dat").read_text() == "UTC" and (folder / "shop" / "Cart.class").is_file()
