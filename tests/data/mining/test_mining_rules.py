"""What the miner takes for a test, an assertion and a focal method, by hand-written examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.java.tokens import coarse_tokens, one_line
from data.rows.readers import PLACEHOLDER
from tests.helpers.mining_fixtures import JUNIT4, mine, mine_body, rows_of, test_class

TEST_FILE = "src/test/java/shop/StackTest.java"


def assertions(result) -> list[str]:
    return [" ".join(row["assertions"]) for row in rows_of(result)]


def focal(result) -> list[str]:
    return [f"{row['source']['focal_class']}.{row['source']['focal_name']}" for row in rows_of(result)]


# -- a row --------------------------------------------------


def test_a_row_has_the_texts_and_where_they_came_from(tmp_path: Path) -> None:
    body = """    @Test
    public void pops() { // a comment
        Stack stack = new Stack();
        stack.push(  7 );
        assertEquals("the  last",
            7, stack.pop()); /* another */
        assertTrue(stack.isEmpty());
    }"""
    result = mine_body(tmp_path, body)
    first, second = rows_of(result)
    assert first["test_method_masked"] == (
        "@Test public void pops() { Stack stack = new Stack(); stack.push(7); <AssertPlaceHolder> "
        "assertTrue(stack.isEmpty()); }"
    )
    assert first["assertions"] == ['assertEquals("the  last", 7, stack.pop());']
    assert first["focal_method"] == "public int pop() { return items[--count]; }"
    assert second["assertions"] == ["assertTrue(stack.isEmpty());"]
    source = dict(first["source"])
    content = (tmp_path / TEST_FILE).read_bytes()
    start, end = source.pop("assertion_span")
    assert content[start:end].decode() == 'assertEquals("the  last",\n            7, stack.pop());'
    start, end = source.pop("test_span")
    assert content[start:end].decode() == body.strip()
    assert source == {
        "project": "shop",
        "test_file": TEST_FILE,
        "focal_file": "src/main/java/shop/Stack.java",
        "test_class": "shop.StackTest",
        "test_class_abstract": False,
        "test_name": "pops",
        "test_lines": (7, 14),
        "assertion_kind": "assertEquals",
        "framework": "junit4",
        "focal_class": "shop.Stack",
        "focal_name": "pop",
        "focal_lines": (31, 33),
        "focal_call": "inside",
        "focal_rule": "test name",
        "focal_confidence": "high",
        "imports": ["static org.junit.Assert.*", "org.junit.Test"],
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a(  1,\n   2 ) ;", "a(1, 2) ;"),
        ("x\n  .y()\n  .z();", "x.y().z();"),
        ('f("a  //  b", \'"\', "\\"  /*"); // c', 'f("a  //  b", \'"\', "\\"  /*");'),
        ("a /* x */ + /* y\n */ b", "a + b"),
        ('f("""\n  two  lines\n  """);', 'f("""\n  two  lines\n  """);'),
    ],
)
def test_one_line_leaves_literals_alone(text: str, expected: str) -> None:
    assert one_line(text) == expected


@pytest.mark.parametrize("shape", ["single", "block"])
def test_a_masked_test_is_the_file_with_a_placeholder_on_one_line(tmp_path: Path, shape: str) -> None:
    body = """@Test  public void t( )  throws Exception { // grüße
        Stack s = new Stack( ) ;  /* a */assertEquals( 1,
            s . pop( )  ) ; // b
        assertTrue(  s.isEmpty( )/* c */ );assertFalse(s.isEmpty());
        run( ( ) ->  assertNull( s.pop( ) )  ) ;
        s.push( ' ',  "a  ( b" ) ;fail( ) ; /* d */ }"""
    result = mine_body(tmp_path, body, assertions_per_task=shape)
    rows = rows_of(result)
    assert len(rows) == {"single": 5, "block": 3}[shape]
    content = (tmp_path / TEST_FILE).read_bytes()
    for row in rows:
        (first, last), (start, end) = row["source"]["test_span"], row["source"]["assertion_span"]
        masked = content[first:start].decode() + PLACEHOLDER + content[end:last].decode()
        assert row["test_method_masked"] == one_line(masked)
    (test,) = result.tests
    assert " ".join(test.tokens) == " ".join(coarse_tokens(content[first:last].decode())[5:])


def test_a_run_of_assertions_can_be_one_task(tmp_path: Path) -> None:
    body = """@Test public void t() {
        Stack stack = Stack.of(1);
        assertEquals(1, stack.size());
        // in between
        assertFalse(stack.isEmpty());
        stack.pop();
        assertTrue(stack.isEmpty());
    }"""
    first, second = rows_of(mine_body(tmp_path, body, assertions_per_task="block"))
    assert first["assertions"] == ["assertEquals(1, stack.size());", "assertFalse(stack.isEmpty());"]
    assert first["test_method_masked"].count(PLACEHOLDER) == 1
    assert "assertEquals" not in first["test_method_masked"]
    assert second["assertions"] == ["assertTrue(stack.isEmpty());"]
    start, end = first["source"]["assertion_span"]
    text = (tmp_path / TEST_FILE).read_bytes()[start:end].decode()
    assert text.startswith("assertEquals") and text.endswith("isEmpty());")


# -- tests --------------------------------------------------

ONE = "Stack s = new Stack(); assertEquals(0, s.size());"


@pytest.mark.parametrize(
    ("framework", "imports", "header", "method"),
    [
        ("junit4", JUNIT4, "", "@Test public void t()"),
        ("junit4", "", "", "@org.junit.Test public void t()"),
        ("junit4", "import org.junit.*;", "", "@Test(expected = Exception.class) public void t()"),
        ("junit4", "", "", "@Theory public void t(int x)"),
        ("junit5", "import org.junit.jupiter.api.Test;", "", "@Test void t()"),
        ("junit5", "import org.junit.jupiter.api.*;", "", "@Test void t()"),
        ("junit5", "", "", "@ParameterizedTest @ValueSource(ints = 1) void t(int x)"),
        ("junit5", "", "", "@RepeatedTest(3) void t()"),
        ("testng", "import org.testng.annotations.Test;", "", '@Test(groups = "a") public void t()'),
        ("junit3", "import junit.framework.TestCase;", "extends TestCase", "public void testIt()"),
        ("junit3", "", "extends ShopTestCase", "public void testIt()"),
    ],
)
def test_frameworks(tmp_path: Path, framework: str, imports: str, header: str, method: str) -> None:
    files = {TEST_FILE: test_class(f"{method} {{ {ONE} }}", imports=imports, header=header)}
    (row,) = rows_of(mine(tmp_path, files))
    assert row["source"]["framework"] == framework


def test_testng_annotation_on_the_class(tmp_path: Path) -> None:
    methods = f"public void a() {{ {ONE} }} void helper() {{ {ONE} }} @BeforeMethod public void b() {{ {ONE} }}"
    text = f"package shop;\nimport org.testng.annotations.*;\n@Test public class StackTest {{ {methods} }}\n"
    (row,) = rows_of(mine(tmp_path, {TEST_FILE: text}))
    assert (row["source"]["test_name"], row["source"]["framework"]) == ("a", "testng")


@pytest.mark.parametrize(
    ("on_class", "on_method"),
    [
        ("", "@Test(enabled=false)"),
        ("", "@Test(priority = 1, enabled = false)"),
        ("", "@org.testng.annotations.Test(enabled=false)"),
        ("@Test(enabled=false)", "@Test"),
    ],
)
def test_disabled_testng_tests(tmp_path: Path, on_class: str, on_method: str) -> None:
    body = f"{on_method} public void a() {{ {ONE} }}"
    text = f"package shop;\nimport org.testng.annotations.*;\n{on_class} public class StackTest {{ {body} }}\n"
    result = mine(tmp_path, {TEST_FILE: text})
    assert rows_of(result) == [] and result.left_out["test"] == {"test is disabled": 1}


def test_a_caught_exception_has_its_type(tmp_path: Path) -> None:
    files = {
        TEST_FILE: test_class(
            "@Test public void t() { try { throw new Empty(); } catch (Empty e) { assertEquals(3, e.size()); } }"
        ),
        "src/main/java/shop/Empty.java": (
            "package shop;\npublic class Empty extends RuntimeException { public int size() { return 3; } }\n"
        ),
    }
    assert focal(mine(tmp_path, files)) == ["shop.Empty.size"]


def test_junit3_base_class_of_the_project(tmp_path: Path) -> None:
    files = {
        TEST_FILE: test_class(f"public void testIt() {{ {ONE} }}", header="extends Common", imports=""),
        "src/test/java/shop/Common.java": "package shop;\nabstract class Common extends junit.framework.TestCase { }\n",
    }
    (row,) = rows_of(mine(tmp_path, files))
    assert row["source"]["framework"] == "junit3"


def test_nested_classes_are_named_as_the_jvm_does(tmp_path: Path) -> None:
    body = f"@Nested class WhenNew {{ @Test void t() {{ {ONE} }} }}"
    imports = "import org.junit.jupiter.api.*;\nimport static org.junit.jupiter.api.Assertions.*;"
    (row,) = rows_of(mine(tmp_path, {TEST_FILE: test_class(body, imports=imports)}))
    assert row["source"]["test_class"] == "shop.StackTest$WhenNew"
    assert row["source"]["focal_name"] == "size"


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("@Ignore @Test public void t() { fail(); }", "test is disabled"),
        ("@Test public void t() { new Stack().size(); }", "no assertion"),
        ("@Test public void t() { assertTrue(1 + ); new Stack(); }", "test does not parse"),
        ("@Test public abstract void t();", "test has no body"),
        (
            f"@Disabled static class In {{ static class Deep {{ @Test public void t() {{ {ONE} }} }} }}",
            "test is disabled",
        ),
        (f"@Test public void t() {{ {ONE * 60} }}", "no usable assertion"),  # too long, seen before the work
    ],
)
def test_tests_that_are_left_out(tmp_path: Path, method: str, reason: str) -> None:
    result = mine_body(tmp_path, method)
    assert rows_of(result) == []
    assert result.left_out["test"] == {reason: 1}


def test_an_expression_that_is_nested_too_deeply_costs_its_test_alone(tmp_path: Path) -> None:
    deep = f"@Test public void t() {{ {ONE} s.push({'(' * 2000}1{')' * 2000}); assertEquals(1, s.pop()); }}"
    result = mine_body(tmp_path, f"{deep} @Test public void u() {{ {ONE} }}", max_test_tokens=100_000)
    assert [row["source"]["test_name"] for row in rows_of(result)] == ["u"]
    assert result.left_out["test"] == {"expression nested too deeply": 1}


def test_an_unknown_test_annotation_is_no_junit_test(tmp_path: Path) -> None:
    text = test_class(f"@Test public void t() {{ {ONE} }}", imports="import my.own.Test;")
    result = mine(tmp_path, {TEST_FILE: text})
    assert result.left_out["test"] == {"@Test of an unknown framework": 1}


# -- assertions --------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("assertEquals(1, s.pop());", "assertEquals"),
        ("Assert.assertEquals(1, s.pop());", "assertEquals"),
        ("org.junit.Assert.assertNull(s.pop());", "assertNull"),
        ("this.assertEquals(1, s.pop());", "assertEquals"),
        ("Assertions.assertAll(() -> assertTrue(s.isEmpty()), () -> assertEquals(0, s.pop()));", "assertAll"),
        ("assertThrows(Exception.class, () -> s.pop());", "assertThrows"),
        ("assertThrows(Exception.class, () -> { s.pop(); fail(); });", "assertThrows"),
        ("fail();", "fail"),
        ('Assert.fail("no");', "fail"),
        ("assertThat(s.pop()).isEqualTo(1).isNotZero();", "assertThat"),
        ("assertThat(s.pop(), is(not(equalTo(1))));", "assertThat"),
        ("Truth.assertThat(s.pop()).isEqualTo(1);", "assertThat"),
        ('assertWithMessage("m").that(s.pop()).isEqualTo(1);', "assertWithMessage"),
        ("assertThatThrownBy(() -> s.pop()).isInstanceOf(Exception.class);", "assertThatThrownBy"),
        ("verify(s).pop();", "verify"),
        ("verify(s, times(2)).push(anyInt());", "verify"),
        ("Mockito.verifyNoMoreInteractions(s);", "verifyNoMoreInteractions"),
        ("order.verify(s).pop();", "verify"),
        ("Exception e = assertThrows(Exception.class, () -> s.pop());", "assertThrows"),
        ("e = Assertions.assertThrows(Exception.class, () -> s.pop());", "assertThrows"),
        ("String m = assertThrows(Exception.class, () -> s.pop()).getMessage();", "assertThrows"),
        ("assertThatList(s.pop()).isEmpty();", "assertThatList"),
        ("thenThrownBy(() -> s.pop()).isInstanceOf(Exception.class);", "thenThrownBy"),
        ("BDDAssertions.thenCode(() -> s.pop()).doesNotThrowAnyException();", "thenCode"),
        ("softly.assertThat(s.pop()).isEqualTo(1);", "assertThat"),
        ("soft.then(s.pop()).isEqualTo(1);", "then"),
        ("collector.checkThat(s.pop(), is(1));", "checkThat"),
        ('mvc.perform(get(s.pop())).andExpect(status().isOk()).andExpect(content().string("a"));', "andExpect"),
    ],
)
def test_assertions_that_are_recognised(tmp_path: Path, statement: str, kind: str) -> None:
    fields = "InOrder order;\n@Rule public ErrorCollector collector;\nSoftAssertions softly;\n"
    body = "BDDSoftAssertions soft = new BDDSoftAssertions(); Exception e; Stack s = new Stack(); s.push(1);"
    text = test_class(
        f"{fields}@Test public void t() {{ {body} {statement} s.size(); }}",
        imports=JUNIT4 + "import static org.assertj.core.api.BDDAssertions.*;\n",
    )
    (row,) = rows_of(mine(tmp_path, {TEST_FILE: text}))
    assert row["assertions"] == [statement]
    assert row["source"]["assertion_kind"] == kind


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("assertStackIs(s, 1);", "helper of the project"),
        ("Helpers.assertContents(s, 1);", "helper of the project"),
        ("assertSize(s);", "helper of the project"),
        ("var chain = assertThat(s.pop());", "result of the assertion is used later"),
        ("assertEquals(" + " + ".join(["1"] * 60) + ", s.pop());", "assertion too long"),
    ],
)
def test_assertions_that_are_left_out(tmp_path: Path, statement: str, reason: str) -> None:
    body = f"void assertSize(Stack s) {{ }}\n@Test public void t() {{ Stack s = new Stack(); {statement} }}"
    result = mine_body(tmp_path, body)
    assert rows_of(result) == []
    assert result.left_out["assertion"] == {reason: 1}


def test_a_method_of_the_test_class_shadows_a_known_assertion(tmp_path: Path) -> None:
    body = """void assertThat(Stack s) { }
    @Test public void t() { Stack s = new Stack(); assertThat(s); assertEquals(1, s.pop()); }"""
    assert assertions(mine_body(tmp_path, body)) == ["assertEquals(1, s.pop());"]


def test_an_overload_of_the_test_class_shadows_no_other_overload(tmp_path: Path) -> None:
    files = {
        TEST_FILE: test_class(
            """void assertEquals(Stack a, Stack b) { }
            public void testA() { Stack s = new Stack(); assertEquals(s, s); assertEquals(1, s.pop()); }""",
            header="extends junit.framework.TestCase",
        )
    }
    assert assertions(mine(tmp_path, files)) == ["assertEquals(1, s.pop());"]


def test_a_method_that_passes_on_to_the_framework_is_no_helper(tmp_path: Path) -> None:
    base = "abstract class Base2 { Object assertThat(Integer x) { return Assertions.assertThat(x); } }"
    files = {
        TEST_FILE: test_class(
            "@Test public void t() { assertThat(new Stack().pop()).isEqualTo(2); }",
            header="extends Base2",
            imports=JUNIT4,
        ),
        "src/test/java/shop/Base2.java": f"package shop;\nimport org.assertj.core.api.Assertions;\n{base}\n",
    }
    assert assertions(mine(tmp_path, files)) == ["assertThat(new Stack().pop()).isEqualTo(2);"]


def test_a_helper_is_known_by_what_it_does(tmp_path: Path) -> None:
    body = """void validate(Stack s) { inner(s); } void inner(Stack s) { assertEquals(1, s.pop()); }
    void touch(Stack s) { }
    @Test public void t() { Stack s = new Stack(); validate(s); touch(s); }"""
    result = mine_body(tmp_path, body)
    assert result.left_out["assertion"] == {"helper of the project": 1}


def test_a_text_block_is_a_text_on_one_line(tmp_path: Path) -> None:
    body = """@Test public void t() { String a = \"\"\"
            kept
            \"\"\";
        assertEquals(\"\"\"
            "two"
              lines
            \"\"\", Texts.twice(a)); // a comment
    }"""
    imports = JUNIT4 + "import shop.util.Texts;\n"
    (row,) = rows_of(mine(tmp_path, {TEST_FILE: test_class(body, imports=imports)}))
    assert row["assertions"] == ['assertEquals("\\"two\\"\\n  lines\\n", Texts.twice(a));']
    assert 'String a = """\n            kept\n            """; <AssertPlaceHolder>' in row["test_method_masked"]


def test_soft_assertions_of_a_lambda(tmp_path: Path) -> None:
    body = """@Test public void t() {
        Stack s = new Stack();
        SoftAssertions.assertSoftly(softly -> { softly.assertThat(s.pop()).isEqualTo(1); softly.fail("no"); });
    }"""
    assert assertions(mine_body(tmp_path, body)) == ["softly.assertThat(s.pop()).isEqualTo(1);", 'softly.fail("no");']


def test_tests_of_records_and_interfaces(tmp_path: Path) -> None:
    body = (
        f"record Case(int a) {{ @Test void t() {{ {ONE} }} }} interface Some {{ @Test default void u() {{ {ONE} }} }}"
    )
    imports = "import org.junit.jupiter.api.*;\nimport static org.junit.jupiter.api.Assertions.*;"
    rows = rows_of(mine(tmp_path, {TEST_FILE: test_class(body, imports=imports)}))
    assert [row["source"]["test_name"] for row in rows] == ["t", "u"]


def test_what_is_thrown_has_the_type_that_is_expected(tmp_path: Path) -> None:
    body = """@Test void t() {
        var e = assertThrows(Full.class, () -> new Stack().push(1));
        assertEquals(1, e.limit()); }"""
    imports = "import org.junit.jupiter.api.*;\nimport static org.junit.jupiter.api.Assertions.*;"
    full = "package shop; public class Full extends RuntimeException { public int limit() { return 9; } }"
    files = {TEST_FILE: test_class(body, imports=imports), "src/main/java/shop/Full.java": full}
    result = mine(tmp_path, files)
    assert focal(result) == ["shop.Stack.push", "shop.Full.limit"]
    assert rows_of(result)[1]["context"]["locals"] == ["Full e"]


def test_then_counts_only_where_a_bdd_library_is_imported(tmp_path: Path) -> None:
    body = "@Test public void t() { Stack s = new Stack(); s.pop(); then(s).should().pop(); }"
    assert assertions(mine_body(tmp_path / "a", body)) == []
    imports = JUNIT4 + "import static org.mockito.BDDMockito.then;\n"
    result = mine(tmp_path / "b", {TEST_FILE: test_class(body, imports=imports)})
    assert assertions(result) == ["then(s).should().pop();"]


def test_assertions_in_loops_catches_and_lambdas_are_statements_too(tmp_path: Path) -> None:
    body = """@Test public void t() {
        Stack s = new Stack();
        for (int i = 0; i < 2; i++) assertEquals(0, s.size());
        try { s.pop(); fail(); } catch (RuntimeException e) { assertNotNull(e); }
        run(() -> { assertTrue(s.isEmpty()); });
        run(() -> assertFalse(s.isEmpty()));
        new Thread() { public void run() { assertEquals(1, s.pop()); } }.start();
    }"""
    rows = rows_of(mine_body(tmp_path, body))
    assert [row["assertions"] for row in rows] == [
        ["assertEquals(0, s.size());"],
        ["fail();"],
        ["assertNotNull(e);"],
        ["assertTrue(s.isEmpty());"],
        ["assertFalse(s.isEmpty());"],
        ["assertEquals(1, s.pop());"],
    ]
    assert "run(() -> <AssertPlaceHolder>);" in rows[4]["test_method_masked"]


# -- focal methods --------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected", "position"),
    [
        ("Stack s = new Stack(); s.push(1); assertEquals(1, s.pop());", "shop.Stack.pop", "inside"),
        ("Stack s = new Stack(); int x = s.pop(); assertEquals(1, x);", "shop.Stack.pop", "before"),
        ("Stack s = new Stack(); int x = s.pop(); assertEquals(1, x); s.size();", "shop.Stack.pop", "before"),
        ("assertEquals(1, new Stack().pop());", "shop.Stack.pop", "inside"),
        ("var s = new Stack(); assertEquals(1, s.pop());", "shop.Stack.pop", "inside"),
        ("Stack s = new Stack(); assertTrue(s.isEmpty());", "shop.Base.isEmpty", "inside"),
        ("Base s = new Stack(); assertEquals(0, s.size());", "shop.Stack.size", "inside"),
        ("Sized s = make(); assertEquals(0, s.size());", "shop.Stack.size", "inside"),
        ("assertEquals(0, Stack.of(1, 2).size());", "shop.Stack.size", "inside"),
        ("Stack s = Stack.of(1, 2); assertNotNull(s);", "shop.Stack.of", "before"),
        ("Stack s = new Stack(); assertEquals(0, s.cursor().position());", "shop.Stack$Cursor.position", "inside"),
        ("Stack s = new Stack(); assertNotNull(s);", "shop.Stack.Stack", "before"),
        ("Stack s = new Stack(); assertEquals(Texts.twice(null), s.pop());", "shop.Stack.pop", "inside"),
        ('String s = Texts.twice("a"); assertEquals("aa", s);', "shop.util.Texts.twice", "before"),
        ("assertEquals(1, field.pop());", "shop.Stack.pop", "inside"),
        ("assertEquals(1, this.field.pop());", "shop.Stack.pop", "inside"),
        ("assertEquals(1, ((Stack) make()).pop());", "shop.Stack.pop", "inside"),
        ("Supplier<Integer> f = field::pop; assertEquals(1, (int) f.get());", "shop.Stack.pop", "before"),
        ("assertThrows(Exception.class, () -> field.pop());", "shop.Stack.pop", "inside"),
        ("field.push(1); verify(field).pop();", "shop.Stack.push", "before"),
        ("for (Stack one : all) assertEquals(1, one.pop());", "shop.Stack.pop", "inside"),
        ("List<Stack> all = list(); assertEquals(1, all.get(0).pop());", "shop.Stack.pop", "inside"),
        (
            "Map<String, Stack> all = map(); for (var e : all.entrySet()) assertEquals(1, e.getValue().pop());",
            "shop.Stack.pop",
            "inside",
        ),
        ("List.of(new Stack()).forEach(s -> assertEquals(1, s.pop()));", "shop.Stack.pop", "inside"),
        ("Object o = make(); if (o instanceof Stack s) assertEquals(1, s.pop());", "shop.Stack.pop", "inside"),
        ("for (var s : new Stack[2]) assertEquals(1, s.pop());", "shop.Stack.pop", "inside"),
    ],
)
def test_focal_method(tmp_path: Path, lines: str, expected: str, position: str) -> None:
    imports = JUNIT4 + "import java.util.*;\nimport shop.util.Texts;\nimport static org.mockito.Mockito.verify;\n"
    body = f"private Stack field;\nStack make() {{ return null; }}\n@Test public void t() {{ {lines} }}"
    result = mine(tmp_path, {TEST_FILE: test_class(body, imports=imports)})
    assert focal(result) == [expected]
    assert rows_of(result)[0]["source"]["focal_call"] == position


@pytest.mark.parametrize(
    ("call", "signature"),
    [
        ("s.push(3)", "public void push(int item)"),
        ('s.push("3")', "public void push(String item)"),
        ("s.push(3, 4)", "public void push(int item, int times)"),
        ("s.push(text)", "public void push(String item)"),
        ("s.push(text.length())", "public void push(int item)"),
        ("s.push(s.pop())", "public void push(int item)"),
        ("s.push(null)", "public void push(String item)"),
        ("s.push('c')", "public void push(int item)"),
        ("s.pushAll(1, 2, 3)", "public void pushAll(int... many)"),
        ("s.pushAll()", "public void pushAll(int... many)"),
    ],
)
def test_overloads_by_arity_then_by_the_types_of_the_arguments(tmp_path: Path, call: str, signature: str) -> None:
    body = f'@Test public void t() {{ String text = "1"; Stack s = new Stack(); {call}; assertNotNull(s); }}'
    (row,) = rows_of(mine_body(tmp_path, body))
    assert row["focal_method"].startswith(signature + " {")


@pytest.mark.parametrize("line", ["import static shop.util.Texts.twice;", "import static shop.util.Texts.*;"])
def test_static_imports(tmp_path: Path, line: str) -> None:
    body = '@Test public void t() { assertEquals("aa", twice("a")); }'
    result = mine(tmp_path, {"src/test/java/shop/TextsTest.java": test_class(body, "TextsTest", JUNIT4 + line)})
    assert focal(result) == ["shop.util.Texts.twice"]


@pytest.mark.parametrize(
    "name",
    ["StackTest", "TestStack", "StackTests", "StackTestCase", "StackIT", "StackUnitTest", "StackPopTest", "Stack_Test"],
)
def test_the_class_under_test_is_told_by_the_name(tmp_path: Path, name: str) -> None:
    body = '@Test public void t() { assertEquals(new Stack().pop(), Texts.twice("a")); }'
    text = test_class(body, name, imports=JUNIT4 + "import shop.util.Texts;\n")
    assert focal(mine(tmp_path, {f"src/test/java/shop/{name}.java": text})) == ["shop.Stack.pop"]


@pytest.mark.parametrize(
    ("test", "lines", "expected", "rule", "confidence"),
    [
        # The name, where the test calls the method; also before the assertion, as when the assertion is missing.
        ("testPushGrows", "s.push(1); assertEquals(1, s.size());", "push", "test name", "high"),
        ("pushesOne", "s.push(1); s.pop(); assertEquals(1, s.size());", "push", "test name", "high"),
        ("testPushAllOfNone", "s.pushAll(1); s.push(2); assertEquals(1, s.size());", "pushAll", "test name", "high"),
        # What the assertion calls comes before another class's method, and before the class under test's earlier call.
        ("t", 's.pop(); assertEquals("aa", Texts.twice("a"));', "twice", "called in the assertion", "high"),
        ("t", "assertThat(s.pop()).isEqualTo(s.size());", "pop", "called in the assertion", "low"),
        ("t", "assertEquals(s.size(), s.pop());", "pop", "called in the assertion", "low"),
        ("t", "assertEquals(Stack.of(1), s.cursor());", "cursor", "called in the assertion", "high"),
        # What makes or changes what the assertion looks at, not what stands nearer.
        ("t", "int x = s.pop(); other.size(); assertEquals(1, x);", "pop", "makes what is asserted", "high"),
        ("t", "int x = s.pop(); String t = text(x); assertEquals(1, t);", "pop", "makes what is asserted", "high"),
        ("t", "try { s.pop(); fail(); } catch (Exception e) { }", "pop", "last call before", "high"),
        ("t", "try { s.pop(); } catch (Exception e) { assertNull(e); }", "pop", "makes what is asserted", "high"),
        ("t", "int x = run(() -> s.pop()); assertEquals(1, x);", "pop", "makes what is asserted", "high"),
        (
            "t",
            "int x = switch (1) { default -> s.pop(); }; assertEquals(1, x);",
            "pop",
            "makes what is asserted",
            "high",
        ),
        ("t", "s.push(1); assertEquals(1, s.size()); assertNotNull(s);", "push", "makes what is asserted", "high"),
        ("t", "s.push(1); assertEquals(1, counter);", "push", "last call before", "low"),
    ],
)
def test_which_call_is_about_the_method_under_test(
    tmp_path: Path, test: str, lines: str, expected: str, rule: str, confidence: str
) -> None:
    body = f"int counter;\n@Test public void {test}() {{ Stack s = new Stack(), other = new Stack(); {lines} }}"
    text = test_class(body, imports=JUNIT4 + "import shop.util.Texts;\n")
    source = rows_of(mine(tmp_path, {TEST_FILE: text}))[-1]["source"]
    assert (source["focal_name"], source["focal_rule"], source["focal_confidence"]) == (expected, rule, confidence)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("assertEquals(1, 1);", "no focal method"),
        ('String s = "a"; assertEquals(1, s.length());', "no focal method"),
        ("assertEquals(1, helper());", "no focal method"),
        ("assertEquals(1, unknown().size());", "focal method is unclear"),
        ("Stack s = Stack.of(1); assertEquals(1, s.pop(unknown(), 1));", "focal method is unclear"),
        ("Stack s = new Stack(); s.push(1); int x = 1; assertEquals(1, x);", "no focal method"),
        ("Other o = other(); assertEquals(1, o.only());", "focal method has no body"),
    ],
)
def test_no_focal_method(tmp_path: Path, lines: str, reason: str) -> None:
    files = {
        TEST_FILE: test_class(f"int helper() {{ return 1; }}\n@Test public void t() {{ {lines} }}"),
        "src/main/java/shop/Other.java": "package shop;\ninterface Other { int only(); }\n",
    }
    result = mine(tmp_path, files)
    assert rows_of(result) == []
    assert result.left_out["assertion"] == {reason: 1}


def test_a_helper_in_the_test_folder_is_no_focal_method(tmp_path: Path) -> None:
    files = {
        TEST_FILE: test_class("@Test public void t() { int x = new Fake().make(); assertEquals(1, x); }"),
        "src/test/java/shop/Fake.java": "package shop;\nclass Fake { int make() { return 1; } }\n",
    }
    assert rows_of(mine(tmp_path, files)) == []


def test_a_test_annotation_in_a_comment_makes_no_test_code(tmp_path: Path) -> None:
    code = "public class Doc { public int pages() { return 1; } }"
    doc = f"package shop;\n/** <pre>\n * @Test void t() {{ }}\n </pre> */\n{code}\n"
    files = {
        "src/test/java/shop/DocTest.java": test_class(
            "@Test public void t() { assertEquals(1, new Doc().pages()); }", "DocTest"
        ),
        "src/main/java/shop/Doc.java": doc,
    }
    assert focal(mine(tmp_path, files)) == ["shop.Doc.pages"]


def test_the_nearer_of_two_classes_of_one_name_is_the_focal_class(tmp_path: Path) -> None:
    copy = "package shop;\npublic class Stack { public int pop() { return 42; } }\n"
    files = {
        f"android/{TEST_FILE}": test_class("@Test public void t() { assertEquals(1, new Stack().pop()); }"),
        "android/src/main/java/shop/Stack.java": copy,
    }
    (row,) = rows_of(mine(tmp_path, files))
    assert row["source"]["focal_file"] == "android/src/main/java/shop/Stack.java"
    assert row["focal_method"] == "public int pop() { return 42; }"


# -- bytes that are not what they should be --------------------------------------------------


def test_spans_are_right_next_to_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    text = test_class(f"/* \u00e9 */ @Test public void t() {{ {ONE} }}").encode("latin-1")
    (row,) = rows_of(mine(tmp_path, {TEST_FILE: text}))
    start, end = row["source"]["assertion_span"]
    assert text[start:end] == b"assertEquals(0, s.size());"


def test_a_byte_order_mark_moves_nothing(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + test_class(f"@Test public void t() {{ {ONE} }}").encode()
    (row,) = rows_of(mine(tmp_path, {TEST_FILE: text}))
    start, end = row["source"]["assertion_span"]
    assert text[start:end] == b"assertEquals(0, s.size());"


def test_text_that_cannot_be_decoded_is_no_task(tmp_path: Path) -> None:
    text = test_class('@Test public void t() { assertEquals("\u00e9", new Stack().size()); }').encode("latin-1")
    result = mine(tmp_path, {TEST_FILE: text})
    assert result.left_out["assertion"] == {"assertion is not UTF-8": 1}


def test_a_sum_of_thousands_of_terms_does_not_exhaust_the_stack(tmp_path: Path) -> None:
    lines = f"String s = {' + '.join(['x()'] * 5000)}; assertEquals(0, new Stack().size());"
    result = mine_body(tmp_path, f"@Test public void t() {{ {lines} }}", max_test_tokens=100_000)
    assert focal(result) == ["shop.Stack.size"]


def test_comments_are_no_tokens() -> None:
    assert coarse_tokens('a /* b */ + // c\n  "// d" /**/;') == ["a", "+", '"// d"', ";"]
