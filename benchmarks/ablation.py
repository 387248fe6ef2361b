#!/usr/bin/env python
"""Which losses, encodings and schedules give the better student: many runs from one grid, and the page that reads them.

    python benchmarks/ablation.py GRID --work DIR --list                   # the tasks and which of them are done
    python benchmarks/ablation.py GRID --work DIR [--stage core]           # run what is not done, one after the other
    python benchmarks/ablation.py GRID --work DIR --teacher                # the teacher alone; then, as a Slurm array:
    python benchmarks/ablation.py GRID --work DIR --task N                 # one task
    python benchmarks/ablation.py GRID --report docs/results.md            # the page, from the stored results alone

GRID is a JSON file: title and opening words (``about``) of the page, and the ``commands`` that make all of it; where
the data lie, the teacher's flags, the flags all students share, contenders (flags of each) and stages (contenders,
rows, seeds); under ``pretrain`` the runs to make before everything else, by name (flags of train_codet5_assertions.py;
the model is then $WORK/NAME/final_model); under ``judged`` the flags with which evaluate_assertions.py judges every
student (without it, the end of its own run does, on the rows that it was validated on); under ``held_out`` those for
each library, by name, that nothing was trained on, whose tests are run; under ``questions`` pairs of contenders that
the page compares, by the scores that are named. A stage may name ``passes`` over the rows (those of the students' flags
otherwise), and ask for no execution: ``"held_out": false``.
Every run is an ordinary run of the scripts under DIR: one that was killed goes on. What is measured, task by task, is
stored beside the grid, in the folder of its name.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ablation_report import METRICS, write_page
from data.rows.readers import is_header
from utils.atomic_io import atomic_writer, write_json
from utils.errors import UserError, run_main

STOPPED = 85


@dataclass(frozen=True)
class Task:
    """One student: contender, number of training rows, seed, passes over the rows (None: as all students)."""

    contender: str
    rows: int
    seed: int
    passes: int | None = None

    @property
    def name(self) -> str:
        passes = f"-{self.passes}passes" if self.passes else ""
        return f"{re.sub('[^a-z0-9.]+', '_', self.contender.lower())}-{self.rows}{passes}-seed{self.seed}"


class Grid:
    """The grid file, and where its runs and results lie."""

    def __init__(self, path: Path, work: Path | None) -> None:
        try:
            self.settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self.stages = {
                stage: [
                    Task(contender, rows, seed, passes)
                    for seed in plan["seeds"]
                    for rows in plan["rows"]
                    for passes in plan.get("passes", [None])
                    for contender in plan["contenders"]
                ]
                for stage, plan in self.settings["stages"].items()
            }
            self.settings["student"]["epochs"]  # the report tells passes
            held_out = self.settings.get("held_out", {}).items()
            self.libraries: dict[str, dict[str, Any]] = {library: {**flags} for library, flags in held_out}
            named = {task.contender for tasks in self.stages.values() for task in tasks}
            asked = self.settings.get("questions", [])
            named |= {question[side] for question in asked for side in ("contender", "against")}
            unknown = named - set(self.settings["contenders"])
            unknown |= {metric for question in asked for metric in question["metrics"]} - set(METRICS)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable grid ({error}); see benchmarks/ablations/") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: a grid lacks {error} or has it in another shape; see benchmarks/ablations/"
            ) from None
        if unknown:
            raise UserError(f"{path}: names contenders or scores that are not there: {', '.join(sorted(unknown))}")
        self.path, self.work = path, work.resolve() if work else None
        self.results = path.with_suffix("")
        self.tasks = list(dict.fromkeys(task for tasks in self.stages.values() for task in tasks))
        if len({(task.contender, task.seed, self.budget(task)) for task in self.tasks}) < len(self.tasks):
            raise UserError(f"{path}: two stages ask for the same students, one by naming their passes")
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise UserError(f"{path}: two contenders differ in nothing but signs; give them other names")

    def flags(self, task: Task) -> dict[str, Any]:
        """What the student is trained with, but for the files, the seed and the rows."""
        own = {**self.settings["student"], **self.settings["contenders"][task.contender]}
        return {**own, "epochs": task.passes} if task.passes else own

    def budget(self, task: Task) -> tuple[int, int]:
        """Rows, and passes over them."""
        return task.rows, self.flags(task)["epochs"]

    def shared(self, library: str = "") -> str:
        """Hash of what decides all results of the held-out classes, or of a library, beside flags and code."""
        deciding = {key: self.settings.get(key) for key in ("data", "pretrain", "teacher")}
        deciding["judged"] = self.libraries[library] if library else self.settings.get("judged")
        return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:16]

    def result(self, task: Task, library: str = "") -> dict[str, Any] | None:
        """What is stored of a task; None where nothing is. Raises UserError if another grid made it."""
        return self.read(task.name, library, {"flags": self.flags(task)})

    def baselines(self, library: str = "") -> dict[str, Any] | None:
        """What is stored of the teacher and the baselines; otherwise like ``result``."""
        return self.read("baselines", library, {})

    def read(self, name: str, library: str, made_with: dict[str, Any]) -> dict[str, Any] | None:
        """Results from before 2026-11-25 tell their student's flags at most, baselines before 2026-11-26 nothing."""
        path = self.stored(name, library)
        if not path.is_file():
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        made_with = {**made_with, "shared": self.shared(library)}
        if any(found.get(key, now) != now for key, now in made_with.items()):
            raise UserError(f"{path}: made with other flags than the grid has now; remove it to run the task again")
        return found

    def executed(self, task: Task) -> list[str]:
        """The libraries that the task's student is judged on: none if all its stages say so."""
        plans = [self.settings["stages"][stage] for stage, tasks in self.stages.items() if task in tasks]
        return list(self.libraries) if any(plan.get("held_out", True) for plan in plans) else []

    def is_done(self, task: Task) -> bool:
        return all(self.result(task, part) for part in ("", *self.executed(task)))

    def words(self, flags: dict[str, Any]) -> list[str]:
        """Flags as a command line; $WORK and $DATA are filled in; true: a flag without a value."""
        found: list[str] = []
        for flag, value in flags.items():
            values = [] if value is True else value if isinstance(value, list) else [value]
            found += [f"--{flag}", *(self.place(str(v)) for v in values)]
        return found

    def place(self, text: str) -> str:
        return text.replace("$WORK", str(self.work)).replace("$DATA", self.settings.get("data", ""))

    def stored(self, name: str, library: str = "") -> Path:
        return self.results / f"{name}{library and '.' + library}.json"


def call(words: list[str], log: Path) -> int:
    """Run a script of the project; its output goes to ``log``. Returns 0 or 85 (stopped, to be continued)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as handle:
        child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=handle, stderr=subprocess.STDOUT)
        # A run that is told to stop writes its checkpoint first.
        numbers = (signal.SIGTERM, signal.SIGUSR1)
        before = [signal.signal(number, lambda received, _: child.send_signal(received)) for number in numbers]
        try:
            code = child.wait()
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
    if code not in (0, STOPPED):
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
        raise UserError(f"{words[0]} ended with {code}: {last[0]} (see {log})")
    return code


def teacher_is_ready(grid: Grid) -> bool:
    assert grid.work is not None
    return all(
        (grid.work / "teacher" / f"distillation_data_{part}.jsonl").is_file() for part in ("training", "validation")
    )


def train(grid: Grid, name: str, own: dict[str, Any]) -> int:
    """A run of train_codet5_assertions.py in $WORK/``name``; what is there goes on."""
    assert grid.work is not None
    words = grid.words({**own, "output_dir": f"$WORK/{name}", "resume": "auto"})
    return call(["train_codet5_assertions.py", *words], grid.work / f"{name}.log")


def teacher(grid: Grid) -> int:
    """Train the teacher and write its knowledge, where that is not done."""
    assert grid.work is not None
    if teacher_is_ready(grid):
        return 0
    for name, own in grid.settings.get("pretrain", {}).items():
        if not (grid.work / name / "final_model").is_dir() and (code := train(grid, name, own)):
            return code
    return train(grid, "teacher", grid.settings["teacher"])


def teacher_as_target(grid: Grid) -> Path:
    """Raw rows whose assertion is what the teacher wrote: sequence-level distillation (Kim and Rush, 2016)."""
    assert grid.work is not None
    path = grid.work / "teacher_as_target.jsonl"
    if not path.is_file():
        source = grid.work / "teacher" / "distillation_data_training.jsonl"
        with open(source, encoding="utf-8") as rows, atomic_writer(path, "w") as out:
            for row in map(json.loads, rows):
                if row.get("teacher_prediction"):
                    kept = {key: row[key] for key in ("focal_method", "test_method_masked", "source") if key in row}
                    out.write(json.dumps({**kept, "assertions": [row["teacher_prediction"]]}) + "\n")
    return path


def data_of(grid: Grid, task: Task) -> Path:
    """The rows that the task's student learns from."""
    assert grid.work is not None
    if grid.flags(task).get("targets", "gold") == "teacher":
        return teacher_as_target(grid)
    return grid.work / "teacher" / "distillation_data_training.jsonl"


def trained(grid: Grid, task: Task) -> int:
    """Train one student, and where the grid has no ``judged`` evaluate it."""
    assert grid.work is not None
    folder = grid.work / task.name
    if "judged" in grid.settings and (folder / "final_model").is_dir():
        return 0
    flags = {
        "train_data_path": data_of(grid, task),
        "tokenizer_name": "$WORK/teacher/final_model",
        "val_data_path": "$WORK/teacher/distillation_data_validation.jsonl",
        "output_dir": folder,
        "seed": task.seed,
        "max_train_samples": task.rows,
        "resume": "auto",
        **{flag: value for flag, value in grid.flags(task).items() if flag != "targets"},
    }
    return call(["knowledge_distillation.py", *grid.words(flags)], grid.work / f"{task.name}.log")


def student(grid: Grid, task: Task) -> int:
    """Train and judge one student, by the end of its run or as the grid's ``judged`` says; store what was measured."""
    assert grid.work is not None
    if grid.result(task):
        return 0
    if code := trained(grid, task):
        return code
    folder = judged = grid.work / task.name
    if "judged" in grid.settings:
        judged = grid.work / f"{task.name}.judged"
        if code := judge(grid, task, "", grid.settings["judged"], judged):
            return code
    facts = vars(task) | cost(folder, data_of(grid, task), task.rows, grid.flags(task)["loss_components"])
    store(grid, task, "", judged, facts)
    return 0


def held_out(grid: Grid, task: Task) -> int:
    """Judge one student on the held-out libraries."""
    assert grid.work is not None
    for library in grid.executed(task):
        if grid.result(task, library):
            continue
        folder = grid.work / f"{task.name}.{library}"
        if code := judge(grid, task, library, grid.libraries[library], folder):
            return code
        store(grid, task, library, folder, {})
    return 0


def judge(grid: Grid, task: Task, library: str, flags: dict[str, Any], folder: Path) -> int:
    """An evaluation of one student in ``folder``, the first one with the teacher and the baselines; what is there goes
    on."""
    assert grid.work is not None
    flags = {**flags, "student_model_path": grid.work / task.name / "final_model", "output_dir": folder}
    if grid.baselines(library):
        flags["no_controls"] = True
    else:
        flags |= {
            "teacher_model": "$WORK/teacher/final_model",
            "train_data": "$WORK/teacher/distillation_data_training.jsonl",
        }
    if folder.is_dir():
        flags["resume"] = True
    return call(["evaluation/evaluate_assertions.py", *grid.words(flags)], grid.work / f"{folder.name}.log")


def store(grid: Grid, task: Task, library: str, folder: Path, facts: dict[str, Any]) -> None:
    """Keep what an evaluation measured of a student, and what the first one measured of everybody."""
    from data.distillation.file import file_sha256  # brings torch, which the other calls do without

    assert grid.work is not None
    shared = {"shared": grid.shared(library)}
    if not grid.baselines(library):
        write_json(grid.stored("baselines", library), of_everybody(folder) | shared)
    weights = grid.work / "teacher" / "final_model" / "model.safetensors"
    made_with = {"flags": grid.flags(task), **shared, "teacher": file_sha256(weights)[:16]}
    write_json(grid.stored(task.name, library), facts | made_with | measured(folder, "student"))


def predictions(folder: Path) -> list[dict[str, Any]]:
    with open(folder / "predictions_final.jsonl", encoding="utf-8") as rows:
        return [json.loads(row) for row in rows]


def clusters(folder: Path) -> list[str]:
    """The outermost test class of each task by its simple name: a fork's class of the same name is no other one."""
    names = [str(row["source"].get("test_class", row["index"])) for row in predictions(folder)]
    return [name.rpartition(".")[2].partition("$")[0] for name in names]


def of_everybody(folder: Path) -> dict[str, Any]:
    """What is measured of the teacher and the baselines, and the test class of each task."""
    return {name: measured(folder, name) for name in ("teacher", "retrieval", "trivial")} | {
        "clusters": clusters(folder)
    }


def measured(folder: Path, system: str) -> dict[str, Any]:
    """Scores task by task, None where there is no value; how often each kind of failure, with its first example; and
    the number of parameters."""
    rows = [(row["reference"], row["systems"][system]) for row in predictions(folder)]
    scores = [found["metrics"] for _, found in rows]
    per_task = {
        name: [row.get(name) for row in scores] for name in METRICS if any(row.get(name) is not None for row in scores)
    }
    failures: dict[str, dict[str, Any]] = {}
    executions: dict[str, dict[str, Any]] = {}
    for reference, found in rows:
        example = {"reference": "\n".join(reference), "prediction": found["prediction"]}
        failures.setdefault(found["failure"], {"tasks": 0, "example": example})["tasks"] += 1
        if ran := found.get("execution"):
            example |= {"reason": ran["reason"]}
            executions.setdefault(outcome(ran), {"tasks": 0, "example": example})["tasks"] += 1
    summary = json.loads((folder / "metrics_summary_final.json").read_text(encoding="utf-8"))
    parameters = summary["run"]["systems"][system].get("parameters")
    return {"parameters": parameters, "per_task": per_task, "failures": failures, "executions": executions}


def outcome(ran: dict[str, Any]) -> str:
    """How far a prediction came that was put into its test."""
    if ran["compiled"] is None:
        return "the test cannot tell"
    if not ran["compiled"]:
        return "does not compile"
    if not ran["passed"]:
        return "fails"
    return {True: "passes and can fail", False: "passes whatever the code does"}.get(ran["nontrivial"], "passes")


def cost(folder: Path, data: Path, rows: int, components: list[str]) -> dict[str, Any]:
    """Seconds of training steps, steps, and bytes of the rows, with the teacher's logits where a loss reads them."""
    from models.loss_functions import COMPONENTS

    of_teacher = any("teacher" in COMPONENTS[name].needs for name in components)
    with open(folder / "step_metrics.csv", encoding="utf-8") as handle:
        steps = list(csv.DictReader(handle))
    used = 0
    with open(data, encoding="utf-8") as lines:
        for line in islice((line for line in lines if not is_header(json.loads(line))), rows):
            row = json.loads(line)
            logits = 0 if of_teacher else len(row.get("teacher_logits_compressed", ""))
            used += len(line.encode()) - logits
    return {
        "steps": len(steps),
        "train_seconds": round(sum(float(row["seconds"]) for row in steps), 3),
        "data_bytes": used,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--stage", help="only this stage")
    parser.add_argument("--teacher", action="store_true", help="train the teacher, nothing else")
    parser.add_argument("--task", type=int, help="only this task of --list")
    parser.add_argument("--list", action="store_true", help="show the tasks")
    parser.add_argument("--no_judging", action="store_true", help="train only; a later call judges (grids with judged)")
    parser.add_argument("--report", type=Path, help="write the page from the stored results")
    args = parser.parse_args()
    grid = Grid(args.grid, args.work)
    if args.report:
        write_page(grid, args.report)
        return 0
    if args.stage and args.stage not in grid.stages:
        raise UserError(f"--stage {args.stage}: the grid has {', '.join(grid.stages)}")
    if args.task is not None and not 0 <= args.task < len(grid.tasks):
        raise UserError(f"--task {args.task}: the grid has tasks 0 to {len(grid.tasks) - 1}; see --list")
    if args.list:
        for number, task in enumerate(grid.tasks):
            stage = next(stage for stage, tasks in grid.stages.items() if task in tasks)
            print(f"{number:4} {stage:10} {task.name:40} {'done' if grid.is_done(task) else ''}")
        return 0
    if args.work is None:
        raise UserError("--work: name a folder for the runs")
    tasks = grid.tasks if args.task is None else [grid.tasks[args.task]]
    if args.task is not None and not teacher_is_ready(grid):
        raise UserError(
            f"--task: {args.work}/teacher is not there yet; train it once with --teacher, then start the array"
        )
    steps = [lambda: teacher(grid)]
    if args.teacher:
        tasks = []
    steps += [
        (lambda task=task: trained(grid, task))
        if args.no_judging
        else (lambda task=task: student(grid, task) or held_out(grid, task))
        for task in tasks
        if args.stage is None or task in grid.stages[args.stage]
    ]
    for number, step in enumerate(steps):
        code = step()
        if code:
            return code
        print(f"{number}/{len(steps) - 1} done", flush=True)
    return 0


if __name__ == "__main__":
    run_main(main)
