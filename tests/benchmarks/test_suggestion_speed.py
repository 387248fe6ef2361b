"""What a further suggestion costs is the difference between many and one, by test."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import suggestion_speed
from tests.benchmarks.test_restore import make_project


def test_the_first_and_each_further_suggestion(tmp_path, monkeypatch):
    root, output = make_project(tmp_path), tmp_path / "speed.json"
    asked: list[list[str]] = []
    monkeypatch.setattr(suggestion_speed, "suggest", asked.append)

    def in_turns(cases, repeats, **_):
        for case in cases.values():
            case()
        return {"1, executed": [5.0], "4, executed": [8.0], "1, not executed": [4.0], "4, not executed": [4.75]}

    monkeypatch.setattr(suggestion_speed, "in_turns", in_turns)
    words = ["--student", "models/s", "--project", str(root), "--class_path", "a.jar", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["suggestion_speed.py", *words])
    assert suggestion_speed.main() == 0
    found = json.loads(output.read_text())
    assert found["settings"]["tests"] == 4 and found["settings"]["student"] == "s"
    assert {case: values["median"] for case, values in found["seconds"].items()} == pytest.approx(
        {"first, executed": 5.0, "further, executed": 1.0, "first, not executed": 4.0, "further, not executed": 0.25}
    )
    assert ["#" in given[1] for given in asked] == [True, False, True, False]
    assert asked[0][-2:] == ["--class_path", "a.jar"] and asked[-1][-1] == "--no_execution"
