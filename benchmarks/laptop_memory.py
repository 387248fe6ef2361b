#!/usr/bin/env python
"""What a student of CodeT5+ 220M's shape needs in memory with the flags for laptops.

    python benchmarks/laptop_memory.py [--data mined/raw.jsonl]

The real script trains a model of that shape and vocabulary (random weights) for two optimiser
steps on the longest of the rows, on the CPU: after the first one the optimiser's state is there. Peak memory is that of
the whole process, as the system counts it. Stores benchmarks/results/laptop_memory.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ROOT, options, parse, report
from benchmarks.workload import VOCABULARY, build_tokenizer, list_texts, read_mined_rows, write_distillation_file
from utils.errors import UserError, run_main

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# fmt: off
TWO_STEPS = [
    "--max_steps", "2", "--gradient_accumulation_steps", "1", "--validation_frequency", "0", "--no_final_evaluation",
    "--no_run_report", "--no_tensorboard", "--save_steps", "0", "--device", "cpu", "--num_workers", "0",
    "--no_length_grouping", "--overwrite",
]
STUDENT = [
    *TWO_STEPS, "--embedding_model", "embedded:minilm", "--bridge_fit_steps", "1", "--bridge_min_fidelity", "-1",
]
# fmt: on
LAPTOP = ["--preset", "memory_constrained"]
CASES = {
    "the defaults (batch 4, 512 and 128 tokens)": ["--max_train_samples", "16"],
    "--preset memory_constrained": LAPTOP,
    "--preset memory_constrained --loss_components ce kl": [*LAPTOP, "--loss_components", "ce", "kl"],
    "--preset memory_constrained --student_encoder_layers 6 --student_decoder_layers 6": [
        *LAPTOP,
        "--student_encoder_layers",
        "6",
        "--student_decoder_layers",
        "6",
    ],
}


def build_model(folder: Path, tokenizer: PreTrainedTokenizerBase, layers: int, width: int) -> None:
    """A T5 with random weights, twice ``layers`` deep."""
    from transformers import T5Config, T5ForConditionalGeneration

    shape = T5Config(
        vocab_size=VOCABULARY,
        d_model=width,
        d_kv=64,
        d_ff=4 * width,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=width // 64,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    shape.decoder_start_token_id = tokenizer.pad_token_id
    T5ForConditionalGeneration(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def longest_rows(data: Path | None, count: int) -> tuple[list[dict[str, Any]], PreTrainedTokenizerBase]:
    """The longest of 8,000 mined rows, and a tokenizer."""
    rows = read_mined_rows(data, 8000)
    tokenizer = build_tokenizer(list_texts(rows), data.stem if data else "sample")
    return sorted(rows, key=lambda row: -len(row["test_method_masked"] + row["focal_method"]))[:count], tokenizer


def peak_gib(*words: str) -> float:
    """Peak resident memory of one run of a script. This process must have used less: the system counts from its own."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise UserError(f"{' '.join(words)}: {errors.read().strip().splitlines()[-1]}")
    return usage.ru_maxrss / 2**20


def main() -> int:
    parser = options(__doc__, 1)
    parser.add_argument("--data", type=Path, help="mined rows (default: the sample corpus, whose inputs are short)")
    args = parse(parser)
    rows, tokenizer = longest_rows(args.data, 600)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{part}.jsonl" for part in ("training", "validation")]
        for file, part in zip(files, (rows[:-10], rows[-10:]), strict=True):
            write_distillation_file(file, part, tokenizer, VOCABULARY)
        build_model(folder / "student", tokenizer, *((6, 64) if args.toy else (12, 768)))
        data = [
            "knowledge_distillation.py",
            "--train_data_path",
            str(files[0]),
            "--val_data_path",
            str(files[1]),
            "--model_name",
            str(folder / "student"),
            "--output_dir",
            str(folder / "run"),
        ]
        cases = [[case, peak_gib(*data, *flags, *STUDENT)] for case, flags in CASES.items()]
    return report(
        "laptop_memory",
        args,
        {"data": args.data.name if args.data else "sample corpus"},
        {"peak memory of the process": (("flags", "GiB"), cases)},
    )


if __name__ == "__main__":
    run_main(main)
