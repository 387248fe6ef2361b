"""The grid of students: what it needs is made first, and stored results make its page and the headline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import student_grid
from benchmarks.student_grid import Plan, differences, folder_name, for_all, train_student, write_headline, write_page
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PLAN, PAGE = "benchmarks/context/plan.json", "docs/results/context.md"


def test_the_page_is_what_the_stored_results_make(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = tmp_path / "context.md"
    page.write_text((ROOT / PAGE).read_text())
    write_page(Plan(Path(PLAN), None), page)
    assert page.read_text().replace(str(page), PAGE) == (ROOT / PAGE).read_text()


def test_a_difference_is_the_mean_over_seeds_and_tasks(monkeypatch):
    monkeypatch.chdir(ROOT)
    store = Plan(Path(PLAN), None).store
    means = []
    for name in ("with context", "without context"):
        runs = [store.read(f"{folder_name(name, seed)}.classes")["systems"]["student"] for seed in (1, 2, 3)]
        means.append(np.mean([run["per_task"]["f1"] for run in runs]))
    line = next(line for line in (ROOT / PAGE).read_text().splitlines() if line.startswith("| with context - without"))
    assert re.search(r"[+-]\d\.\d+", line.split("|")[3]).group() == f"{means[0] - means[1]:+.3f}"


def test_only_seeds_that_both_have_are_compared():
    def runs(values):
        return [{"seed": seed, "per_task": {"f1": scores}} for seed, scores in values.items()]

    three, two = {1: [0.5, 0.7], 2: [0.25, 0.5], 3: [0.5, 1.0]}, {2: [0.0, 0.5], 3: [0.5, 0.5]}
    line = differences({"a": runs(three), "b": runs(two)}, [("a", "b")], ["x", "y"]).splitlines()[-1]
    assert "| +0.188 (" in line  # the mean of 0.25, 0, 0 and 0.5
    alone = {"a": runs(three), "nearest": [{"per_task": {"f1": [0.5, 0.5]}}]}
    assert "| +0.075 (" in differences(alone, [("a", "nearest")], ["x", "y"]).splitlines()[-1]


def test_a_plan_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"students": {}}))
    with pytest.raises(UserError, match="not a readable plan"):
        Plan(tmp_path / "plan.json", None)


def test_training_asks_for_a_folder():
    command = [sys.executable, "benchmarks/student_grid.py", PLAN, "--judge"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip() == "error: --work: name a folder for the runs"


def test_what_students_need_is_made_once_and_first(tmp_path, monkeypatch):
    plan = {
        "data": "",
        "tasks": {},
        "student": {"epochs": 1},
        "files": {"teacher data": {"script": "teach.py", "flags": {"model_name": "$WORK/x"}, "needs": ["teacher"]}},
        "students": {
            "distilled": {"flags": {}, "seeds": [1, 2], "needs": ["teacher data"]},
            "teacher": {"flags": {}, "seeds": [3]},
            "lost": {"flags": {}, "seeds": [1], "needs": ["nothing"]},
        },
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    made = []

    def keep(folder: Path, kept: Path) -> None:
        kept.mkdir(parents=True)
        (kept / "cost.json").write_text("{}")

    monkeypatch.setattr(student_grid, "call", lambda plan, script, flags, log: made.append((script, log)))
    monkeypatch.setattr(student_grid, "keep_model", keep)
    for _ in range(2):
        with pytest.raises(UserError, match="nothing makes 'nothing'"):
            for_all(Plan(tmp_path / "plan.json", tmp_path), train_student, 2)
    assert made[:2] == [("knowledge_distillation.py", "teacher-seed3"), ("teach.py", "teacher data")]
    assert sorted(made[2:]) == [("knowledge_distillation.py", f"distilled-seed{seed}") for seed in (1, 2)]


def test_the_headline_has_the_means_of_the_page_and_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = Plan(Path(PLAN), None)
    plan.settings["headline"] = {"gold_only": "with context", "student": "nobody"}
    file = tmp_path / "headline.json"
    file.write_text('{"restore": 1}')
    write_headline(plan, file, "the command")
    found = json.loads(file.read_text())
    assert found["restore"] == 1 and found["command"] == "the command"
    assert set(found["held_out_classes"]) == {"gold_only", "nearest_sibling", "retrieval"}
    line = next(line for line in (ROOT / PAGE).read_text().splitlines() if line.startswith("| with context "))
    scores = found["held_out_classes"]["gold_only"]
    assert [f"{scores[name]['value']:.3f}" for name in ("exact_match", "f1")] == line.replace(" ", "").split("|")[4:6]
    assert scores["f1"]["low"] < scores["f1"]["value"] < scores["f1"]["high"]
