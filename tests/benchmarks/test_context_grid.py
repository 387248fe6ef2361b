"""The grid of contexts: its stored results make its page, and its differences are those of the tasks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.context_grid import Plan, folder_name, write_page
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


def test_a_plan_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"students": {}}))
    with pytest.raises(UserError, match="not a readable plan"):
        Plan(tmp_path / "plan.json", None)


def test_training_asks_for_a_folder():
    command = [sys.executable, "benchmarks/context_grid.py", PLAN, "--judge"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip() == "error: --work: name a folder for the runs"
