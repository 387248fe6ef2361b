"""What the rules for "non-trivial" cost: the same assertions judged by an earlier state of the code and by today's.

Mines a project, then lets both states judge the human assertion and ``assertTrue(true)``, some tasks at a time in turn,
so that other work on the machine slows both alike. Today's state also judges what must never be non-trivial:
``assertTrue(false)``, a bare call and the toss of a coin. Each human assertion that only the earlier state takes for
non-trivial is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.execution import mine
from utils.atomic_io import write_json
from utils.errors import UserError, run_main
from utils.signals import exit_on_signal

ROOT = Path(__file__).resolve().parents[1]
# The last state without the conditions on assertion, place, repetition and cause.
FIRST_RULES = "92dd6bac54e07d3bda1800e030453bb6e0e54ac4"
Json = dict[str, Any]
# Runs with either state's code: judges what it is told on standard input, line by line.
JUDGE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from evaluation.execution_settings import ExecutionSettings
from evaluation.running.execution import ProjectExecutor
settings = ExecutionSettings(workers=int(sys.argv[4]), timeout_s=float(sys.argv[5]))
with ProjectExecutor(sys.argv[2], sys.argv[3], settings) as executor:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        tasks, texts = json.loads(line)
        start = time.monotonic()
        found = executor.execute(tasks, texts)
        seconds = time.monotonic() - start
        print(json.dumps([seconds, [{"trivial": "", **vars(one)} for one in found]]), flush=True)
"""


class Judge:
    """A process with one state of the code."""

    def __init__(self, code: Path, args: argparse.Namespace) -> None:
        words = [str(code), str(args.project.resolve()), args.class_path, str(args.workers), str(args.timeout)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", JUDGE, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=code
        )
        self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UserError("one of the two states could not judge; see its message above")
        return json.loads(line)

    def judge(self, tasks: Sequence[Json], texts: Sequence[str]) -> tuple[float, list[Json]]:
        """Seconds, and what became of each text."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([tasks, texts]) + "\n")
        self.process.stdin.flush()
        seconds, outcomes = self._read()
        return seconds, outcomes

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def describe(seconds: float, outcomes: Sequence[Json]) -> Json:
    """Counts and costs of one system; ``run_ms``: the median that a JVM took for the run on unchanged code."""
    stable = [one for one in outcomes if one["status"] != "dropped"]
    runs = sum(1 + one["mutants_tried"] for one in stable if one["compiled"])
    return {
        "tasks": len(outcomes),
        "stable": len(stable),
        "passed": sum(one["passed"] is True for one in stable),
        "nontrivial": sum(one["nontrivial"] is True for one in stable),
        "reasons": dict(Counter(one["trivial"] for one in stable if one["trivial"]).most_common()),
        "dropped": dict(Counter(one["reason"] for one in outcomes if one["status"] == "dropped").most_common()),
        "seconds": round(seconds, 1),
        "runs": runs,
        "ms_per_run": round(1000 * seconds / max(1, runs), 1),
        "run_ms": round(1000 * statistics.median([one["seconds"] for one in stable if one["passed"]] or [0]), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True, help="folder of a Java project")
    parser.add_argument("--class_path", required=True, help="its jars")
    parser.add_argument("--limit", type=int, default=250, help="tasks, evenly from all")
    parser.add_argument("--chunk", type=int, default=25, help="tasks that each state judges in turn")
    parser.add_argument("--before", default=FIRST_RULES, help="commit of the earlier state")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    exit_on_signal()
    from evaluation.systems.baselines import COIN, FALSE, TRIVIAL, strip_assertion

    rows = mine(args.project)
    chosen = [rows[i * len(rows) // args.limit] for i in range(min(args.limit, len(rows)))]
    human = ["\n".join(row["assertions"]) for row in chosen]
    texts = {
        "human": human,
        "assertTrue(true)": [TRIVIAL] * len(chosen),
        "assertTrue(false)": [FALSE] * len(chosen),
        "bare call": list(map(strip_assertion, human)),
        "coin toss": [COIN] * len(chosen),
    }
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    outcomes: dict[tuple[str, str], list[Json]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        earlier = Path(scratch, "earlier")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(earlier), args.before], check=True)
        try:
            judges = {"before": Judge(earlier, args), "now": Judge(ROOT, args)}
            for start in range(0, len(chosen), args.chunk):
                part = slice(start, start + args.chunk)
                tasks = [row["source"] for row in chosen[part]]
                turn = ("before", "now") if start // args.chunk % 2 else ("now", "before")
                for name, every in texts.items():
                    for state in turn if name in ("human", "assertTrue(true)") else ("now",):
                        taken, found = judges[state].judge(tasks, every[part])
                        seconds[state, name] += taken
                        outcomes[state, name] += found
                print(f"{start + len(tasks)} of {len(chosen)} tasks", file=sys.stderr)
            for judge in judges.values():
                judge.close()
        finally:
            subprocess.run([*git, "remove", "--force", str(earlier)], check=True)
    lost = []
    for row, text, old, new in zip(chosen, human, outcomes["before", "human"], outcomes["now", "human"], strict=True):
        if old["nontrivial"] and not new["nontrivial"]:
            test = f"{row['source']['test_class']}.{row['source']['test_name']}"
            reason = new["trivial"] or f"{new['status']}: {new['reason']}"
            lost.append({"test": test, "assertion": text, "before": old["killed"], "now": reason})
    systems: Json = {"before": {}, "now": {}}
    for (state, name), found in outcomes.items():
        systems[state][name] = describe(seconds[state, name], found)
    result: Json = {
        "project": args.project.resolve().name,
        "mined_tasks": len(rows),
        "before": args.before,
        "machine": {"cores": os.cpu_count(), "load_average": os.getloadavg()},
        "settings": {"workers": args.workers, "timeout_s": args.timeout, "chunk": args.chunk},
        "systems": systems,
        "human_lost": lost,
    }
    write_json(args.output, result)
    print(json.dumps(systems, indent=1))
    return 0


if __name__ == "__main__":
    run_main(main)
