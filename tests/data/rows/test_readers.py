"""Every spelling of a raw row that is in use, and the reason given for each that is not."""

from __future__ import annotations

import json

import pytest

from data.java.normal_form import spell
from data.java.tokens import tokenize
from data.mining.file_split import split_rows
from data.rows.files import require_file
from data.rows.oddities import NO_CALL, NO_JAVA, VISIBLE, find_oddities
from data.rows.readers import (
    BROKEN_STRING,
    LIST_AS_TEXT,
    MANY_PLACEHOLDERS,
    MASKED_AT_END,
    MASKED_HERE,
    MASKED_NEAR,
    PLACEHOLDER,
    RowError,
    is_header,
    parse_json_line,
    parse_sample,
    read_rows,
)
from utils.errors import UserError

TEST = f"@Test public void t() {{ f(); {PLACEHOLDER} }}"
FOCAL = "int f() { return 1; }"
ASSERTION = "assertEquals(1, f());"


@pytest.mark.parametrize("focal_key", ["focal_method", "focal_file"])
@pytest.mark.parametrize("test_key", ["test_method_masked", "test_method"])
@pytest.mark.parametrize(
    ("target_key", "target"),
    [("assertions", [ASSERTION]), ("assertion", ASSERTION), ("original_target", ASSERTION), ("assertions", ASSERTION)],
)
def test_all_spellings_mean_the_same(focal_key: str, test_key: str, target_key: str, target: object) -> None:
    sample = parse_sample({focal_key: FOCAL, test_key: TEST, target_key: target})
    assert (sample.focal, sample.test, sample.assertions) == (FOCAL, TEST, (ASSERTION,))
    assert sample.source == {}
    assert sample.teacher_prediction is None


def test_the_first_spelling_wins_and_an_empty_one_is_passed_over() -> None:
    row = {
        "focal_method": " ",
        "focal_file": FOCAL,
        "test_method_masked": TEST,
        "test_method": "other",
        "assertions": [],
        "assertion": ASSERTION,
    }
    sample = parse_sample(row)
    assert (sample.focal, sample.test, sample.assertions) == (FOCAL, TEST, (ASSERTION,))


def test_several_assertions_become_lines_of_the_target() -> None:
    target = ["assertTrue(\n  a );", "", "fail();"]
    sample = parse_sample({"focal_method": FOCAL, "test_method": TEST, "assertions": target})
    assert sample.assertions == ("assertTrue( a );", "fail();")
    assert sample.target == "assertTrue( a );\nfail();"


def test_blanks_inside_a_string_literal_are_part_of_the_assertion() -> None:
    assertion = 'assertEquals("a  b\\"  c", pad("a",\n   \'"\'),   x);'
    sample = parse_sample({"focal_method": FOCAL, "test_method": TEST, "assertion": assertion})
    assert sample.assertions == ('assertEquals("a  b\\"  c", pad("a", \'"\'), x);',)


def test_a_test_without_placeholder_gets_one_before_its_end() -> None:
    sample = parse_sample({"focal_method": FOCAL, "test_method": "void t() { f(); }", "assertion": ASSERTION})
    assert sample.test == f"void t() {{ f(); {PLACEHOLDER} }}"


def test_the_answer_never_stands_in_the_input() -> None:
    test = "@Test void t() { int x = f(); assertEquals(1,\n     f()); done(); assertTrue(x > 0); }"
    row = {"focal_method": FOCAL, "test_method": test, "assertions": ["assertEquals(1, f());", "assertTrue(x > 0);"]}
    assert parse_sample(row).test == f"@Test void t() {{ int x = f(); {PLACEHOLDER} done();  }}"


@pytest.mark.parametrize(
    "written",
    [
        "assertEquals( 1 , f() ) ;",
        "assertEquals(1, // one\n  f());",
        "Assert.assertEquals(1, f());",
        "assertEquals((1), (f()));",
        "org.junit.jupiter.api.Assertions\n    .assertEquals(1, f());",
    ],
)
def test_the_answer_is_found_by_its_tokens(written: str) -> None:
    row = {"focal_method": FOCAL, "test_method": f"void t() {{ f(); {written} }}", "assertion": ASSERTION}
    sample = parse_sample(row)
    assert sample.test == f"void t() {{ f(); {PLACEHOLDER} }}"
    assert find_oddities(sample) == [MASKED_HERE]
    qualified = {**row, "assertion": f"Assert.{ASSERTION}", "test_method": f"void t() {{ {ASSERTION} g(); }}"}
    assert parse_sample(qualified).test == f"void t() {{ {PLACEHOLDER} g(); }}"


def test_a_statement_is_masked_with_its_semicolon_whether_the_target_has_one_or_not() -> None:
    row = {"focal_method": FOCAL, "test_method": f"void t() {{ {ASSERTION} assertTrue(a); g(); }}"}
    sample = parse_sample({**row, "assertions": [ASSERTION.rstrip(";"), "assertTrue(a)"]})
    assert sample.test == f"void t() {{ {PLACEHOLDER}  g(); }}"


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("assertEquals(7, (long) s.pop());", True),
        ('assertEquals("top", 7, s.pop());', True),
        ("assertEquals(s.pop(), 7);", True),
        ("assertThat(list, () -> assertEquals(7L + 0, 7, s.pop()))", False),  # two words more
        ("assertEquals(8, s.pop());", False),
        ("assertEquals(7, s.pop().size().get());", False),
        ("log.assertEquals(s.pop(), 7);", False),
        ("assertSame(7, s.pop());", False),
    ],
)
def test_what_is_nearly_the_answer_is_masked_and_counted_as_such(written: str, near: bool) -> None:
    row = {"focal_method": FOCAL, "assertion": "assertEquals(7, s.pop());", "test_method": f"void t() {{ {written} }}"}
    sample = parse_sample(row)
    assert sample.test == (f"void t() {{ {PLACEHOLDER} }}" if near else f"void t() {{ {written} {PLACEHOLDER} }}")
    assert find_oddities(sample) == [MASKED_NEAR if near else MASKED_AT_END]


def test_of_several_assertions_each_is_masked_exactly_or_nearly() -> None:
    test = 'void t() { assertEquals(1, s.f()); assertTrue("m", s.ok()); }'
    row = {"focal_method": FOCAL, "assertions": ["assertEquals(1,s.f());", "assertTrue(s.ok());"], "test_method": test}
    sample = parse_sample(row)
    assert sample.test == f"void t() {{ {PLACEHOLDER}  }}" and find_oddities(sample) == [MASKED_NEAR]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("assertEquals(1, f((7)));", "Assert.assertEquals(1,f(7))"),
        ("assertTrue((a && b));", "assertTrue(a && b);"),
        ("run(() -> (x));", "run(() -> x);"),
    ],
)
def test_spellings_that_mean_the_same_are_one(text: str, same: str) -> None:
    assert spell(text) == spell(same)


@pytest.mark.parametrize(
    "text", ["f((int) x);", "f((a + b) * c);", "f((a) -> b);", "f(g());", "f((String) null, (x) + 1);"]
)
def test_brackets_that_mean_something_stay(text: str) -> None:
    assert list(spell(text)) == tokenize(text)[:-1]


@pytest.mark.parametrize(
    ("test", "oddities"),
    [
        (TEST, []),
        ("void t() { f(); }", [MASKED_AT_END]),
        (f"void t() {{ {PLACEHOLDER} g(); {PLACEHOLDER} }}", [MANY_PLACEHOLDERS]),
        (f"void t() {{ {PLACEHOLDER} Assert.assertEquals(1,f()); }}", [VISIBLE]),
        (f"void t() {{ {PLACEHOLDER} // was assertEquals(1, f())\n }}", [VISIBLE]),
        (f"void t() {{ {ASSERTION} g(); {ASSERTION} }}", [MASKED_HERE, VISIBLE]),
        (
            f"void t() {{ {PLACEHOLDER} log.assertEquals(1, f()); assertEquals(1, f()).and(2); }}",
            [],
        ),
    ],
)
def test_what_is_odd_about_a_test_is_told(test: str, oddities: list[str]) -> None:
    sample = parse_sample({"focal_method": FOCAL, "test_method": test, "assertion": ASSERTION})
    assert find_oddities(sample) == oddities


@pytest.mark.parametrize(
    ("target", "assertions", "oddities"),
    [
        ("['assertTrue(a);', \"assertEquals('x', b);\"]", ("assertTrue(a);", "assertEquals('x', b);"), [LIST_AS_TEXT]),
        ('["assertTrue(a);"]', ("assertTrue(a);",), [LIST_AS_TEXT]),
        (["['fail();']", "assertTrue(a);"], ("fail();", "assertTrue(a);"), [LIST_AS_TEXT]),
        ("assertEquals( // it's 8\n 8, x);", ("assertEquals( 8, x);",), []),
        ('assertEquals("//", // not\n x);', ('assertEquals("//", x);',), []),
        ("assertTrue(a); // at the end", ("assertTrue(a);",), []),
        ("assertTrue(a /* it's \"open */ );", ("assertTrue(a /* it's \"open */ );",), []),
        (r"""['assertEquals("a\nb", x);']""", ('assertEquals("a\\nb", x);',), [LIST_AS_TEXT, BROKEN_STRING]),
        ("""['assertEquals("a\nb", x);']""", ('assertEquals("a\\nb", x);',), [LIST_AS_TEXT, BROKEN_STRING]),
        ('assertEquals("a\n  b",\n x);', ('assertEquals("a\\n  b", x);',), [BROKEN_STRING]),
        ("hello world", ("hello world",), [NO_CALL]),
        ("count += 1;", ("count += 1;",), [NO_CALL]),
        ("assert count == 1;", ("assert count == 1;",), []),
        ('assertEquals("""\n  a\n  """,\n x);', ('assertEquals("""\n  a\n  """, x);',), []),
        ("x is one", ("x is one",), [NO_JAVA]),
        ("['a', 3]", ("['a', 3]",), [NO_JAVA]),
        ("[" * 5000 + "]" * 5000, ("[" * 5000 + "]" * 5000,), [NO_JAVA]),
    ],
)
def test_targets_are_repaired_where_that_is_sure_and_told_where_not(
    target: object, assertions: tuple[str, ...], oddities: list[str]
) -> None:
    sample = parse_sample({"focal_method": FOCAL, "test_method": TEST, "assertions": target})
    assert sample.assertions == assertions
    assert find_oddities(sample) == oddities


def test_numbers_that_json_lacks_are_read_as_null() -> None:
    line = b'{"assertion": "a", "m": {"bleu": NaN, "low": [-Infinity, 1e999, 0.5]}}'
    assert parse_json_line(line) == {"assertion": "a", "m": {"bleu": None, "low": [None, None, 0.5]}}


def test_provenance_and_prediction_are_kept() -> None:
    row = {"focal_method": FOCAL, "test_method": TEST, "assertion": ASSERTION}
    sample = parse_sample({**row, "source": {"project": "p"}, "teacher_prediction": "fail();"})
    assert sample.source == {"project": "p"}
    assert sample.teacher_prediction == "fail();"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"focal_method": None}, "missing focal method"),
        ({"focal_method": 3}, "focal method is not a string"),
        ({"test_method": ""}, "missing masked test"),
        ({"test_method": ["x"]}, "masked test is not a string"),
        ({"assertion": " "}, "missing assertion"),
        ({"assertion": {"a": 1}}, "assertion is not a string"),
        ({"assertions": [ASSERTION, 1]}, "assertion is not a string"),
    ],
)
def test_the_reason_for_a_row_that_cannot_be_used(change: dict[str, object], reason: str) -> None:
    row = {"focal_method": FOCAL, "test_method": TEST, "assertion": ASSERTION, **change}
    with pytest.raises(RowError, match=f"^{reason}$"):
        parse_sample(row)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b"[1]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b'{"a": ' + b"[" * 100_000, "JSON nested too deeply"),
        (rb'{"a": "\ud83d"}', "text holds half a surrogate pair"),
        (b'{"a": "\xed\xa0\xbd"}', "text holds half a surrogate pair"),
    ],
)
def test_lines_that_are_no_objects(line: bytes, reason: str) -> None:
    with pytest.raises(RowError, match=f"^{reason}$"):
        parse_json_line(line)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_json_line(rb'{"a": "\ud83d\ude00"}') == {"a": "\N{GRINNING FACE}"}


def test_header_lines_have_no_sample_field() -> None:
    assert is_header({"distillation_header": {"version": 1}})
    assert not is_header({"assertion": ASSERTION})


def test_rows_are_numbered_as_an_editor_does_and_blank_lines_passed_over(tmp_path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_bytes(b'{"a": 1}\n\n  \n' + json.dumps({"b": "\u2028"}, ensure_ascii=False).encode() + b"\n")
    assert [number for number, _ in read_rows(path)] == [1, 4]


def test_missing_and_empty_files_say_how_to_make_one(tmp_path) -> None:
    with pytest.raises(UserError, match=r"--data: .*none.jsonl does not exist; mine it"):
        require_file(tmp_path / "none.jsonl", "--data", "mine it")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=r"--data: .*empty.jsonl is empty; mine it"):
        require_file(tmp_path / "empty.jsonl", "--data", "mine it")


def test_one_file_is_split_without_leaks(tmp_path) -> None:
    rows = [
        {
            "focal_method": f"int f{i}() {{ return {i}; }}",
            "test_method_masked": TEST,
            "assertion": ASSERTION,
            "source": {"project": "p", "test_class": f"a.C{i}Test{nested}", "focal_class": f"a.C{i}"},
        }
        for i in range(60)
        for nested in ("", "$WhenEmpty", "$WhenFull")
    ]
    rows += [
        {"focal_method": f"int g{i % 30}() {{ }}", "test_method_masked": TEST, "assertion": ASSERTION}
        for i in range(90)
    ]
    source, sides = tmp_path / "all.jsonl", (tmp_path / "t.jsonl", tmp_path / "v.jsonl")
    source.write_text("\n".join(map(json.dumps, rows)) + "\nbroken\n")
    split_rows(source, *sides, 0.2, 42)
    focal = [{json.loads(line)["focal_method"] for _, line in read_rows(side) if line != b"broken\n"} for side in sides]
    assert not focal[0] & focal[1] and len(focal[0] | focal[1]) == 90 and len(focal[1]) > 5
    assert sides[0].read_text().count("broken") == 1
