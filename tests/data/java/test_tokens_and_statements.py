"""Java tokens, statements and validity."""

import javalang
import pytest

from data.java.normal_form import name_assertion, normalise, split_assertions
from data.java.statements import is_valid_java
from data.java.tokens import join_text_block, strip_comments, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("assertEquals(0x1F, a.b);", ["assertEquals", "(", "0x1F", ",", "a", ".", "b", ")", ";"]),
        ("f(\"a \\\" b\", '\\'', 1.5e-3f)", ["f", "(", '"a \\" b"', ",", "'\\''", ",", "1.5e-3f", ")"]),
        ("a /* x */ -> b::c // end", ["a", "->", "b", "::", "c"]),
        ("List<List<A>> x", ["List", "<", "List", "<", "A", ">", ">", "x"]),
        ("a>=b&&c!=d", ["a", ">=", "b", "&&", "c", "!=", "d"]),
        ('"never closed', ['"', "never", "closed"]),
        ("'\\u0041' + '\\n'", ["'\\u0041'", "+", "'\\n'"]),
        ("1_000L .5 3.f 7d", ["1_000L", ".5", "3.f", "7d"]),
        ("größe$1 漢", ["größe$1", "漢"]),
        ("", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


@pytest.mark.parametrize(
    ("lines", "literal"),
    [
        (["    a", "      b", "    "], r'"a\n  b\n"'),
        (["    a", "  "], r'"  a\n"'),  # the line of the end counts for the indentation
        (["    a  ", "", "    b"], r'"a\n\nb"'),
        (['  say "x"', r'  \"""'], r'"say \"x\"\n\"\"\""'),
        (["  one \\", r"  line\t\s", "  "], r'"one line\t\s\n"'),
        ([""], '""'),
    ],
)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_a_text_block_on_one_line(lines, literal, line_break):
    """By JLS 3.10.6; ``javac`` takes both for the same constant."""
    assert join_text_block('"""  ' + line_break + line_break.join(lines) + '"""') == literal


def test_white_space_never_matters():
    dense = 'assertEquals("a b",x.get(1,y),() -> "m");'
    loose = 'assertEquals ( "a b" ,\n\tx . get ( 1 , y ) , ( )  ->  "m" ) ;'
    assert tokenize(dense) == tokenize(loose)


def test_comment_inside_a_text_stays():
    assert strip_comments('f("// no", 1); // yes') == 'f("// no", 1);  '


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("assertTrue(a); assertFalse(b);", ["assertTrue(a)", "assertFalse(b)"]),
        ("assertTrue(a)\nassertFalse(b)", ["assertTrue(a)", "assertFalse(b)"]),
        (
            "assertThat(a)\n  .isEqualTo(b)\n  .isNotNull();\nf()",
            ["assertThat(a)\n  .isEqualTo(b)\n  .isNotNull()", "f()"],
        ),
        ("assertThrows(E.class, () -> { a(); b(); });", ["assertThrows(E.class, () -> { a(); b(); })"]),
        ("assertEquals(1,\nx); // done", ["assertEquals(1,\nx)"]),
        ("assertTrue(a\n && b)", ["assertTrue(a\n && b)"]),
        ('f(";");;', ['f(";")']),
        (" ; // nothing", []),
        ("assertTrue((a;b", ["assertTrue((a;b"]),
    ],
)
def test_statements(text, parts):
    assert split_assertions(text) == parts


@pytest.mark.parametrize(
    ("one", "other", "framework"),
    [
        ("Assert.assertEquals(1, x);", "assertEquals(1,x)", None),
        ("org.junit.Assert.assertTrue(x)", "assertTrue(x)", None),
        ("org.junit.jupiter.api.Assertions.assertTrue(x)", "Assertions.assertTrue(x)", None),
        ('assertEquals("sum", 5, a);', "assertEquals(5, a);", None),
        ('assertEquals(5, a, "sum");', "assertEquals(5, a);", None),
        ('assertEquals(5, a, () -> "sum" + a);', "assertEquals(5, a);", None),
        ('assertEquals("sum of " + x, 5, a);', "assertEquals(5, a);", None),
        ('assertEquals(String.format("%s", x), 5, a);', "assertEquals(5, a);", None),
        ('assertEquals("m", 1.0, x, 0.1)', "assertEquals(1.0, x, 0.1)", None),
        ('assertTrue("must hold", x);', "assertTrue(x);", None),
        ("assertTrue(message, x);", "assertTrue(x);", "junit4"),
        ("assertTrue(x, message);", "assertTrue(x);", "junit5"),
        ('assertEquals("m", "a", b)', 'assertEquals("a", b)', "junit4"),
        ('assertEquals("a", b, "m")', 'assertEquals("a", b)', "junit5"),
        ('assertEquals("a", "b", "m")', 'assertEquals("a", "b")', "testng"),
        ('fail("no");', "fail();", None),
        ('assertThat(a).as("it").isTrue()', "assertThat(a).isTrue()", None),
        ('assertThat("why", x, is(1));', "assertThat(x, is(1))", None),
        ('assertTrue(MAX < b, "m")', "assertTrue(MAX < b)", None),
        ('assertThrows("m", A.class, () -> f())', "assertThrows(A.class, () -> f())", "testng"),
        ('assertNotNull("list", new HashMap<String, Integer>())', "assertNotNull(new HashMap<String,Integer>())", None),
    ],
)
def test_same_meaning_same_form(one, other, framework):
    assert normalise(one, framework) == normalise(other, framework)


@pytest.mark.parametrize(
    ("one", "other", "framework"),
    [
        ("assertEquals(1.0, x, 0.1)", "assertEquals(1.0, x)", None),  # a delta
        ("assertEquals(1.0, x, delta)", "assertEquals(1.0, x)", "junit5"),
        ("assertEquals(d, 1.0, x)", "assertEquals(1.0, x)", "junit4"),  # d may be a number
        ('assertEquals("a", b)', "assertEquals(b)", None),
        ('assertEquals("a", b, "c")', 'assertEquals("a", b)', None),  # either may be the message
        ('assertEquals("a", b, "c")', 'assertEquals(b, "c")', None),
        ('assertTrue("a".equals(x))', "assertTrue(x)", None),
        ("assertTrue(x)", "assertFalse(x)", None),
        ('check("a", b)', "check(b)", None),
        ("assertThat(x.as(1))", "assertThat(x)", None),
        ('assertThrows("m", A.class, () -> f())', 'assertThrows("m", A.class, () -> g())', "testng"),
        ("assertThat(x, is(1))", "assertThat(is(1))", "junit4"),
    ],
)
def test_other_meaning_other_form(one, other, framework):
    assert normalise(one, framework) != normalise(other, framework)


def test_kind():
    assert name_assertion("Assert.assertEquals(1, x);") == "assertEquals"
    assert name_assertion("assertThat(x).isTrue();") == "assertThat"
    assert name_assertion("int x = 1;") == "other"
    assert name_assertion("") == "other"


@pytest.mark.parametrize(
    "text",
    [
        "assertTrue(x);",
        "assertTrue(x)",
        "assertTrue(x); // why",
        "assertThrows(E.class, () -> { f(); });",
        "assertTrue(a);\nassertFalse(b);",
        "try { f(); fail(); } catch (E e) { }",
        "x = 1;",
        "i++;",
        "int x = 1;",
        "new Foo();",
        'assertEquals("""\n  a""", x);',
    ],
)
def test_java_statements(text):
    assert is_valid_java(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        ";",
        ";;",
        "// assertTrue(x);",
        "/* */",
        "assertTrue(x",
        "assertTrue(x));",
        "assertTrue(, x);",
        "} void other() { f();",
        "} } class B { void m() { f();",
        "}",
        "x + 1;",
        '"text";',
        "assert Equals(1, 2",
        "assertEquals(1 2);",
        "void m() { }  }",
        "public void m() { }",
        "\ud800",
        "f(\x00);",
    ],
)
def test_no_java_statements(text):
    assert not is_valid_java(text)


def parses_with_javalang(text: str) -> bool:
    try:
        javalang.parse.parse(f"class A {{ void m() {{ {text} }} }}")
    except (javalang.parser.JavaSyntaxError, javalang.tokenizer.LexerError):
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "assertEquals(1, box.size());",
        "assertThat(names).containsExactly(\"a\", 'b', 1.5f);",
        "assertThrows(IllegalStateException.class, () -> { box.close(); box.open(); });",
        "assertArrayEquals(new int[] {1, 2}, Arrays.copyOf(values, 2));",
        "Assert.assertTrue(a ? b : !c && (d | e) >= 0x1F);",
        "assertEquals(List.<String>of(), x.<A, B>map(Foo::bar));",
        "assertEquals(1, );",
        "assertEquals(1 2);",
        "assertTrue(a &&);",
        "assertTrue((a);",
        'assertEquals("open, x);',
        "assertTrue(a));",
        "new int[;",
    ],
)
def test_validity_agrees_with_javalang(text):
    assert is_valid_java(text) == parses_with_javalang(text)
