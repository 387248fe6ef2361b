"""The context of a task: what stands around its test, the assertions of other tests, and that its own never leaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.mining.siblings import MAX_SIBLINGS, add_siblings
from data.mining.tasks import MinedTest
from data.rows.context import Context
from data.rows.readers import PLACEHOLDER, Row, parse_sample
from tests.helpers.mining_fixtures import mine, mine_body, rows_of, test_class

STACK_TEST = "src/test/java/shop/StackTest.java"


def context_of(result, place: int = 0) -> Context:
    add_siblings(result.tests)
    return rows_of(result)[place]["context"]


# -- variables -------------------------------------------------------------------------------------------------------


def test_fields_are_inherited_ones_too_with_the_values_that_set_up_gives(tmp_path: Path) -> None:
    base = test_class(
        'protected List<String> names = new ArrayList<>();\nprivate int hidden = 3;\nString label = "a";',
        "BaseTest",
        "import java.util.*;",
    ).replace("public class", "public abstract class")
    body = """
        private Stack stack; static final int MAX = 5, MIN = 2; int[] table = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
        @Before public void prepare() { this.stack = new Stack(); }
        public void setUp() { label = "b"; }
        @Test public void t() { stack.push(MAX); assertEquals(5, stack.pop()); }"""
    files = {STACK_TEST: test_class(body, header="extends BaseTest"), "src/test/java/shop/BaseTest.java": base}
    found = context_of(mine(tmp_path, files, only=STACK_TEST))["fields"]
    # Those that the test mentions come first; a private field of the base class cannot be named.
    assert found == [
        "Stack stack = new Stack()",
        "int MAX = 5",
        "int MIN = 2",
        "int[] table",
        "List<String> names = new ArrayList<>()",
        'String label = "a"',
    ]


def test_locals_in_scope_are_named_with_their_types_the_latest_first(tmp_path: Path) -> None:
    body = """@Test public void t(int wide) throws Exception {
        Stack stack = new Stack(); var other = new Stack(); int a[] = {1}, b = 2;
        { int gone = 1; }
        for (int i = 0; i < 2; i++) { stack.push(i); }
        try (java.io.Reader reader = open()) {
            for (String name : names()) { Object o = name;
                if (o instanceof String text) { assertEquals(1, stack.pop()); int later = 1; } } }
        catch (IllegalStateException | RuntimeException error) { } }"""
    found = context_of(mine_body(tmp_path, body))["locals"]
    assert found == [
        "String text",
        "Object o",
        "String name",
        "java.io.Reader reader",
        "int b",
        "int[] a",
        "Stack other",
        "Stack stack",
        "int wide",
    ]


def test_a_caught_exception_is_a_local_inside_its_handler_alone(tmp_path: Path) -> None:
    body = """@Test public void t() { Stack s = new Stack();
        try { s.pop(); } catch (RuntimeException e) { assertEquals(0, s.size()); }
        assertEquals(1, s.size()); }"""
    result = mine_body(tmp_path, body)
    assert context_of(result, 0)["locals"] == ["RuntimeException e", "Stack s"]
    assert context_of(result, 1)["locals"] == ["Stack s"]


def test_a_parameter_of_a_lambda_has_the_type_that_its_place_gives(tmp_path: Path) -> None:
    body = """@Test public void t() {
        java.util.List.of(new Stack()).forEach(s -> { assertEquals(0, s.size()); });
        java.util.Map.of("a", new Stack()).forEach((name, s) -> assertEquals(1, s.pop()));
        assertEquals(2, new Stack().size()); }"""
    result = mine_body(tmp_path, body)
    assert [row["context"].get("locals") for row in rows_of(result)] == [["Stack s"], ["Stack s", "String name"], None]


# -- members, documentation, style -------------------------------------------------------------------------------------


def test_members_are_what_an_assertion_may_call_on_the_types_in_play(tmp_path: Path) -> None:
    body = """private int twice(int x) { return 2 * x; } private void help() { }
        @Test public void testSize() { Stack stack = new Stack(); stack.push(1); assertEquals(2, stack.pop()); }"""
    found = context_of(mine_body(tmp_path, body))["members"]
    # size shares a word with the test's name; push returns nothing; twice is the test class's own.
    assert found == [
        "int Stack.size()",
        "boolean Stack.isEmpty()",
        "int Stack.pop()",
        "Cursor Stack.cursor()",
        "static Stack Stack.of(int...)",
        "int twice(int)",
    ]


def test_the_documentation_of_what_is_overridden_stands_in(tmp_path: Path) -> None:
    sized = """package shop;
        public interface Sized {
            /**
             * Counts the {@code items}, <b>all</b> of them. More words.
             *
             * @param x no
             * @return how many there
             *     are. Really.
             * @throws IllegalStateException if closed
             */
            int size(); }"""
    body = "@Test public void t() { Stack s = new Stack(); assertEquals(0, s.size()); }"
    files = {STACK_TEST: test_class(body), "src/main/java/shop/Sized.java": sized}
    found = context_of(mine(tmp_path, files, only=STACK_TEST))
    assert found["doc"] == (
        "Counts the items, all of them. @return how many there are. @throws IllegalStateException if closed"
    )
    assert found["style"] == ["static org.junit.Assert"]


def test_a_comment_that_is_not_of_the_method_is_not_its_documentation(tmp_path: Path) -> None:
    body = "@Test public void t() { Stack s = new Stack(); assertEquals(0, s.pop()); }"
    assert "doc" not in context_of(mine_body(tmp_path, body))


# -- siblings --------------------------------------------------------------------------------------------------------

TWO_ALIKE = """
    @Test public void pushes() { Stack s = new Stack(); s.push(1); s.push(2); assertEquals(2, s.pop()); }
    @Test public void counts() { Stack s = new Stack(); s.push(3); s.push(4); assertEquals(2, s.size()); }
    @Test public void other() { int[] many = {7}; String joined = "x"; assertEquals(0, Stack.of(many).size()); }"""


def test_siblings_are_the_assertions_of_other_tests_nearest_first(tmp_path: Path) -> None:
    found = context_of(mine_body(tmp_path, TWO_ALIKE))
    counts = {"test_name": "counts", "focal_name": "size", "assertion": "assertEquals(2, s.size());"}
    counts |= {"locals": ["Stack s"]}  # those that it names
    other = {"test_name": "other", "focal_name": "size", "assertion": "assertEquals(0, Stack.of(many).size());"}
    other |= {"locals": ["int[] many"]}
    assert found["siblings"] == [{"test_class": "shop.StackTest", **item} for item in (counts, other)]
    assert "retrieved" not in found


def test_the_nearest_is_by_the_multisets_of_words_and_by_the_focal_method() -> None:
    """Against the definition, over all pairs."""
    import random
    from collections import Counter

    random.seed(3)
    texts = [" ".join(random.choices("abcdefgh", k=random.randint(3, 12))) for _ in range(40)]
    tests = [
        make_test(f"t{i}", f"{text} {PLACEHOLDER}", f"f{i % 3}", f"assertEquals({i});") for i, text in enumerate(texts)
    ]
    add_siblings(tests)
    bags = [Counter(text.split()) for text in texts]
    for i, test in enumerate(tests):
        names = [sibling["test_name"] for sibling in test.rows[0]["context"]["siblings"]]
        assert len(names) == MAX_SIBLINGS == len(set(names)) and f"t{i}" not in names
        similarity = [
            (a & bags[i]).total() / (a | bags[i]).total() + 0.1 * (j % 3 == i % 3) if j != i else -1.0
            for j, a in enumerate(bags)
        ]
        best = sorted(similarity, reverse=True)[:MAX_SIBLINGS]
        assert [similarity[int(name[1:])] for name in names] == pytest.approx(best)


def make_test(
    name: str, test: str, focal: str, assertion: str, where: str = "shop.T", about: str = "shop.F"
) -> MinedTest:
    row: Row = {
        "focal_method": focal,
        "test_method_masked": test,
        "assertions": [assertion],
        "source": {
            "project": "shop",
            "test_class": where,
            "test_name": name,
            "focal_class": about,
            "focal_name": focal,
        },
        "context": {},
    }
    return MinedTest((row,), (f"shop: {where}", f"shop: {about}"), ())


def test_other_classes_about_the_same_class_come_after_the_own_one() -> None:
    tests = [
        make_test("a", f"x y {PLACEHOLDER}", "f", "fail(1);"),
        make_test("b", f"z {PLACEHOLDER}", "f", "fail(2);", "shop.T$Inner"),
        make_test("c", f"x y {PLACEHOLDER}", "f", "fail(3);", "shop.U"),
        make_test("d", f"x y {PLACEHOLDER}", "f", "fail(4);", "shop.V", "shop.G"),
    ]
    add_siblings(tests)
    assert [s["assertion"] for s in tests[0].rows[0]["context"]["siblings"]] == ["fail(2);", "fail(3);"]
    # Only the one without a sibling looks elsewhere, and not at what a link joins it to.
    assert "retrieved" not in tests[0].rows[0]["context"]
    alone = tests[3].rows[0]["context"]
    assert "siblings" not in alone and alone["retrieved"][0]["assertion"] in ("fail(1);", "fail(3);")


def test_what_is_retrieved_is_from_training_tests_of_other_groups_alone() -> None:
    tests = [
        make_test("a", f"one two three {PLACEHOLDER}", "f", "fail(1);"),
        make_test("b", f"one two three {PLACEHOLDER}", "f", "fail(2);", "shop.U", "shop.G"),
        make_test("c", f"one two four {PLACEHOLDER}", "f", "fail(3);", "shop.V", "shop.H"),
    ]
    add_siblings(tests, ["test", "validation", "train"])
    found = [test.rows[0]["context"].get("retrieved") for test in tests]
    assert [f and f[0]["assertion"] for f in found] == ["fail(3);", "fail(3);", None]


def test_whether_the_answer_stands_in_the_input() -> None:
    tests = [
        make_test("a", f"f(); {PLACEHOLDER} assertTrue( x.y() ); }}", "f", "assertTrue(x.y());"),
        make_test("b", f"f(); {PLACEHOLDER} }}", "f", 'assertEquals("a b", x);'),
        make_test("c", f"f(); {PLACEHOLDER} }}", "f", 'assertEquals("a b",x);'),
        make_test("d", f"f(); {PLACEHOLDER} myassertEquals(2); }}", "f", "assertEquals(2);"),
        make_test("e", f"f(); {PLACEHOLDER} }}", "f", 'assertEquals("ab", x);'),
    ]
    add_siblings(tests)
    places = [test.rows[0]["source"]["answer_in_input"] for test in tests]
    assert places == ["test", "context", "context", "none", "none"]


def test_a_class_of_ten_thousand_siblings_is_done_with_in_seconds() -> None:
    tests = [make_test(f"t{i}", f"a{i % 97} b{i % 89} c {PLACEHOLDER}", "f", f"fail({i});") for i in range(10_000)]
    add_siblings(tests)
    assert all(len(test.rows[0]["context"]["siblings"]) == MAX_SIBLINGS for test in tests)


# -- its own assertion never leaks -----------------------------------------------------------------------------------


def test_the_context_does_not_depend_on_the_answer(tmp_path: Path) -> None:
    """The same test with another answer about the same method: everything that is shown stays."""
    body = """static final int LIMIT = 4; static int[] rows = {1};
        @Test public void t() { Stack s = new Stack(); int n = 2; s.push(n); assertEquals(%s, s.size()); }
        @Test public void u() { Stack s = new Stack(); s.push(8, 3); assertEquals(8, s.pop()); }"""
    shown = []
    for number, answer in enumerate(("1", "LIMIT - rows.length * s.cursor().position()")):
        result = mine_body(tmp_path / str(number), body % answer)
        add_siblings(result.tests)
        shown.append([json.dumps(row["context"]) for row in rows_of(result)])
    assert shown[0][0] == shown[1][0]
    assert shown[0][1] != shown[1][1]  # to the other test it is a sibling's assertion


def test_a_row_holds_its_context_and_reads_back(tmp_path: Path) -> None:
    result = mine_body(tmp_path, TWO_ALIKE)
    add_siblings(result.tests)
    for row in rows_of(result):
        assert parse_sample(json.loads(json.dumps(row))).context == row["context"]


# -- suggestions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("siblings", ["", TWO_ALIKE])
def test_a_suggestion_is_made_from_the_very_context_that_was_mined(tmp_path: Path, siblings: str) -> None:
    """A test as mined, and the same one in the developer's editor, still without its assertion."""
    from evaluation.suggesting.open_tests import OpenTests

    answer = "assertEquals(7, s.pop());"
    body = f"""private final Stack spare = new Stack(); private Stack spare() {{ return spare; }} {siblings}
        @Test public void testPopTwice() {{ Stack s = new Stack(); s.push(7); s.pop(); {answer} }}"""
    elsewhere = test_class(
        "@Test public void over() { Stack t = new Stack(); t.push(1); assertEquals(1, t.pop()); }", "OverTest"
    )
    files = {STACK_TEST: test_class(body), "src/test/java/shop/OverTest.java": elsewhere}
    mined = mine(tmp_path, files, only=STACK_TEST)
    mined.tests += mine(tmp_path, files, only="src/test/java/shop/OverTest.java").tests
    add_siblings(mined.tests)
    row = next(row for row in rows_of(mined) if row["source"]["test_name"] == "testPopTwice")
    (tmp_path / STACK_TEST).write_text(test_class(body.replace(answer, "")))
    (test,), left_out = OpenTests(tmp_path).find(tmp_path / STACK_TEST)
    assert not left_out and (test.name, test.focal) == ("testPopTwice", row["focal_method"])
    assert test.context == row["context"] and "siblings" in test.context
    assert "".join(test.masked.split()) == "".join(row["test_method_masked"].split())


@pytest.mark.parametrize(
    ("name", "body", "parameters"),
    [
        ("testPush", "", "int item"),  # of fewest parameters
        ("testPushString", "", "String item"),
        ("testPush", 's.push("1");', "String item"),  # what is called counts more
    ],
)
def test_the_overload_that_a_suggestion_is_about(tmp_path: Path, name: str, body: str, parameters: str) -> None:
    from evaluation.suggesting.open_tests import OpenTests
    from tests.helpers.mining_fixtures import write_project

    text = test_class(f"@Test public void {name}() {{ Stack s = new Stack(); {body} }}")
    write_project(tmp_path, {STACK_TEST: text})
    (test,), _ = OpenTests(tmp_path).find(tmp_path / STACK_TEST)
    assert f"push({parameters})" in test.focal


# -- sources that are not what they were -----------------------------------------------------------------------------


def test_a_file_that_vanished_costs_its_tasks_and_no_others(tmp_path: Path) -> None:
    from data.java.syntax import read_java
    from data.mining.projects import Project, index_file
    from data.mining.tasks import Limits, mine_file
    from tests.helpers.mining_fixtures import write_project

    body = """@Test public void t() { Stack s = new Stack(); assertEquals(0, s.pop()); }
        @Test public void u() { assertEquals("aa", shop.util.Texts.twice("a")); }"""
    write_project(tmp_path, {STACK_TEST: test_class(body)})
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.java"))
    project = Project("shop", [index_file(name, read_java(tmp_path / name, 10_000)) for name in names])
    (tmp_path / "src/main/java/shop/util/Texts.java").unlink()
    read_java.cache_clear()
    result = mine_file(project, tmp_path, STACK_TEST, Limits())
    assert [row["source"]["test_name"] for row in rows_of(result)] == ["t"]
    assert result.left_out["assertion"] == {"file of the focal method vanished or changed while it was mined": 1}
    (tmp_path / STACK_TEST).unlink()
    read_java.cache_clear()
    gone = mine_file(project, tmp_path, STACK_TEST, Limits())
    assert (gone.tests, gone.left_out["file"]) == ([], {"file vanished or changed while it was mined": 1})


def test_a_class_that_does_not_parse_leaves_the_rest_of_the_context(tmp_path: Path) -> None:
    body = "@Test public void t() { Stack s = new Stack(); Broken b = null; assertEquals(0, s.pop()); }"
    files = {
        STACK_TEST: test_class(body),
        "src/main/java/shop/Broken.java": "package shop; public class Broken { int f( }",
    }
    found = context_of(mine(tmp_path, files, only=STACK_TEST))
    assert found["locals"] == ["Broken b", "Stack s"] and "int Stack.pop()" in found["members"]
