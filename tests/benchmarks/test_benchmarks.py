"""Each benchmark of speed runs at toy size, prints a table and a JSON line, and stores nothing unasked."""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import subprocess
import sys

import pytest
import torch

from benchmarks.measuring import RESULTS, in_turns, ratio, table

QUICK = [
    ("loss_step",),
    ("training_step",),
    ("training_step", "--part", "profile"),
    ("generation",),
    ("data_generation",),
    ("gpu_step",),
    ("gpu_checks", "--checks", "fp32"),
    ("gpu_generation",),
    ("beam_quality",),
    ("exported",),
    ("frame",),
    ("scaling", "--part", "sizes"),
]
SLOW = [("startup",), ("scaling", "--part", "processes"), ("training_step", "--part", "trainer")]


def run(name: str, flags: tuple[str, ...], monkeypatch, capsys) -> dict:
    before = {file: file.stat().st_mtime_ns for file in RESULTS.glob(f"{name}*.json")}
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--toy", "--threads", "1", *flags])
    threads = torch.get_num_threads()
    try:
        assert importlib.import_module(f"benchmarks.{name}").main() == 0
    finally:
        logging.disable(logging.NOTSET)
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("|--") for line in lines)
    assert {file: file.stat().st_mtime_ns for file in RESULTS.glob(f"{name}*.json")} == before
    result = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    assert result["machine"]["cpu"] and result["machine"]["torch"]
    for rows in result["tables"].values():
        assert rows
        for row in rows:
            assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    return result


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_toy_size(words, monkeypatch, capsys):
    run(words[0], words[1:], monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("words", SLOW, ids=" ".join)
def test_toy_size_with_processes_of_its_own(words, monkeypatch, capsys):
    run(words[0], words[1:], monkeypatch, capsys)


def test_turns_ratios_and_table():
    calls: list[str] = []
    times = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, warmup=1)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [len(found) for found in times.values()] == [3, 3]
    # A busy turn slows both: the ratio within a turn does not see it.
    assert ratio({"a": [2.0, 20.0, 2.2], "b": [1.0, 10.0, 1.0]}, "a", "b") == 2.0
    assert table(["name", "x"], [["a", 1.5], ["bcd", None]]).splitlines() == [
        "| name |   x |",
        "|------|----:|",
        "| a    | 1.5 |",
        "| bcd  |   - |",
    ]


def test_no_turn_begins_beyond_the_budget():
    assert len(in_turns({"a": lambda: None}, 50, warmup=0, budget=0.0)["a"]) == 1


PARTS = ("checks", "step_220m", "step_48m", "step_770m", "generation", "compiled")
STORED = {f"{part}.json" for part in PARTS} | {"log.txt", "machine.txt"}


def run_everything(folder, *flags: str, **variables: str) -> tuple[int, str]:
    command = ["bash", "benchmarks/gpu.sh", "--toy", *flags, "--output", str(folder)]
    done = subprocess.run(
        command, cwd=RESULTS.parents[1], env=os.environ | variables, stdout=-1, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_everything_for_a_gpu_runs_at_toy_size(tmp_path):
    code, out = run_everything(tmp_path, "--limit", "3000")
    assert code == 0, out
    assert {path.name for path in tmp_path.iterdir()} == STORED


@pytest.mark.parametrize("broken", ["", "gpu_generation"])
def test_every_part_for_a_gpu_gets_its_share_and_an_error_stops_no_other(tmp_path, broken):
    """With a stand-in for Python that stores the words it is given."""
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/bash\n[[ $1 != - ]] || exit 0\n[[ $1 != benchmarks/{broken}.py ]] || exit 3\n"
        'for word; do [[ $last != --output ]] || output=$word; last=$word; done; printf "%s\\n" "$@" >"$output"\n'
    )
    python.chmod(0o755)
    code, out = run_everything(tmp_path / "out", "--limit", "400", PYTHON=str(python))
    missing = {"generation.json"} if broken else set()
    assert code == len(missing), out
    assert {path.name for path in (tmp_path / "out").iterdir()} == STORED - missing
    budgets = []
    for part in {name for name in STORED - missing if name.endswith("json")}:
        words = (tmp_path / "out" / part).read_text().splitlines()
        module = importlib.import_module(words[0].removesuffix(".py").replace("/", "."))
        budgets.append(float(words[words.index("--budget") + 1]))
        first, known = ("--checks", module.CHECKS) if "--checks" in words else ("--cases", getattr(module, "CASES", {}))
        if first in words:
            asked = words[words.index(first) + 1 : words.index("--toy")]
            assert asked and set(asked) <= set(known)
    assert 0.6 * 400 < sum(budgets) < 400
