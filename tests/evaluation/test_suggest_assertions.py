"""Suggested assertions: which tests lack one, where it goes, which candidate is taken, what is written."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation import suggest_assertions
from evaluation.running.jdk import find_jdk
from evaluation.suggest_assertions import main
from evaluation.suggesting.apply import insert_suggestions, make_diff
from evaluation.suggesting.open_tests import OpenTests
from evaluation.suggesting.verdicts import Candidate
from tests.helpers.java_project import MAIN, TESTS, fingerprint, junit_jars, need_jdk, write_project
from utils.errors import UserError

OPEN_TEST = """package shop;

import org.junit.Test;

public class OpenTest {
    @Test
    public void testSum() {
        Cart cart = new Cart();
        cart.add(3);
        cart.total(); // the sum
    }

    @Test
    public void testReturns() {
        Cart cart = new Cart();
        cart.isEmpty();
        return;
    }

    @Test public void testShort() { new Cart().total(); }

    @Test
    public void testHas() {
        org.junit.Assert.assertTrue(new Cart().isEmpty());
    }

    @Test(expected = IllegalArgumentException.class)
    public void testThrows() {
        new Cart().label(null);
    }

    @Test
    public void testHelper() {
        verifyEmpty(new Cart());
    }

    @Test
    public void testNothing() {
        int x = 1;
    }

    void verifyEmpty(Cart cart) {
    }
}
"""


@pytest.fixture
def project(tmp_path):
    root = write_project(tmp_path / "project")
    (root / "pom.xml").write_text("<project/>")
    (root / TESTS / "CartOpenTest.java").write_text(OPEN_TEST.replace("OpenTest", "CartOpenTest"))
    return root


def opened(project: Path, method: str = ""):
    return OpenTests(project).find(project / TESTS / "CartOpenTest.java", method)


# -- which tests, which method, where --------------------------------------------------------------------------------


def test_tests_without_an_assertion_are_found(project):
    tests, left_out = opened(project)
    assert [(test.name, test.focal_name) for test in tests] == [
        ("testSum", "Cart.total"),
        ("testReturns", "Cart.isEmpty"),
        ("testShort", "Cart.total"),
    ]
    assert left_out == {"testNothing": "no focal method"}


def test_a_named_test_is_taken_with_its_assertions(project):
    (test,), _ = opened(project, "testHas")
    assert "assertTrue(new Cart().isEmpty()); <AssertPlaceHolder> }" in test.masked
    with pytest.raises(UserError, match=r"#testGone: no such test; there are testSum, testReturns, "):
        opened(project, "testGone")


def test_the_model_reads_what_it_was_trained_on(project):
    (test,), _ = opened(project, "testReturns")
    assert test.masked == (
        "@Test public void testReturns() { Cart cart = new Cart(); cart.isEmpty(); <AssertPlaceHolder> return; }"
    )
    assert test.focal == "public boolean isEmpty() { return total == 0; }"


@pytest.mark.parametrize(
    ("test", "focal"),
    [
        ("totalOfTwo", "Cart.total"),  # called by the assertion that is missing, so by nothing that is there
        ("testTotal_isSum", "Cart.total"),
        ("emptyAtFirst", "Cart.isEmpty"),
        ("totallyOther", "Cart.add"),
        ("testAdd", "Cart.add"),
    ],
)
def test_the_test_s_name_tells_the_method_under_test(project, test, focal):
    file = project / TESTS / "CartTest.java"
    file.write_text(
        "package shop; import org.junit.Test; public class CartTest { @Test public void "
        + test
        + "() { Cart cart = new Cart(); cart.add(3); } }"
    )
    found, _ = OpenTests(project).find(file)
    assert [item.focal_name for item in found] == [focal]


BORROWING = """package shop; import org.junit.Test; import static org.junit.Assert.*; public class OtherTest {
@Test public void testSumOfTwo() { assertEquals(0, new Cart().total()); }
@Test public void testLabelOfOne() { assertNotNull(new Cart().label("a")); }
@Test public void testLabelOfTwo() { assertNotNull(new Cart().label("b")); }
%s
}
"""


@pytest.mark.parametrize(
    ("name", "focal", "like"),
    [
        ("testSumOfNone", "Cart.total", "testSumOfTwo"),  # the name that is most alike
        ("testWhatever", "Cart.label", "testLabelOfTwo"),  # most tests of the class check it; the nearest of them
    ],
)
def test_where_the_test_does_not_tell_its_method_another_test_does(project, name, focal, like):
    file = project / TESTS / "OtherTest.java"
    file.write_text(BORROWING % f"@Test public void {name}() {{ }}")
    ((test,), left_out) = OpenTests(project).find(file)
    assert (test.focal_name, test.focal_as_in, left_out) == (focal, like, {})
    # A candidate is judged by what it calls itself; one that calls nothing of the project by the other test's method.
    judged = [test.find_task(text)["focal_name"] for text in ("assertTrue(new Cart().isEmpty());", "assertNull(null);")]
    assert judged == ["isEmpty", focal.partition(".")[2]]


def test_no_method_is_borrowed_without_a_sign(project):
    file = project / TESTS / "OtherTest.java"
    one_each = BORROWING.replace('label("b")', "toString()").replace("LabelOfTwo", "Text")
    file.write_text(one_each % "@Test public void testWhatever() { }")
    assert OpenTests(project).find(file) == ([], {"testWhatever": "no focal method"})


def test_the_diff_puts_each_assertion_where_a_person_would(project):
    tests, _ = opened(project)
    raw = (project / TESTS / "CartOpenTest.java").read_bytes()
    picks = [(test, Candidate(f"check{i}();", 1)) for i, test in enumerate(tests)]
    lines = insert_suggestions(raw, picks).decode().split("\n")
    added = {line: lines[lines.index(line) - 1 : lines.index(line) + 2] for line in lines if "check" in line}
    assert added == {
        "        check0();": ["        cart.total(); // the sum", "        check0();", "    }"],
        "        check1();": ["        cart.isEmpty();", "        check1();", "        return;"],
        "        check2();": ["    @Test public void testShort() { new Cart().total();", "        check2();", "     }"],
    }


def test_encoding_line_ends_and_imports_are_kept(project):
    file = project / TESTS / "CartOpenTest.java"
    raw = OPEN_TEST.replace("OpenTest", "CartOpenTest").replace("// the sum", "// Summe für é").replace("\n", "\r\n")
    file.write_bytes(raw.encode("latin-1"))
    (test,), _ = opened(project, "testSum")
    picked = Candidate(
        'assertEquals("é€\U0001f600", 3);\nfail();', 1, imports=("static org.junit.Assert.assertEquals",)
    )
    written = insert_suggestions(file.read_bytes(), [(test, picked)]).decode("latin-1")
    assert written == raw.replace(
        "import org.junit.Test;", "import org.junit.Test;\r\nimport static org.junit.Assert.assertEquals;"
    ).replace("für é", 'für é\r\n        assertEquals("é\\u20ac\\ud83d\\ude00", 3);\r\n        fail();')


def test_an_import_is_written_behind_the_last_one_whatever_a_text_holds(project):
    file = project / TESTS / "CartOpenTest.java"
    source = OPEN_TEST.replace("OpenTest", "CartOpenTest")
    text = 'String text = """\nimport org.junit.Assume;\n""";\n\n    void verifyEmpty'
    file.write_bytes(codecs.BOM_UTF8 + source.replace("void verifyEmpty", text).encode())
    (test,), _ = opened(project, "testSum")
    picked = Candidate("fail();", 1, imports=("static org.junit.Assert.fail",))
    written = insert_suggestions(file.read_bytes(), [(test, picked)]).decode("utf-8-sig")
    assert "import org.junit.Test;\nimport static org.junit.Assert.fail;\n\npublic" in written
    told = source.replace("import org.junit.Test;", "import org.junit.Test; // NOPMD")
    edited = insert_suggestions(told.encode(), [(replace(test, position=len(told) - 3), picked)]).decode()
    assert "import org.junit.Test; // NOPMD\nimport static org.junit.Assert.fail;\n" in edited
    bare = codecs.BOM_UTF8 + b"class A { }"
    edited = insert_suggestions(bare, [(replace(test, position=len(bare) - 1), picked)])
    assert edited.startswith(codecs.BOM_UTF8 + b"import static org.junit.Assert.fail;\nclass A {")


# -- the command -----------------------------------------------------------------------------------------------------

TOTAL = [
    "assertEquals(4, cart.total());",
    "assertTrue(true);",
    "assertEquals(3, cart.total());",
    "(",
    "assertNull(null);",
]
CANDIDATES = {
    "testSum": TOTAL,
    "testReturns": ["assertTrue(cart.isEmpty());"],
    "testShort": ["assertTrue(true);", "assertEquals(1, 2);"],
    "testNothing": ["assertEquals(2, x);"],  # asked once most of the other tests check one method
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


class FixedStudent:
    """Writes CANDIDATES, by the name of the test, and likes the first best."""

    def write(self, samples, scopes=()):
        return [CANDIDATES[sample.source["test_name"]] for sample in samples]

    def score(self, samples, texts):
        return [[-float(place) for place in range(len(found))] for found in texts]

    def show(self, sample):
        return sample.test


@pytest.fixture
def fixed_candidates(monkeypatch, cache):
    monkeypatch.setenv("DISTIL_CACHE", str(cache))
    monkeypatch.setattr(suggest_assertions, "load_student", lambda args: FixedStudent())


def run(project: Path, *options: str, method: str = "") -> int:
    test = f"{project / TESTS / 'CartOpenTest.java'}{method}"
    class_path = os.pathsep.join(map(str, junit_jars()))
    return main(["a-model", test, "--no_pool", "--class_path", class_path, *options])


@pytest.mark.jdk
def test_candidates_are_run_ranked_and_applied(project, fixed_candidates, capsys):
    need_jdk()
    file = project / TESTS / "CartOpenTest.java"
    before = file.read_text()
    os.chmod(file, 0o640)
    assert run(project, "--json", "--apply") == 1  # testShort got none, testNothing cannot
    (report,) = json.loads(capsys.readouterr().out)["files"]
    ranked = {test["test"]: [item["assertion"] for item in test["candidates"]] for test in report["tests"]}
    assert ranked["testSum"] == [TOTAL[2], TOTAL[0], TOTAL[1], TOTAL[4]]
    assert {test["test"]: test["chosen"] for test in report["tests"]} == {
        "testSum": 0,
        "testReturns": 0,
        "testShort": None,
    }
    best = report["tests"][0]["candidates"][0]
    assert (best["rank"], best["compiled"], best["passed"], best["nontrivial"]) == (3, True, True, True)
    assert report["applied"] and report["left_out"] == {"testNothing": "no focal method"}
    expected = (
        before.replace(
            "import org.junit.Test;",
            "import org.junit.Test;\nimport static org.junit.Assert.assertEquals;\n"
            "import static org.junit.Assert.assertTrue;",
        )
        .replace("// the sum\n", "// the sum\n        assertEquals(3, cart.total());\n")
        .replace("        return;", "        assertTrue(cart.isEmpty());\n        return;")
    )
    assert file.read_text() == expected and file.stat().st_mode & 0o777 == 0o640
    assert "+        assertEquals(3, cart.total());\n" in report["diff"]
    assert sorted(path.name for path in file.parent.iterdir() if path.name.startswith(".")) == []

    assert run(project, "--json") == 1  # what is written compiles, and its tests lack nothing any more
    (report,) = json.loads(capsys.readouterr().out)["files"]
    assert [test["test"] for test in report["tests"]] == ["testShort", "testNothing"]
    assert report["diff"] == ""


@pytest.mark.jdk
def test_without_apply_nothing_is_written(project, fixed_candidates, capsys):
    need_jdk()
    before = (project / TESTS / "CartOpenTest.java").read_bytes()
    assert run(project, method="#testSum") == 0
    shown = capsys.readouterr().out
    assert "testSum (line 10), method under test: Cart.total" in shown
    assert " -> assertEquals(3, cart.total());\n      passes; fails when broken (line 14:" in shown
    assert (
        "    assertEquals(4, cart.total());\n      failed: java.lang.AssertionError: expected:<4> but was:<3>" in shown
    )
    assert "    assertTrue(true);\n      passes, whatever the method does" in shown
    assert "--- a/src/test/java/shop/CartOpenTest.java\n+++ b/src/test" in shown
    assert (project / TESTS / "CartOpenTest.java").read_bytes() == before


def test_no_execution_takes_the_first_that_is_java(project, fixed_candidates, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    file = project / TESTS / "CartOpenTest.java"
    assert main(["a-model", f"{file}#testSum", "--no_pool", "--no_execution", "--json"]) == 0
    (test,) = json.loads(capsys.readouterr().out)["files"][0]["tests"]
    assert [item["assertion"] for item in test["candidates"]] == [text for text in TOTAL if text != "("]
    assert test["chosen"] == 0 and {item["status"] for item in test["candidates"]} == {"not run"}
    assert test["candidates"][0]["imports"] == ["static org.junit.Assert.assertEquals"]


@pytest.mark.jdk
def test_no_execution_with_types_leaves_out_what_javac_refuses(project, fixed_candidates, capsys, monkeypatch):
    """Wrong types, or an exception that the test does not declare; nothing is run, and nothing is scored in vain."""
    need_jdk()
    monkeypatch.setattr("evaluation.running.java_service.JavaService.run", lambda *_: pytest.fail("nothing is run"))
    scored = []
    monkeypatch.setattr(
        FixedStudent, "score", lambda self, samples, texts: scored.extend(texts) or [[0.0] * len(row) for row in texts]
    )
    refused = ["assertEquals(cart.total());", "assertTrue(cart.total());", "Thread.sleep(cart.total());"]
    taken = ["org.junit.Assert.assertEquals(0, cart.total());", "assertThrows(Exception.class, () -> cart.add(1));"]
    monkeypatch.setitem(CANDIDATES, "testSum", [*refused, *taken])
    before = fingerprint(project)
    file = project / TESTS / "CartOpenTest.java"
    class_path = os.pathsep.join(map(str, junit_jars()))
    words = [
        "a-model",
        f"{file}#testSum",
        "--class_path",
        class_path,
        "--no_execution",
        "--decoding",
        "types",
        "--json",
    ]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["executed"], report["decoding"]) == (False, "types") and fingerprint(project) == before
    found = report["files"][0]["tests"][0]["candidates"]
    texts = [item["assertion"] for item in found]
    assert set(taken) < set(texts) and set(texts).isdisjoint(refused) and sorted(scored[0]) == sorted(texts)
    assert {(item["compiled"], item["verdict"]) for item in found} == {(True, "not run: javac accepts it")}
    needed = {item["assertion"]: item["imports"] for item in found}
    assert [needed[text] for text in taken] == [[], ["static org.junit.Assert.assertThrows"]]


@pytest.mark.jdk
def test_what_javac_refuses_of_all_candidates_is_said(project, fixed_candidates, capsys, monkeypatch):
    need_jdk()
    monkeypatch.setitem(CANDIDATES, "testSum", ["assertEquals(cart.total());"])
    monkeypatch.setattr("evaluation.suggesting.pool.write_templates", lambda sample: [])
    assert run(project, "--no_execution", "--decoding", "types", method="#testSum") == 1
    told = capsys.readouterr().err
    assert "CartOpenTest.java: testSum: javac takes none of the candidates: no suitable method found for" in told


@pytest.mark.jdk
@pytest.mark.parametrize("ways", [("--no_execution", "--decoding", "types"), ("--decoding", "names")])
def test_what_is_written_compiles_for_the_project_s_release(project, fixed_candidates, capsys, monkeypatch, ways):
    need_jdk()
    if find_jdk().version < 12:
        pytest.skip("JDK 11 cannot compile for another release in memory")
    pom = "<project><properties><maven.compiler.release>8</maven.compiler.release></properties></project>"
    (project / "pom.xml").write_text(pom)
    newer = "assertEquals(3, java.util.List.of(cart.total()).get(0).intValue());"
    monkeypatch.setitem(CANDIDATES, "testSum", [newer, "assertEquals(3, cart.total());"])
    assert run(project, *ways, "--json", method="#testSum") == 0
    (test,) = json.loads(capsys.readouterr().out)["files"][0]["tests"]
    best = test["candidates"][test["chosen"]]
    assert best["assertion"] == "assertEquals(3, cart.total());" and best["compiled"]
    others = [item for item in test["candidates"] if item["assertion"] == newer]
    assert len(others) == ("names" in ways)  # javac leaves it out where it is asked about candidates
    assert all((item["status"], item["compiled"]) == ("compile error", False) for item in others)


@pytest.mark.jdk
def test_where_the_file_does_not_compile_javac_cannot_tell(project, fixed_candidates, capsys):
    """A finished build tells nothing of a file that was changed since."""
    need_jdk()
    for part in ("classes", "test-classes"):
        (project / "target" / part).mkdir(parents=True)
        (project / "target" / part / "Later.class").write_bytes(b"")
        os.utime(project / "target" / part / "Later.class", (2e9, 2e9))
    file = project / TESTS / "CartOpenTest.java"
    file.write_text(file.read_text().replace("int x = 1;", "Missing x = null;"))
    assert run(project, "--no_execution", "--decoding", "types", "--json", method="#testSum") == 0
    (test,) = json.loads(capsys.readouterr().out)["files"][0]["tests"]
    best = test["candidates"][0]
    assert best["compiled"] is None and best["verdict"].startswith(
        "not run: javac cannot tell whether it compiles (line "
    )


@pytest.mark.jdk
@pytest.mark.parametrize(
    ("missing", "message"),
    [(["--jdk_home", "nowhere"], "no JDK at --jdk_home nowhere"), (["--class_path", "gone.jar"], "gone.jar does not")],
)
def test_what_javac_needs_is_said_before_a_model_is_loaded(project, monkeypatch, missing, message):
    need_jdk()
    monkeypatch.setattr(suggest_assertions, "load_student", lambda args: pytest.fail("too late"))
    with pytest.raises(UserError, match=message):
        main(["a-model", str(project / TESTS), "--no_execution", "--decoding", "types", *missing])


def test_an_editors_lock_file_is_no_source(project, fixed_candidates, capsys):
    file = project / TESTS / "CartOpenTest.java"
    (file.parent / ".#CartOpenTest.java").symlink_to("me@host.1:9")
    (file.parent / "Gone.java").symlink_to("nowhere")
    assert main(["a-model", f"{file}#testSum", "--no_pool", "--no_execution", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["diff"]


def test_the_diff_can_be_applied_where_the_file_ends_without_a_new_line(tmp_path):
    before, after = b"a\n\x0cb\nclass C { }", b"a\n\x0cb\nx\nclass C { int x; }"
    (tmp_path / "C.java").write_bytes(before)
    diff = make_diff(before, after, "C.java")
    subprocess.run(["git", "apply"], cwd=tmp_path, input=diff.encode(), check=True)
    assert (tmp_path / "C.java").read_bytes() == after


def test_a_file_changed_meanwhile_is_not_overwritten(project, fixed_candidates, monkeypatch):
    file = project / TESTS / "CartOpenTest.java"

    def slow(self, samples, scopes=()):
        file.write_text("// edited")
        return [["assertTrue(true);"]]

    monkeypatch.setattr(FixedStudent, "write", slow)
    with pytest.raises(UserError, match="changed while the candidates ran; nothing was written"):
        main(["a-model", f"{file}#testSum", "--no_execution", "--apply"])
    assert file.read_text() == "// edited"


def test_a_file_changed_before_the_candidates_run_is_not_overwritten(project, fixed_candidates, monkeypatch):
    """What was found counts in the bytes that were read then: an assertion would go to another place of the file."""
    file = project / TESTS / "CartOpenTest.java"
    changed = b"// a line more\n" + file.read_bytes()
    monkeypatch.setattr(OpenTests, "find", _then(OpenTests.find, lambda: file.write_bytes(changed)))
    with pytest.raises(UserError, match="changed while the candidates ran; nothing was written"):
        main(["a-model", f"{file}#testSum", "--no_pool", "--no_execution", "--apply"])
    assert file.read_bytes() == changed


def _then(function, effect):
    """The function, and something that happens right behind it."""

    def both(*words, **named):
        result = function(*words, **named)
        effect()
        return result

    return both


SECOND = OPEN_TEST.replace("class OpenTest", "class SecondTest").replace("testSum", "testTotal")


def test_a_folder_means_all_its_tests(project, fixed_candidates, capsys, monkeypatch):
    monkeypatch.setitem(CANDIDATES, "testTotal", ["assertEquals(1, cart.total());"])
    (project / TESTS / "SecondTest.java").write_text(SECOND)
    loaded = []
    monkeypatch.setattr(suggest_assertions, "load_student", lambda args: loaded.append(args) or FixedStudent())
    words = ["a-model", str(project / TESTS), "--no_execution", "--no_pool"]
    assert main([*words, "--format", "json"]) == 1  # testNothing has no method under test
    report = json.loads(capsys.readouterr().out)
    assert [(file["file"], len(file["tests"])) for file in report["files"]] == [
        (f"{TESTS}CartOpenTest.java", 3),
        (f"{TESTS}SecondTest.java", 3),
    ]
    assert len(loaded) == 1 and report["complete"]
    assert main([*words, "--format", "diff"]) == 1
    diff = capsys.readouterr().out
    subprocess.run(["git", "apply"], cwd=project, input=diff.encode(), check=True)
    assert "assertEquals(1, cart.total());" in (project / TESTS / "SecondTest.java").read_text()


@pytest.mark.parametrize("name", ["OldCartTest.java", ""])
def test_a_file_or_folder_without_gaps_needs_no_model(project, monkeypatch, capsys, name):
    monkeypatch.setattr(suggest_assertions, "load_student", lambda args: pytest.fail("no model is needed"))
    (project / TESTS / "CartOpenTest.java").unlink()
    (project / TESTS / "CartTest.java").unlink()
    words = ["a-model", str(project / TESTS / name), "--no_execution", "--check"]
    assert main(words) == 0
    assert capsys.readouterr().out == "no test lacks an assertion\n"
    assert main([*words, "--format", "sarif"]) == 0  # a file that can be uploaded
    assert json.loads(capsys.readouterr().out)["runs"][0]["results"] == []
    assert main([*words, "--format", "diff"]) == 0
    assert capsys.readouterr().out == ""


def test_check_fails_where_a_test_lacks_an_assertion_though_one_was_found(project, fixed_candidates):
    words = ["a-model", f"{project / TESTS / 'CartOpenTest.java'}#testSum", "--no_pool", "--no_execution"]
    assert (main(words), main([*words, "--check"])) == (0, 1)


def test_when_the_time_is_over_the_rest_is_named(project, fixed_candidates, capsys):
    file = project / TESTS / "CartOpenTest.java"
    before = file.read_bytes()
    assert main(["a-model", str(file), "--no_execution", "--max_minutes", "1e-9", "--apply", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (shown,) = report["files"]
    assert not report["complete"] and shown["left_out"]["testSum"] == "not reached before --max_minutes"
    assert file.read_bytes() == before


@pytest.mark.jdk
def test_a_missing_framework_is_said_before_a_model_is_loaded(project, monkeypatch, cache, tmp_path):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(cache))
    monkeypatch.setattr(suggest_assertions, "load_student", lambda args: pytest.fail("too late"))
    with pytest.raises(UserError, match=r"does not compile \(.*package org.junit does not exist.*mvn test-compile"):
        main(["a-model", str(project / TESTS), "--class_path", str(tmp_path)])


@pytest.mark.jdk
def test_a_test_that_does_not_compile_is_left_out(project, fixed_candidates, capsys):
    need_jdk()
    file = project / TESTS / "CartOpenTest.java"
    file.write_text(OPEN_TEST.replace("OpenTest", "CartOpenTest").replace("int x = 1;", "Missing x = null;"))
    before = file.read_bytes()
    assert run(project, "--apply", "--json") == 1
    (report,) = json.loads(capsys.readouterr().out)["files"]
    assert (
        report["left_out"]["testSum"].startswith("its file does not compile: line 39: cannot find symbol")
        and file.read_bytes() == before
    )


@pytest.mark.jdk
def test_what_the_run_observed_is_offered_where_nothing_passes(project, fixed_candidates, capsys, monkeypatch):
    need_jdk()
    known = "assertEquals(4, cart.total());"
    monkeypatch.setitem(CANDIDATES, "testSum", [known, known.replace("cart", "basket"), known.replace("total", "sum")])
    assert run(project, "--json", method="#testSum") == 1
    report = json.loads(capsys.readouterr().out)
    (test,) = report["files"][0]["tests"]
    assert report["decoding"] == "types" and [item["assertion"] for item in test["candidates"]] == [known]
    assert run(project, "--json", "--repair", method="#testSum") == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    (test,) = file["tests"]
    assert "+        assertEquals(3, cart.total()); // holds today, check it\n" in file["diff"]
    best = test["candidates"][test["chosen"]]
    assert (best["assertion"], best["origin"]) == ("assertEquals(3, cart.total());", "run")
    assert best["verdict"].startswith("holds today, check it: passes;")


def test_tabs_stay_tabs(project):
    file = project / TESTS / "CartOpenTest.java"
    file.write_text("package shop;\nimport org.junit.Test;\nclass CartTest {\n\t@Test\n\tvoid testTotal() { }\n}\n")
    (project / MAIN / "Cart.java").write_text("package shop; public class Cart { static int total() { return 1; } }")
    tests, _ = opened(project)
    written = insert_suggestions(file.read_bytes(), [(tests[0], Candidate("check();", 1))]).decode()
    assert written.endswith("\tvoid testTotal() {\n\t\tcheck();\n\t }\n}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Gone.java"], "Gone.java: no such file or folder"),
        ([TESTS + "CartOpenTest.java", "--num_beams", "0"], "--num_beams 0: must be at least"),
        (["pom.xml"], "pom.xml: not a Java file"),
        ([TESTS + "#testSum"], "#testSum names a test of a file"),
        (["data"], "data: holds no JUnit or TestNG tests"),
        ([TESTS + "CartOpenTest.java", "--no_execution", "--repair"], "--repair offers what running"),
        ([TESTS + "CartOpenTest.java", "--max_minutes", "0"], "--max_minutes 0.0: must be a number above 0"),
        ([MAIN + "Cart.java"], "holds no JUnit or TestNG tests"),
        ([TESTS + "CartOpenTest.java", "--project", "data"], "--project data: .* is not in it"),
        ([TESTS + "CartOpenTest.java", "-k", "0"], "--candidates 0: must be a number above 0"),
        ([TESTS + "CartOpenTest.java", "--timeout", "inf"], "--timeout inf: must be a number above 0"),
        ([TESTS + "CartOpenTest.java", "-k", "5", "--num_beams", "2"], "--num_beams 2: must be at least .* 5"),
        ([TESTS + "CartOpenTest.java", "--no_execution"], "MODEL ./no-model: no such folder"),
    ],
)
def test_bad_input_gets_one_clear_line(project, monkeypatch, arguments, message):
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match=message):
        main(["./no-model", *arguments])


@pytest.fixture
def model(project, tmp_path) -> Path:
    """One that has learned nothing."""
    from models.seq2seq.loading import build_scratch, save_model, train_tokenizer

    tokenizer = train_tokenizer([(project / MAIN / "Cart.java").read_text(), OPEN_TEST], 300)
    save_model(
        build_scratch("tiny", tokenizer, dropout_rate=0.1, attention="sdpa", seed=0), tokenizer, tmp_path / "model"
    )
    return tmp_path / "model"


def test_only_names_that_the_test_knows_are_suggested(project, model, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "evaluation.suggesting.student.generate_candidates",
        lambda *words: asked.append(words[2].decoding) or [["assertTrue(cart.isEmpty());"]],
    )
    main([str(model), f"{project / TESTS / 'CartOpenTest.java'}#testSum", "--no_execution"])
    assert asked == ["names"]


def test_explain_shows_exactly_the_ids_that_the_model_gets(project, tmp_path, capsys, monkeypatch):
    from config.defaults import CONTEXT_PARTS
    from data.rows.tokenization import TextFormat
    from models.seq2seq.loading import build_scratch, save_model, train_tokenizer

    tokenizer = train_tokenizer([OPEN_TEST, "\n"], 400)
    trained = build_scratch("tiny", tokenizer, dropout_rate=0.1, attention="sdpa", seed=0)
    TextFormat(context=CONTEXT_PARTS).store_in(trained)
    save_model(trained, tokenizer, tmp_path / "model")
    given = []

    def generate(writer, rows, options, scopes):
        given.extend(rows)
        return [["assertTrue(cart.isEmpty());"]]

    monkeypatch.setattr("evaluation.suggesting.student.generate_candidates", generate)
    words = [str(tmp_path / "model"), f"{project / TESTS / 'CartOpenTest.java'}#testSum", "--no_execution", "--explain"]
    main([*words, "--json"])
    (test,) = json.loads(capsys.readouterr().out)["files"][0]["tests"]
    assert test["input"] == tokenizer.decode(given[0])
    for part in ("int Cart.total()", "Cart cart", "org.junit.Assert.assertTrue(new Cart().isEmpty()); // testHas"):
        assert part in test["input"].split("</s>")[2].split("\n")
    main(words)
    shown = capsys.readouterr().out
    assert all(f"  | {line}" in shown for line in test["input"].split("\n"))
    main(words[:-1])
    assert "the model saw" not in capsys.readouterr().out


@pytest.mark.jdk
def test_a_real_model_and_a_missing_jdk(project, model, tmp_path):
    """End to end in a process of its own."""
    test = f"{project / TESTS / 'CartOpenTest.java'}#testSum"
    command = [
        sys.executable,
        "evaluation/suggest_assertions.py",
        str(model),
        test,
        "--max_output_len",
        "8",
    ]
    done = subprocess.run([*command, "--no_execution", "--json"], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["files"][0]["tests"][0]["focal_method"] == "Cart.total"
    done = subprocess.run([*command, "--jdk_home", str(tmp_path), "--class_path", ""], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: no JDK at --jdk_home {tmp_path}")
