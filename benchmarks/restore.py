#!/usr/bin/env python
"""Take assertions out of a library's tests, let the command suggest them again, and judge what it suggests.

    python benchmarks/restore.py --student MODEL --work DIR --project codec=FOLDER --class_path codec=JARS [...] \\
        --output benchmarks/results/restore.json --headline

From each test class at most a third of its tests lose all their assertions, in a copy of the project; the rest is what
a model sees as siblings. Then, as in evaluation/suggest_assertions.py: the open tests are found, candidates are made
and ranked, and the judge runs them. The human's assertions, put back at the same place, are judged, too.

An answer is exact if it equals one of the human's; equivalent if it fails on every mutant of the method under test on
which the human's fail, and there is one. That is the method that the human's assertions are about, whatever the command
takes it for. A test to which nothing is offered counts as wrong everywhere, also one for which the command finds no
method under test; of these the human's verdict is not known. In "as ranked" no verdict is used; in "filtered" the
command's: what passes and can fail comes first, and what fails is not offered. "checked" pools are ranked without what
javac refuses at the place, as with --no_execution --decoding types: nothing of them has been run.
Everything is stored in --work as it is made; the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.restore_tasks import STILL_CHECKS, Task, find_tasks, place_of, prepare
from data.java.normal_form import normalise
from data.java.scope import JavaScope
from data.rows.readers import Sample
from evaluation.execution_settings import ExecutionSettings
from evaluation.running.execution import ProjectExecutor
from evaluation.running.outcomes import DROPPED, Outcome
from evaluation.scores.significance import (
    bootstrap_interval,
    cluster_sums,
    mean_columns,
    mean_statistic,
    paired_difference,
)
from evaluation.suggesting.draft import Draft
from evaluation.suggesting.places import Places
from evaluation.suggesting.pool import fill_pools
from evaluation.suggesting.ranking import rank
from evaluation.suggesting.scope import ScopeService
from evaluation.suggesting.student import Student
from evaluation.suggesting.verdicts import judge as run_pools
from evaluation.suggesting.verdicts import mend
from models.decoding.constraints.build import Decoding
from models.decoding.generate import GenerationOptions
from models.exported.loading import open_model
from utils.arguments import ArgumentParser
from utils.atomic_io import write_json
from utils.errors import UserError, run_main

AT_ONCE = 8
DECODINGS: tuple[Decoding, ...] = ("names", "types")
# "nearest": copies and templates, nearest first; "no student": the same, ranked as the pool is.
VARIANTS = ("names", "types", "pool", "no student", "nearest")
RANKED = (*VARIANTS, "pool, checked", "nearest, checked")  # these two only as ranked: the judge compiles what it runs
# What each variant is compared with, beside "nearest".
BESIDE = {
    "types": ["names"],
    "pool": ["types", "no student"],
    "pool, checked": ["pool", "nearest, checked"],
    "pool + repair": ["pool"],
}
HUMAN = "human, as ranked"
LISTED = (
    *(f"{variant}, as ranked" for variant in RANKED),
    *(f"{variant}, filtered" for variant in (*VARIANTS, "pool + repair")),
)
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
    rows = [row for row in read_rows(store) if set(RANKED) <= set(row["pools"])]  # older ones lack some
    known = {row["test"]: row for row in rows}
    options = GenerationOptions(num_beams=args.num_beams, num_return_sequences=5, batch_size=AT_ONCE)
    opened = open_model(args.student, "--student", "cpu", (options.max_input_len, options.max_output_len))
    writers = {name: Once(Student(opened.writer, replace(options, decoding=name))) for name in DECODINGS}
    with ScopeService(executor.jdk, executor.class_path) as service:
        for group in _by_file([task for task in tasks if task.removed.key not in known]):
            for row in fill(group, copy, writers, service):
                known[row["test"]] = row
                keep_row(store, row)
    for task in tasks:
        task.pools = {
            name: [
                Draft(text, tuple(map(tuple, origins)), math.nan if score is None else score)
                for text, origins, score in drafts
            ]
            for name, drafts in known[task.removed.key]["pools"].items()
        }
    lacking = {
        f"without_{what}": sum(not known[task.removed.key][what] for task in tasks) for what in ("scope", "check")
    }
    return {"parameters": opened.parameters, **lacking}


def fill(group: Sequence[Task], copy: Path, writers: dict[Decoding, Any], service: ScopeService) -> Iterator[Json]:
    """The pools of some tasks of a file, as they are stored."""
    samples = [task.test.sample for task in group]
    file = copy / group[0].removed.file
    places = Places(service, file.name, file.read_bytes(), [task.test for task in group])
    scopes = [None if isinstance(scope, str) else scope for scope in places.look()]
    nearest = fill_pools(samples, None, scopes)
    filled = {
        "names": fill_pools(samples, writers["names"], copies=False),
        "types": fill_pools(samples, writers["types"], scopes, copies=False),
        "pool": fill_pools(samples, writers["types"], scopes),
        "nearest": nearest,
        "no student": [rank(sample, pool) for sample, pool in zip(samples, nearest, strict=True)],
    }
    filled |= {"pool, checked": places.check(filled["pool"]), "nearest, checked": places.check(nearest)}
    for place, task in enumerate(group):
        pools = {
            name: [
                (draft.text, draft.origins, None if math.isnan(draft.likelihood) else draft.likelihood)
                for draft in pools[place]
            ]
            for name, pools in filled.items()
        }
        sure = not any(draft.checked and draft.checked.doubt for draft in filled["pool, checked"][place])
        yield {"test": task.removed.key, "scope": scopes[place] is not None, "check": sure, "pools": pools}


def _by_file(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """The tasks of each file, a few at a time."""
    files = dict.fromkeys(task.removed.file for task in tasks)
    for file in files:
        group = [task for task in tasks if task.removed.file == file]
        for start in range(0, len(group), AT_ONCE):
            yield group[start : start + AT_ONCE]


# -- what is stored --------------------------------------------------------------------------------------------------


def read_rows(store: Path) -> list[Json]:
    """The stored rows; without the last where the run was ended in the middle of it."""
    lines = store.read_text(encoding="utf-8").split("\n") if store.is_file() else [""]
    if lines[-1]:
        store.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
    return [json.loads(line) for line in lines[:-1]]


def keep_row(store: Path, row: Json) -> None:
    with open(store, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")


def check_settings(work: Path, settings: Json) -> None:
    """Raises UserError where the folder holds what was made with other settings."""
    store = work / "settings.json"
    known = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else settings
    if changed := [name for name in settings if known.get(name) != settings[name]]:
        raise UserError(
            f"--work {work}: was made with another {changed[0]} ({known.get(changed[0])}); name a new folder"
        )
    write_json(store, settings)


# -- verdicts --------------------------------------------------------------------------------------------------------


class Judge:
    """Runs candidates once, whichever variants propose them, and remembers what it saw in a file."""

    def __init__(self, executor: ProjectExecutor, store: Path) -> None:
        self.executor, self.store = executor, store
        self.seconds = {"verdicts": 0.0, "kills": 0.0}
        self.outcomes: dict[tuple[str, str, str], Outcome] = {}
        self.kills: dict[tuple[str, str], frozenset[str]] = {}
        for row in read_rows(store):
            if "kills" in row:
                self.kills[row["test"], row["text"]] = frozenset(row["kills"])
            else:
                key = row["test"], row["focal"], row["text"]
                self.outcomes[key] = Outcome(**{**row["outcome"], "imports": tuple(row["outcome"]["imports"])})

    def execute(self, tasks: Sequence[Any], texts: Sequence[str]) -> list[Outcome]:
        """As ProjectExecutor."""
        keys = [
            (f"{task['test_class']}#{task['test_name']}", place_of(task), text)
            for task, text in zip(tasks, texts, strict=True)
        ]
        todo = {key: task for key, task in zip(keys, tasks, strict=True) if key not in self.outcomes}
        started = time.monotonic()
        asked = [text for _, _, text in todo]
        for key, outcome in zip(todo, self.executor.execute([*todo.values()], asked), strict=True):
            self.outcomes[key] = outcome
            keep_row(self.store, {"test": key[0], "focal": key[1], "text": key[2], "outcome": asdict(outcome)})
        self.seconds["verdicts"] += time.monotonic() - started
        return [self.outcomes[key] for key in keys]

    def of(self, task: Task, text: str) -> Outcome:
        """What is true of a text: judged by the method that the human's assertions are about."""
        return self.execute([task.truth], [text])[0]

    def find_kills(self, task: Task, text: str, among: Collection[str] | None = None) -> frozenset[str]:
        """The mutants on which a text that passes fails; ``among`` is the same whenever a text is asked for."""
        key = task.removed.key, text
        if key not in self.kills:
            started = time.monotonic()
            (self.kills[key],) = self.executor.find_kills([task.truth], [text], among)
            keep_row(self.store, {"test": key[0], "text": text, "kills": sorted(self.kills[key])})
            self.seconds["kills"] += time.monotonic() - started
        return self.kills[key]


def filter_pool(judge: Judge, task: Task, pool: Sequence[Draft], mended: bool) -> list[str]:
    """What the command offers: what passes, first what can also fail. If ``mended``, repaired candidates, too."""
    found = run_pools(judge, [task.test], [pool])
    found = mend(judge, [task.test], found) if mended else found
    return [item.assertion for item in found[0] if item.acceptable]


# -- numbers ---------------------------------------------------------------------------------------------------------


def measure(judge: Judge, task: Task, text: str, human: str) -> dict[str, float]:
    """The metrics of one answer; the empty text is no offer."""
    if not text:
        return dict.fromkeys(METRICS, 0.0)
    outcome = judge.of(task, text)
    framework = task.test.source["framework"]
    exact = text == human or normalise(text, framework) in [
        normalise(item, framework) for item in task.removed.assertions
    ]
    equivalent = False
    if outcome.nontrivial and (wanted := judge.find_kills(task, human)):
        equivalent = text == human or wanted <= judge.find_kills(task, text, wanted)
    values = (True, outcome.compiled, outcome.passed, outcome.nontrivial, exact, equivalent)
    return {name: float(bool(value)) for name, value in zip(METRICS, values, strict=True)}


def best_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """What the best of several answers reaches, metric by metric."""
    return {name: max((row[name] for row in rows), default=0.0) for name in METRICS}


def summarise(tables: dict[str, dict[str, list[dict[str, float]]]], clusters: Sequence[str]) -> Json:
    """Means with intervals over test classes, and paired differences from nearest first and from what BESIDE names.
    NaN: not known."""

    def sums(rows: Sequence[dict[str, float]], metric: str) -> np.ndarray:
        return cluster_sums(mean_columns(np.array([row[metric] for row in rows])), clusters)

    summary: Json = {name: {} for name in tables}
    for name, places in tables.items():
        variant, _, order = name.rpartition(", ")
        for place, rows in places.items():
            summary[name][place] = {
                metric: bootstrap_interval(sums(rows, metric), mean_statistic).measured(
                    sum(not math.isnan(row[metric]) for row in rows)
                )
                for metric in METRICS
            }
            for other in ("nearest", *BESIDE.get(variant, ())):
                theirs = tables.get(f"{other}, {order}", {}).get(place)
                if theirs is not None and theirs is not rows and name != HUMAN:
                    summary[name][f"{place} less {other}"] = {
                        metric: paired_difference(sums(rows, metric), sums(theirs, metric)).measured(len(rows))
                        for metric in METRICS
                    }
    return summary


def judge_task(judge: Judge, task: Task) -> dict[str, list[dict[str, float]]]:
    """The metrics of the first three answers of each variant."""
    human = "\n".join(task.removed.assertions)
    answers = {f"{variant}, as ranked": [draft.text for draft in task.pools[variant]] for variant in RANKED}
    ranked = [text for texts in answers.values() for text in texts[:3]]
    judge.execute([task.truth] * len(ranked), ranked)
    for variant in VARIANTS:
        answers[f"{variant}, filtered"] = filter_pool(judge, task, task.pools[variant], mended=False)
    answers["pool + repair, filtered"] = filter_pool(judge, task, task.pools["pool"], mended=True)
    answers[HUMAN] = [human]
    return {
        variant: [measure(judge, task, text, human) for text in [*texts[:3], *[""] * (not texts)]]
        for variant, texts in answers.items()
    }


def judge_library(name: str, project: Path, class_path: str, args: Any) -> tuple[list[Json], Json]:
    """The metrics of each task of a library under every variant, and what was left out."""
    work = Path(args.work)
    copy = work / name
    removed = prepare(project, copy, args.limit, args.seed)
    tasks, lost = find_tasks(copy, removed)
    settings = ExecutionSettings(workers=args.workers)
    executor = ProjectExecutor(copy, class_path, settings)
    started, deadline = time.monotonic(), time.monotonic() + 60 * args.max_minutes
    facts = make_pools(tasks, copy, executor, args, work / f"{name}.pools.jsonl")
    seconds = {"candidates": time.monotonic() - started}
    rows: list[Json] = []
    reasons: dict[str, int] = {}
    with executor:
        judge = Judge(executor, work / f"{name}.judged.jsonl")
        random.Random(args.seed).shuffle(tasks)
        for number, task in enumerate(tasks, 1):
            if time.monotonic() > deadline:
                reasons["not reached in the time given"] = len(tasks) - number + 1
                break
            outcome = judge.of(task, "\n".join(task.removed.assertions))
            if outcome.status == DROPPED or not outcome.passed:
                reason = outcome.reason if outcome.status == DROPPED else "the human's assertions fail at the place"
                reasons[reason] = reasons.get(reason, 0) + 1
                continue
            rows.append({"library": name, "class": task.removed.test_class, "values": judge_task(judge, task)})
            if number % 10 == 0:
                print(f"{name}: {number} of {len(tasks)} in {time.monotonic() - started:.0f} s", flush=True)
        seconds |= judge.seconds
    nothing: dict[str, list[dict[str, float]]] = {variant: [dict.fromkeys(METRICS, 0.0)] for variant in LISTED}
    nothing[HUMAN] = [dict.fromkeys(METRICS, math.nan)]
    not_taken: dict[str, int] = {}
    for key, reason in lost.items():
        if reason == STILL_CHECKS:
            reasons[reason] = reasons.get(reason, 0) + 1
            continue
        rows.append({"library": name, "class": key.partition("#")[0], "values": nothing})
        not_taken[reason] = not_taken.get(reason, 0) + 1
    same = sum(place_of(task.removed.focal) == place_of(task.test.source) for task in tasks)
    counts = {
        "removed": len(removed),
        "taken up": len(tasks),
        "with the human's focal method": same,
        "with the focal method of another test": sum(bool(task.test.focal_as_in) for task in tasks),
        "tests": len(rows),
    }
    return rows, {**counts, "not taken up": not_taken, "left out": reasons, **facts, "seconds": seconds}


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
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    asked = {name: getattr(args, name) for name in ("limit", "num_beams", "seed")}
    check_settings(work, {"student": Path(args.student).name, **asked, "projects": projects})
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
    result: Json = {
        "student": Path(args.student).name,
        "tests": len(rows),
        "libraries": libraries,
        "settings": {"num_beams": args.num_beams, "seed": args.seed},
        "systems": summarise(tables, [f"{row['library']}/{row['class']}" for row in rows]),
    }
    write_json(args.output, result)
    for variant, places in result["systems"].items():
        print(f"{variant:26}", *(f"{metric} {places['top1'][metric]['value']:.3f}" for metric in METRICS))
    if args.headline:
        write_headline(Path(args.output).with_name("headline.json"), result)
    return 0


def write_headline(path: Path, result: Json) -> None:
    """Put the command's answers, without repair, under ``restore``; other parts of the file stay.

    ``as_ranked``: without the judge, but checked by javac; so is the nearest that they are compared with.
    """
    headline = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    systems = result["systems"]
    shown = ("top1", "top3", "top1 less nearest", "top3 less nearest")
    checked = systems["pool, checked, as ranked"]
    headline["restore"] = {
        **{place: systems["pool, filtered"][place] for place in shown},
        "filtered_by_the_judge": True,
        "as_ranked": {
            **{place: checked[f"{place}, checked" if "less" in place else place] for place in shown},
            "checked_by_javac": True,
        },
        "tests": result["tests"],
        "student": result["student"],
        "parameters": max(item["parameters"] for item in result["libraries"].values()),
    }
    write_json(path, headline)


if __name__ == "__main__":
    run_main(main)
