#!/usr/bin/env python
"""Seconds to score 2,000 predictions with every text metric, MiniLM, intervals, breakdown and one comparison.

    python benchmarks/evaluation_speed.py [--data raw.jsonl] [--workers 2]

Without --data the tasks are mined from the sample project. Half of the predictions are right, the others are those of
another task. Writes build/benchmarks/evaluation_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.errors import run_main


def sample_project(folder: Path) -> Path:
    for words in (
        ["data/sample_corpus.py", "--output", folder / "project"],
        ["scripts/mine_assertions.py", "--source", folder / "project", "--output", folder / "raw.jsonl"],
    ):
        subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, check=True, capture_output=True)
    return folder / "raw.jsonl"


def cpu_seconds() -> float:
    """Of this process and its finished children: what another load on the machine does not change."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="raw or distillation rows (None: the sample project's)")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()

    import numpy as np

    from data.readers import parse_json_line, parse_sample, read_rows
    from evaluation.results import compare, judge
    from evaluation.systems import System
    from models.encoders import resolve_encoder
    from utils.atomic_io import write_json

    with tempfile.TemporaryDirectory() as folder:
        data = args.data or sample_project(Path(folder))
        samples = [parse_sample(parse_json_line(line)) for _, line in read_rows(data)][: args.tasks]
    draw = random.Random(0)
    systems = {
        name: System(name, [s.target if draw.random() < right else draw.choice(samples).target for s in samples])
        for name, right in (("student", 0.5), ("teacher", 0.7))
    }
    for system in systems.values():
        system.measured = {"token_accuracy": np.array([draw.random() for _ in samples])}

    started, cpu = time.perf_counter(), cpu_seconds()
    encoder = resolve_encoder("embedded:minilm")
    student = judge(systems["student"], samples, encoder, args.workers)
    summary = student.evaluation.summary()
    student.evaluation.breakdown()
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    started = time.perf_counter()
    teacher = judge(systems["teacher"], samples, encoder, args.workers)
    compare(student, teacher)
    more = time.perf_counter() - started

    result = {
        "tasks": len(samples),
        "workers": args.workers,
        "seconds_one_system": round(seconds, 1),
        "cpu_seconds_one_system": round(cpu, 1),
        "seconds_second_system_and_comparison": round(more, 1),
        "code_quality_score": summary["code_quality_score"]["value"],
    }
    write_json(ROOT / "build/benchmarks/evaluation_speed.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    run_main(main)
