#!/usr/bin/env python
"""Seconds to the first suggestion of a project that is built, and of each further one, as a user waits for them.

    python benchmarks/suggestion_speed.py --student EXPORTED_MODEL --project FOLDER --class_path JARS [--repeats 5]

Assertions are taken out of --tests tests of a copy, at most a third of a class's (benchmarks/restore_tasks.py), so that
there is something to suggest. The command of docs/suggestions.md is then run in processes of its own, on one of these
tests and on all their files: the first takes what the one takes, each further one of the tests that lack an assertion a
share of the difference. "executed" runs the candidates, "not executed" leaves that out. One turn before the measured
ones fills the caches (the project's classes).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ROOT, in_turns, options, parse, report, spread
from benchmarks.restore_tasks import find_tasks, prepare
from evaluation.suggesting.open_tests import OpenTests
from utils.errors import UserError, run_main

COMMAND = str(ROOT / "evaluation" / "suggest_assertions.py")
LIMITS = {"first, executed": 8.0, "further, executed": 0.7, "further, not executed": 0.1}


def suggest(words: list[str]) -> None:
    """One run of the command; that some tests get no suggestion is no failure."""
    done = subprocess.run([sys.executable, COMMAND, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise UserError(done.stderr.strip().removeprefix("error: "))


def count_lacking(project: Path, files: Iterable[Path]) -> int:
    """How many tests of these files lack an assertion and get a suggestion."""
    reader = OpenTests(project)
    return sum(len(reader.find(file)[0]) for file in files)


def main() -> int:
    parser = options(__doc__, repeats=5)
    add = parser.add_argument
    add("--student", required=True, help="folder of a model; the aims are meant for an exported one")
    add("--project", required=True, type=Path)
    add("--class_path", required=True)
    add("--tests", type=int, default=21)
    args = parse(parser)
    if args.toy:
        args.tests, args.repeats = 3, 1
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / args.project.resolve().name
        tasks, _ = find_tasks(copy, prepare(args.project.resolve(), copy, args.tests, seed=0))
        if len(tasks) < 2:
            raise UserError(f"--project {args.project}: only {len(tasks)} tests could be opened; at least 2 are needed")
        files = list(dict.fromkeys(copy / task.removed.file for task in tasks))
        lacking = count_lacking(copy, files)
        asked = {1: [f"{copy / tasks[0].removed.file}#{tasks[0].removed.name}"], lacking: list(map(str, files))}
        ways = {"executed": ["--class_path", args.class_path], "not executed": ["--no_execution"]}
        cases = {
            f"{number}, {way}": partial(suggest, [args.student, *paths, *flags])
            for way, flags in ways.items()
            for number, paths in asked.items()
        }
        times = in_turns(cases, args.repeats, warmup=1, budget=args.budget, clock=args.clock)
    found: dict[str, list[float]] = {}
    for way in ways:
        found[f"first, {way}"] = times[f"1, {way}"]
        pairs = zip(times[f"1, {way}"], times[f"{lacking}, {way}"], strict=True)
        found[f"further, {way}"] = [(every - one) / (lacking - 1) for one, every in pairs]
    lines = [[case, spread(values)["median"], LIMITS.get(case)] for case, values in found.items()]
    settings = {"student": Path(args.student).name, "project": args.project.resolve().name, "tests": lacking}
    tables = {"seconds to a suggestion": (["what", "seconds", "target"], lines)}
    spreads = {case: spread(values) for case, values in found.items()}
    return report("suggestion_speed", args, settings, tables, seconds=spreads)


if __name__ == "__main__":
    run_main(main)
