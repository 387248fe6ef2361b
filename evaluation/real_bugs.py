#!/usr/bin/env python
"""Judge assertions by the real bugs of Defects4J: do they tell the fixed version of a project from the buggy one?

    python evaluation/real_bugs.py --defects4j defects4j --mirrors mirrors --projects Csv Codec Cli Lang \\
        --student_model_path results/run/final_model --output_dir results/real_bugs

Takes the tests that show a bug, masks one assertion at a time and lets each system write it.
docs/execution.md explains the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.execution_settings import ExecutionSettings, Sandbox
from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main

if TYPE_CHECKING:
    from data.rows.readers import Json, Sample
    from evaluation.running.defects4j import Bug

HUMAN = "human"
TASKS_FILE, SUMMARY_FILE, REPORT_FILE = "tasks.jsonl", "real_bugs.json", "report.md"


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(__doc__.split("\n\n")[0], defaults=True)
    add = parser.add_argument
    add("--defects4j", type=Path, required=True, help="checkout or mirror of Defects4J")
    add("--mirrors", type=Path, required=True, help="folder with git mirrors of the projects")
    add("--projects", nargs="+", default=["Csv", "Codec", "Cli", "Lang"], help="projects of Defects4J")
    add("--limit", type=int, help="the first N bugs of each project (None: all)")
    add("--train_data", help="training rows, for the baseline that copies from the nearest")
    add("--student_model_path", help="folder of a model")
    add("--predictions", action="append", default=[], metavar="NAME=FILE", help=f"texts for the rows of {TASKS_FILE}")
    add("--pool", action="store_true", help="also the first of the student's pool, as suggest_assertions.py ranks it")
    add("--repair", action="store_true", help="also how often what a run on the bug shows would freeze the bug")
    add("--class_path", help="jars for all projects (None: those that Defects4J keeps for each)")
    add("--jdk_home", help="as for evaluate_assertions.py")
    add("--sandbox", choices=get_args(Sandbox), default=ExecutionSettings.sandbox, help="as there")
    add("--timeout", type=float, default=ExecutionSettings.timeout_s, help="seconds that a test may take")
    add("--workers", type=int, default=os.cpu_count() or 1, help="JVMs")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--output_dir", type=Path, help="results; a second run goes on there (None: results/<time>_real_bugs)")
    return parser


def prepare(bug: Bug, mirror: Path, folder: Path, output: Path) -> tuple[list[Json], str]:
    """The tasks of a bug, kept in ``output``; and, if its tests hold no assertion that the miner takes, why."""
    from evaluation.running.bug_tasks import mine_triggers
    from evaluation.running.defects4j import check_out
    from utils.atomic_io import write_json

    kept = output / "bugs" / f"{bug.name}.tasks.json"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        rows, problem = mine_triggers(bug, check_out(bug, mirror, folder))
        write_json(kept, {"fixed": bug.fixed, "triggers": bug.triggers, "problem": problem, "rows": rows})
    found: Json = json.loads(kept.read_text(encoding="utf-8"))
    for row in found["rows"]:
        row["source"]["bug"] = bug.name
    return found["rows"], found["problem"]


def write_predictions(args: argparse.Namespace, rows: Sequence[Json]) -> dict[str, list[str]]:
    """The texts of every system for all tasks: the baselines, the student, and those of --predictions."""
    from data.rows.readers import parse_sample
    from evaluation.request import EvaluationRequest
    from evaluation.summary import STUDENT
    from evaluation.systems.baselines import COIN, FALSE, TRIVIAL, retrieve, strip_assertion
    from evaluation.systems.nearest_sibling import copy_nearest
    from evaluation.systems.predictions import read_predictions
    from evaluation.tasks import read_samples

    tasks = read_samples(str(args.output_dir / TASKS_FILE), "--output_dir", 0.0)
    samples = [parse_sample(row) for row in rows]
    texts = {
        "trivial": [TRIVIAL] * len(rows),
        "false": [FALSE] * len(rows),
        "bare_call": [strip_assertion(sample.target) for sample in samples],
        "coin": [COIN] * len(rows),
        "nearest_sibling": [copy_nearest(sample) for sample in samples],
        **read_predictions(args.predictions, tasks),
    }
    if args.train_data:
        training = read_samples(args.train_data, "--train_data", 0.0).samples
        texts["retrieval"] = retrieve(training, samples).predictions
    if args.student_model_path:
        from evaluation.collect import build_runner
        from utils.device import resolve_device

        request = EvaluationRequest(
            str(args.output_dir / TASKS_FILE), student_model_path=args.student_model_path, latency_samples=0
        )
        runner = build_runner(request, resolve_device(args.device), args.output_dir / ".progress")
        system = runner.run(STUDENT, args.student_model_path, "--student_model_path", samples)
        texts[STUDENT] = system.predictions
        if args.pool:
            texts["pool"] = write_pool(args, samples)
    return texts


def write_pool(args: argparse.Namespace, samples: Sequence[Sample]) -> list[str]:
    """The first candidate of each pool; nothing is run for it, and javac is not asked for the scope."""
    from evaluation.suggesting.pool import fill_pools
    from evaluation.suggesting.student import Student
    from models.decoding.generate import GenerationOptions
    from models.exported.loading import open_model
    from utils.device import resolve_device

    options = GenerationOptions(num_beams=5, num_return_sequences=5, decoding="names")
    lengths = options.max_input_len, options.max_output_len
    opened = open_model(args.student_model_path, "--student_model_path", str(resolve_device(args.device)), lengths)
    pools = fill_pools(samples, Student(opened.writer, options))
    return [pool[0].text if pool else "" for pool in pools]


def judge(
    args: argparse.Namespace,
    bug: Bug,
    fixed: Path,
    jars: Sequence[str],
    rows: Sequence[Json],
    texts: Mapping[str, Sequence[str | None]],
) -> Json:
    """The verdicts of every system on a bug's tasks; what is kept in the output folder is not judged again."""
    from evaluation.running.bugs import FOUND, BugExecutor
    from evaluation.running.class_path import resolve_class_path
    from evaluation.running.defects4j import make_buggy
    from evaluation.running.jdk import find_jdk
    from evaluation.suggesting.repair import repair
    from evaluation.summary import EXECUTION_RULES
    from utils.atomic_io import write_json

    tasks = [row["source"] for row in rows]
    jdk = find_jdk(args.jdk_home)
    ground: Json = {
        "fixed": bug.fixed,
        "rules": EXECUTION_RULES,
        "jdk": jdk.version,
        "jars": [*map(os.path.basename, jars)],
    }
    ground["places"] = [[task["test_class"], task["test_name"], *task["assertion_span"]] for task in tasks]
    kept = args.output_dir / "bugs" / f"{bug.name}.json"
    result: Json = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if result.get("ground") != ground:
        result = {"bug": bug.name, "ground": ground, "problem": "", "cell_missing": {}, "texts": {}, "verdicts": {}}
    left = {name: list(every) for name, every in texts.items() if result["texts"].get(name) != list(every)}
    repairs = result.setdefault("repairs", {})
    unmended = {name: list(every) for name, every in texts.items() if name in left or name not in repairs}

    def is_hopeless() -> bool:
        """Without a human assertion that finds the bug, the others do not count."""
        human = result["verdicts"].get(HUMAN)
        return bool(result["problem"]) or (human is not None and not any(verdict == FOUND for verdict, _ in human))

    if (left or (args.repair and unmended)) and not is_hopeless():
        settings = ExecutionSettings(args.workers, args.timeout, args.jdk_home, sandbox=args.sandbox)
        try:
            buggy, class_path = make_buggy(bug, fixed), resolve_class_path(fixed, jars, jdk)
        except UserError as error:
            result["problem"] = str(error).replace(str(fixed), bug.name)
        else:
            with BugExecutor(fixed, class_path, settings, buggy) as executor:
                if refused := executor.compile_bug():
                    result["problem"] = f"the buggy classes do not compile: {refused[:200]}"
                for name, predictions in left.items():
                    if not is_hopeless():
                        result["verdicts"][name] = executor.judge_bug(tasks, predictions)
                        result["texts"][name] = predictions
                        repairs.pop(name, None)
                for name, predictions in unmended.items() if args.repair else ():
                    if not is_hopeless():
                        repairs[name] = executor.judge_repairs(tasks, predictions, repair)
                result["cell_missing"] = executor.find_missing_layers()
        write_json(kept, result)
    return {
        **result,
        **{
            kind: {name: result[kind][name] for name in texts if name in result[kind]}
            for kind in ("verdicts", "repairs")
        },
    }


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.pool and not args.student_model_path:
        raise UserError("--pool ranks with the student; give --student_model_path")
    from evaluation.progress import show_progress
    from evaluation.reports.real_bugs import make_report, summarise_bugs
    from evaluation.running.defects4j import check_out, find_jars, find_mirror, read_bugs
    from utils.atomic_io import atomic_writer, write_json
    from utils.cache import cache_dir
    from utils.signals import exit_on_signal

    args.output_dir = args.output_dir or Path(f"results/{time.strftime('%Y-%m-%d_%H-%M-%S')}_real_bugs")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    exit_on_signal(f"continue with --output_dir {args.output_dir}")
    bugs = read_bugs(args.defects4j, args.projects, args.limit)
    mirrors = {project: find_mirror(args.mirrors, project) for project in args.projects}
    folders = {bug.name: cache_dir("real_bugs") / f"{bug.project}-{bug.fixed[:12]}" for bug in bugs}
    jars: dict[str, list[str]] = {
        project: args.class_path.split(os.pathsep)
        if args.class_path
        else [*map(str, find_jars(args.defects4j, project, cache_dir("real_bugs") / f"{project}-jars"))]
        for project in args.projects
    }
    rows: dict[str, list[Json]] = {}
    problems: dict[str, str] = {}
    with show_progress("tasks of the bugs", len(bugs)) as count:
        for bug in bugs:
            rows[bug.name], problems[bug.name] = prepare(bug, mirrors[bug.project], folders[bug.name], args.output_dir)
            count(1)
    together = [row for bug in bugs for row in rows[bug.name]]
    if not together:
        raise UserError(f"--projects {' '.join(args.projects)}: no test that shows a bug holds a usable assertion")
    with atomic_writer(args.output_dir / TASKS_FILE) as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in together)
    texts: dict[str, Sequence[str | None]] = {HUMAN: [None] * len(together), **write_predictions(args, together)}
    results: list[Json] = []
    first = 0
    with show_progress("bugs: running", len(bugs)) as count:
        for bug in bugs:
            mine = rows[bug.name]
            part = {name: every[first : first + len(mine)] for name, every in texts.items()}
            first += len(mine)
            if mine:
                fixed = check_out(bug, mirrors[bug.project], folders[bug.name])
                results.append(judge(args, bug, fixed, jars[bug.project], mine, part))
            else:
                problem = f"no usable assertion: {problems[bug.name]}"
                results.append({"bug": bug.name, "ground": {"fixed": bug.fixed}, "problem": problem, "verdicts": {}})
            count(1)
    summary = summarise_bugs(results, list(texts))
    write_json(args.output_dir / SUMMARY_FILE, summary)
    report = make_report(summary)
    with atomic_writer(args.output_dir / REPORT_FILE) as handle:
        handle.write(report)
    print(report)
    return 0


if __name__ == "__main__":
    run_main(main)
