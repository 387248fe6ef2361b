"""Each benchmark of speed runs at toy size, prints a table and a JSON line, and stores nothing unasked."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.measuring import in_turns, ratio, table
from tests.helpers.toy_benchmarks import run_at_toy_size

QUICK = [
    ("loss_step",),
    ("training_step",),
    ("training_step", "--part", "profile"),
    ("generation",),
    ("data_generation",),
    ("exported",),
    ("frame",),
    ("scaling", "--part", "sizes"),
]
SLOW = [("startup",), ("scaling", "--part", "processes"), ("training_step", "--part", "trainer")]


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_toy_size(words, monkeypatch, capsys):
    run_at_toy_size(words[0], words[1:], monkeypatch, capsys)


def test_a_comparison_of_exports_goes_on_where_it_was_stopped(monkeypatch, tmp_path, capsys):
    from benchmarks import exported

    words = ["--shapes", "tiny", "small", "--tasks", "4", "--repeats", "1", "--output", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["exported.py", "--threads", "1", *words])
    monkeypatch.setattr(exported, "KEPT", tmp_path)
    monkeypatch.setattr(exported, "export_all", lambda model, place: {"torch": model})
    asked = []

    def compare(folders, *_):
        asked.append(folders["torch"].split("/")[-1])
        if asked == ["tiny", "small"]:
            raise KeyboardInterrupt
        return [[asked[-1], "free", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]

    monkeypatch.setattr(exported, "compare", compare)
    with pytest.raises(KeyboardInterrupt):
        exported.main()
    assert not (tmp_path / "found.json").exists()
    assert exported.main() == 0
    assert asked == ["tiny", "small", "small"]
    tables = json.loads((tmp_path / "found.json").read_text())["tables"]
    assert [row["engine"] for rows in tables.values() for row in rows] == ["tiny", "small"]
    assert list(tmp_path.iterdir()) == [tmp_path / "found.json"]


@pytest.mark.slow
@pytest.mark.parametrize("words", SLOW, ids=" ".join)
def test_toy_size_with_processes_of_its_own(words, monkeypatch, capsys):
    run_at_toy_size(words[0], words[1:], monkeypatch, capsys)


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
