"""Published shapes of data, each with rows written by hand."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from data.mining.importers import import_tests, untokenise
from data.mining.miner import SplitOptions, drop_duplicates, split_tests, write
from data.mining.tasks import Limits
from data.rows.readers import parse_sample
from utils.errors import UserError

# Two lines in the shape of the published ATLAS files (blanks in strings are <sp>), and three that are broken.
ATLAS_TESTS = [
    'testGet ( ) { org . shop . Cart c = new org . shop . Cart ( "my<sp>cart" ) ; int [ ] x = c . get ( 1 ) [ 0 ] ; '
    '"<AssertPlaceHolder>" ; } get ( int ) { if ( ( i ) > 0 ) { return items [ i ] ; } return null ; }',
    'testAdd ( ) { c . add ( "{" ) ; "<AssertPlaceHolder>" ; c . close ( ) ; } "<FocalMethod>" '
    "add ( java . lang . String ) { n = n + 1 ; }",
    'noFocal ( ) { "<AssertPlaceHolder>" ; }',
    "noMask ( ) { f ( ) ; } f ( ) { }",
    'noAssertion ( ) { "<AssertPlaceHolder>" ; } f ( ) { }',
]
ATLAS_ASSERTIONS = [
    'org . junit . Assert . assertEquals ( "a<sp>b" , x . name ( ) )',
    "org . junit . Assert . assertTrue ( ! ( c . isEmpty ( ) ) )",
    "org . junit . Assert . fail ( )",
    "org . junit . Assert . fail ( )",
    "",
]


def rows_of(collected) -> list[dict]:
    return [row for test in collected.tests for row in test.rows]


def collect(kind: str, path: Path, tmp_path: Path, **limits):
    return import_tests(kind, [path], Limits(**limits), tmp_path / "scratch", progress=False)


def write_atlas(folder: Path, tests: list[str], assertions: list[str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "testMethods.txt").write_text("\n".join(tests) + "\n")
    (folder / "assertLines.txt").write_text("\n".join(assertions) + "\n")
    return folder


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("a . b ( 1 , x [ 0 ] [ i ] ) ;", "a.b(1, x[0][i]);"),
        ("if ( a ) return ( b ) ;", "if (a) return (b);"),
        ("f ( \"a<sp>b<sp>\" , '<sp>' )", "f(\"a b \", ' ')"),
        ("assertTrue ( ! ( x ) )", "assertTrue(!(x))"),
        ("int [ ] x = new int [ ] { 1 } ;", "int[] x = new int[] { 1 };"),
        ("List < ? > l = ( ( List ) ( x ) ) ;", "List < ? > l = ((List) (x));"),
    ],
)
def test_tokens_become_java_again(tokens: str, text: str) -> None:
    assert untokenise(tokens) == text


def test_atlas(tmp_path: Path) -> None:
    collected = collect("atlas", write_atlas(tmp_path / "atlas", ATLAS_TESTS, ATLAS_ASSERTIONS), tmp_path)
    first, second = rows_of(collected)
    assert first["test_method_masked"] == (
        'testGet() { org.shop.Cart c = new org.shop.Cart("my cart"); int[] x = c.get(1)[0]; <AssertPlaceHolder> }'
    )
    assert first["focal_method"] == "get(int) { if ((i) > 0) { return items[i]; } return null; }"
    assert first["assertions"] == ['org.junit.Assert.assertEquals("a b", x.name());']
    assert first["source"] == {
        "project": "atlas",
        "test_name": "testGet",
        "focal_name": "get",
        "assertion_kind": "assertEquals",
    }
    assert second["test_method_masked"] == 'testAdd() { c.add("{"); <AssertPlaceHolder> c.close(); }'
    assert second["focal_method"] == "add(java.lang.String) { n = n + 1; }"
    assert collected.counts["tests"] == 5
    assert collected.left_out["record"] == {
        "missing focal method": 1,
        "placeholder missing or doubled": 1,
        "missing assertion": 1,
    }


def test_atlas_comes_split(tmp_path: Path) -> None:
    for name, i in (("Training", 0), ("Eval", 1)):
        write_atlas(tmp_path / "Raw" / name, [ATLAS_TESTS[i]], [ATLAS_ASSERTIONS[i]])
    collected = collect("atlas", tmp_path / "Raw", tmp_path)
    splits = split_tests(collected.tests, SplitOptions())
    assert sorted(splits) == ["train", "validation"]
    write(collected, splits, tmp_path / "out" / "raw.jsonl", {})
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "raw_validation.jsonl").read_text().splitlines()]
    assert row["source"]["split"] == "validation"
    assert parse_sample(row).target == "org.junit.Assert.assertTrue(!(c.isEmpty()));"
    assert (tmp_path / "out" / "raw_training.jsonl").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no testMethods.txt"),
        ({"testMethods.txt": "a\n"}, "assertLines.txt is missing"),
        ({"testMethods.txt": "a\nb\n", "assertLines.txt": "a\n"}, "2 lines in testMethods.txt, 1 assertions"),
    ],
)
def test_atlas_files_that_do_not_match_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        collect("atlas", tmp_path, tmp_path)


TOGBENCH = """id,test_prefix,test_name,focal_methods,docstrings
1,"void testAdd() { c.add(1); assertEquals(1, c.n()); }",testAdd,"[""int n() { return n; }"", ""void b() { }""]","A
number."
2,void testNothing() { c.add(1); },testNothing,int get() { return n; },
3,,testEmpty,int get() { return n; },
4,void testList() { c.add(1); },testList,[1,
"""


def test_togbench(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text(TOGBENCH)
    collected = collect("togbench", tmp_path / "bench.csv", tmp_path)
    (row,) = rows_of(collected)
    assert row["test_method_masked"] == "void testAdd() { c.add(1); <AssertPlaceHolder> }"
    assert (row["focal_method"], row["assertions"]) == ("int n() { return n; }", ["assertEquals(1, c.n());"])
    assert row["context"] == {"doc": "A number."}
    assert (row["source"]["id"], row["source"]["test_name"]) == ("1", "testAdd")
    assert collected.left_out["record"] == {"no assertion": 1, "missing test": 1, "focal methods are no list": 1}


def test_togbench_with_assertions(tmp_path: Path) -> None:
    (tmp_path / "bench.csv").write_text(
        "test_prefix,focal_methods,assertion\n"
        "void a() { c.add(1); },int get() { return n; },assertTrue(c.full())\n"
        "void b() { <AssertPlaceHolder> c.add(1); },int get() { return n; },assertNull(c);\n"
    )
    first, second = rows_of(collect("togbench", tmp_path, tmp_path))
    assert first["test_method_masked"] == "void a() { c.add(1); <AssertPlaceHolder> }"
    assert (first["assertions"], second["assertions"]) == (["assertTrue(c.full());"], ["assertNull(c);"])
    (tmp_path / "bench.csv").write_text("id,test\n1,2\n")
    with pytest.raises(UserError, match="names no column focal_methods, test_prefix"):
        collect("togbench", tmp_path, tmp_path)


METHODS2TEST = {
    "repository": {"repo_id": 7, "url": "https://example.org/shop", "language": "Java"},
    "focal_class": {"identifier": "Cart", "file": "src/main/java/shop/Cart.java"},
    "focal_method": {"identifier": "add", "body": "public void add(int n) {\n    total += n;\n}"},
    "test_class": {"identifier": "CartTest", "file": "src/test/java/shop/CartTest.java"},
    "test_case": {
        "identifier": "testAdd",
        "body": "@Test\npublic void testAdd() {\n  c.add(1);\n"
        '  assertEquals("s  s",\n      1, c.total());\n  assertTrue(c.any());\n}',
    },
}


def test_methods2test(tmp_path: Path) -> None:
    folder = tmp_path / "dataset" / "eval" / "7"
    folder.mkdir(parents=True)
    (folder / "7_0.json").write_text(json.dumps(METHODS2TEST))
    (folder / "7_1.json").write_text("{")
    for number, change in enumerate(
        (
            {"focal_method": {"body": ""}},
            {"test_case": {}},
            {"test_case": {"body": "void t() { f(); }"}},
            {"test_case": {"body": "void t( { fail(); }"}},
        ),
        start=2,
    ):
        (folder / f"7_{number}.json").write_text(json.dumps({**METHODS2TEST, **change}))
    collected = collect("methods2test", tmp_path / "dataset", tmp_path)
    first, second = rows_of(collected)
    assert first["focal_method"] == "public void add(int n) { total += n; }"
    assert first["test_method_masked"] == (
        "@Test public void testAdd() { c.add(1); <AssertPlaceHolder> assertTrue(c.any()); }"
    )
    assert first["assertions"] == ['assertEquals("s  s", 1, c.total());']
    assert second["assertions"] == ["assertTrue(c.any());"]
    assert first["source"] == {
        "project": "https://example.org/shop",
        "test_file": "src/test/java/shop/CartTest.java",
        "focal_file": "src/main/java/shop/Cart.java",
        "test_class": "CartTest",
        "focal_class": "Cart",
        "test_name": "testAdd",
        "focal_name": "add",
        "assertion_kind": "assertEquals",
    }
    assert collected.tests[0].given_split == "validation"
    assert collected.left_out["record"] == {
        "not valid JSON": 1,
        "missing focal method": 1,
        "missing test": 1,
        "no assertion": 1,
        "test does not parse": 1,
    }


def test_methods2test_from_an_archive_and_as_blocks(tmp_path: Path) -> None:
    (tmp_path / "1_0.json").write_text(json.dumps(METHODS2TEST))
    with tarfile.open(tmp_path / "train.tar.bz2", "w:bz2") as handle:
        handle.add(tmp_path / "1_0.json", "train/1/1_0.json")
    (row,) = rows_of(collect("methods2test", tmp_path / "train.tar.bz2", tmp_path, assertions_per_task="block"))
    assert row["assertions"] == ['assertEquals("s  s", 1, c.total());', "assertTrue(c.any());"]
    assert row["test_method_masked"] == "@Test public void testAdd() { c.add(1); <AssertPlaceHolder> }"


def test_jsonl_with_paths_texts_and_ready_assertions(tmp_path: Path) -> None:
    test_file = "package shop;\nimport org.junit.Test;\nimport java.util.List;\npublic class CartTest { }\n"
    body = {
        "test_method": "@Test void t() { c.add(1); assertEquals(1, c.total()); }",
        "focal_method": "void add(int n) { }",
    }
    lines = [
        {**body, "test_file": "a/CartTest.java", "focal_file": "a/Cart.java", "project": "shop"},
        {**body, "test_file": test_file, "focal_file": "package shop; class Cart { void add(int n) { } }"},
        {"test_method": "void t() { <AssertPlaceHolder> }", "focal_method": "void f() { }", "assertions": ["fail();"]},
        {"test_method": "void t() { fail(); }"},
        {"focal_method": "void f() { }"},
        {**body, "assertions": [3]},
        [1],
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    collected = collect("jsonl", path, tmp_path)
    first, second, third = rows_of(collected)
    assert first["test_method_masked"] == "@Test void t() { c.add(1); <AssertPlaceHolder> }"
    assert first["source"] == {
        "project": "shop",
        "test_file": "a/CartTest.java",
        "focal_file": "a/Cart.java",
        "assertion_kind": "assertEquals",
    }
    assert second["source"] == {
        "project": "pairs",
        "test_class": "shop.CartTest",
        "focal_class": "shop.Cart",
        "imports": ["org.junit.Test"],
        "assertion_kind": "assertEquals",
    }
    assert (third["test_method_masked"], third["assertions"]) == ("void t() { <AssertPlaceHolder> }", ["fail();"])
    assert collected.left_out["record"] == {
        "missing focal method": 1,
        "missing test": 1,
        "assertion is not a string": 1,
        "not a JSON object": 1,
    }


def test_imported_tests_of_one_class_are_kin(tmp_path: Path) -> None:
    lines = [
        {
            "test_method": f"@Test void t{i}() {{ c.put({i}, {i}); assertEquals({i}, c.get{i}()); }}",
            "focal_method": f"void f{i}() {{ }}",
            "test_file": f"a/C{i % 3}Test.java",
        }
        for i in range(30)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    collected = collect("jsonl", path, tmp_path)
    splits = split_tests(collected.tests, SplitOptions(by="class", validation_fraction=0.34, test_fraction=0.34))
    sides = {(test.rows[0]["source"]["test_file"], side) for test, side in zip(collected.tests, splits, strict=True)}
    assert len(sides) == 3
    assert {side for _, side in sides} == {"train", "validation", "test"}


def test_imported_tests_without_a_class_are_kin_by_their_focal_method(tmp_path: Path) -> None:
    lines = [
        {
            "test_method": f"@Test void t() {{ int x{i} = {i}; f{i}(x{i}); assertEquals({i}, g{i % 50}()); }}",
            "focal_method": f"int g{i % 50}() {{ return {i % 50}; }}",
        }
        for i in range(100)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    collected = collect("jsonl", tmp_path / "pairs.jsonl", tmp_path)
    splits = split_tests(collected.tests, SplitOptions(by="class", validation_fraction=0.2, test_fraction=0.2))
    assert {side: splits.count(side) for side in set(splits)} == {"train": 60, "validation": 20, "test": 20}
    sides = {(test.rows[0]["focal_method"], side) for test, side in zip(collected.tests, splits, strict=True)}
    assert len(sides) == 50


def test_rows_of_the_product_are_read_and_each_assertion_of_a_test_is_kept(tmp_path: Path) -> None:
    test = "@Test void t() {{ int x = f(); {} {} }}"
    first, second = "assertEquals(1, x);", "assertTrue(x > 0);"
    lines = [
        {
            "test_method_masked": test.format("<AssertPlaceHolder>", second),
            "focal_file": "int f() { return 1; }",
            "assertions": [first],
            "source": {"project": "p", "test_class": "a.T"},
        },
        {
            "test_method_masked": test.format(first, "<AssertPlaceHolder>"),
            "focal_method": "int g() { return 1; }",
            "assertion": second,
            "source": {"project": "p", "test_class": "a.T"},
        },
    ]
    (tmp_path / "raw.jsonl").write_text("\n".join(map(json.dumps, [*lines, lines[0]])) + "\n")
    collected = collect("jsonl", tmp_path / "raw.jsonl", tmp_path)
    drop_duplicates(collected, 0.8, [], progress=False)
    assert [row["assertions"] for row in rows_of(collected)] == [[first], [second]]
    assert [row["focal_method"] for row in rows_of(collected)] == ["int f() { return 1; }", "int g() { return 1; }"]


def test_the_name_of_a_source_tells_its_split(tmp_path: Path) -> None:
    row = {"test_method": "@Test void t() { assertEquals(1, f()); }", "focal_method": "int f() { return 1; }"}
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with tarfile.open(tmp_path / "eval.tar.bz2", "w:bz2") as handle:
        handle.add(tmp_path / "train", "data")
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    for name, split in (("train", "train"), ("eval.tar.bz2", "validation"), ("test.jsonl", "test")):
        (test,) = collect("jsonl", tmp_path / name, tmp_path / name.partition(".")[0]).tests
        assert test.given_split == split


def test_rows_without_a_split_beside_others_are_said(tmp_path: Path, capsys) -> None:
    row = {"test_method": "@Test void t() { assertEquals(%d, f()); }", "focal_method": "int f() { return 1; }"}
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("train", "other")):
        own = row | {"test_method": row["test_method"] % number}
        (tmp_path / "in" / f"{name}.jsonl").write_text(json.dumps(own) + "\n")
    collected = collect("jsonl", tmp_path / "in", tmp_path)
    write(collected, split_tests(collected.tests, SplitOptions()), tmp_path / "raw.jsonl", {})
    assert "1 tests came without a split" in capsys.readouterr().err
    assert len((tmp_path / "raw.jsonl").read_text().splitlines()) == 2
    assert len((tmp_path / "raw_training.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("kind", ["methods2test", "jsonl"])
def test_folders_without_data(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"holds no \.json"):
        collect(kind, tmp_path, tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        collect(kind, tmp_path / "none", tmp_path)
