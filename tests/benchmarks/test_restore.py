"""Taking assertions out of a project, and counting what comes back."""

from __future__ import annotations

import json
import math

from benchmarks.restore import METRICS, best_of, make_pools, summarise
from benchmarks.restore_tasks import find_tasks, prepare
from evaluation.suggesting.draft import Draft
from tests.helpers.java_project import MAIN, TESTS, fingerprint, write_project

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


def test_pools_are_read_back_as_they_were_stored(tmp_path):
    removed = prepare(make_project(tmp_path), tmp_path / "copy", limit=1, seed=1)
    tasks, _ = find_tasks(tmp_path / "copy", removed)
    store = tmp_path / "pools.json"
    drafts = [["assertTrue(a);", [["beam", 1]], -0.5], ["assertTrue(b);", [["sibling", 2]], None]]
    store.write_text(json.dumps({"facts": {"parameters": 7}, "pools": {removed[0].key: {"pool": drafts}}}))
    assert make_pools(tasks, tmp_path / "copy", None, None, store) == {"parameters": 7}
    asked, not_asked = tasks[0].pools["pool"]
    assert asked == Draft("assertTrue(a);", (("beam", 1),), -0.5) and math.isnan(not_asked.likelihood)


def test_the_best_of_three_and_the_difference_are_counted_by_task():
    def row(value):
        return dict.fromkeys(METRICS, float(value))

    assert best_of([row(0), row(1), row(0)]) == row(1) and best_of([]) == row(0)
    tables = {
        "pool, as ranked": {"top1": [row(1), row(1), row(0), row(1)]},
        "nearest, as ranked": {"top1": [row(1), row(0), row(0), row(0)]},
    }
    summary = summarise(tables, ["a", "b", "c", "d"])
    assert summary["pool, as ranked"]["top1"]["pass_rate"]["value"] == 0.75
    assert summary["pool, as ranked"]["top1 less nearest"]["pass_rate"]["value"] == 0.5
    assert "top1 less nearest" not in summary["nearest, as ranked"]
