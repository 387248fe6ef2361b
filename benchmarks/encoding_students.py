#!/usr/bin/env python
"""Which encoding of the teacher's knowledge makes the better student, and for how many bytes.

    python benchmarks/encoding_students.py [--data raw.jsonl] [--minutes 7] [--output benchmarks/results/FILE.json]

One teacher is trained by the real script on mined rows and writes its data as 16-bit hidden states; the convert script
makes the other encodings of the same teacher from them. Then the real script trains one student for each encoding and
seed: same rows, same order, same steps. Judged on other rows, against the teacher's own model: cross-entropy of the
reference, token accuracy, KL(teacher || student) and JSD at T = 1 and 4.

Everything is kept in build/benchmarks: a second call continues where the first ended, and --minutes ends one early.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report
from benchmarks.workload import KEPT, read_mined_rows
from utils.atomic_io import write_json
from utils.errors import UserError, run_main

LENGTHS = ("--max_input_len", "128", "--max_output_len", "48")
PLAIN = (
    "--validation_frequency",
    "0",
    "--no_final_evaluation",
    "--no_run_report",
    "--no_tensorboard",
    "--device",
    "cpu",
    "--num_workers",
    "0",
    "--batch_size",
    "16",
    "--gradient_accumulation_steps",
    "1",
    "--dropout_rate",
    "0",
    "--grad_norm_steps",
    "0",
    "--lr",
    "1e-3",
)
# Name -> words for the convert script (None: the teacher's own file), and for the student.
CASES: dict[str, tuple[tuple[str, ...] | None, tuple[str, ...]]] = {
    "no teacher": (None, ("--loss_components", "focal")),
    **{
        f"topk {k}, {tail}": (("--encoding", "topk", "--topk", str(k)), ("--topk_tail", tail))
        for k in (16, 64, 256)
        for tail in ("bucket", "shaped")
    },
    "hidden 8 bit": (("--encoding", "hidden", "--compression_bits", "8"), ()),
    "hidden 16 bit": (None, ()),
    "dense 8 bit": (("--encoding", "dense", "--compression_bits", "8"), ()),
}
MEASURES = ("cross_entropy", "token_accuracy", "kl_t1", "kl_t4", "jsd_t4")


class OutOfTime(Exception):
    """The minutes given are over; finished steps are kept."""


class Runner:
    """Runs the repository's scripts until the time is over, when the running one is told to save and end."""

    def __init__(self, minutes: float | None) -> None:
        self.deadline = time.monotonic() + 60 * minutes if minutes else float("inf")

    def __call__(self, *words: object) -> None:
        if time.monotonic() > self.deadline - 20:  # it would hardly have started
            raise OutOfTime
        with subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                time.sleep(0.2)
                if time.monotonic() > self.deadline:
                    process.send_signal(signal.SIGTERM)
                    process.wait()
            if process.returncode == 85:
                raise OutOfTime
            if process.returncode:
                raise UserError(f"{' '.join(map(str, words))} ended with {process.returncode}")


def teacher_data(run: Runner, place: Path, args: Any) -> Path:
    """The run folder of the teacher, with its data as hidden states; made on the first call."""
    files = {"training": args.rows, "validation": args.val_rows}
    raw = {part: place / f"raw_{part}.jsonl" for part in files}
    if not raw["validation"].is_file():
        rows = read_mined_rows(args.data, sum(files.values()))
        # Other test classes than those of the training rows, so that no sibling test gives the answer away.
        classes = [(row.get("source") or {}).get("test_class", "") for row in rows]
        held = set(sorted(set(classes))[:: max(2, round(sum(files.values()) / files["validation"]))])
        for part in files:
            validates = part == "validation"
            kept = [row for row, name in zip(rows, classes, strict=True) if (name in held) == validates]
            raw[part].write_text("".join(json.dumps(row) + "\n" for row in kept[: files[part]]), encoding="utf-8")
    folder = place / "teacher"
    if not (folder / "distillation_data_validation.jsonl.summary.json").is_file():
        resume = ("--resume", "auto") if list(folder.glob("checkpoint-*")) else ("--overwrite",)
        run(
            "train_codet5_assertions.py",
            "--train_data_path",
            raw["training"],
            "--val_data_path",
            raw["validation"],
            "--model_name",
            args.teacher,
            "--scratch_vocab_size",
            args.vocabulary,
            "--epochs",
            args.teacher_epochs,
            "--teacher_encoding",
            "hidden",
            "--compression_bits",
            16,
            "--compression_workers",
            0,
            "--output_dir",
            folder,
            *LENGTHS,
            *PLAIN,
            *resume,
        )
    return folder


def encoded(run: Runner, place: Path, teacher: Path, words: tuple[str, ...] | None) -> Path:
    """The training data in one encoding."""
    source = teacher / "distillation_data_training.jsonl"
    if words is None:
        return source
    output = place / ("_".join(words[1::2]) + ".jsonl")
    if not output.is_file():
        run("scripts/convert_distillation_data.py", source, output, *words)
    return output


def logit_bytes(path: Path) -> float:
    """Bytes a token of the stored logits, as they stand in the JSON."""
    done = subprocess.run(
        [sys.executable, "scripts/inspect_distillation_data.py", str(path), "--json", "--max_rows", "300"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)["logit_bytes_per_token"]


def judge(teacher: Path, student: Path) -> dict[str, float]:
    """Means over the target tokens of the validation rows; the teacher answers from its own model."""
    import torch

    from data.batches.collate import IGNORED, Collator
    from data.dataset import AssertionDataset, Item
    from models.losses.divergences import divergence_rows
    from models.seq2seq.loading import load_model, load_tokenizer
    from models.teacher.forward import TeacherPass

    tokenizer = load_tokenizer(str(teacher / "final_model"))
    exact, mine = (TeacherPass(load_model(str(folder / "final_model"))) for folder in (teacher, student))
    dataset = AssertionDataset(
        teacher / "distillation_data_validation.jsonl", tokenizer, max_input_len=128, max_output_len=48, teacher=False
    )
    items = [item for i in range(len(dataset)) if isinstance(item := dataset[i], Item)]
    items.sort(key=lambda item: len(item.input_ids))
    collate = Collator(tokenizer.pad_token_id)
    sums = dict.fromkeys(MEASURES, 0.0)
    tokens = 0
    for start in range(0, len(items), 32):
        batch = collate(items[start : start + 32])
        right, got = (model(batch)[0] for model in (exact, mine))
        labels = batch["labels"][batch["labels"] != IGNORED]
        sums["cross_entropy"] += float(torch.nn.functional.cross_entropy(got, labels, reduction="sum"))
        sums["token_accuracy"] += float((got.argmax(1) == labels).sum())
        for name, kind, temperature in (("kl_t1", "kl", 1.0), ("kl_t4", "kl", 4.0), ("jsd_t4", "jsd", 4.0)):
            sums[name] += float(divergence_rows(kind, got, right, temperature)[0].sum()) / temperature**2
        tokens += len(labels)
    return {name: value / tokens for name, value in sums.items()}


def train_and_judge(run: Runner, place: Path, args: Any, results: dict[str, Any], save: Any) -> None:
    """Everything that is not in ``results`` yet, one student after the other."""
    teacher = teacher_data(run, place, args)
    if "teacher" not in results:
        results["teacher"] = judge(teacher, teacher)
        save()
    for seed in range(args.seeds):
        for name, (convert, flags) in CASES.items():
            if str(seed) in results["students"].get(name, {}):
                continue
            data = encoded(run, place, teacher, convert)
            if name not in results["bytes_per_token"]:
                results["bytes_per_token"][name] = 0.0 if name == "no teacher" else logit_bytes(data)
            folder = place / f"student_{name.replace(' ', '_').replace(',', '')}_{seed}"
            resume = ("--resume", "auto") if list(folder.glob("checkpoint-*")) else ("--overwrite",)
            run(
                "knowledge_distillation.py",
                "--train_data_path",
                data,
                "--val_data_path",
                teacher / "distillation_data_validation.jsonl",
                "--model_name",
                args.student,
                "--tokenizer_name",
                teacher / "final_model",
                "--output_dir",
                folder,
                "--epochs",
                args.epochs,
                "--seed",
                42 + seed,
                *(flags if "--loss_components" in flags else ("--loss_components", *args.losses)),
                *(flags if "--loss_components" not in flags else ()),
                *LENGTHS,
                *PLAIN,
                *resume,
            )
            results["students"].setdefault(name, {})[str(seed)] = judge(teacher, folder)
            save()
            print(name, seed, results["students"][name][str(seed)], flush=True)


def table_of(results: dict[str, Any], seeds: int) -> tuple[list[str], list[list[Any]]]:
    """Mean and half the spread over the seeds of each measure."""
    rows = []
    for name, runs in results["students"].items():
        row: list[Any] = [name, results["bytes_per_token"][name], len(runs)]
        for measure in MEASURES:
            values = [run[measure] for run in runs.values()]
            row.append(f"{statistics.mean(values):.4f} ± {(max(values) - min(values)) / 2:.4f}")
        rows.append(row)
    if "teacher" in results:
        rows.append(["the teacher", 0.0, 1, *(f"{results['teacher'][measure]:.4f}" for measure in MEASURES)])
    return ["student from", "bytes/token", "seeds", *MEASURES], rows


def main() -> int:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--data", type=Path, help="raw rows; default: the sample corpus")
    parser.add_argument("--rows", type=int, default=6000, help="training rows")
    parser.add_argument("--val_rows", type=int, default=600)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--teacher", default="scratch:small")
    parser.add_argument("--teacher_epochs", type=int, default=5)
    parser.add_argument("--student", default="scratch:tiny")
    parser.add_argument("--epochs", type=int, default=2, help="of each student")
    parser.add_argument("--losses", nargs="+", default=["focal", "jsd"], help="components of the students' loss")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="end after N minutes; the next call goes on")
    args = parse(parser)
    if args.toy:
        args.rows = 48
        args.val_rows = 16
        args.vocabulary = 512
        args.teacher = args.student
        args.teacher_epochs = args.epochs = args.seeds = 1
    settings = {
        "data": args.data.name if args.data else "sample corpus",
        "rows": args.rows,
        "val_rows": args.val_rows,
        "vocabulary": args.vocabulary,
        "teacher": args.teacher,
        "teacher_epochs": args.teacher_epochs,
        "student": args.student,
        "epochs": args.epochs,
        "losses": " ".join(args.losses),
    }
    name = "_".join(str(value).replace(" ", "-").replace(":", "-") for value in settings.values())
    place = KEPT / f"students_{name}"
    place.mkdir(parents=True, exist_ok=True)
    state = place / "results.json"
    results: dict[str, Any] = {"bytes_per_token": {}, "students": {}}
    if state.is_file():
        results = json.loads(state.read_text(encoding="utf-8"))
    try:
        train_and_judge(Runner(args.minutes), place, args, results, lambda: write_json(state, results))
    except OutOfTime:
        print(f"time is over; finished steps are kept in {place}, call again to continue")
    columns, rows = table_of(results, args.seeds)
    done = all(len(results["students"].get(name, {})) >= args.seeds for name in CASES)
    tables = {"students by the encoding of their teacher": (columns, rows)}
    return report("encoding_students", args, settings, tables, complete=done, runs=results)


if __name__ == "__main__":
    run_main(main)
