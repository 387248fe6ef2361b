"""The grammar that decoding keeps to, against a parser and against what people write."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from data.java.statements import is_valid_java
from data.sample_corpus import write_sample_corpus
from models.decoding.constraints.grammar import Grammar
from models.decoding.constraints.kept import Kept
from models.decoding.constraints.offered import find_offered
from tests.helpers.commands import ROOT

GOOD = [
    "assertEquals(4, list.get(0)[1] << 2);",
    "assertEquals(-1L, ~a ^ 0x1fL, .5);",
    'assertTrue("of " + n, a >= 0 && !b || (c ? d : e::f) instanceof Map.Entry);',
    "assertEquals((byte) 3, (URI) x, (List<String>) y);",
    "assertArrayEquals(new int[][] { { 1, 2 }, {} }, new Foo.Bar<>(3) { int x; }.all());",
    "assertThrows(E.class, () -> assertTrue(f()));",
    "assertThrows(E.class, () -> { for (int i : all) { if (i > 0) { throw new E(); } else { return; } } });",
    "Foo<? extends Bar[]> x = make(); assertSame(x, int[].class, Foo.class);",
    'var e = assertThrows(E.class, a::b); assertEquals("x", e.getMessage());',
    "assertThat(all).extracting((a, b) -> a.c).contains(x++, y--);",
    "int a = 1, b = 2; Runnable r = () -> f(a); g((x, y) -> b, X < a.b());",
    "int[] all = { 1, 2 }; assertTrue(all.length != MAX);",
    'assertThrows(E.class, () -> { if (a) { throw new E("b"); } return "c"; });',
    "try { f(); fail(); } catch (final IOException | E e) { assertNotNull(e); }",
]
BAD = [
    "f(a b",
    'f("a" "b"',
    "f(a 5",
    "f(,",
    "f(a, )",
    "f(a + )",
    "f(* a",
    "f(a., b",
    "f(), x",
    "f(x).;",
    "f(int)",
    "f(int, x",
    "f(byte.size()",
    "f(Token byte",
    "f(default there",
    "f(return x",
    "f(a[])",
    "f(a: b",
    "f(a <> b",
    "f(-double), ",
    "f(1 -> x",
    "f(a ! b",
    "f(new )",
    "f(., ",
    "f(1.2.3",
    "f(:: a",
    "f(int.class(",
    "f(super)",
    "f(); 3",
    'f(); "a"',
    "f(); .5",
    "f(.a",
    "f(a -> )",
    'f(("s") -> x',
    "f((), x",
    "f(new Foo, x",
    "f(g() {",
    "f(1two",
    "f(this(",
    "assertEquals(1, assertTrue(",
    "assertEquals(1, Assert.assertNull(",
    "int[] x = { 1 + };",
]


@pytest.mark.parametrize("text", GOOD)
def test_java_is_followed_to_its_end(text):
    assert is_valid_java(text)
    assert all(Grammar().after(text[:length]) is not None for length in range(len(text) + 1))
    assert Grammar().after(text).may_end()


@pytest.mark.parametrize("text", BAD)
def test_what_no_ending_makes_java_is_refused(text):
    assert Grammar().after(text) is None
    endings = ("", ";", ");", "));", "x);", "x));", "};", "y };", "]);", "1);", "1;", ")));")
    assert not any(is_valid_java(text + ending) for ending in endings if "assert" not in text)


def test_a_text_ends_outside_of_brackets_and_literals():
    assert not any(Grammar().after(text).may_end() for text in ("f(", "f(a", 'f("', "f(() -> {", "x["))


def test_no_assertion_of_a_project_is_refused(tmp_path):
    project, rows = write_sample_corpus(tmp_path / "sample", classes=40), tmp_path / "raw.jsonl"
    words = [sys.executable, "scripts/mine_assertions.py", "--source", str(project), "--output", str(rows)]
    subprocess.run(words, check=True, cwd=ROOT, capture_output=True)
    texts = ["\n".join(json.loads(line)["assertions"]) for line in rows.read_text().splitlines()]
    assert len(texts) > 200
    assert [text for text in texts if (end := Grammar().after(text)) is None or not end.may_end()] == []


def test_a_keyword_is_written_where_a_statement_begins_or_a_longer_name_is_known():
    assert Grammar().after("f(default") is not None  # defaultValue
    longer, shorter = (find_offered(f"void t() {{ f(def, {name}); }}\nint m() {{ }}") for name in ("defaults", "other"))
    assert Kept(longer).after("f(default") is not None
    assert Kept(shorter).after("f(default") is None
    assert Kept(shorter).after("f(() -> { return") is not None


@pytest.mark.parametrize("text", ["f(a ? b)", "f(a ? b, c", "x = ;", "f(a +)", "f(new)"])
def test_an_operand_or_a_colon_is_not_left_out(text):
    assert Grammar().after(text) is None


@pytest.mark.parametrize("text", ["x =", "a.", "a::", "new", "new Foo", "a ? b"])
def test_a_text_does_not_end_before_an_operand(text):
    assert not Grammar().after(text).may_end()
