"""What javac tells of a place in a file, and that reading refuses what cannot compile there and nothing else."""

from __future__ import annotations

import pytest

from data.java.scope import JavaScope
from models.decoding.constraints.reading import Reading, fits_scope

pytestmark = pytest.mark.jdk
SOURCE = """package shop;
import static org.junit.Assert.assertTrue;
import java.util.*;
import java.util.function.*;
import org.junit.Test;
public class ATest {
  private List<String> names = new ArrayList<>();
  static int twice(int x) { return 2 * x; }
  class Inner { int deep; String label() { return ""; } }
  static class Holder<T extends Number> { T get() { return null; } }
  interface Copier { Object clone(); }
  static int copy(Copier copier) { return 1; }
  @Test public void testA() {
    String[] parts = {"a"}; Map<String, List<Integer>> map = new HashMap<>(); Inner inner = new Inner(); int n = 0;
    Holder<?> wild = new Holder<Integer>();
    HERE
    int later = 0;
  }
}
"""


def look(service, source: str = SOURCE, framework: str = "junit4") -> JavaScope:
    at = len(source.partition("HERE")[0].encode())
    (scope,) = service.look("ATest.java", source.encode(), [(at, at + 4)], framework)
    assert isinstance(scope, JavaScope), scope
    return scope


@pytest.fixture(scope="module")
def scope(service):
    return look(service)


GOOD = [
    "assertTrue(names.isEmpty());",
    'assertEquals("a", names.get(0).trim());',
    "assertEquals(3, parts.length);",
    "assertEquals(3, parts[0].length());",
    'assertTrue(map.get("x").get(0).intValue() > 3 && n == 2);',
    "assertThrows(IllegalStateException.class, () -> { String x = names.get(0); x.trim(); });",
    "assertEquals(twice(2), inner.deep);",
    "assertEquals(new int[] {1, 2}, new ArrayList<String>().size());",
    "assertTrue(names.stream().map(x -> x.trim()).allMatch(String::isEmpty));",
    "names.forEach(x -> assertTrue(x.isEmpty()));",
    "Assert.assertEquals(1, (Object) n);",
    "org.junit.Assert.assertEquals(1, n);",
    "assertEquals(Collections.<String>emptyList(), Arrays.asList((byte) 1, (byte) -2));",
    "for (String name : names) { assertTrue(name.isEmpty()); }",
    "try { names.get(0); fail(); } catch (IndexOutOfBoundsException e) { e.getMessage(); }",
    'assertEquals("a" + n, inner.label().substring(0, n++));',
    "assertTrue(inner instanceof Inner);",
    "assertEquals(1.5e-3, -2.0, 0x1F);",
    "Exception e = assertThrows(Exception.class, () -> names.get(0));",
    'assertEquals(new Object() { public String toString() { return "x"; } }.toString(), names.getClass().getName());',
    "assertSame(ATest.this, this);",
    "assertEquals(n > 0 ? names : null, Map.Entry.class);",
    'assertTrue("told", Boolean.valueOf(n > 0));',
    'assertTrue("a" + n, (boolean) Boolean.TRUE);',
    "assertEquals((Integer) null, map.get(null));",
    'assertEquals(String.format("%s %s", n, parts), String.join("", parts));',
    'assertEquals(String.format("none"), String.join("-", "a", "b"));',
    "assertArrayEquals(new String[] {null}, Arrays.copyOf(parts, 1));",
    "assertArrayEquals(parts, names.toArray(new String[0]));",
    "assertEquals(-1, names.indexOf(n));",
    "assertEquals(Integer.valueOf('a'), Integer.valueOf((byte) 3));",
    "assertNull(names.set(n, null));",
    'assertTrue("a".contains(new StringBuilder("a")));',
    "assertEquals(0, Objects.compare(n, 3, (a, b) -> a - b));",
    "assertEquals(0, Objects.compare(n, 3, Integer::compare));",
    "assertEquals(1.5, new Inner().deep, 0.1f);",
    'assertEquals("a", Optional.of("a").get());',
    "assertTrue(Arrays.asList(true).get(0));",
    "assertEquals(new HashMap<>(map), new ArrayList<>(3));",
    "assertSame(parts, parts.clone());",
    "assertEquals((double) n, new double[] {1}[0], 0.1);",
    "assertEquals(2, twice(n << 1 >>> 2));",
    "assertEquals(2, twice(n > 1 ? -n : ~n));",
    "assertEquals(2, twice(n = 1));",
    "assertEquals(2, twice(n += 1));",
    "assertEquals(2, twice(-n * (n + 1) ^ n++));",
    "assertTrue((n == 2) & (n < 3 | n >= 1) ^ !names.isEmpty());",
    'assertTrue("n is " + (n == 2), n != 2 || "a".equals("b" + n));',
    "assertTrue(((Object) n) instanceof Integer == true);",
    "assertEquals(2, twice((n)));",
    'assertEquals(2, twice((n + "a").length()));',
    "assertTrue(((int) 1.5 == n) && ((Object) n instanceof Integer && (Integer) n > 3));",
    'assertEquals("", "a".concat(("a" + (int) \'c\')));',
    'assertEquals("", "a".concat("b" + !names.isEmpty()));',
    "assertTrue(n >> 1 > 0);",
    "assertTrue(n > 1 >>> 2);",
    "assertTrue((boolean) (Object) true);",
    'assertEquals("", "a".concat((String) (CharSequence) "a"));',
    "assertNotNull((Runnable) () -> { });",
    "assertEquals(null, Optional.of(1).map(n > 0 ? Object::hashCode : null));",
    "assertSame(names, Objects.requireNonNull(names, (Supplier<String>) () -> names.get(0)));",
    'assertTrue("a".equals((java.lang.String) names.get(0)));',
    "assertEquals(3, parts[n + 1].length() + parts['a'].length());",
    "assertTrue(wild.get().intValue() > 1);",
    "assertEquals(1, copy(() -> 1));",
    "assertSame(String.class, names.get(0).getClass());",
    "assertNotNull(int[].class.getName());",
]
BAD = [
    "assertTrue(names.isEmty());",
    'assertEquals("a", names.get(0).trimm());',
    "assertEquals(3, parts.size());",
    "assertEquals(3, parts[0].size());",
    'assertTrue(map.get("x").get(0).foo());',
    "assertTrue(later == 0);",
    "assertTrue(nope);",
    "assertEquals(twice(2, 3), 1);",
    "assertEquals(twice(), 1);",
    "assertTrue(names.get());",
    "assertTrue(names.get(0, 1));",
    "assertTrue(Inner.label());",
    "assertFoo(names);",
    "assertEquals(3, n.size());",
    "assertTrue(new Missing());",
    "assertEquals(1, names.size);",
    "assertTrue(inner.deep());",
    "assertEquals(1, );",
    "assertTrue(x -> x);",
    "Assert.assertNone(1);",
    "assertEquals(1 2);",
    "assertTrue(n);",
    "assertTrue(10);",
    'assertTrue("a");',
    "assertTrue((Object) n);",
    "assertTrue(names);",
    'assertTrue("told", 0);',
    "assertTrue(null);",
    "assertFalse(true, (byte) 1);",
    "assertEquals(inner, parts, parts, parts);",
    'assertEquals(1, twice("a"));',
    "assertEquals(1, twice(names));",
    "assertEquals(1, twice(null));",
    'assertEquals("", "a".concat(n));',
    'assertEquals("", "a".concat(parts));',
    "assertEquals(names.get(parts), 1);",
    'assertTrue(Arrays.equals(0, "".getBytes()));',
    "assertArrayEquals(parts, names != null);",
    "assertArrayEquals(names, names);",
    'assertEquals("", names.set("a", "b"));',
    "assertEquals(1, names.add(0));",
    "assertEquals(1, names.clear());",
    'assertEquals(new Inner("a"), inner);',
    "assertEquals(1, twice(n == 2));",
    "assertEquals(1, twice((n > 1 && n < 3)));",
    "assertEquals(1, twice(inner instanceof Inner));",
    "assertTrue(n + 1);",
    'assertTrue("a" + n);',
    "assertTrue(n >> 1);",
    "assertArrayEquals(new byte[] {1}, n - 1);",
    "assertTrue(String::trim);",
    "assertTrue(String.class);",
    "assertArrayEquals(parts, String.class);",
    'assertEquals("", "a".concat(String::trim));',
    'assertEquals(1, parts["a"]);',
    "assertEquals(1, parts[n > 1]);",
    'assertEquals("", "a" + names.clear());',
    "assertTrue(names.clear() == null);",
]
# With JUnit 5, of which assertEquals alone is imported.
SUPPLIED = [
    "assertTrue(() -> true);",
    "assertTrue(told);",
    'assertTrue(told, "m");',
    "assertTrue(n > 1, () -> names.get(0));",
    "assertNull(names, text);",
    "assertSame(parts, parts, text);",
    "assertArrayEquals(new double[] {1}, new double[] {2}, 0.1, text);",
    "assertThrows(Exception.class, names::clear, text);",
    'assertEquals(1, n, "m" + n);',
]
UNSUPPLIED = ['assertTrue("m");', 'assertTrue("m", n > 1);', "assertNull(told, n);", "assertEquals(1, n, parts);"]


def test_javac_takes_what_is_good_here_and_refuses_the_rest(service):
    source = SOURCE.replace("assertTrue;", "*;").replace("org.junit.Test;", "org.junit.*;")
    taken = [text for text in GOOD + BAD if not service.compile("ATest.java", source.replace("HERE", text).encode())]
    assert taken == GOOD


def test_what_compiles_is_never_refused(scope):
    assert [text for text in GOOD if not fits_scope(text, scope)] == []


def test_what_names_something_else_is_refused(scope):
    assert [text for text in BAD if fits_scope(text, scope)] == []


def test_what_is_whole_is_readable_from_its_beginning(scope):
    stopped = [text[:end] for text in GOOD for end in range(len(text)) if Reading(scope).after(text[:end]) is None]
    assert stopped == []


def test_suppliers_are_taken_where_junit_takes_them(service):
    source = SOURCE.replace("org.junit.Assert.assertTrue", "org.junit.jupiter.api.Assertions.assertEquals")
    source = source.replace("org.junit.Test", "org.junit.jupiter.api.Test")
    source = source.replace("int n = 0;", "int n = 0; BooleanSupplier told = () -> true; Supplier<String> text = null;")
    scope = look(service, source, "junit5")
    whole = source.replace("Assertions.assertEquals", "Assertions.*")
    for texts, good in ((SUPPLIED, True), (UNSUPPLIED, False)):
        for text in texts:
            assert (service.compile("ATest.java", whole.replace("HERE", text).encode()) == "") == good, text
            assert fits_scope(text, scope) == good, text


def test_names_are_those_in_scope_at_the_place(scope):
    names = scope.names
    assert {"parts", "map", "inner", "n", "names", "this"} <= set(names.variables) and "later" not in names.variables
    assert any(item.takes(1) for item in names.methods["assertTrue"]) and "assertFalse" not in names.methods
    assert "assertFalse" in names.importable and {"List", "Inner", "String", "Assert"} <= set(names.types)
    members = scope.members(names.variables["map"])
    (value,) = {overload.returns for overload in members.methods["get"]}
    assert "subList" in scope.members(value).methods  # a List<Integer>, by the map's type arguments


def test_several_places_of_a_file_are_asked_at_once(service):
    source = SOURCE.replace("HERE", "first();").replace("int later = 0;", 'int later = 0; second("ö");').encode()
    spans = [(source.index(text), source.index(text) + len(text)) for text in (b'second("\xc3\xb6");', b"first();")]
    second, first = service.look("ATest.java", source, spans, "junit4")
    assert "later" in second.names.variables and "later" not in first.names.variables


def test_a_place_behind_a_comment_is_found(service):
    source = SOURCE.replace("HERE", "n++; // counted").encode()
    at = source.index(b"// counted") + len(b"// counted")
    (scope,) = service.look("ATest.java", source, [(at, at)], "junit4")
    assert isinstance(scope, JavaScope) and "n" in scope.names.variables


def test_the_expression_of_a_lambda_is_a_place(service):
    source = SOURCE.replace("HERE", "names.forEach(x -> check(x));").encode()
    start = source.index(b"check(x)")
    (scope,) = service.look("ATest.java", source, [(start, start + len(b"check(x)"))], "junit4")
    assert "x" in scope.names.variables


def test_half_a_file_gives_a_reason_and_not_an_answer(service):
    source = b"class ATest { void a() { int x = ; } "
    at = source.index(b";") + 1
    (scope,) = service.look("ATest.java", source, [(at, at)], "junit4")
    assert isinstance(scope, JavaScope) and "x" in scope.names.variables
    (found,) = service.look("ATest.java", b"class ATest { }", [(14, 14)], "junit4")
    assert found == "the place is not in a method that javac reads"


def test_a_missing_type_leaves_its_members_free(service):
    scope = look(service, SOURCE.replace("int n = 0;", "gone.Missing gone = null; int n = 0;"))
    assert fits_scope("assertTrue(gone.whatever(1, 2).further());", scope) and not fits_scope(
        "assertTrue(nope);", scope
    )


def test_type_variables_are_types(service):
    source = SOURCE.replace("class ATest", "class ATest<K extends Number>").replace("void testA", "<T> void testA")
    scope = look(service, source)
    assert fits_scope("assertEquals((T) null, ((K) null).intValue());", scope)
    assert not fits_scope("assertEquals(1, ((K) null).trim());", scope)


def test_a_jvm_that_ended_is_replaced(service):
    look(service)  # starts it, whichever test comes first
    service._process.kill()
    service._process.wait()
    at = SOURCE.encode().index(b"HERE")
    assert service.look("ATest.java", SOURCE.encode(), [(at, at + 4)], "junit4") == ["the JVM ended"]
    assert "names" in look(service).names.variables
