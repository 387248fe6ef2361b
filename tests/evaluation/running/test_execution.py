"""Assertions judged by running them: on a small project whose right answers are known by construction."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from evaluation.execution_settings import ExecutionSettings
from evaluation.running.class_path import find_named_release, resolve_class_path
from evaluation.running.execution import ProjectExecutor
from evaluation.running.jdk import Jdk, find_jdk
from evaluation.running.outcomes import DROPPED, Outcome, compute_rates, summarise
from tests.helpers.java_project import MAIN, TESTS, fake_javac, fingerprint, junit_jars, need_jdk, task, write_project
from utils.errors import UserError

pytestmark = pytest.mark.jdk
HUMAN = "assertEquals(7, cart.total());"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    need_jdk()
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def executor(project):
    with ProjectExecutor(project, junit_jars(), ExecutionSettings(workers=1, timeout_s=8, memory_mb=128)) as running:
        yield running


def judge(executor: ProjectExecutor, root: Path, prediction: str, **changes) -> Outcome:
    return executor.execute([task(root, "CartTest.java", "testTotal", HUMAN, **changes)], [prediction])[0]


# -- the three gates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "compiled", "passed", "nontrivial"),
    [
        (HUMAN, True, True, True),
        ("assertEquals(7, cart.total())", True, True, True),  # the last semicolon may stand behind the placeholder
        ("assertEquals(7, cart.total());\nassertEquals(false, cart.isEmpty());", True, True, True),
        ("assertEquals(6, cart.total());", True, False, False),
        ("assertEquals(7, cart.sum());", False, False, False),
        ("assertEquals(7, cart.total()", False, False, False),
        ("assertTrue(true);", True, True, False),
        ("assertEquals(7, 3 + 4);", True, True, False),
        ("int seven = 7;", True, True, False),
    ],
)
def test_the_three_gates(executor, project, prediction, compiled, passed, nontrivial):
    outcome = judge(executor, project, prediction)
    assert (outcome.compiled, outcome.passed, outcome.nontrivial) == (compiled, passed, nontrivial)


def test_another_assertion_of_the_test_neither_hides_nor_lends_a_kill(executor, project):
    """`assertEquals(3, cart.total())` stands before: it fails first on every mutant of total()."""
    real = judge(executor, project, "assertEquals(7, cart.total());")
    trivial = judge(executor, project, "assertEquals(7, 7);")
    assert real.nontrivial is True and "total" in real.killed
    assert trivial.nontrivial is False and trivial.mutants_tried > 1


def test_fail_is_nontrivial_where_the_broken_method_no_longer_throws(executor, project):
    of_label = task(project, "CartTest.java", "testNoName", 'fail("no name");', "label")
    right, wrong = executor.execute([of_label, of_label], ['fail("no name");', "assertTrue(true);"])
    assert (right.passed, right.nontrivial, wrong.passed, wrong.nontrivial) == (True, True, True, False)


# Name: prediction, whether it passes, and why it is trivial.
TRIVIAL = {
    "true": ("assertTrue(true);", True, "passes whatever the code does"),
    "false": ("assertTrue(false);", False, ""),
    "a bare call": ("cart.total();", True, "not an assertion"),
    "a call whose result is used": ("int n = cart.total() / 7;", True, "not an assertion"),
    "a bare call that fails on a mutant": ("new int[1][cart.total() - 7].clone();", True, "not an assertion"),
    "an assertion beside such a call": (
        "assertTrue(true); new int[1][cart.total() - 7].clone();",
        True,
        "passes whatever the code does",
    ),
    "a call that is named like an assertion and throws": (
        "class Own { void checkTotal(int n) { new int[1][n - 7].clone(); } } new Own().checkTotal(cart.total());",
        True,
        "not an assertion",
    ),
    "one that is named like an assertion and asserts": (
        "class Own { void checkTotal(int n) { assertEquals(7, n); } } new Own().checkTotal(cart.total());",
        True,
        None,
    ),
    "a condition that never holds": ("if (cart == null) assertEquals(8, cart.total());", True, "passes whatever"),
    "the zone of the first JVM": (
        "assertEquals(7, cart.total() + java.util.TimeZone.getDefault().getRawOffset());",
        True,
        "flaky",
    ),
    "the first run of a JVM": (
        'assertEquals(7, Integer.getInteger("n", 0) + cart.total()); System.getProperties().put("n", "1");',
        True,
        None,  # the property is put back before each run
    ),
}


@pytest.mark.parametrize("name", TRIVIAL)
def test_what_proves_nothing_is_trivial_and_says_why(executor, project, name):
    prediction, passed, why = TRIVIAL[name]
    outcome = judge(executor, project, prediction)
    assert (outcome.passed, outcome.nontrivial) == (passed, why is None), outcome
    assert outcome.trivial.startswith(why or "") and bool(outcome.trivial) is bool(why)


def test_coin_tosses_are_never_nontrivial(executor, project):
    of_total = task(project, "CartTest.java", "testTotal", HUMAN)
    coins = [
        "if (System.nanoTime() / 1000 % 2 == 0) fail();",
        "assertEquals(7, Math.random() < 0.8 ? 7 : cart.total() + 1);",
        "assertEquals(true, new java.util.Random().nextInt(10) > 1);",
        "assertEquals(0, new Object().hashCode() % 2);",
    ] * 4
    outcomes = executor.execute([of_total] * len(coins), coins)
    assert [outcome.nontrivial for outcome in outcomes] == [False] * len(coins)
    assert any(outcome.passed for outcome in outcomes)


def test_a_place_that_is_not_reached_takes_no_assertion_but_one_that_forbids_it(executor, project):
    unreached = task(project, "CartTest.java", "testUnreached", "assertEquals(0, cart.total());")
    for prediction in ("assertEquals(0, cart.total());", "assertTrue(false);", "assertEquals(8, cart.total());"):
        (outcome,) = executor.execute([unreached], [prediction])
        assert (outcome.passed, outcome.nontrivial, outcome.trivial) == (True, False, "place not reached")
    caught = task(project, "CartTest.java", "testNoName", 'fail("no name");', "label")
    false, fails, throws = executor.execute(
        [caught] * 3, ["assertTrue(false);", "fail();", "throw new AssertionError();"]
    )
    assert (false.nontrivial, false.trivial) == (False, "place not reached")
    assert (fails.nontrivial, fails.reached, throws.nontrivial) == (True, False, True)
    summary = summarise([false, fails, throws])
    assert summary["reasons"] == {"place not reached": 1} and summary["unreached"] == 2


def test_kills_are_found_among_all_mutants_or_some(executor, project):
    asked = [task(project, "CartTest.java", "testTotal", HUMAN)], [HUMAN]
    (kills,) = executor.find_kills(*asked)
    some = sorted(kills)[:1]
    assert len(kills) > 1 and executor.find_kills(*asked, some) == [frozenset(some)]


def test_human_and_missing_assertion_as_controls(executor, project):
    tasks = [task(project, "CartTest.java", "testTotal", HUMAN)]
    (human,), (without,) = executor.execute_human(tasks), executor.execute_without(tasks)
    assert (human.compiled, human.passed, human.nontrivial) == (True, True, True)
    assert (without.compiled, without.passed, without.nontrivial) == (True, True, False)


def test_junit_3_and_5(executor, project):
    tasks = [
        task(project, "OldCartTest.java", "testOld", "assertEquals(5, cart.total());"),
        task(project, "JupiterCartTest.java", "totalsOf", "assertEquals(price, cart.total());"),
        task(project, "JupiterCartTest.java", "totals", "assertEquals(2, cart.total());"),
    ]
    for outcome in executor.execute_human(tasks):
        assert (outcome.compiled, outcome.passed, outcome.nontrivial) == (True, True, True)
    predictions = ["assertEquals(6, cart.total());", "assertEquals(2, cart.total());", "assertNull(cart);"]
    for outcome in executor.execute(tasks, predictions):  # the second holds for one parameter of three
        assert (outcome.compiled, outcome.passed) == (True, False)


def test_nested_class_of_junit_5_is_told_from_the_outer_test_of_the_same_name(executor, project):
    source = (project / TESTS / "JupiterCartTest.java").read_bytes()
    start = source.index(b"assertEquals(9")
    nested = task(
        project,
        "JupiterCartTest.java",
        "totals",
        "assertEquals(2, cart.total());",
        test_class="shop.JupiterCartTest$WhenFilled",
        assertion_span=[start, source.index(b";", start) + 1],
        test_span=None,
    )
    right, wrong = executor.execute(
        [nested, nested], ["assertEquals(9, cart.total());", "assertEquals(2, cart.total());"]
    )
    assert (right.passed, wrong.passed) == (True, False)


def test_only_the_frameworks_own_assertions_are_imported(executor, project):
    added = judge(executor, project, "assertFalse(cart.isEmpty());", focal="isEmpty")
    assert added.passed and added.nontrivial and added.imports == ("static org.junit.Assert.assertFalse",)
    assert judge(executor, project, "Assert.assertFalse(cart.isEmpty());").imports == ("org.junit.Assert",)
    assert judge(executor, project, "assertThat(cart.total(), is(7));").compiled is False  # is() is not JUnit's
    assert judge(executor, project, "assertEquals(7, Objects.hash());").compiled is False
    wrong = judge(executor, project, "assertFalse(cart.isEmpty(1, 2));", focal="isEmpty")
    assert not wrong.compiled and "assertFalse" not in wrong.reason and "isEmpty" in wrong.reason


# -- controls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "assertion", "reason"),
    [
        ("testFails", "assertEquals(8, new Cart().total());", "human assertion fails"),
        ("testFlaky", 'assertEquals("UTC", java.util.TimeZone.getDefault().getID());', "human assertion flaky"),
        (
            "testBroken",
            "assertEquals(0, Settings.price);",
            "test fails: ExceptionInInitializerError: java.lang.IllegalStateException: no prices"
            " (not found: prices.csv)",
        ),
        ("testSkips", "assertEquals(0, new Cart().total());", "test skips itself"),
        ("testIgnored", "assertEquals(0, new Cart().total());", "test skips itself"),
        ("testLoops", "assertEquals(0, new Cart().total() + 0);", "test exceeds the time limit"),
    ],
)
def test_a_test_that_cannot_tell_is_dropped(executor, project, name, assertion, reason):
    (outcome,) = executor.execute([task(project, "CartTest.java", name, assertion)], [assertion])
    assert outcome == Outcome(DROPPED, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"test_file": "src/test/java/shop/Gone.java"}, "test file not found"),
        ({"test_file": "../../etc/passwd"}, "test file not found"),
        ({"test_name": "testGone"}, "test not found by the framework"),
        ({"framework": "testng"}, "testng is not supported"),
        ({"test_class_abstract": True}, "test class is abstract"),
        ({"assertion_span": [10, 20]}, "test file changed since it was mined"),
        ({"assertion_span": [10**6, 10**6 + 9]}, "test file changed since it was mined"),
    ],
)
def test_a_task_that_does_not_fit_the_project_is_dropped(executor, project, changes, reason):
    assert judge(executor, project, HUMAN, **changes) == Outcome(DROPPED, reason)


def test_a_task_without_provenance_is_dropped(executor):
    assert executor.execute([{}], [HUMAN]) == [Outcome(DROPPED, "task has no test_file")]


def test_each_run_starts_with_fresh_static_state(executor, project):
    tasks = [task(project, "CartTest.java", "testStaticState", "assertEquals(1, runs);")] * 3
    assert [outcome.passed for outcome in executor.execute_human(tasks)] == [True] * 3


# -- predictions that misbehave --------------------------------------------------------------------------------------

WRITE = 'try (var w = new java.io.FileWriter("FILE")) { } catch (Exception e) { fail("" + e); }'
FORK = (
    'try { assertEquals(0, new ProcessBuilder("touch", "FILE").start().waitFor()); }'
    ' catch (Exception e) { fail("" + e); }'
)
FILL = "java.util.List<long[]> all = new java.util.ArrayList<>(); while (true) all.add(new long[1 << 20]);"
BAD = {
    "loops": ("while (true) { }", "timeout"),
    "sleeps": ("try { Thread.sleep(60000); } catch (InterruptedException e) { }", "timeout"),
    "loops while it prints": ('while (true) { System.out.println("x"); }', "timeout"),
    "exits": ("System.exit(0);", "failed"),
    "halts": ("Runtime.getRuntime().halt(0);", "failed"),
    "forks": (FORK, "failed"),
    "writes into the project": (WRITE.replace("FILE", "PROJECT/new"), "failed"),
    "deletes a source": ('if (!new java.io.File("PROJECT/src/main/java/shop/Cart.java").delete()) fail("");', "failed"),
    "writes elsewhere": (WRITE, "failed"),
    "fills the heap": (FILL, "failed"),
    "removes the guard": ("System.setSecurityManager(null);", "failed"),
    "recurses": ("new Object() { void down() { down(); } }.down();", "failed"),
    "throws megabytes": ('if (cart != null) throw new Error("x".repeat(1 << 24));', "failed"),
    "empty": ("", "compile error"),
    "blank": (" \n\t", "compile error"),
    "prose": ("The total should be 7.", "compile error"),
    "other language": ("self.assertEqual(cart.total(), 7)", "compile error"),
    "comment": ("// assertEquals(7, cart.total());", "compile error"),
    "open comment": ("assertEquals(7, cart.total()); /*", "compile error"),
    "leaves its method": ("} public void testOther() {", "compile error"),
    "nul": ("assertEquals(7, \0cart.total());", "compile error"),
    "lone surrogate": ("assertEquals(7, cart\ud800.total());", "compile error"),
    "megabytes of source": ("assertEquals(7, " + "1 + " * 20_000 + "1);", "compile error"),
    "deep nesting": ("assertEquals(7, " + "(" * 20_000 + "7" + ")" * 20_000 + ");", "compile error"),
}


CONTAINED = ("forks", "writes into the project", "deletes a source", "writes elsewhere")


def expected_status(executor: ProjectExecutor, name: str) -> str:
    """JDK 24 and later have no security manager: leaving the JVM ends it, and only Linux keeps files safe."""
    if executor.jdk.version <= 23:
        return BAD[name][1]
    if name in CONTAINED and not executor.find_missing_layers():
        pytest.skip("no security manager in this JDK and no user namespaces on this system")
    return "died" if name in ("exits", "halts") else BAD[name][1]


@pytest.mark.parametrize("name", BAD)
def test_a_misbehaving_prediction_fails_and_harms_nothing(executor, project, name, tmp_path):
    if name == "removes the guard" and executor.jdk.version > 23:
        pytest.skip("JDK 24 and later have no security manager to remove")
    prediction, status = BAD[name][0], expected_status(executor, name)
    victim = tmp_path / "written"
    prediction = prediction.replace("FILE", str(victim)).replace("PROJECT", str(project))
    before = fingerprint(project)
    outcome = judge(executor, project, prediction)
    assert (outcome.status, outcome.passed, outcome.nontrivial) == (status, False, False), outcome
    assert outcome.compiled is (status != "compile error")
    assert len(outcome.reason) < 1000 and "\n" not in outcome.reason
    assert not victim.exists() and fingerprint(project) == before
    assert judge(executor, project, HUMAN).passed  # the next one is judged as if nothing had been


def test_megabytes_of_output_are_thrown_away(executor, project):
    outcome = judge(executor, project, 'for (int i = 0; i < 50000; i++) System.err.println("x".repeat(1000));')
    assert outcome.passed and outcome.nontrivial is False


DELETE = 'Files.delete(Paths.get("data/prices.txt"));'
SEEN_LATER = {
    "a changed file": 'Files.write(Paths.get("data/prices.txt"), "9".getBytes());',
    "a deleted file": DELETE,
    "a file made a folder": DELETE + ' Files.createDirectory(Paths.get("data/prices.txt"));',
    "a folder made a file": DELETE + ' Files.delete(Paths.get("data")); Files.write(Paths.get("data"), new byte[9]);',
    "new files": 'Files.createDirectories(Paths.get("new/a/b")); Files.write(Paths.get("new/c"), new byte[9]);',
    "a link": 'Files.createSymbolicLink(Paths.get("new"), Paths.get("PROJECT"));',
}


@pytest.mark.parametrize("name", SEEN_LATER)
def test_what_one_prediction_does_to_files_is_undone_before_the_next(executor, project, name):
    before = fingerprint(project)
    act = SEEN_LATER[name].replace("PROJECT", str(project))
    assert judge(executor, project, f'try {{ {act} }} catch (Exception e) {{ fail("" + e); }}').passed
    assert fingerprint(project) == before
    assert judge(executor, project, 'assertEquals(false, Files.exists(Paths.get("new")));').passed
    data = task(project, "CartTest.java", "testData", 'assertEquals("3 4", text.trim());')
    assert executor.execute([data], ['assertEquals("3 4", text.trim());'])[0].passed


def test_every_run_of_a_test_finds_the_folder_as_it_was(executor, project):
    """What a control, a prediction or a mutant leaves there would fail the next, or be counted as a kill."""
    human = "assertEquals(1, Files.size(log));"
    appends = task(project, "CartTest.java", "testAppends", human)
    for outcome in [executor.execute([appends], [human])[0] for _ in range(3)]:
        assert (outcome.status, outcome.nontrivial) == ("passed", False) and outcome.mutants_tried > 0


REMOVE_ALL = """try (var all = Files.walk(Paths.get("").toAbsolutePath())) {
    all.sorted(java.util.Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
} catch (Exception e) { }"""


@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_a_removed_scratch_folder_is_made_again(project, sandbox):
    settings = ExecutionSettings(workers=1, timeout_s=8, nontrivial=False, sandbox=sandbox)
    with ProjectExecutor(project, junit_jars(), settings) as executor:
        assert ("cell" in executor.find_missing_layers()) is (sandbox == "off")
        judge(executor, project, REMOVE_ALL)
        assert judge(executor, project, 'assertEquals(true, Files.exists(Paths.get("data/prices.txt")));').passed


def test_require_goes_on_only_with_every_layer(project, monkeypatch):
    monkeypatch.setattr("evaluation.running.cell._find_kind", lambda: ("", {"network": "refused"}))
    settings = ExecutionSettings(workers=1, sandbox="require")
    with pytest.raises(UserError, match=r"--sandbox require: .*network: refused.*--sandbox auto goes on"):
        ProjectExecutor(project, junit_jars(), settings).__enter__()


def test_a_thread_left_behind_does_not_outlive_its_test(executor, project):
    left = "new Thread(() -> { while (true) { } }).start();"
    assert judge(executor, project, left).passed
    count = (
        "assertEquals(1, Thread.getAllStackTraces().keySet().stream()"
        '.filter(thread -> thread.getName().startsWith("Thread-")).count());'
    )
    assert judge(executor, project, count).status == "failed"


def newest_jdk_without_guard() -> Path:
    for javac in sorted(Path("/usr/lib/jvm").glob("*/bin/javac")):
        home = javac.resolve().parents[1]
        if find_jdk(home).version > 23:
            return home
    pytest.skip("no JDK >= 24 in /usr/lib/jvm")


def test_without_a_security_manager_the_jvm_dies_and_is_replaced(project, tmp_path):
    home, before = newest_jdk_without_guard(), fingerprint(project)
    settings = ExecutionSettings(workers=1, timeout_s=8, jdk_home=home, nontrivial=False)
    with ProjectExecutor(project, junit_jars(), settings) as executor:
        for name in ("exits", "halts", "loops", *CONTAINED):
            prediction = BAD[name][0].replace("FILE", str(tmp_path / "written")).replace("PROJECT", str(project))
            outcome = judge(executor, project, prediction)
            assert (outcome.status, outcome.compiled, outcome.passed) == (expected_status(executor, name), True, False)
            assert outcome.status != "died" or "exit code" in outcome.reason
            assert judge(executor, project, HUMAN).passed
    assert not (tmp_path / "written").exists() and fingerprint(project) == before


# -- projects and JDKs -----------------------------------------------------------------------------------------------


def test_several_workers_give_the_same_outcomes_in_order(project):
    tasks = [task(project, "CartTest.java", "testTotal", HUMAN)] * 6
    predictions = [f"assertEquals({total}, cart.total());" for total in range(3, 9)]
    seen = []
    with ProjectExecutor(project, junit_jars(), ExecutionSettings(workers=2, nontrivial=False)) as executor:
        outcomes = executor.execute(tasks, predictions, lambda: seen.append(1))
    assert [outcome.passed for outcome in outcomes] == [total == 7 for total in range(3, 9)]
    assert all(outcome.nontrivial is None for outcome in outcomes) and len(seen) == 6


def test_a_project_that_does_not_compile_is_refused(tmp_path):
    need_jdk()
    root = write_project(tmp_path)
    cart = root / MAIN / "Cart.java"
    cart.write_text(cart.read_text().replace("return total;", "return totals;"))
    with pytest.raises(UserError, match=r"does not compile \(src/main/java/shop/Cart.java:15: .*--class_path"):
        ProjectExecutor(root, junit_jars())


def test_a_test_file_that_does_not_compile_only_costs_its_own_tasks(tmp_path):
    need_jdk()
    root = write_project(tmp_path)
    (root / TESTS / "BrokenTest.java").write_text("package shop; class BrokenTest { Gone gone; }")
    (root / TESTS / "NeedsItTest.java").write_text("package shop; class NeedsItTest extends BrokenTest { }")
    good = task(root, "CartTest.java", "testTotal", HUMAN)
    bad = {**good, "test_file": TESTS + "BrokenTest.java"}
    with ProjectExecutor(root, junit_jars(), ExecutionSettings(workers=1, nontrivial=False)) as executor:
        assert executor.class_path.left_out == {
            TESTS + "BrokenTest.java": "line 1: cannot find symbol; symbol: class Gone; location: class BrokenTest",
            TESTS + "NeedsItTest.java": "line 1: cannot find symbol; symbol: class BrokenTest",
        }
        first, second = executor.execute([good, bad], [HUMAN, HUMAN])
    assert first.passed and second == Outcome(DROPPED, "test file does not compile")


OLD_CALL = "new java.util.ArrayList<String>().toArray(null)"  # ambiguous from Java 11 on
OLD_TEST = f"""package shop;
import static org.junit.Assert.*;
public class OldTest {{
    Object call() {{ return {OLD_CALL}; }}
    @org.junit.Test public void total() {{ Cart cart = new Cart(); cart.add(7); {HUMAN} }}
}}
"""


def project_for_release_8(folder: Path) -> Path:
    """A project whose pom.xml names Java 8."""
    root = write_project(folder)
    pom = "<project><properties><maven.compiler.target>1.8</maven.compiler.target></properties></project>"
    (root / "pom.xml").write_text(pom)
    return root


def test_a_test_file_that_only_compiles_for_the_release_that_the_project_names_is_judged(tmp_path):
    need_jdk()
    if find_jdk().version < 12:
        pytest.skip("JDK 11 cannot compile for another release in memory")
    root = project_for_release_8(tmp_path)
    (root / TESTS / "OldTest.java").write_text(OLD_TEST)
    old = task(root, "OldTest.java", "total", HUMAN)
    with ProjectExecutor(root, junit_jars(), ExecutionSettings(workers=1, nontrivial=False)) as executor:
        assert not executor.class_path.left_out and executor.class_path.release == 8
        right, wrong, newer = executor.execute([old] * 3, [HUMAN, HUMAN.replace("7", "8"), "java.util.List.of(1);"])
    assert right.passed and wrong.compiled and not wrong.passed and not newer.compiled
    (root / "pom.xml").unlink()
    class_path = resolve_class_path(root, junit_jars(), find_jdk())
    assert list(class_path.left_out) == [TESTS + "OldTest.java"] and class_path.release is None


def test_main_code_that_only_compiles_for_the_release_that_the_project_names_is_mutated(tmp_path):
    need_jdk()
    if find_jdk().version < 12:
        pytest.skip("JDK 11 cannot compile for another release in memory")
    root = project_for_release_8(tmp_path)
    cart = root / MAIN / "Cart.java"
    head, brace, rest = cart.read_text().partition("{")
    cart.write_text(f"{head}{brace} Object old() {{ return {OLD_CALL}; }}{rest}")
    with ProjectExecutor(root, junit_jars(), ExecutionSettings(workers=1)) as executor:
        assert not executor.class_path.left_out and executor.class_path.release == 8
        assert executor.execute([task(root, "CartTest.java", "testTotal", HUMAN)], [HUMAN])[0].nontrivial


@pytest.mark.parametrize("named", [None, "UTF-8", "ISO-8859-1"])
def test_sources_in_latin_1_are_compiled_whatever_the_project_names(tmp_path, named):
    need_jdk()
    root = write_project(tmp_path)
    if named:
        pom = f"<properties><project.build.sourceEncoding>{named}</project.build.sourceEncoding></properties>"
        (root / "pom.xml").write_text(f"<project>{pom}</project>")
    test = OLD_TEST.replace(OLD_CALL, '"\u00e9".codePointAt(0) == 233 && "\u00e9".length() == 1')
    human = "org.junit.Assert.assertEquals(Boolean.TRUE, call());"
    (root / TESTS / "OldTest.java").write_bytes(test.replace(HUMAN, human).encode("latin-1"))
    cart = root / MAIN / "Cart.java"
    cart.write_bytes("// \u00e9\n".encode("latin-1") + cart.read_bytes())
    with ProjectExecutor(root, junit_jars(), ExecutionSettings(workers=1, nontrivial=False)) as executor:
        assert not executor.class_path.left_out
        assert executor.execute([task(root, "OldTest.java", "total", human)], [human])[0].passed
        assert executor.execute([task(root, "CartTest.java", "testTotal", HUMAN)], [HUMAN])[0].passed


@pytest.mark.parametrize("newer_in", [MAIN, TESTS])
def test_a_release_that_hides_more_than_it_mends_is_not_taken(tmp_path, newer_in):
    need_jdk()
    root = project_for_release_8(tmp_path)
    (root / TESTS / "OldTest.java").write_text(OLD_TEST)
    for name in ("One", "Two"):
        (root / newer_in / f"{name}.java").write_text(
            f"package shop; class {name} {{ Object o = java.util.List.of(); }}"
        )
    class_path = resolve_class_path(root, junit_jars(), find_jdk())
    assert list(class_path.left_out) == [TESTS + "OldTest.java"] and class_path.release is None


def of_compiler(text: str) -> str:
    """A plugin's settings, between those of two others."""
    other = "<plugin><artifactId>maven-{}-plugin</artifactId><source>9</source><release>10</release></plugin>"
    compiler = f"<plugin><artifactId>maven-compiler-plugin</artifactId>{text}</plugin>"
    return other.format("javadoc") + compiler + other.format("rpm")


@pytest.mark.parametrize(
    ("pom", "jdk", "release"),
    [
        ("<maven.compiler.target>1.8</maven.compiler.target>", 17, 8),
        (
            "<maven.compiler.target>1.8</maven.compiler.target><maven.compiler.release>11</maven.compiler.release>",
            17,
            11,
        ),
        ("<maven.compiler.target>1.8</maven.compiler.target>" + of_compiler("<release>11</release>"), 17, 8),
        ("<maven.compiler.source>${v}</maven.compiler.source><v>1.8</v>", 17, 8),
        ("<maven.compiler.source>${v}</maven.compiler.source>", 17, None),
        ("<!-- <maven.compiler.release>11</maven.compiler.release> -->", 17, None),
        (of_compiler("<source>1.5</source>"), 17, 7),
        (of_compiler("<source>1.5</source>"), 21, 8),
        (of_compiler("<execution><release>9</release></execution><target>8</target>"), 17, 8),
        (of_compiler(""), 17, None),
        (of_compiler("<release>17</release>"), 17, None),
        (of_compiler("<release>21</release>"), 17, None),
        (of_compiler("<release>8</release>"), 11, None),
    ],
)
def test_the_release_that_a_project_names(tmp_path, pom, jdk, release):
    (tmp_path / "pom.xml").write_text(f"<project>{pom}</project>")
    assert find_named_release(tmp_path, Jdk(tmp_path, jdk)) == release


def test_without_junit_on_the_class_path_tasks_are_dropped_and_say_so(tmp_path):
    need_jdk()
    root = write_project(tmp_path)
    for name in ("CartTest", "OldCartTest"):
        (root / TESTS / f"{name}.java").unlink()
    jupiter_only = [path for path in junit_jars() if not path.name.startswith(("junit4", "junit-platform-launcher"))]
    without_launcher = tmp_path / "jars"
    without_launcher.mkdir()
    copies = [Path(shutil.copy(path, without_launcher)) for path in jupiter_only]
    (tmp_path / "cp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.running.jars.DEBIAN_JARS", tmp_path / "none")
        with ProjectExecutor(root, copies, ExecutionSettings(workers=1)) as executor:
            of_jupiter = task(root, "JupiterCartTest.java", "totals", "assertEquals(2, cart.total());")
            assert executor.execute_human([of_jupiter]) == [Outcome(DROPPED, "no junit5 on the class path")]


def test_a_missing_or_old_jdk_gets_one_clear_line(tmp_path, monkeypatch):
    old = fake_javac(tmp_path / "old", "javac 1.8.0_392")
    with pytest.raises(UserError, match=r"^--jdk_home .*old is JDK 8; execution needs JDK >= 11"):
        find_jdk(old)
    with pytest.raises(UserError, match=r"^no JDK at --jdk_home .*none.*JDK >= 11$"):
        find_jdk(tmp_path / "none")
    monkeypatch.setenv("JAVA_HOME", str(fake_javac(tmp_path / "older", "javac 1.7.0_80")))
    with pytest.raises(UserError, match=r"^JAVA_HOME=.* is JDK 7"):
        find_jdk()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^no JDK: javac is not on the PATH; install JDK >= 11"):
        find_jdk()
    assert find_jdk(fake_javac(tmp_path / "new", "javac 21.0.2")).version == 21


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_rates_count_all_stable_tasks():
    outcomes = [
        Outcome("passed", "", True, True, True),
        Outcome("passed", "", True, True, None),  # no mutant compiles: not shown
        Outcome("failed", "", True, False, False),
        Outcome("compile error", "", False, False, False),
        Outcome(DROPPED, "human assertion fails"),
    ]
    summary = summarise(outcomes)
    assert (summary["tasks"], summary["control_stable"]) == (5, 4)
    assert [summary[name]["value"] for name in ("compile_rate", "pass_rate", "nontrivial_rate")] == [0.75, 0.5, 0.25]
    assert summary["dropped"] == {"human assertion fails": 1} and summary["no_mutants"] == 1
    # Wilson interval of 2 of 4, by hand: (2 + z²/2 ± z·sqrt(1 + z²/4)) / (4 + z²), z = 1.959964
    assert summary["pass_rate"]["low"] == pytest.approx(0.150036, abs=1e-5)
    assert summary["pass_rate"]["high"] == pytest.approx(0.849964, abs=1e-5)
    assert math.isnan(compute_rates(outcomes)["compile_rate"][4])
    assert summarise(outcomes[4:])["pass_rate"] == {"value": None, "reason": "no control-stable task"}
