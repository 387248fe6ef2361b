#!/usr/bin/env python
"""Which losses, encodings and schedules give the better student: train and judge all students of a grid.

    python benchmarks/ablation.py GRID --work DIR --list           # the students, and which of them are done
    python benchmarks/ablation.py GRID --work DIR [--stage core]   # run what is not done, one after the other
    python benchmarks/ablation.py GRID --work DIR --teacher        # the teacher alone; then, as a Slurm array:
    python benchmarks/ablation.py GRID --work DIR --task N         # one student
    python benchmarks/ablation.py GRID --pack                      # put finished results into the grid's archive
    python benchmarks/ablation.py GRID --report PAGE.md            # the page, from the stored results alone

Every run is an ordinary run of the project's scripts in DIR, and goes on if it was killed. The results of each student
are stored in a folder with the grid's name until --pack moves them into GRID.results.json.xz.

GRID is a JSON file with these keys:

    title, about     opening words of the page
    commands         the commands that make everything
    data             folder of the data; stands for $DATA in flags, as DIR does for $WORK
    pretrain         runs of train_codet5_assertions.py that come first, by name; the model is $WORK/NAME/final_model
    teacher          flags of the teacher
    student          flags that all students share
    contenders       further flags of each kind of student, by name
    stages           contenders, rows and seeds of each stage; it may also give the number of passes over the rows, and
                     ask for no held-out libraries ("held_out": false)
    judged           flags of evaluate_assertions.py for all students; without it, a student's own run evaluates it
    held_out         the same for each library, by name, that nothing was trained on and whose tests are run
    questions        pairs of contenders that the page compares, and by which scores
    results_sha256   SHA-256 of the archive (written by --pack)
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ablation_report import write_page
from benchmarks.grid import BASELINES, METRICS, Baselines, Flags, Grid, Json, Measured, Outcome, Task, stored_name
from data.rows.readers import is_header
from utils.atomic_io import atomic_writer
from utils.errors import UserError, run_main

STOPPED = 85


def call(words: list[str], log: Path) -> int:
    """Run a script of the project with its output in ``log``. Returns 0, or 85 if it stopped and can go on."""
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


def train_model(grid: Grid, name: str, own: Flags) -> int:
    """Run train_codet5_assertions.py in $WORK/``name``, or continue what is there."""
    assert grid.work is not None
    words = grid.make_words({**own, "output_dir": f"$WORK/{name}", "resume": "auto"})
    return call(["train_codet5_assertions.py", *words], grid.work / f"{name}.log")


def train_teacher(grid: Grid) -> int:
    """Train the teacher and write its knowledge, if that is not done."""
    assert grid.work is not None
    if teacher_is_ready(grid):
        return 0
    for name, own in grid.settings.get("pretrain", {}).items():
        if not (grid.work / name / "final_model").is_dir() and (code := train_model(grid, name, own)):
            return code
    return train_model(grid, "teacher", grid.settings["teacher"])


def write_teacher_targets(grid: Grid) -> Path:
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


def find_training_rows(grid: Grid, task: Task) -> Path:
    assert grid.work is not None
    if grid.get_flags(task).get("targets", "gold") == "teacher":
        return write_teacher_targets(grid)
    return grid.work / "teacher" / "distillation_data_training.jsonl"


def train_student(grid: Grid, task: Task) -> int:
    """Train one student. In a grid without ``judged`` the run also evaluates it."""
    assert grid.work is not None
    folder = grid.work / task.name
    if "judged" in grid.settings and (folder / "final_model").is_dir():
        return 0
    flags = {
        "train_data_path": find_training_rows(grid, task),
        "tokenizer_name": "$WORK/teacher/final_model",
        "val_data_path": "$WORK/teacher/distillation_data_validation.jsonl",
        "output_dir": folder,
        "seed": task.seed,
        "max_train_samples": task.rows,
        "resume": "auto",
        **{flag: value for flag, value in grid.get_flags(task).items() if flag != "targets"},
    }
    return call(["knowledge_distillation.py", *grid.make_words(flags)], grid.work / f"{task.name}.log")


def make_student(grid: Grid, task: Task) -> int:
    """Train one student, judge it on the held-out classes, and store what was measured."""
    assert grid.work is not None
    if grid.read_run(task):
        return 0
    if code := train_student(grid, task):
        return code
    folder = judged = grid.work / task.name
    if "judged" in grid.settings:
        judged = grid.work / f"{task.name}.judged"
        if code := judge(grid, task, "", judged):
            return code
    rows, components = find_training_rows(grid, task), grid.get_flags(task)["loss_components"]
    store(grid, task, "", judged, vars(task) | measure_cost(folder, rows, task.rows, components))
    return 0


def judge_on_libraries(grid: Grid, task: Task) -> int:
    assert grid.work is not None
    for library in grid.list_libraries(task):
        if grid.read_run(task, library):
            continue
        folder = grid.work / f"{task.name}.{library}"
        if code := judge(grid, task, library, folder):
            return code
        store(grid, task, library, folder, {})
    return 0


def judge(grid: Grid, task: Task, library: str, folder: Path) -> int:
    """Evaluate one student in ``folder``, or continue that. The first evaluation includes the teacher and baselines."""
    assert grid.work is not None
    flags = grid.libraries[library] if library else grid.settings["judged"]
    flags = {**flags, "student_model_path": grid.work / task.name / "final_model", "output_dir": folder}
    if grid.read_baselines(library):
        flags["no_controls"] = True
    else:
        flags |= {
            "teacher_model": "$WORK/teacher/final_model",
            "train_data": "$WORK/teacher/distillation_data_training.jsonl",
        }
    if folder.is_dir():
        flags["resume"] = True
    return call(["evaluation/evaluate_assertions.py", *grid.make_words(flags)], grid.work / f"{folder.name}.log")


def store(grid: Grid, task: Task, library: str, folder: Path, facts: Json) -> None:
    """Store what an evaluation measured of a student and, the first time, of the baselines."""
    from data.distillation.file import file_sha256  # imports torch, which listing and reporting do without

    assert grid.work is not None
    shared = {"shared": grid.hash_shared(library)}
    if not grid.read_baselines(library):
        grid.store.write(stored_name("baselines", library), read_baselines(folder) | shared)
    weights = grid.work / "teacher" / "final_model" / "model.safetensors"
    made_with = {"flags": grid.get_flags(task), **shared, "teacher": file_sha256(weights)[:16]}
    grid.store.write(stored_name(task.name, library), facts | made_with | read_measured(folder, "student"))


def read_predictions(folder: Path) -> list[Json]:
    with open(folder / "predictions_final.jsonl", encoding="utf-8") as rows:
        return [json.loads(row) for row in rows]


def read_clusters(folder: Path) -> list[str]:
    """The simple name of each task's outermost test class. A fork has classes of the same name: they are the same."""
    names = [str(row["source"].get("test_class", row["index"])) for row in read_predictions(folder)]
    return [name.rpartition(".")[2].partition("$")[0] for name in names]


def read_baselines(folder: Path) -> Baselines:
    return {name: read_measured(folder, name) for name in BASELINES} | {"clusters": read_clusters(folder)}


def read_measured(folder: Path, system: str) -> Measured:
    """Scores of each task, failures and executions by kind, and the number of parameters."""
    rows = [(row["reference"], row["systems"][system]) for row in read_predictions(folder)]
    scores = [found["metrics"] for _, found in rows]
    per_task = {
        name: [row.get(name) for row in scores] for name in METRICS if any(row.get(name) is not None for row in scores)
    }
    failures: dict[str, Outcome] = {}
    executions: dict[str, Outcome] = {}
    for reference, found in rows:
        example = {"reference": "\n".join(reference), "prediction": found["prediction"]}
        failures.setdefault(found["failure"], {"tasks": 0, "example": example})["tasks"] += 1
        if ran := found.get("execution"):
            example |= {"reason": ran["reason"]}
            executions.setdefault(name_outcome(ran), {"tasks": 0, "example": example})["tasks"] += 1
    summary = json.loads((folder / "metrics_summary_final.json").read_text(encoding="utf-8"))
    parameters = summary["run"]["systems"][system].get("parameters")
    return {"parameters": parameters, "per_task": per_task, "failures": failures, "executions": executions}


def name_outcome(ran: dict[str, bool | None]) -> str:
    """How far a prediction came that was put into its test and run."""
    if ran["compiled"] is None:
        return "the test cannot tell"
    if not ran["compiled"]:
        return "does not compile"
    if not ran["passed"]:
        return "fails"
    return {True: "passes and can fail", False: "passes whatever the code does"}.get(ran["nontrivial"], "passes")


def measure_cost(folder: Path, data: Path, rows: int, components: list[str]) -> Json:
    """Steps, seconds of training steps, and bytes of the rows: with the teacher's logits only if a loss reads them."""
    from models.loss_functions import COMPONENTS

    reads_teacher = any("teacher" in COMPONENTS[name].needs for name in components)
    with open(folder / "step_metrics.csv", encoding="utf-8") as handle:
        steps = list(csv.DictReader(handle))
    used = 0
    with open(data, encoding="utf-8") as lines:
        for line in islice((line for line in lines if not is_header(json.loads(line))), rows):
            row = json.loads(line)
            logits = 0 if reads_teacher else len(row.get("teacher_logits_compressed", ""))
            used += len(line.encode()) - logits
    return {
        "steps": len(steps),
        "train_seconds": round(sum(float(row["seconds"]) for row in steps), 3),
        "data_bytes": used,
    }


def print_tasks(grid: Grid) -> None:
    for number, task in enumerate(grid.tasks):
        stage = next(stage for stage, tasks in grid.stages.items() if task in tasks)
        print(f"{number:4} {stage:10} {task.name:40} {'done' if grid.is_done(task) else ''}")


def run_tasks(grid: Grid, tasks: list[Task], judged: bool) -> int:
    """The teacher, then the students. Returns 85 as soon as a run stops to be continued, else 0."""

    def make(task: Task) -> int:
        return make_student(grid, task) or judge_on_libraries(grid, task) if judged else train_student(grid, task)

    steps: list[Callable[[], int]] = [lambda: train_teacher(grid)]
    steps += [lambda task=task: make(task) for task in tasks]
    for number, step in enumerate(steps):
        if code := step():
            return code
        print(f"{number}/{len(steps) - 1} done", flush=True)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--stage", help="only this stage")
    parser.add_argument("--teacher", action="store_true", help="train the teacher only")
    parser.add_argument("--task", type=int, help="only the student with this number in --list")
    parser.add_argument("--list", action="store_true", help="list the students")
    parser.add_argument("--no_judging", action="store_true", help="only train; a later call judges (needs `judged`)")
    parser.add_argument("--pack", action="store_true", help="move the stored results into the grid's archive")
    parser.add_argument("--unpack", action="store_true", help="write the archive's results to a file each")
    parser.add_argument("--report", type=Path, help="write the page from the stored results")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    grid = Grid(args.grid, args.work)
    if args.report:
        write_page(grid, args.report)
        return 0
    if args.pack or args.unpack:
        print(f"{grid.store.pack()} packed" if args.pack else f"{grid.store.unpack()} unpacked")
        return 0
    if args.stage and args.stage not in grid.stages:
        raise UserError(f"--stage {args.stage}: the grid has {', '.join(grid.stages)}")
    if args.task is not None and not 0 <= args.task < len(grid.tasks):
        raise UserError(f"--task {args.task}: the grid has tasks 0 to {len(grid.tasks) - 1}; see --list")
    if args.list:
        print_tasks(grid)
        return 0
    if args.work is None:
        raise UserError("--work: name a folder for the runs")
    if args.task is not None and not teacher_is_ready(grid):
        raise UserError(f"--task: {args.work}/teacher is not ready; train it once with --teacher, then start the array")
    tasks = grid.tasks if args.task is None else [grid.tasks[args.task]]
    wanted = [task for task in tasks if args.stage is None or task in grid.stages[args.stage]]
    return run_tasks(grid, [] if args.teacher else wanted, judged=not args.no_judging)


if __name__ == "__main__":
    run_main(main)
