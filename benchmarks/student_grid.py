#!/usr/bin/env python
"""Which students are better? Train those of a plan, and judge them on the same tasks.

    python benchmarks/student_grid.py PLAN --work DIR --train [--jobs N]   # the students
    python benchmarks/student_grid.py PLAN --work DIR --judge [--jobs N]   # score and run what they write (needs a JDK)
    python benchmarks/student_grid.py PLAN --pack                          # put the stored results into one archive
    python benchmarks/student_grid.py PLAN --report PAGE.md [--headline FILE.json]   # tables, from the stored results

Training and judging may take place on two machines: only DIR/students travels, a model in bfloat16 and a file of costs
for each. PLAN is a JSON file:

    about, commands  opening words of the page, and the commands that make everything
    data             folder of the data; stands for $DATA in flags, as DIR does for $WORK
    student          flags of knowledge_distillation.py that all students share
    students         by name: further flags ("flags"), "seeds", "needs", further flags of judging it ("judged"), and
                     "run": false if its tests are not run
    files            what students need, by name: a "script" of the project, its "flags", and what it "needs" itself.
                     It writes into $WORK/NAME. A name in "needs" is that of a file, or of a student, whose model of the
                     first seed lies in $WORK/students/NAME-seedN
    judged           flags of evaluate_assertions.py for all
    baselines        further ones for the first student, whose evaluation has the baselines
    tasks            by name of a set of tasks: its "group", its "flags", and those of "running" its tests
    questions        [name, other name] pairs whose difference the page shows
    headline         names of "student", "gold_only" and "teacher", whose scores --headline writes
    left_out         the name of the student with everything; those named "without PART" are compared with it
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ablation_statistics import SeedSpread, estimate_mean, get_scores, pool_seed_spread, show_estimate
from benchmarks.grid import Flags, Json, Run, Store, make_words
from benchmarks.measuring import find_commit, table
from utils.atomic_io import atomic_writer, write_json
from utils.errors import UserError, run_main

SHOWN = ("exact_match", "f1", "code_quality_score", "compile_rate", "pass_rate", "nontrivial_rate")
POOLED = "{}, pool"  # the name of a student whose candidates were ranked with copies (--pool)
BASELINES = ("nearest_sibling", "retrieval", "trivial")


class Plan:
    """The plan and where its results lie. Raises UserError where it cannot be read."""

    def __init__(self, path: Path, work: Path | None) -> None:
        try:
            self.settings: Json = json.loads(path.read_text(encoding="utf-8"))
            self.students: Json = self.settings["students"]
            self.tasks: Json = self.settings["tasks"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not a readable plan ({error}); see benchmarks/context/") from None
        self.path, self._work = path, work
        self.store = Store(path, self.settings.get("results_sha256"))
        self.locks: defaultdict[Path, Lock] = defaultdict(Lock)  # of what is being made

    @cached_property
    def work(self) -> Path:
        if self._work is None:
            raise UserError("--work: name a folder for the runs")
        return self._work.resolve()

    def runs(self) -> list[tuple[str, int]]:
        """Every student: its name and seed, in the order of the plan."""
        return [(name, seed) for name, student in self.students.items() for seed in student["seeds"]]

    def fill_in(self, text: str) -> str:
        return text.replace("$WORK", str(self.work)).replace("$DATA", self.settings["data"])

    def groups(self) -> list[str]:
        """The groups of the sets of tasks, each once."""
        return list(dict.fromkeys(judged["group"] for judged in self.tasks.values()))

    def provide(self, name: str) -> None:
        """Make what a student needs, once: a file of the plan, or another student's model."""
        if name in self.students:
            train_student(self, name, self.students[name]["seeds"][0])
            return
        file, done = self.settings.get("files", {}).get(name), self.work / f"{name}.done"
        if file is None:
            raise UserError(f"{self.path}: nothing makes {name!r}, which a student needs")

        def make() -> None:
            call(self, file["script"], file["flags"], name)
            done.touch()

        self.make_once(done, file, make)

    def make_once(self, done: Path, entry: Json, make: Callable[[], None]) -> None:
        """Make an entry of the plan after what it needs, unless the file that tells the end of it is there."""
        if done.is_file():
            return
        for needed in entry.get("needs", []):
            self.provide(needed)
        with self.locks[done]:
            if not done.is_file():  # made meanwhile
                make()


def folder_name(name: str, seed: int) -> str:
    return f"{re.sub('[^a-z0-9]+', '_', name.lower())}-seed{seed}"


def call(plan: Plan, script: str, flags: Flags, log: str) -> None:
    """Run a script of the project with its output in DIR/``log``.log."""
    path = plan.work / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        words = [sys.executable, script, *make_words(flags, plan.fill_in)]
        code = subprocess.run(words, cwd=ROOT, stdout=handle, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        last = path.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
        raise UserError(f"{script} ended with {code}: {last[0]} (see {path})")


def model_folder(plan: Plan, name: str, seed: int) -> Path:
    return plan.work / "students" / folder_name(name, seed)


def train_student(plan: Plan, name: str, seed: int) -> None:
    """Train one student, unless it is done; keep its model and what it cost in DIR/students."""
    student, kept, folder = plan.students[name], model_folder(plan, name, seed), plan.work / folder_name(name, seed)
    own = {**student["flags"], "seed": seed, "output_dir": folder, "resume": "auto"}

    def make() -> None:
        call(plan, "knowledge_distillation.py", {**plan.settings["student"], **own}, folder.name)
        keep_model(folder, kept)

    plan.make_once(kept / "cost.json", student, make)


def keep_model(folder: Path, kept: Path) -> None:
    """Copy a run's model, in bfloat16, and write what it cost."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "final_model", kept, dirs_exist_ok=True)
    weights = {key: tensor.bfloat16() for key, tensor in load_file(kept / "model.safetensors").items()}
    save_file(weights, kept / "model.safetensors", {"format": "pt"})
    with open(folder / "step_metrics.csv", encoding="utf-8") as handle:
        steps = list(csv.DictReader(handle))
    seconds = round(sum(float(row["seconds"]) for row in steps), 1)
    memory = max((float(row.get("memory_mb") or 0) for row in steps), default=0.0)
    write_json(kept / "cost.json", {"steps": len(steps), "train_seconds": seconds, "memory_mb": memory})


def judge_student(plan: Plan, name: str, seed: int) -> None:
    """Score one student on every set of tasks, and run what it writes where its plan says so."""
    model, student = model_folder(plan, name, seed), plan.students[name]
    if not (model / "cost.json").is_file():
        print(f"{name}, seed {seed}: not trained yet, so not judged", flush=True)
        return
    for tasks, judged in plan.tasks.items():
        stored, first = f"{folder_name(name, seed)}.{tasks}", (name, seed) == plan.runs()[0]
        if plan.store.read(stored):
            continue
        output = plan.work / f"{stored}.judged"
        flags = {**plan.settings["judged"], **student.get("judged", {}), **judged["flags"]}
        flags |= {"student_model_path": model, "output_dir": output}
        if student.get("run", True):
            flags |= judged.get("running", {})
        flags |= plan.settings["baselines"] if first else {"no_controls": True}
        flags |= {"resume": True} if output.is_dir() else {}
        call(plan, "evaluation/evaluate_assertions.py", flags, output.name)
        facts = {"name": name, "seed": seed, **json.loads((model / "cost.json").read_text(encoding="utf-8"))}
        plan.store.write(stored, gather(tasks, output, BASELINES if first else (), facts))


def gather(tasks: str, folder: Path, baselines: Sequence[str], facts: Json) -> Json:
    """Scores of each task by system, with each task's test class and whether its answer stood in the input."""
    with open(folder / "predictions_final.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    summary = json.loads((folder / "metrics_summary_final.json").read_text(encoding="utf-8"))
    systems: Json = {}
    for name in ("student", "student_pool", *baselines):
        if name not in rows[0]["systems"]:
            continue
        scores = [row["systems"][name]["metrics"] for row in rows]
        columns = {key: [row.get(key) for row in scores] for key in SHOWN}
        systems[name] = {"per_task": {key: values for key, values in columns.items() if set(values) != {None}}}
    facts = {**facts, "parameters": summary["run"]["systems"]["student"].get("parameters")}
    systems["student"] |= facts
    if pooled := systems.get("student_pool"):
        pooled |= {**facts, "name": POOLED.format(facts["name"])}
    classes = [str(row["source"].get("test_class", row["index"])) for row in rows]
    return {
        "systems": systems,
        "clusters": [f"{tasks}/{name.rpartition('.')[2].partition('$')[0]}" for name in classes],
        "answer_in_input": [row.get("answer_in_input", "none") for row in rows],
    }


def make_tokenizer(plan: Plan) -> None:
    """The students' tokenizer, trained on 25,000 rows with their context, unless $DATA has it."""
    from config.defaults import CONTEXT_PARTS
    from data.rows.context import list_items
    from data.rows.readers import parse_json_line, parse_sample
    from models.seq2seq.loading import train_tokenizer

    folder = Path(plan.fill_in("$DATA/tokenizer"))
    if folder.is_dir():
        return
    texts: list[str] = []
    with open(plan.fill_in("$DATA/raw_training.jsonl"), encoding="utf-8") as lines:
        for line in islice(lines, 25_000):
            sample = parse_sample(parse_json_line(line))
            context = "\n".join(item.text for item in list_items(sample.context, CONTEXT_PARTS))
            texts += [f"{sample.test}\n{sample.focal}", context, sample.target]
    train_tokenizer(texts, 4096).save_pretrained(folder)


def for_all(plan: Plan, work: Callable[[Plan, str, int], None], jobs: int) -> None:
    """Every student, ``jobs`` at a time, in the order of the plan."""
    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work, plan, *run) for run in plan.runs()]:
            done.result()


def pool_results(plan: Plan, group: str) -> tuple[dict[str, list[Run]], list[str], np.ndarray] | None:
    """All systems on the tasks of a group's sets: the runs of each (one a seed), clusters, strata."""
    sets = [tasks for tasks, judged in plan.tasks.items() if judged["group"] == group]
    runs: dict[str, list[Run]] = defaultdict(list)
    clusters: list[str] = []
    strata: list[str] = []
    for name, seed in plan.runs():
        parts = [found for tasks in sets if (found := plan.store.read(f"{folder_name(name, seed)}.{tasks}"))]
        if len(parts) < len(sets):
            continue
        for system in parts[0]["systems"]:
            ones = [part["systems"][system] for part in parts]
            common = [key for key in ones[0]["per_task"] if all(key in one["per_task"] for one in ones)]
            merged = ones[0] | {"per_task": {key: [v for one in ones for v in one["per_task"][key]] for key in common}}
            runs[ones[0].get("name", system)].append(merged)
        if not clusters:  # those of the first student: it sees the whole context
            clusters = [cluster for part in parts for cluster in part["clusters"]]
            strata = [stratum for part in parts for stratum in part["answer_in_input"]]
    return (runs, clusters, np.array(strata)) if runs else None


def restrict(runs: Sequence[Run], mask: np.ndarray) -> list[Run]:
    return [
        run
        | {"per_task": {key: np.array(values, dtype=object)[mask].tolist() for key, values in run["per_task"].items()}}
        for run in runs
    ]


def estimates(plan: Plan, runs: dict[str, list[Run]]) -> str:
    """One line for each system, with the mean of each score over seeds and tasks."""
    lines = []
    for name in (*BASELINES, *(shown for own in plan.students for shown in (own, POOLED.format(own)))):
        if found := runs.get(name):
            values = [get_scores(found, metric) for metric in SHOWN]
            parameters = found[0].get("parameters")
            cells = ["-" if v is None or np.isnan(v).all() else f"{np.nanmean(v):.3f}" for v in values]
            lines.append([name, f"{parameters / 1e6:.2f}" if parameters else "-", len(found), *cells])
    return table(["system", "M parameters", "seeds", *SHOWN], lines)


def pair_seeds(ours: list[Run], theirs: list[Run]) -> tuple[list[Run], list[Run]]:
    """The runs of those seeds that both have; a single run stands beside all of the other's."""
    if 1 in (len(ours), len(theirs)):
        return ours, theirs
    both = {run["seed"] for run in ours} & {run["seed"] for run in theirs}
    return [run for run in ours if run["seed"] in both], [run for run in theirs if run["seed"] in both]


def differences(runs: dict[str, list[Run]], pairs: Sequence[Sequence[str]], clusters: list[str]) -> str:
    """One line for each pair: first minus second with its 95 % interval; a star where that leaves out 0."""
    lines = []
    for first, second in pairs:
        if first not in runs or second not in runs:
            continue
        cells, pair = [], pair_seeds(runs[first], runs[second])
        for metric in SHOWN:
            ours, theirs = (get_scores(ones, metric) for ones in pair)
            if ours is None or theirs is None or np.isnan(ours - theirs).all():
                cells.append("-")
                continue
            alone = len(runs[second]) == 1
            spread = (
                pool_seed_spread({name: runs[name] for name in (first, second)}, metric)
                if len(ours) > 1
                else SeedSpread()
            )
            found = estimate_mean(ours - theirs, clusters, spread, sides=1 if alone else 2)
            star = " *" if found.low > 0 or found.high < 0 else ""
            cells.append(show_estimate(found, "+") + star)
        lines.append([f"{first} - {second}", *cells])
    return table(["difference", *SHOWN], lines)


def write_page(plan: Plan, page: Path) -> None:
    """All tables. The section "Reading" is written by people and kept."""
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    reading = re.search(r"^## Reading\n.*?(?=^## )", before, flags=re.DOTALL | re.MULTILINE)
    parts = [
        f"# {plan.settings['title']}",
        f"Made from stored results by `python benchmarks/student_grid.py {plan.path} --report {page}`.",
        plan.settings["about"],
        "```bash\n" + "\n".join(plan.settings["commands"]) + "\n```",
        reading.group().strip() if reading else "## Reading",
    ]
    pairs, full = plan.settings["questions"], plan.settings["left_out"]
    left_out = [(name, full) for name in plan.students if name.startswith("without ") and [full, name] not in pairs]
    costs: list[list[object]] = []
    for group in plan.groups():
        if (found := pool_results(plan, group)) is None:
            continue
        runs, clusters, strata = found
        parts.append(f"## {group}\n\n{len(strata)} tasks of {len(set(clusters))} test classes.")
        parts += [estimates(plan, runs), differences(runs, pairs, clusters)]
        mask = strata == "none"
        if mask.any():
            chosen = {name: restrict(ones, mask) for name, ones in runs.items()}
            parts += [f"Tasks whose answer is not in the input: {mask.sum()}.", estimates(plan, chosen)]
            kept = [name for name, keep in zip(clusters, mask, strict=True) if keep]
            parts.append(differences(chosen, pairs, kept))
        if any(name in runs for name, _ in left_out):
            one = {
                name: [run for run in ones if run.get("seed") == plan.students[name]["seeds"][0]]
                for name, ones in runs.items()
                if name in plan.students
            }
            parts += ["One part left out, one seed:", differences(one, left_out, clusters)]
        if not costs:
            costs = [
                [name, ones[0]["steps"], np.mean([run["train_seconds"] for run in ones]).round(1), ones[0]["memory_mb"]]
                for name, ones in runs.items()
                if name in plan.students
            ]
    parts += ["## Cost", table(["student", "steps", "seconds", "peak memory, MB"], costs)]
    with atomic_writer(page) as out:
        out.write("\n\n".join(parts) + "\n")


def write_headline(plan: Plan, path: Path, command: str) -> None:
    """Put the scores of the plan's main systems into the file, by group of tasks; its other parts stay."""
    headline = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = plan.settings["headline"] | {name: name for name in BASELINES[:2]}
    for group in plan.groups():
        if (found := pool_results(plan, group)) is None:
            continue
        runs, clusters, _ = found
        part: Json = {}
        for role, name in named.items():
            if name not in runs:
                continue
            part[role] = {"name": name, "parameters": runs[name][0].get("parameters"), "seeds": len(runs[name])}
            for metric in SHOWN:
                scores = get_scores(runs[name], metric)
                if scores is not None and not np.isnan(scores).all():
                    one = estimate_mean(scores, clusters, pool_seed_spread({name: runs[name]}, metric))
                    part[role][metric] = {key: round(getattr(one, key), 4) for key in ("value", "low", "high")}
        name = group.lower().replace(" ", "_").replace("-", "_")
        headline[name] = part
    write_json(path, headline | {"commit": find_commit(), "command": command})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--train", action="store_true", help="train the students")
    parser.add_argument("--jobs", type=int, default=1, help="students at a time")
    parser.add_argument("--judge", action="store_true", help="score and run what they wrote")
    parser.add_argument("--pack", action="store_true", help="move the stored results into the plan's archive")
    parser.add_argument("--report", type=Path, help="write the page from the stored results")
    parser.add_argument("--headline", type=Path, help="with --report: put the main systems' scores into this file")
    args = parser.parse_args()
    plan = Plan(args.plan, args.work)
    if args.train:
        make_tokenizer(plan)
        for_all(plan, train_student, args.jobs)
    if args.judge:
        for_all(plan, judge_student, args.jobs)
    if args.pack:
        print(f"{plan.store.pack()} packed")
    if args.report:
        write_page(plan, args.report)
    if args.headline:
        write_headline(plan, args.headline, f"python {' '.join(sys.argv)}")
    return 0


if __name__ == "__main__":
    run_main(main)
