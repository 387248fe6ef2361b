"""Do human assertions pass when they are run on a real library, do broken ones fail, and what does it cost?

Mines a project (without one: the sample project, with Debian's JUnit), then judges the human assertion, after the
control's three runs of it; none; what must never be non-trivial: ``assertTrue(true)`` and ``(false)``, a bare call and
the toss of a coin; and the human assertion with its last bracket cut off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.atomic_io import write_json
from utils.errors import UserError, run_main
from utils.signals import exit_on_signal

if TYPE_CHECKING:
    from evaluation.running.outcomes import Outcome

ROOT = Path(__file__).resolve().parents[1]
Json = dict[str, Any]
SAMPLE_CLASSES = 50
DEBIAN_JUNIT = (
    "junit4",
    "hamcrest",
    "junit-jupiter-api",
    "junit-jupiter-engine",
    "junit-platform-commons",
    "junit-platform-engine",
    "junit-platform-launcher",
    "opentest4j",
    "apiguardian-api",
)


def mine(project: Path) -> list[Json]:
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "raw.jsonl")
        command = [sys.executable, str(ROOT / "scripts" / "mine_assertions.py")]
        done = subprocess.run(
            [*command, "--source", str(project), "--output", str(output)], capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(done.stderr.strip().removeprefix("error: "))
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, help="folder of a Java project (default: the sample project)")
    parser.add_argument("--class_path", help="as for evaluate_assertions.py; default for Maven: mvn -o")
    parser.add_argument("--limit", type=int, help="tasks, evenly from all (default: all)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--jdk_home")
    parser.add_argument("--output", type=Path, help="JSON to write (default: benchmarks/results/execution_sample.json)")
    args = parser.parse_args()
    if args.project is not None:
        if args.output is None:
            parser.error("--project needs --output")
        return measure(args)
    from data.sample_corpus import write_sample_corpus

    args.output = args.output or ROOT / "benchmarks" / "results" / "execution_sample.json"
    args.class_path = args.class_path or os.pathsep.join(f"/usr/share/java/{name}.jar" for name in DEBIAN_JUNIT)
    with tempfile.TemporaryDirectory() as scratch:
        args.project = write_sample_corpus(Path(scratch, "sample"), classes=SAMPLE_CLASSES)
        return measure(args)


def time_system(name: str, judge: Callable[..., list[Outcome]], tasks: list[Json], human: list[str]) -> Json:
    """Judge all tasks with one system's assertions: rates, and what that took."""
    from tqdm import tqdm

    from evaluation.running.outcomes import summarise

    load, start = os.getloadavg()[0], time.monotonic()
    with tqdm(total=len(tasks), desc=name, unit="task", disable=None) as bar:
        outcomes = judge(lambda: bar.update())
    seconds = time.monotonic() - start
    summary = summarise(outcomes)
    shown = ", ".join(
        f"{rate} {summary[rate]['value']:.3f}" for rate in ("compile_rate", "pass_rate", "nontrivial_rate")
    )
    print(f"{name}: {shown}; {summary['control_stable']} of {summary['tasks']} tasks stable, {seconds:.0f} s")
    result = {
        **summary,
        "seconds": round(seconds, 1),
        "seconds_for_500": round(seconds / len(tasks) * 500, 1),
        "runs_of_tests": sum(1 + outcome.mutants_tried for outcome in outcomes if outcome.passed),
        "load_average_at_start": round(load, 1),
    }
    if name == "human":
        result["human_trivial"] = [
            {"assertion": text, "reason": one.trivial, "mutants": one.mutants_tried}
            for text, one in zip(human, outcomes, strict=True)
            if one.trivial
        ]
        result["human_not_passed"] = [
            {
                "test": f"{task['test_class']}.{task['test_name']}",
                "assertion": text,
                "status": one.status,
                "reason": one.reason,
            }
            for task, text, one in zip(tasks, human, outcomes, strict=True)
            if one.passed is False
        ]
    return result


def measure(args: argparse.Namespace) -> int:
    from evaluation.execution_settings import ExecutionSettings
    from evaluation.running.execution import ProjectExecutor
    from evaluation.systems.baselines import COIN, FALSE, TRIVIAL, strip_assertion

    rows = mine(args.project)
    mined = len(rows)
    if args.limit and args.limit < mined:
        rows = [rows[i * mined // args.limit] for i in range(args.limit)]
    tasks = [row["source"] for row in rows]
    human = ["\n".join(row["assertions"]) for row in rows]
    systems: dict[str, Callable[..., list[Outcome]]] = {
        "human": lambda progress: executor.execute(tasks, human, progress),
        "no assertion": lambda progress: executor.execute_without(tasks, progress),
        "assertTrue(true)": lambda progress: executor.execute(tasks, [TRIVIAL] * len(tasks), progress),
        "assertTrue(false)": lambda progress: executor.execute(tasks, [FALSE] * len(tasks), progress),
        "bare call": lambda progress: executor.execute(tasks, list(map(strip_assertion, human)), progress),
        "coin toss": lambda progress: executor.execute(tasks, [COIN] * len(tasks), progress),
        "bracket missing": lambda progress: executor.execute(
            tasks, [text.rpartition(")")[0] for text in human], progress
        ),
    }
    exit_on_signal()
    start = time.monotonic()
    settings = ExecutionSettings(workers=args.workers, timeout_s=args.timeout, jdk_home=args.jdk_home)
    with ProjectExecutor(args.project, args.class_path, settings) as executor:
        result: Json = {
            "project": args.project.resolve().name,
            "jars": [path.name for path in executor.class_path.jars],
            "jdk": executor.jdk.version,
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
            "settings": {"workers": args.workers, "timeout_s": args.timeout, "max_mutants": settings.max_mutants},
            "mined_tasks": mined,
            "cell_missing": executor.find_missing_layers(),
            "build_seconds": round(time.monotonic() - start, 1),
            "systems": {},
        }
        for name, judge in systems.items():
            result["systems"][name] = time_system(name, judge, tasks, human)
    write_json(args.output, result)
    return 0


if __name__ == "__main__":
    run_main(main)
