"""Real bugs, on a history and a Defects4J of our own: who finds the bug, who misses it, who raises a false alarm."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from data.rows.readers import Sample
from evaluation.real_bugs import build_parser, main, write_pool
from evaluation.running.bugs import BugExecutor
from evaluation.running.defects4j import Bug, find_jars, make_buggy
from tests.helpers.commands import write_rows
from tests.helpers.java_project import MAIN, TESTS, jar, junit_jars, need_jdk, write_project
from utils.errors import UserError

pytestmark = pytest.mark.jdk
PATCH = """--- a/src/main/java/shop/Cart.java
+++ b/src/main/java/shop/Cart.java
@@ -10,3 +10,3 @@
     public void add(int price) {
-        total += price;
+        total = price;
     }
"""


def commit(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def place(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    root = write_project(tmp_path / "mirrors" / "commons-csv")
    cart = (root / MAIN / "Cart.java").read_text().splitlines()
    assert cart[9:11] == ["    public void add(int price) {", "        total += price;"]
    (root / TESTS / "HeirTest.java").write_text("package shop; public class HeirTest extends CartTest { }")
    fixed = commit(root)
    records = tmp_path / "defects4j" / "framework" / "projects" / "Csv"
    records.mkdir(parents=True)
    head = "bug.id,revision.id.buggy,revision.id.fixed,report.id,report.url\n"
    tests = ("CartTest::testTotal", "CartTest::testEmpty", "HeirTest::testTotal", "CartTest::testGone")
    lines = [f"{number},0,{fixed},CSV-{number},none\n" for number, _ in enumerate(tests, 1)]
    (records / "active-bugs.csv").write_text(head + "".join(lines))
    for number, test in enumerate(tests, 1):
        for folder, text in (
            ("trigger_tests", f"--- shop.{test}\njunit.framework.AssertionFailedError\n"),
            ("patches", PATCH),
        ):
            (records / folder).mkdir(exist_ok=True)
            (records / folder / (f"{number}.src.patch" if folder == "patches" else f"{number}")).write_text(text)
    commit(tmp_path / "defects4j")
    return tmp_path


def test_a_bug_is_found_by_the_assertions_that_tell_the_versions_apart(place, capsys, monkeypatch):
    output = place / "out"
    words = ["--defects4j", place / "defects4j", "--mirrors", place / "mirrors", "--projects", "Csv", "--workers", "1"]
    words += ["--class_path", os.pathsep.join(map(str, [*junit_jars(), jar("hamcrest")])), "--output_dir", output]
    row = {"focal_method": "int total()", "test_method_masked": "void t() { <AssertPlaceHolder> }"}
    training = write_rows(place / "train.jsonl", [{**row, "assertions": ["assertEquals(7, cart.total());"]}])
    assert main(list(map(str, [*words, "--train_data", training]))) == 0
    tasks = [json.loads(line) for line in (output / "tasks.jsonl").read_text().splitlines()]
    assert [task["assertions"][0] for task in tasks if task["source"]["bug"] == "Csv-1"] == [
        "assertEquals(3, cart.total());",
        "assertEquals(7, cart.total());",
    ]
    assert tasks[0]["context"]["siblings"], "the other tests of the class"
    verdicts = json.loads((output / "real_bugs.json").read_text())["bugs"]["Csv-1"]["verdicts"]
    assert verdicts["retrieval"] == ["false alarm", "found"]
    assert verdicts["false"] == ["false alarm"] * 2
    assert not any("found" in verdicts[name] for name in ("trivial", "false", "bare_call", "coin"))

    texts = ["assertTrue(cart.total() > 2);", "assertTrue(cart.total() > 4);"]
    given = write_rows(place / "llm.jsonl", [{"row": row, "prediction": text} for row, text in enumerate(texts)])
    judged, real = [], BugExecutor.judge_bug
    monkeypatch.setattr(BugExecutor, "judge_bug", lambda *given: judged.append(given[2]) or real(*given))
    assert main([*map(str, words), "--predictions", f"llm={given}", "--repair"]) == 0
    assert judged == [texts, ["", ""]], "what is kept, and a bug that no human assertion finds, is not judged again"
    summary = json.loads((output / "real_bugs.json").read_text())
    bug = summary["bugs"]["Csv-1"]
    assert bug["problem"] == "" and bug["verdicts"]["human"] == bug["verdicts"]["llm"] == ["missed", "found"]
    assert summary["bugs"]["Csv-3"]["verdicts"]["human"] == ["missed", "found"], "an inherited test"
    assert summary["bugs"]["Csv-2"]["problem"] == "passes whatever the code does (1)"
    assert summary["bugs"]["Csv-4"]["problem"] == "no usable assertion: the test is not in the fixed version (1)"
    group = summary["groups"]["Csv"]
    assert (group["bugs"], group["stable"], group["systems"]["human"]["bugs_found"]) == (4, 2, 2)
    report = capsys.readouterr().out
    assert group["systems"]["llm"]["bugs_found"] == 1 and "llm" in report

    kept = json.loads((output / "bugs" / "Csv-1.json").read_text())["repairs"]
    # After add(3) and add(4) the total is 7, with the bug 4: "4" is what a run on the bug shows, and what it freezes.
    assert kept["human"] == ["the run on the bug shows no other value", "freezes the bug"]
    assert kept["false"] == ["holds with and without the bug"] * 2, "assertTrue(false) becomes assertFalse(false)"
    assert kept["llm"] == ["the run on the bug shows no other value", "freezes the bug"]
    repair = group["systems"]["human"]["repair"]
    assert (repair["repaired"], repair["freezes"], repair["bugs_frozen"]) == (2, 2, 2)
    assert "| llm | 1 | 1: 1.000" in report


def test_the_pool_s_first_candidate_is_a_system(tmp_path):
    from models.seq2seq.loading import build_scratch, save_model, train_tokenizer

    sibling = {"assertion": "assertEquals(7, cart.total());", "test": "testTotal", "fields": [], "locals": []}
    sample = Sample("void t() { cart.add(3); <AssertPlaceHolder> }", "int total()", (), context={"siblings": [sibling]})
    tokenizer = train_tokenizer([sample.test, sibling["assertion"]], 300)
    student = build_scratch("tiny", tokenizer, dropout_rate=0.1, attention="sdpa", seed=0)
    save_model(student, tokenizer, tmp_path / "model")
    words = ["--defects4j", "d", "--mirrors", "m", "--device", "cpu", "--student_model_path", str(tmp_path / "model")]
    assert write_pool(build_parser().parse_args(words), [sample]) == [sibling["assertion"]]
    with pytest.raises(UserError, match="--pool ranks with the student"):
        main(["--defects4j", "d", "--mirrors", "m", "--pool"])


def test_the_newest_release_of_each_jar_that_defects4j_keeps(tmp_path):
    library = tmp_path / "framework" / "projects"
    names = (
        "lib/junit-4.12-hamcrest-1.3.jar",
        *(f"Csv/lib/{name}" for name in ("io-2.4.jar", "io-2.10.jar", "asm.jar")),
    )
    for name in names:
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(name.encode())
    commit(tmp_path)
    jars = find_jars(tmp_path, "Csv", tmp_path / "jars")
    assert [path.read_text() for path in jars] == [names[0], names[3], names[2]], "JUnit first, then by name"
    assert find_jars(tmp_path, "Lang", tmp_path / "jars") == jars[:1]
    empty = tmp_path / "empty"
    commit(empty, README="nothing")
    with pytest.raises(UserError, match="keeps no jars for Csv; name them with --class_path"):
        find_jars(empty, "Csv", tmp_path / "jars")


def test_a_patch_may_delete_and_add_files(tmp_path):
    (tmp_path / "A.java").write_text("class A {}\n")
    (tmp_path / "B.java").write_text("class B {}\n")
    head = "diff --git a/{0}.java b/{0}.java\n"
    patch = head.format("A") + "--- a/A.java\n+++ b/A.java\n@@ -1 +1 @@\n-class A {}\n+class A { int x; }\n"
    patch += head.format("B") + "deleted file mode 100644\n--- a/B.java\n+++ /dev/null\n@@ -1 +0,0 @@\n-class B {}\n"
    patch += head.format("C") + "new file mode 100644\n--- /dev/null\n+++ b/C.java\n@@ -0,0 +1 @@\n+class C {}\n"
    buggy = make_buggy(Bug("Csv", 1, "", (), patch), tmp_path)
    assert buggy == {"A.java": "class A { int x; }\n", "C.java": "class C {}\n"}
    with pytest.raises(UserError, match="Csv-1: the patch does not fit the commit"):
        make_buggy(Bug("Csv", 1, "", (), patch.replace("-class A", "-class X")), tmp_path)
