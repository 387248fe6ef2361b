#!/usr/bin/env python
"""Judge a teacher, a student and baselines on the same tasks, with intervals, tests and a report.

    python evaluation/evaluate_assertions.py --teacher_data results/t/distillation_data_validation.jsonl \\
        --student_model_path results/run/final_model --train_data results/t/distillation_data_training.jsonl

Without --student_model_path it judges the teacher alone. docs/evaluation.md explains every number.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main
from utils.folder_lock import NO_LOCKS, FolderLock

if TYPE_CHECKING:
    from data.rows.readers import Sample
    from evaluation.systems.models import System

MIN_TASKS_FOR_PROCESSES = 300
PROGRESS = ".progress"
SUMMARY = "metrics_summary_final.json"
HOW_TO_MAKE = "write it with train_codet5_assertions.py, or mine raw data with scripts/mine_assertions.py"


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(__doc__.split("\n\n")[0], defaults=True)
    data = parser.add_argument_group("data")
    data.add_argument("--teacher_data", required=True, help="distillation data or raw rows, JSONL")
    data.add_argument("--train_data", help="training rows, for nearest-neighbour retrieval and the leak check")
    data.add_argument(
        "--max_per_class", type=int, help="at most N tasks of a test class, from all over it (None: all its tasks)"
    )
    data.add_argument("--teacher_limit", type=int, help="judge the teacher on the first N tasks (None: all)")
    data.add_argument("--student_limit", type=int, help="judge the others on the first N tasks (None: all)")
    models = parser.add_argument_group("models")
    models.add_argument("--student_model_path", help="folder of the student")
    models.add_argument("--teacher_model", help="folder or name; without it the stored predictions are the teacher's")
    models.add_argument("--baseline_model_path", help="a model of the student's size trained without a teacher")
    models.add_argument(
        "--embedding_model",
        default="embaas/codesearchnet-minilm-l6",
        help="text encoder for semantic similarity; embedded:minilm needs no network, none leaves it out",
    )
    models.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    text = parser.add_argument_group("generation")
    text.add_argument("--num_beams", type=int, default=1, help="1: greedy")
    text.add_argument("--num_return_sequences", type=int, default=1, help="candidates kept in predictions_final.jsonl")
    text.add_argument(
        "--decoding",
        choices=["free", "java", "names"],
        default="java",
        help="free; java: brackets, literals, arguments of assertions; names: java, and variables of the input only",
    )
    text.add_argument("--batch_size", type=int, default=16)
    text.add_argument("--max_input_len", type=int, default=512)
    text.add_argument("--max_output_len", type=int, default=128)
    text.add_argument("--latency_samples", type=int, default=20, help="tasks timed one by one; 0: none")
    text.add_argument("--temperature", type=float, default=4.0, help="of the KL divergence, beside 1")
    run = parser.add_argument_group("execution (needs a JDK)")
    run.add_argument("--project", help="Java project that the tasks were mined from: compile and run the predictions")
    run.add_argument("--class_path", help="its class path; a Maven project's is asked for with mvn -o")
    run.add_argument("--junit_jars", nargs="+", default=[], help="jars added to the class path")
    run.add_argument("--jdk_home", help="JDK of version 11 or later (None: $JAVA_HOME, else the javac on the PATH)")
    run.add_argument("--execution_limit", type=int, help="run the first N tasks only (None: all)")
    run.add_argument("--timeout", type=float, default=10.0, help="seconds a test may take")
    run.add_argument(
        "--no_controls",
        action="store_true",
        help="leave out what is the same for every model: assertTrue(true), and runs with the human assertion and none",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", help="default: results/<time>_evaluation")
    output.add_argument("--overwrite", action="store_true", help="replace an evaluation in the folder")
    output.add_argument("--resume", action="store_true", help="go on with an interrupted evaluation in --output_dir")
    output.add_argument("--workers", type=int, default=os.cpu_count(), help="processes for metrics and JVMs")
    output.add_argument("--max_reject_rate", type=float, default=0.1, help="share of unusable rows that is an error")
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Flags, checked before anything is loaded."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for name in ("max_per_class", "teacher_limit", "student_limit", "execution_limit"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: allowed: at least 1")
    for name in ("num_beams", "num_return_sequences", "batch_size", "max_output_len", "workers"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: allowed: at least 1")
    if args.max_input_len < 16:
        raise UserError(f"--max_input_len {args.max_input_len}: allowed: at least 16")
    for name in ("temperature", "timeout"):
        if not 0 < getattr(args, name) < float("inf"):
            raise UserError(f"--{name} {getattr(args, name)}: allowed: above 0")
    if args.latency_samples < 0:
        raise UserError(f"--latency_samples {args.latency_samples}: allowed: at least 0")
    if not 0 <= args.max_reject_rate <= 1:
        raise UserError(f"--max_reject_rate {args.max_reject_rate}: allowed: 0 to 1")
    if args.num_return_sequences > args.num_beams:
        raise UserError(
            f"--num_return_sequences {args.num_return_sequences} needs --num_beams of at least as many,"
            f" not {args.num_beams}"
        )
    if args.resume and not args.output_dir:
        raise UserError("--resume needs --output_dir: the folder of the evaluation to go on with")
    if args.resume and args.overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    if not args.project:
        for name in ("class_path", "junit_jars", "jdk_home", "execution_limit", "timeout"):
            if getattr(args, name) != parser.get_default(name):
                raise UserError(f"--{name} needs --project: the folder that the tasks were mined from")
    return args


def of_every_class(samples: list[Sample], limit: int) -> list[int]:
    """Numbers of at most ``limit`` samples of each test class, in the order of the file."""
    from evaluation.reports.results import clusters_of
    from utils.evenly import evenly_spread

    members: dict[str, list[int]] = {}
    for number, cluster in enumerate(clusters_of(samples)):
        members.setdefault(cluster, []).append(number)
    return sorted(number for numbers in members.values() for number in evenly_spread(numbers, limit))


def output_folder(args: argparse.Namespace, lock: FolderLock | None) -> tuple[Path, FolderLock]:
    folder = Path(args.output_dir or f"results/{time.strftime('%Y-%m-%d_%H-%M-%S')}_evaluation")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = lock or FolderLock(folder)
    except OSError as error:
        raise UserError(f"--output_dir {folder}: cannot be written ({error.strerror})") from None
    if (folder / SUMMARY).exists() and not (args.overwrite or args.resume):
        own.release()
        raise UserError(f"--output_dir {folder}: holds an evaluation; give --overwrite, --resume or another folder")
    if lock is None and not own.held:  # the run has said so
        print(f"warning: {folder}: {NO_LOCKS}", file=sys.stderr)
    return folder, own


def read_samples(path: str, flag: str, max_reject_rate: float) -> tuple[list[Sample], list[int], Counter[str]]:
    """The usable rows, their numbers in the file, and why others were left out."""
    from data.rows.readers import RowError, is_header, parse_json_line, parse_sample, read_rows, require_file

    samples: list[Sample] = []
    numbers: list[int] = []
    rejected: Counter[str] = Counter()
    number = -1  # as in AssertionDataset: counted from the first line that is no header
    for _, line in read_rows(require_file(path, flag, HOW_TO_MAKE)):
        header = False
        try:
            row = parse_json_line(line)
            header = is_header(row)
            if not header:
                samples.append(parse_sample(row))
                numbers.append(number + 1)
        except RowError as error:
            rejected[str(error)] += 1
        if number >= 0 or not header:
            number += 1
    total = len(samples) + sum(rejected.values())
    if not samples:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in rejected.most_common(3)) or "no rows"
        raise UserError(f"{flag} {path}: no usable row ({reasons}); {HOW_TO_MAKE}")
    if sum(rejected.values()) > max_reject_rate * total:
        reason, count = rejected.most_common(1)[0]
        raise UserError(
            f"{flag} {path}: {sum(rejected.values())} of {total} rows are unusable, most often {reason} ({count});"
            " mend the file or raise --max_reject_rate"
        )
    return samples, numbers, rejected


class Say:
    """Progress: a bar on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()

    def __call__(self, stage: str, total: int) -> Any:
        if self.terminal:
            from tqdm import tqdm

            return tqdm(total=total, desc=stage, unit="task", file=sys.stderr)
        print(f"{stage} ({total} tasks)", file=sys.stderr, flush=True)
        return nullcontext(type("Silent", (), {"update": staticmethod(lambda count: None)}))


def stored_teacher(args: argparse.Namespace, samples: list[Sample], rows: list[int]) -> System:
    """The teacher as its data file shows it: the stored predictions, and what the stored logits tell."""
    from data.distillation.file import read_header
    from evaluation.systems.models import System, forced_metrics
    from evaluation.systems.teacher_logits import open_stored_logits
    from models.decoding.generate import teacher_forced_signal
    from models.losses.critical_tokens import find_critical_tokens
    from models.seq2seq.loading import load_tokenizer
    from utils.metrics import FORCED_METRICS

    system = System("teacher", [sample.teacher_prediction or "" for sample in samples])
    header = read_header(args.teacher_data)
    names = [args.student_model_path, args.baseline_model_path, header.teacher if header else None]
    reason = "no tokenizer to read the teacher's logits with; give --student_model_path or --teacher_model"
    for name in filter(None, names):
        try:
            tokenizer = load_tokenizer(name)
        except UserError:
            continue
        vocab_size = header.vocab_size if header else len(tokenizer)
        stored = open_stored_logits(
            args.teacher_data,
            tokenizer,
            vocab_size,
            rows,
            max_input_len=args.max_input_len,
            max_output_len=args.max_output_len,
            batch_size=args.batch_size,
        )
        if isinstance(stored, str):
            reason = stored
            continue
        forced = teacher_forced_signal(stored, find_critical_tokens(tokenizer).mask(vocab_size))
        system.measured = forced_metrics(forced, len(samples))
        break
    else:
        system.reasons = dict.fromkeys(FORCED_METRICS, reason)
    if header:
        system.facts |= {"path": header.teacher, "parameters": header.teacher_parameters}
    return system


def teacher_probe(args: argparse.Namespace, samples: list[Sample], rows: list[int], found: dict[str, Any]) -> Any:
    """A probe for ``model_system`` that puts the student's closeness to the stored teacher logits into ``found``."""

    def probe(model: Any, tokenizer: Any) -> None:
        from evaluation.reports.results import clusters_of
        from evaluation.systems.teacher_logits import closeness, closeness_summary, open_stored_logits

        temperatures = list(dict.fromkeys([1.0, args.temperature]))
        stored = open_stored_logits(
            args.teacher_data,
            tokenizer,
            model.config.vocab_size,
            rows,
            max_input_len=args.max_input_len,
            max_output_len=args.max_output_len,
            batch_size=args.batch_size,
        )
        result = stored if isinstance(stored, str) else closeness(model, stored, temperatures)
        if isinstance(result, str):
            names = ["top1_agreement", *(f"kl_t{temperature:g}" for temperature in temperatures)]
            found.update({name: {"value": None, "reason": result} for name in names})
        else:
            found.update(closeness_summary(result, clusters_of(samples)))

    return probe


def main(argv: list[str] | None = None, of_run: FolderLock | None = None) -> int:
    """``of_run``: the lock of the run that evaluates its model in its own folder, and keeps it."""
    args = parse_arguments(argv)
    folder, lock = output_folder(args, of_run)
    started = time.monotonic()

    samples, rows, rejected = read_samples(args.teacher_data, "--teacher_data", args.max_reject_rate)
    missing: dict[str, str] = {}
    if not args.teacher_model:
        stored = [sample.teacher_prediction is not None for sample in samples]
        if any(stored) and not all(stored):
            rejected["no teacher prediction"] += stored.count(False)
            rows = [row for row, kept in zip(rows, stored, strict=True) if kept]
            samples = [sample for sample, kept in zip(samples, stored, strict=True) if kept]
        elif not any(stored):
            missing["teacher"] = "the data hold no teacher predictions and no --teacher_model was given"
    if "teacher" in missing and not (args.student_model_path or args.baseline_model_path or args.train_data):
        raise UserError(
            f"--teacher_data {args.teacher_data}: nothing to judge; the rows hold no teacher_prediction:"
            " give --teacher_model, --student_model_path or --train_data"
        )
    in_file = len(samples)
    if args.max_per_class:
        kept = of_every_class(samples, args.max_per_class)
        rows, samples = [rows[at] for at in kept], [samples[at] for at in kept]
    from data.distillation.file import read_header
    from data.distillation.signal import MAX_INVERSE_TEMPERATURE
    from utils.signals import exit_on_signal

    header, lowest = read_header(args.teacher_data), 1 / MAX_INVERSE_TEMPERATURE
    if header and header.encoding == "topk" and args.temperature < lowest:
        raise UserError(f"--temperature {args.temperature}: top-k teacher data covers temperatures from {lowest} on")
    exit_on_signal()
    if args.project:
        from evaluation.running.run_systems import prepare_project

        class_path = prepare_project(samples, args)
    training = None
    if args.train_data:
        training, _, _ = read_samples(args.train_data, "--train_data", args.max_reject_rate)

    import transformers

    from evaluation.reports.files import write_results
    from evaluation.reports.results import TITLES, build_summary, judge, task_rows
    from evaluation.systems.baselines import TRIVIAL, leaked, retrieve
    from evaluation.systems.models import GenerationOptions, System, model_system
    from utils.device import resolve_device

    transformers.utils.logging.disable_progress_bar()
    device = resolve_device(args.device)
    say = Say()
    encoder, reasons = None, {"semantic_similarity": "left out by --embedding_model none"}
    if args.embedding_model != "none":
        from models.text_encoder.encoders import resolve_encoder

        encoder, reasons = resolve_encoder(args.embedding_model, device), {}
    options = GenerationOptions(
        args.max_input_len,
        args.max_output_len,
        args.batch_size,
        args.num_beams,
        args.num_return_sequences,
        args.latency_samples,
        args.decoding,
    )
    teacher_samples = samples[: args.teacher_limit]
    student_samples = samples[: args.student_limit]

    def load(name: str, path: str, flag: str, tasks: list[Sample], probe: Any = None) -> System:
        return model_system(
            TITLES[name], path, flag, tasks, options, device, folder / PROGRESS, args.resume, say, probe
        )

    systems: dict[str, System] = {}
    logits: dict[str, Any] = {}
    if args.teacher_model:
        systems["teacher"] = load("teacher", args.teacher_model, "--teacher_model", teacher_samples)
    elif "teacher" not in missing:
        systems["teacher"] = stored_teacher(args, teacher_samples, rows[: args.teacher_limit])
    if args.student_model_path:
        systems["student"] = load(
            "student",
            args.student_model_path,
            "--student_model_path",
            student_samples,
            teacher_probe(args, student_samples, rows[: args.student_limit], logits),
        )
    else:
        missing["student"] = "no --student_model_path was given"
    if args.baseline_model_path:
        systems["no_teacher"] = load("no_teacher", args.baseline_model_path, "--baseline_model_path", student_samples)
    else:
        missing["no_teacher"] = "no --baseline_model_path was given"
    facts: dict[str, Any] = {}
    if training:
        found = retrieve(training, student_samples)
        systems["retrieval"] = System("retrieval", found.predictions)
        systems["retrieval"].facts["mean_similarity"] = float(found.similarity.mean())
        facts["inputs_seen_in_training"] = leaked(training, student_samples)
    else:
        missing["retrieval"] = "no --train_data was given"
    if args.no_controls:
        missing["trivial"] = "left out by --no_controls"
    else:
        systems["trivial"] = System("trivial", [TRIVIAL] * len(student_samples))

    outcomes: dict[str, list[Any]] = {}
    if args.project:
        from evaluation.running.run_systems import run_systems

        outcomes, facts["execution"] = run_systems(systems, samples, class_path, args, say)

    workers = args.workers if len(samples) >= MIN_TASKS_FOR_PROCESSES else 0
    judged = {}
    for name, system in systems.items():
        with say(f"{TITLES[name]}: scoring", len(system.predictions)):
            judged[name] = judge(system, samples, encoder, workers, outcomes.get(name), reasons)
    judged_samples = samples[: max(len(system.predictions) for system in systems.values())]
    run = {
        "teacher_data": args.teacher_data,
        "tasks": len(judged_samples),
        "tasks_in_file": in_file,
        "rows_left_out": dict(rejected),
        "test_classes": len({sample.source.get("test_class") for sample in judged_samples} - {None}),
        "arguments": vars(args),
        "device": device,
        "seconds": round(time.monotonic() - started, 1),
        **facts,
    }
    summary = build_summary(judged, missing, run, logits)
    write_results(folder, summary, task_rows(samples, judged))
    shutil.rmtree(folder / PROGRESS, ignore_errors=True)

    from evaluation.reports.pages import text_table

    print(text_table(summary))
    print(f"\nreport: {folder / 'report.html'}")
    if lock is not of_run:
        lock.release()
    return 0


if __name__ == "__main__":
    run_main(main)
