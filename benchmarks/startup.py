#!/usr/bin/env python
"""Seconds from the command to its help text, and to the first finished optimiser step of scratch:tiny on the CPU.

    python benchmarks/startup.py [--data raw.jsonl] [--rows 10000] [--repeats 5]

Each turn starts new processes. The clock of a training run stops when step_metrics.csv shows step 1; then the run
is stopped. "new data" has no index of the file yet; Trident finds its vocabulary bridge in the cache, except in
"bridge not fitted yet" (measured once). "Imports alone" are those of a training run, without the run, and those
of the libraries that every run needs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ROOT, in_turns, options, parse, report, seconds, spread
from benchmarks.workload import build_tokenizer, list_texts, make_rows, read_mined_rows, write_distillation_file
from utils.errors import UserError, run_main

MAIN = str(ROOT / "knowledge_distillation.py")
TEACHER = str(ROOT / "train_codet5_assertions.py")
PATIENCE = 300.0
LIMITS = {"--help of the student": 1.5, "--help of the teacher": 1.5}


def call(*command: str, env: dict | None = None) -> None:
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, env=env)


def first_step(folder: Path, train: Path, validation: Path, tokenizer: Path, env: dict, *flags: str) -> None:
    """Start a run and wait for its first step."""
    output = folder / "run"
    shutil.rmtree(output, ignore_errors=True)
    command = [
        sys.executable,
        MAIN,
        "--train_data_path",
        str(train),
        "--val_data_path",
        str(validation),
        "--model_name",
        "scratch:tiny",
        "--tokenizer_name",
        str(tokenizer),
        "--device",
        "cpu",
        "--embedding_model",
        "embedded:minilm",
        "--bridge_min_fidelity",
        "-1",
        "--save_steps",
        "0",
        "--output_dir",
        str(output),
        *flags,
    ]
    log = folder / "log.txt"
    with open(log, "w") as handle:
        process = subprocess.Popen(command, cwd=ROOT, stdout=handle, stderr=subprocess.STDOUT, env=env)
    steps, started = output / "step_metrics.csv", time.monotonic()
    while not (steps.is_file() and steps.read_bytes().count(b"\n") >= 2):
        if process.poll() is not None or time.monotonic() - started > PATIENCE:
            process.kill()
            raise UserError(f"the run ended before its first step: {log.read_text()[-500:]}")
        time.sleep(0.01)
    # The rest of the run is of no interest, its checkpoint least of all.
    process.send_signal(signal.SIGKILL)
    process.wait()


def main() -> int:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    args = parse(parser)
    if args.toy:
        args.rows, args.repeats = 50, 1
    rows = read_mined_rows(args.data, args.rows) if args.data else list(make_rows(args.rows))
    tokenizer = build_tokenizer(list_texts(rows[:5000]), args.data.stem if args.data else "synthetic", 2048)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = folder / "tokenizer"
        tokenizer.save_pretrained(place)
        train, validation = folder / "train.jsonl", folder / "validation.jsonl"
        write_distillation_file(train, rows, tokenizer, len(tokenizer))
        write_distillation_file(validation, rows[:20], tokenizer, len(tokenizer))
        env = os.environ | {"DISTIL_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        pair = ("--loss_components", "focal", "jsd", "--embedding_model", "none")
        trident = ("--bridge_fit_steps", "100")
        rest = (folder, train, validation, place, env)

        def new_data() -> None:
            os.utime(train)
            first_step(*rest, *pair)

        cases = {
            "--help of the student": lambda: call(MAIN, "--help"),
            "--help of the teacher": lambda: call(TEACHER, "--help"),
            "imports of torch, T5 of transformers, accelerate": lambda: call(
                "-c", "import torch, accelerate; from transformers import T5ForConditionalGeneration, AutoTokenizer"
            ),
            "imports alone": lambda: call(
                "-c", "import models.training.stages, models.multi_component_loss, evaluation.systems.models"
            ),
            "first step, focal + jsd": lambda: first_step(*rest, *pair),
            "first step, focal + jsd, new data": new_data,
            "first step, Trident": lambda: first_step(*rest, *trident),
        }
        fresh = None
        if args.toy:
            cases = {key: cases[key] for key in ("--help of the student", "first step, focal + jsd")}
        else:
            fresh = seconds(lambda: first_step(*rest, *trident), args.clock)
        times = in_turns(cases, args.repeats, warmup=0, budget=args.budget, clock=args.clock)
    settings = {
        "data": args.data.name if args.data else "synthetic",
        "rows": len(rows),
    }
    lines = [[case, spread(times[case])["median"], LIMITS.get(case, 8.0)] for case in cases]
    lines.append(["first step, Trident, bridge not fitted yet (100 steps, once)", fresh, None])
    tables = {"start": (["what", "seconds", "target"], lines)}
    settings["turns"] = len(next(iter(times.values())))
    return report("startup", args, settings, tables, seconds={case: spread(values) for case, values in times.items()})


if __name__ == "__main__":
    run_main(main)
