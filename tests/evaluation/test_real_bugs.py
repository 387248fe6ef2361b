"""Real bugs, on a history and a Defects4J of our own: who finds the bug, who misses it, who raises a false alarm."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from evaluation.real_bugs import main
from tests.helpers.java_project import MAIN, jar, junit_jars, need_jdk, write_project

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
    fixed = commit(root)
    records = tmp_path / "defects4j" / "framework" / "projects" / "Csv"
    records.mkdir(parents=True)
    head = "bug.id,revision.id.buggy,revision.id.fixed,report.id,report.url\n"
    (records / "active-bugs.csv").write_text(f"{head}1,0,{fixed},CSV-1,none\n2,0,{fixed},CSV-2,none\n")
    for number, test in ((1, "testTotal"), (2, "testStaticState")):
        for folder, text in (
            ("trigger_tests", f"--- shop.CartTest::{test}\njunit.framework.AssertionFailedError\n"),
            ("patches", PATCH),
        ):
            (records / folder).mkdir(exist_ok=True)
            (records / folder / (f"{number}.src.patch" if folder == "patches" else f"{number}")).write_text(text)
    commit(tmp_path / "defects4j")
    return tmp_path


def test_a_bug_is_found_by_the_assertions_that_tell_the_versions_apart(place, capsys):
    output = place / "out"
    words = ["--defects4j", place / "defects4j", "--mirrors", place / "mirrors", "--projects", "Csv", "--workers", "1"]
    words += ["--class_path", os.pathsep.join(map(str, [*junit_jars(), jar("hamcrest")])), "--output_dir", output]
    assert main(list(map(str, words))) == 0
    tasks = [json.loads(line) for line in (output / "tasks.jsonl").read_text().splitlines()]
    assert [task["assertions"][0] for task in tasks if task["source"]["bug"] == "Csv-1"] == [
        "assertEquals(3, cart.total());",
        "assertEquals(7, cart.total());",
    ]
    texts = ["assertTrue(cart.total() > 2);", "assertTrue(cart.total() > 4);"]
    given = place / "llm.jsonl"
    given.write_text("".join(json.dumps({"row": row, "prediction": text}) + "\n" for row, text in enumerate(texts)))
    assert main([*map(str, words), "--predictions", f"llm={given}"]) == 0
    summary = json.loads((output / "real_bugs.json").read_text())
    bug = summary["bugs"]["Csv-1"]
    assert bug["problem"] == "" and bug["verdicts"]["human"] == ["missed", "found"]
    assert bug["verdicts"]["llm"] == ["missed", "found"]
    assert bug["verdicts"]["false"] == ["false alarm"] * 2
    assert summary["bugs"]["Csv-2"]["problem"] != ""
    group = summary["groups"]["Csv"]
    assert (group["bugs"], group["stable"], group["systems"]["human"]["bugs_found"]) == (2, 1, 1)
    assert group["systems"]["llm"]["bugs_found"] == 1 and "llm" in capsys.readouterr().out
