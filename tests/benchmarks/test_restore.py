"""Taking assertions out of a project, and counting what comes back."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.restore import (
    HUMAN,
    METRICS,
    RANKED,
    Judge,
    best_of,
    check_settings,
    fill,
    keep_row,
    read_rows,
    summarise,
    write_headline,
)
from benchmarks.restore_tasks import find_tasks, prepare
from evaluation.running.class_path import resolve_class_path
from evaluation.running.jdk import find_jdk
from evaluation.running.outcomes import Outcome
from evaluation.suggesting.scope import ScopeService
from tests.helpers.java_project import MAIN, TESTS, fingerprint, junit_jars, need_jdk, write_project
from utils.errors import UserError

TEST = """package shop;

import org.junit.Assert;
import org.junit.Test;

public class ManyTest {
"""
METHOD = "    @Test\n    public void test{}() {{\n        Cart cart = new Cart();\n        cart.add(3);\n{}    }}\n"
ASSERTION = "        Assert.assertEquals(3, cart.total());\n"


def make_project(tmp_path):
    root = write_project(tmp_path / "project")
    for name in ("CartTest", "OldCartTest", "JupiterCartTest"):
        (root / TESTS / f"{name}.java").unlink()
    bodies = [
        ASSERTION,
        ASSERTION,
        ASSERTION * 2,
        "        if (cart.isEmpty()) Assert.fail();\n",
        ASSERTION * 4,
        "",
        "",
    ]
    text = "".join(METHOD.format(f"Total{number}", body) for number, body in enumerate(bodies))
    (root / TESTS / "ManyTest.java").write_text(TEST + text + "}\n")
    return root


def test_a_third_of_a_class_loses_its_assertions_in_a_copy(tmp_path):
    root = make_project(tmp_path)
    before = fingerprint(root)
    removed = prepare(root, tmp_path / "copy", limit=10, seed=1)
    assert fingerprint(root) == before
    assert len(removed) == 2  # of 7 tests
    assert all(item.name in ("testTotal0", "testTotal1", "testTotal2") for item in removed)
    assert all(set(item.assertions) == {"Assert.assertEquals(3, cart.total());"} for item in removed)
    text = (tmp_path / "copy" / TESTS / "ManyTest.java").read_text()
    assert text.count("assertEquals") == 8 - sum(len(item.assertions) for item in removed)
    assert (tmp_path / "copy" / MAIN / "Cart.java").is_file()
    assert prepare(root, tmp_path / "copy", limit=10, seed=2) == removed  # as they were stored


def test_the_command_takes_the_removed_tests_up_and_no_others(tmp_path):
    removed = prepare(make_project(tmp_path), tmp_path / "copy", limit=1, seed=1)
    tasks, lost = find_tasks(tmp_path / "copy", removed)
    assert [task.removed for task in tasks] == removed and lost == {}
    assert tasks[0].test.context["siblings"][0]["assertion"] == "Assert.assertEquals(3, cart.total());"


def test_tests_without_a_method_under_test_are_left_alone(tmp_path):
    root = make_project(tmp_path)
    (root / TESTS / "ManyTest.java").write_text(
        TEST
        + "".join(f"    @Test\n    public void a{i}() {{ Assert.assertEquals(3, 1 + 2); }}\n" for i in range(3))
        + "}\n"
    )
    assert prepare(root, tmp_path / "copy", limit=10, seed=1) == []


def test_what_was_stored_is_read_back_but_for_half_a_row(tmp_path):
    store = tmp_path / "rows.jsonl"
    keep_row(store, {"test": "a"})
    with open(store, "a") as handle:
        handle.write('{"test": "b", "te')
    assert read_rows(store) == [{"test": "a"}]
    keep_row(store, {"test": "c"})
    assert read_rows(store) == [{"test": "a"}, {"test": "c"}]


def test_a_folder_of_other_settings_is_refused(tmp_path):
    check_settings(tmp_path, {"student": "a", "limit": 3})
    check_settings(tmp_path, {"student": "a", "limit": 3})
    with pytest.raises(UserError, match=r"was made with another limit \(3\); name a new folder"):
        check_settings(tmp_path, {"student": "a", "limit": 4})


def test_a_verdict_is_asked_for_once(tmp_path):
    class Executor:
        asked = 0

        def execute(self, tasks, texts):
            self.asked += len(texts)
            return [Outcome("failed", text) for text in texts]

    executor, task = Executor(), {"test_class": "A", "test_name": "b", "focal_file": "C.java", "focal_lines": [1, 2]}
    judge = Judge(executor, tmp_path / "judged.jsonl")
    assert [item.reason for item in judge.execute([task] * 3, ["x", "y", "x"])] == ["x", "y", "x"]
    again = Judge(executor, tmp_path / "judged.jsonl")
    assert again.execute([task], ["y"]) == judge.execute([task], ["y"]) and executor.asked == 2
    again.execute([{**task, "focal_lines": [5, 6]}], ["y"])  # about another method
    assert executor.asked == 3


# javac refuses what fits the scope, where the type that a generic method gives back is not known.
REFUSED = "Assert.assertNull(cart.getClass().cast(cart).foo);"


@pytest.mark.jdk
def test_checked_pools_are_the_ranked_ones_without_what_javac_refuses(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    removed = prepare(make_project(tmp_path), tmp_path / "copy", limit=1, seed=1)
    tasks, _ = find_tasks(tmp_path / "copy", removed)

    class Writer:
        def write(self, samples, scopes=()):
            return [[REFUSED, "Assert.assertTrue(cart.isEmpty());"]]

        def score(self, samples, texts):
            return [[0.0] * len(row) for row in texts]

    jdk = find_jdk()
    class_path = resolve_class_path(tmp_path / "copy", junit_jars(), jdk)
    with ScopeService(jdk, class_path) as service:
        (row,) = fill(tasks, tmp_path / "copy", {"names": Writer(), "types": Writer()}, service)
    texts = {name: [text for text, _, _ in pool] for name, pool in row["pools"].items()}
    assert set(texts) == set(RANKED) and row["scope"] and row["check"]
    assert REFUSED in texts["pool"] and "Assert.assertTrue(cart.isEmpty());" in texts["pool"]
    assert texts["pool, checked"] == [text for text in texts["pool"] if text != REFUSED]
    assert texts["nearest, checked"] == texts["nearest"]


def test_answers_are_judged_by_the_method_of_the_human_s_assertions(tmp_path):
    removed = prepare(make_project(tmp_path), tmp_path / "copy", limit=1, seed=1)
    (task,), _ = find_tasks(tmp_path / "copy", removed)
    removed[0].focal["focal_name"] = "other"
    assert task.truth["focal_name"] == "other" != task.test.source["focal_name"]
    assert task.truth["test_name"] == task.test.name


def test_the_best_of_three_and_the_difference_are_counted_by_task():
    def row(value):
        return dict.fromkeys(METRICS, float(value))

    assert best_of([row(0), row(1), row(0)]) == row(1) and best_of([]) == row(0)
    tables = {
        "types, as ranked": {"top1": [row(1), row(0), row(0), row(1)]},
        "pool, as ranked": {"top1": [row(1), row(1), row(0), row(1)]},
        "nearest, as ranked": {"top1": [row(1), row(0), row(0), row(0)]},
        HUMAN: {"top1": [row(1), row(1), row(1), row(math.nan)]},
    }
    summary = summarise(tables, ["a", "b", "c", "d"])
    assert summary["pool, as ranked"]["top1"]["pass_rate"]["value"] == 0.75
    assert summary["pool, as ranked"]["top1 less nearest"]["pass_rate"]["value"] == 0.5
    assert summary["pool, as ranked"]["top1 less types"]["pass_rate"]["value"] == 0.25
    assert (
        summary[HUMAN] == {"top1": summary[HUMAN]["top1"]} and "top1 less nearest" not in summary["nearest, as ranked"]
    )
    assert (summary[HUMAN]["top1"]["pass_rate"]["value"], summary[HUMAN]["top1"]["pass_rate"]["n"]) == (1.0, 3)


def test_the_headline_says_whether_the_judge_chose_and_keeps_the_rest(tmp_path):
    places = ("top1", "top3", "top1 less nearest", "top3 less nearest", "top1 less nearest, checked")
    systems = {
        f"pool, {order}": {place: f"{order}: {place}" for place in (*places, "top3 less nearest, checked")}
        for order in ("filtered", "checked, as ranked")
    }
    result = {"systems": systems, "tests": 5, "student": "s", "libraries": {"a": {"parameters": 7}}}
    file = tmp_path / "headline.json"
    file.write_text('{"other": 1}')
    write_headline(file, result)
    found = json.loads(file.read_text())
    assert found["other"] == 1 and found["restore"]["filtered_by_the_judge"] is True
    assert found["restore"]["top1 less nearest"] == "filtered: top1 less nearest"
    ranked = found["restore"]["as_ranked"]
    assert ranked["checked_by_javac"] is True and ranked["top1"] == "checked, as ranked: top1"
    assert ranked["top1 less nearest"] == "checked, as ranked: top1 less nearest, checked"  # on equal terms
    assert (found["restore"]["tests"], found["restore"]["parameters"]) == (5, 7)
