"""Each benchmark of speed runs at toy size, prints a table and a JSON line, and stores nothing unasked."""

from __future__ import annotations

import importlib
import json
import logging
import math
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


@pytest.mark.slow
def test_everything_for_a_gpu_runs_at_toy_size(tmp_path):
    command = ["bash", "benchmarks/gpu.sh", "--toy", "--limit", "3000", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=RESULTS.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = {path.name for path in tmp_path.iterdir()}
    parts = ("checks", "step_220m", "step_48m", "generation", "compiled")
    assert stored == {f"{part}.json" for part in parts} | {"log.txt", "machine.txt"}
