#!/usr/bin/env python
"""What a teacher of CodeT5+ 770M's shape needs in memory, with all weights trained and with LoRA.

    python benchmarks/teacher_memory.py [--data mined/raw.jsonl]

The real script trains a model of that shape and vocabulary (random weights, float32) for two optimiser steps of one row
each, the longest ones, on the CPU; the optimiser's state is there after the first. Peak memory is that of the whole
process, from loading to the saved model. Needs about 16 GB of memory. Stores benchmarks/results/teacher_memory.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.laptop_memory import TWO_STEPS, build_model, longest_rows, peak_gib
from benchmarks.measuring import options, parse, report
from utils.errors import run_main

LORA = ["--lora_rank", "16", "--lr", "5e-4"]
CASES = {
    "all weights": [],
    "--lora_rank 16": LORA,
    "--lora_rank 16 --gradient_checkpointing": [*LORA, "--gradient_checkpointing"],
}


def main() -> int:
    parser = options(__doc__, 1)
    parser.add_argument("--data", type=Path, help="mined rows (default: the sample corpus, whose inputs are short)")
    args = parse(parser)
    rows, tokenizer = longest_rows(args.data, 12)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = []
        for flag, part in (("--train_data_path", rows[:-2]), ("--val_data_path", rows[-2:])):
            file = folder / f"{flag[2:]}.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
            data += [flag, str(file)]
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # or its memory would count as this process's
            pool.submit(build_model, folder / "teacher", tokenizer, *((2, 64) if args.toy else (24, 1024))).result()
        data += ["--model_name", str(folder / "teacher"), "--output_dir", str(folder / "run"), "--batch_size", "1"]
        words = ["train_codet5_assertions.py", *data, *TWO_STEPS, "--no_create_distillation_dataset"]
        cases = [[case, peak_gib(*words, *flags)] for case, flags in CASES.items()]
    return report(
        "teacher_memory",
        args,
        {"data": args.data.name if args.data else "sample corpus"},
        {"peak memory of the process": (("trained", "GiB"), cases)},
    )


if __name__ == "__main__":
    run_main(main)
