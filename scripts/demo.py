#!/usr/bin/env python
"""The whole pipeline on a sample project: write Java, mine it, train a teacher, distil a student, evaluate both.

Both models are trained from scratch, without a network or a GPU, in seven to eight minutes of processor time. When run
again, it keeps finished steps and continues an interrupted one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main

DATA = Path("build/demo")
TEACHER = Path("build/demo/teacher")
STUDENT = Path("results/demo")
# Without context the inputs are a third as long and learned sooner. A copier would then have no assertion to copy.
SHARED = (
    "--no_scratch_copying --max_input_len 128 --max_output_len 64 --batch_size 16 --gradient_accumulation_steps 1"
    " --dropout_rate 0 --early_stopping_patience 0 --validation_metric exact_match --embedding_model embedded:minilm"
    " --device cpu --num_workers 0 --resume auto"
)
STEPS = {
    "sample project": f"data/sample_corpus.py --output {DATA}/project --seed 42 --classes 360",
    "mining": f"scripts/mine_assertions.py --source {DATA}/project --output {DATA}/raw.jsonl"
    " --split_by class --validation_fraction 0.08 --test_fraction 0 --seed 42",
    "teacher": f"train_codet5_assertions.py --train_data_path {DATA}/raw_training.jsonl"
    f" --val_data_path {DATA}/raw_validation.jsonl --output_dir {TEACHER}"
    f" --model_name scratch:medium --scratch_vocab_size 1024 --context none --epochs 4 --lr 8e-4 {SHARED}",
    # At the default temperatures, 4 to 1.5, fewer of the student's assertions were exact (docs/first_run.md).
    "student": f"knowledge_distillation.py --train_data_path {TEACHER}/distillation_data_training.jsonl"
    f" --val_data_path {TEACHER}/distillation_data_validation.jsonl --output_dir {STUDENT}"
    " --model_name scratch:tiny --loss_components ce kl --temperature 1 --temperature_final 1"
    f" --epochs 6 --lr 2.2e-3 {SHARED}",
}


def main() -> int:
    """Run the steps in order; a step that fails ends the demo with its own message."""
    ArgumentParser(__doc__).parse_args()  # it takes no flags: --help and typing errors must not start it
    started = time.monotonic()
    for number, (name, command) in enumerate(STEPS.items(), 1):
        print(f"\n== {number}/{len(STEPS)} {name}: python {command}", flush=True)
        step_started = time.monotonic()
        done = subprocess.run([sys.executable, *command.split()], cwd=ROOT)
        if done.returncode:
            raise UserError(f"demo: the step '{name}' ended with exit code {done.returncode}; see its message above")
        print(f"== {name}: {time.monotonic() - step_started:.0f} s", flush=True)
    summary = json.loads((ROOT / STUDENT / "metrics_summary_final.json").read_text(encoding="utf-8"))
    print(f"\nDone in {time.monotonic() - started:.0f} s. On tests of classes that were never seen:")
    for who in ("teacher", "student"):
        shown = {name: summary[who][name]["value"] for name in ("exact_match", "f1", "code_quality_score")}
        print(f"  {who}: " + ", ".join(f"{name} {value:.3f}" for name, value in shown.items()))
    for name in ("run_report.html", "report.html", "metrics_summary_final.json"):
        print(STUDENT / name)
    return 0


if __name__ == "__main__":
    run_main(main)
