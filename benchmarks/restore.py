#!/usr/bin/env python
"""Take assertions out of a library's tests, let the command suggest them again, and judge what it suggests.

    python benchmarks/restore.py --student MODEL --work DIR --project codec=FOLDER --class_path codec=JARS [...] \\
        --output benchmarks/results/restore.json --headline

From each test class at most a third of its tests lose all their assertions, in a copy of the project; the rest is what
a model sees as siblings. Then, as in evaluation/suggest_assertions.py: the open tests are found, candidates are made
and ranked, and the judge runs them. The human's assertions, put back at the same place, are judged, too.

An answer is exact if it equals one of the human's; equivalent if it fails on every mutant of the method under test on
which the human's fail, and there is one. A test to which nothing is offered counts as wrong everywhere. In "as ranked"
no verdict is used; in "filtered" the command's: what passes and can fail comes first, and what fails is not offered.
Everything is stored in --work as it is made; the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.restore_tasks import Task, find_tasks, prepare
from data.java.normal_form import normalise
from data.java.scope import JavaScope
from data.rows.readers import Sample
from evaluation.execution_settings import ExecutionSettings
from evaluation.running.execution import ProjectExecutor
from evaluation.running.outcomes import DROPPED, Outcome
from evaluation.running.splice import as_utf8
from evaluation.scores.significance import (
    bootstrap_interval,
    cluster_sums,
    mean_columns,
    mean_statistic,
    paired_difference,
)
from evaluation.suggesting.draft import Draft
from evaluation.suggesting.pool import fill_pools
from evaluation.suggesting.repair import repair
from evaluation.suggesting.scope import ScopeService
from evaluation.suggesting.student import Student
from evaluation.suggesting.verdicts import BEST, Candidate, make_candidate
from models.decoding.constraints.build import Decoding
from models.decoding.generate import GenerationOptions
from models.exported.loading import open_model
from utils.arguments import ArgumentParser
from utils.atomic_io import write_json
from utils.errors import UserError, run_main

MAX_JUDGED = 12  # candidates of one test and variant that the judge sees
AT_ONCE = 8
DECODINGS: tuple[Decoding, ...] = ("names", "types")
VARIANTS = ("names", "types", "pool", "nearest")
METRICS = ("offered", "compile_rate", "pass_rate", "nontrivial_rate", "exact_match", "equivalent")
Json = dict[str, Any]


# -- candidates ------------------------------------------------------------------------------------------------------


class Once:
    """A student that is asked for the beams of the same tasks twice, and writes them once."""

    def __init__(self, student: Student) -> None:
        self.student, self.score, self.show = student, student.score, student.show
        self._last: tuple[Any, list[list[str]]] = (None, [])

    def write(self, samples: Sequence[Sample], scopes: Sequence[JavaScope | None] = ()) -> list[list[str]]:
        if self._last[0] is not samples:
            self._last = samples, self.student.write(samples, scopes)
        return self._last[1]


def make_pools(tasks: Sequence[Task], copy: Path, executor: ProjectExecutor, args: Any, store: Path) -> Json:
    """Fill the tasks' pools, from the store where they are there; returns facts about the student."""
    if store.is_file():
        known = json.loads(store.read_text(encoding="utf-8"))
        for task in tasks:
            task.pools = {
                name: [
                    Draft(text, tuple(map(tuple, origins)), math.nan if score is None else score)
                    for text, origins, score in drafts
                ]
                for name, drafts in known["pools"][task.removed.key].items()
            }
        return known["facts"]
    options = GenerationOptions(num_beams=args.num_beams, num_return_sequences=5, batch_size=AT_ONCE)
    opened = open_model(args.student, "--student", "cpu", (options.max_input_len, options.max_output_len))
    writers = {name: Once(Student(opened.writer, replace(options, decoding=name))) for name in DECODINGS}
    unscoped = 0
    with ScopeService(executor.jdk, executor.class_path) as service:
        for group in _by_file(tasks):
            samples = [task.test.sample for task in group]
            source, places = as_utf8(
                (copy / group[0].removed.file).read_bytes(), *(task.test.position for task in group)
            )
            framework = group[0].test.source["framework"]
            found = service.look(Path(group[0].removed.file).name, source, [(at, at) for at in places], framework)
            scopes = [None if isinstance(scope, str) else scope for scope in found]
            unscoped += scopes.count(None)
            filled = {
                "names": fill_pools(samples, writers["names"], copies=False),
                "types": fill_pools(samples, writers["types"], scopes, copies=False),
                "pool": fill_pools(samples, writers["types"], scopes),
                "nearest": fill_pools(samples, None, scopes),
            }
            for place, task in enumerate(group):
                task.pools = {name: pools[place] for name, pools in filled.items()}
    facts = {"parameters": opened.parameters, "without_scope": unscoped}
    rows = {
        task.removed.key: {
            name: [
                (draft.text, draft.origins, None if math.isnan(draft.likelihood) else draft.likelihood)
                for draft in pool
            ]
            for name, pool in task.pools.items()
        }
        for task in tasks
    }
    write_json(store, {"facts": facts, "pools": rows})
    return make_pools(tasks, copy, executor, args, store)


def _by_file(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """The tasks of each file, a few at a time."""
    files = dict.fromkeys(task.removed.file for task in tasks)
    for file in files:
        group = [task for task in tasks if task.removed.file == file]
        for start in range(0, len(group), AT_ONCE):
            yield group[start : start + AT_ONCE]


# -- verdicts --------------------------------------------------------------------------------------------------------


class Judge:
    """Runs candidates once, whichever variants propose them, and remembers what it saw in a file."""

    def __init__(self, executor: ProjectExecutor, store: Path) -> None:
        self.executor, self.store = executor, store
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        self.kills: dict[tuple[str, str], frozenset[str]] = {}
        if store.is_file():
            for line in store.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                key = row["test"], row["text"]
                if "kills" in row:
                    self.kills[key] = frozenset(row["kills"])
                else:
                    self.outcomes[key] = Outcome(**{**row["outcome"], "imports": tuple(row["outcome"]["imports"])})

    def _keep(self, **row: Any) -> None:
        with open(self.store, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")

    def run(self, wanted: Sequence[tuple[Task, str]]) -> None:
        """Judge these texts in their tests, where that has not been done."""
        todo = list({(task.removed.key, text): (task, text) for task, text in wanted}.items())
        todo = [(key, item) for key, item in todo if key not in self.outcomes]
        tasks, texts = [task.test.source for _, (task, _) in todo], [text for _, (_, text) in todo]
        for (key, _), outcome in zip(todo, self.executor.execute(tasks, texts), strict=True):
            self.outcomes[key] = outcome
            self._keep(test=key[0], text=key[1], outcome=asdict(outcome))

    def find_kills(self, task: Task, text: str) -> frozenset[str]:
        """The mutants on which a text that passes fails."""
        key = task.removed.key, text
        if key not in self.kills:
            (found,) = self.executor.find_kills([task.test.source], [text])
            self.kills[key] = found
            self._keep(test=key[0], text=text, kills=sorted(found))
        return self.kills[key]

    def of(self, task: Task, text: str) -> Outcome:
        self.run([(task, text)])
        return self.outcomes[task.removed.key, text]


def filter_pool(judge: Judge, task: Task, pool: Sequence[Draft], mend: bool) -> list[str]:
    """What the command offers: candidates that pass, those that can fail first; with ``mend`` also repaired ones."""
    judged: list[Candidate] = []
    for rank, draft in enumerate(pool[:MAX_JUDGED], 1):
        judged.append(make_candidate(draft, rank, judge.of(task, draft.text)))
        if judged[-1].grade == BEST:
            break
    if mend and not any(item.acceptable for item in judged):
        framework = task.test.source["framework"]
        repaired = (repair(item.assertion, item.reason, framework) for item in judged)
        for rank, text in enumerate(dict.fromkeys(filter(None, repaired)), len(judged) + 1):
            judged.append(make_candidate(Draft(text, (("run", 1),)), rank, judge.of(task, text)))
    offered = [item for item in sorted(judged, key=lambda item: (-item.grade, item.rank)) if item.acceptable]
    return [item.assertion for item in offered]


# -- numbers ---------------------------------------------------------------------------------------------------------


def measure(judge: Judge, task: Task, text: str, human: str) -> dict[str, float]:
    """The metrics of one answer; the empty text is no offer."""
    if not text:
        return dict.fromkeys(METRICS, 0.0)
    outcome = judge.of(task, text)
    framework = task.test.source["framework"]
    exact = normalise(text, framework) in [normalise(item, framework) for item in task.removed.assertions]
    equivalent = False
    if outcome.nontrivial:
        wanted = judge.find_kills(task, human)
        equivalent = bool(wanted) and wanted <= judge.find_kills(task, text)
    values = (True, outcome.compiled, outcome.passed, outcome.nontrivial, exact, equivalent)
    return {name: float(bool(value)) for name, value in zip(METRICS, values, strict=True)}


def best_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """What the best of several answers reaches, metric by metric."""
    return {name: max((row[name] for row in rows), default=0.0) for name in METRICS}


def summarise(tables: dict[str, dict[str, list[dict[str, float]]]], clusters: Sequence[str]) -> Json:
    """Means with intervals over test classes, and paired differences from the pool without the student."""

    def sums(rows: Sequence[dict[str, float]], metric: str) -> np.ndarray:
        return cluster_sums(mean_columns(np.array([row[metric] for row in rows])), clusters)

    summary: Json = {name: {} for name in tables}
    for name, places in tables.items():
        nearest = tables.get(f"nearest, {name.rpartition(', ')[2]}", {})
        for place, rows in places.items():
            summary[name][place] = {
                metric: bootstrap_interval(sums(rows, metric), mean_statistic).measured(len(rows)) for metric in METRICS
            }
            if place in nearest and rows is not nearest[place]:
                summary[name][f"{place} less nearest"] = {
                    metric: paired_difference(sums(rows, metric), sums(nearest[place], metric)).measured(len(rows))
                    for metric in METRICS
                }
    return summary


def judge_library(name: str, project: Path, class_path: str, args: Any) -> tuple[list[Json], Json]:
    """The metrics of each task of a library under every variant, and what was left out."""
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    copy = work / name
    removed = prepare(project, copy, args.limit, args.seed)
    tasks, lost = find_tasks(copy, removed)
    settings = ExecutionSettings(workers=args.workers)
    executor = ProjectExecutor(copy, class_path, settings)
    facts = make_pools(tasks, copy, executor, args, work / f"{name}.pools.json")
    rows: list[Json] = []
    reasons: dict[str, int] = {}
    started, deadline = time.monotonic(), time.monotonic() + 60 * args.max_minutes
    with executor:
        judge = Judge(executor, work / f"{name}.judged.jsonl")
        random.Random(args.seed).shuffle(tasks)
        for number, task in enumerate(tasks, 1):
            if time.monotonic() > deadline:
                reasons["not reached in the time given"] = len(tasks) - number + 1
                break
            human = "\n".join(task.removed.assertions)
            judge.run([(task, human), *((task, draft.text) for pool in task.pools.values() for draft in pool[:3])])
            outcome = judge.of(task, human)
            if outcome.status == DROPPED or not outcome.passed:
                reason = outcome.reason if outcome.status == DROPPED else "the human's assertions fail at the place"
                reasons[reason] = reasons.get(reason, 0) + 1
                continue
            answers = {f"{variant}, as ranked": [draft.text for draft in task.pools[variant]] for variant in VARIANTS}
            for variant in VARIANTS:
                answers[f"{variant}, filtered"] = filter_pool(judge, task, task.pools[variant], mend=False)
            answers["pool + repair, filtered"] = filter_pool(judge, task, task.pools["pool"], mend=True)
            answers["human, as ranked"] = [human]
            values = {
                variant: [measure(judge, task, text, human) for text in [*texts[:3], *[""] * (not texts)]]
                for variant, texts in answers.items()
            }
            rows.append({"library": name, "class": task.removed.test_class, "values": values})
            if number % 10 == 0:
                print(f"{name}: {number} of {len(tasks)} in {time.monotonic() - started:.0f} s", flush=True)
    for reason in lost.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    return rows, {"removed": len(removed), "taken up": len(tasks), "judged": len(rows), "left out": reasons, **facts}


def main() -> int:
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("--student", required=True, help="folder of the model")
    add("--work", required=True, help="folder that keeps copies, candidates and verdicts")
    add("--project", action="append", required=True, metavar="NAME=FOLDER")
    add("--class_path", action="append", required=True, metavar="NAME=JARS")
    add("--limit", type=int, default=200, help="tests of each library (default %(default)d)")
    add("--num_beams", type=int, default=5)
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=1)
    add("--max_minutes", type=float, default=600, help="for each library; the rest is reported as not reached")
    add("--output", required=True, help="JSON file of the results")
    add("--headline", action="store_true", help="also put the main numbers into headline.json beside it")
    args = parser.parse_args()
    projects = dict(item.split("=", 1) for item in args.project)
    class_paths = dict(item.split("=", 1) for item in args.class_path)
    if set(projects) != set(class_paths):
        raise UserError("--project and --class_path: give both for each library, as NAME=...")
    rows: list[Json] = []
    libraries: Json = {}
    for name, folder in projects.items():
        found, libraries[name] = judge_library(name, Path(folder).resolve(), class_paths[name], args)
        rows += found
    if not rows:
        raise UserError(f"no test could be judged: {libraries}")
    tables = {
        variant: {
            "top1": [row["values"][variant][0] for row in rows],
            "top3": [best_of(row["values"][variant]) for row in rows],
        }
        for variant in rows[0]["values"]
    }
    result = {
        "student": Path(args.student).name,
        "tests": len(rows),
        "libraries": libraries,
        "settings": {"num_beams": args.num_beams, "seed": args.seed, "most judged": MAX_JUDGED},
        "systems": summarise(tables, [f"{row['library']}/{row['class']}" for row in rows]),
    }
    write_json(args.output, result)
    for variant, places in result["systems"].items():
        print(f"{variant:26}", *(f"{metric} {places['top1'][metric]['value']:.3f}" for metric in METRICS))
    if args.headline:
        write_headline(Path(args.output).with_name("headline.json"), result)
    return 0


def write_headline(path: Path, result: Json) -> None:
    """Put the command's answers, without repair, under ``restore``; other parts of the file stay."""
    headline = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    systems = result["systems"]
    headline["restore"] = {
        **{place: systems["pool, filtered"][place] for place in ("top1", "top3")},
        "filtered_by_the_judge": True,
        "as_ranked": {place: systems["pool, as ranked"][place] for place in ("top1", "top3")},
        "tests": result["tests"],
        "student": result["student"],
        "parameters": max(item["parameters"] for item in result["libraries"].values()),
    }
    write_json(path, headline)


if __name__ == "__main__":
    run_main(main)
