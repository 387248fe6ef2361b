"""Run a benchmark at toy size within this process."""

from __future__ import annotations

import importlib
import json
import logging
import math
import sys

import torch

from benchmarks.measuring import RESULTS


def run_at_toy_size(name: str, flags: tuple[str, ...], monkeypatch, capsys) -> dict:
    """Its JSON, once it has ended well, printed a table and stored nothing among the results."""
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
    assert result["command"].startswith(f"python benchmarks/{name}.py --toy")
    for rows in result["tables"].values():
        assert rows
        for row in rows:
            assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    return result
