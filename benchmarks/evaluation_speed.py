"""Seconds to score 2,000 predictions with every text metric, MiniLM, intervals, breakdown and one comparison.

    python benchmarks/evaluation_speed.py [--data raw.jsonl] [--workers 2]

Without --data the tasks are mined from the sample project. Half of the predictions are right, the others are those of
another task. Measured once: it takes long enough.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report
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


def main() -> int:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--data", type=Path, help="raw or distillation rows (None: the sample project's)")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    args = parse(parser)
    if args.toy:
        args.tasks = 50

    import numpy as np

    from data.rows.readers import parse_json_line, parse_sample, read_rows
    from evaluation.reports.results import compare, judge
    from evaluation.systems.models import System
    from models.text_encoder.encoders import resolve_encoder

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
    student.evaluation.summarise()
    student.evaluation.break_down()
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    started = time.perf_counter()
    teacher = judge(systems["teacher"], samples, encoder, args.workers)
    compare(student, teacher)
    more = time.perf_counter() - started

    settings = {
        "tasks": len(samples),
        "workers": args.workers,
        "data": args.data.name if args.data else "sample project",
    }
    rows = [
        ("one system: encoder, all text metrics, intervals, breakdown", seconds, cpu),
        ("a second system and the comparison", more, None),
    ]
    figures = {"evaluation": (("part", "seconds", "CPU seconds"), rows)}
    return report("evaluation_speed", args, settings, figures, load_average=round(os.getloadavg()[0], 1))


if __name__ == "__main__":
    run_main(main)
