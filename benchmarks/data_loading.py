#!/usr/bin/env python
"""Samples a second that one worker core decodes and collates, and what a larger file costs in memory.

    python benchmarks/data_loading.py [--data raw.jsonl] [--part speed|memory|both] [--big_mb 1000]

Speed: top-64 data over V = 32,100, 32 target tokens a row, read from disk row by row to finished batches of 32. Once
with the tokenised input given (what decoding and collating cost), once as the trainer does it, tokeniser included:
input is not cached.

Memory: the real training script, the same steps on a 10 MB file and on one of --big_mb (the same rows over and over);
the highest resident size of the process, as Linux keeps it.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report, spread
from benchmarks.workload import VOCABULARY, build_tokenizer, list_texts, read_mined_rows, write_distillation_file
from utils.errors import run_main

TOKENS, BATCH = 32, 32


def rows_of_32_tokens(data: Path | None, tokenizer: Any, count: int) -> list[dict[str, Any]]:
    """Mined rows whose targets are filled up, or cut, to exactly TOKENS labels."""
    from data.rows.tokenization import TaskEncoder, TextFormat

    encoder = TaskEncoder(tokenizer, TextFormat())

    rows = []
    for row in read_mined_rows(data, count):
        target = " ".join(["\n".join(row["assertions"]), *["assertTrue(done);"] * TOKENS])
        assert len(encoder.target(target, TOKENS)) == TOKENS
        rows.append(row | {"assertions": [target]})
    return rows


def count_samples_a_second(dataset: Any, given: bool, repeats: int, profile: bool = False) -> list[float]:
    """Of this process's CPU time, for each pass over the file; ``given``: without the tokeniser."""
    from data.batches.collate import Collator

    collate = Collator(dataset.tokenizer.pad_token_id)
    encoder = dataset.encoder
    if given:
        sources, targets = {}, {}
        for index in range(len(dataset)):
            item = dataset[index]
            sources[item.sample.test, item.sample.focal] = item.input_ids
            targets[item.sample.target] = item.labels
        dataset.encoder = SimpleNamespace(
            source=lambda sample, length: sources[sample.test, sample.focal], target=lambda text, length: targets[text]
        )

    def epoch() -> None:
        for start in range(0, len(dataset) - BATCH + 1, BATCH):
            batch = collate([dataset[i] for i in range(start, start + BATCH)])
            assert not batch["rejected"] and batch["teacher"].num_positions == TOKENS * BATCH

    try:
        epoch()
        rates = []
        for _ in range(repeats):
            started = time.process_time()
            epoch()
            rates.append(len(dataset) // BATCH * BATCH / (time.process_time() - started))
        if profile:
            with cProfile.Profile() as profiler:
                epoch()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(12)
    finally:
        dataset.encoder = encoder
    return rates


def enlarge(source: Path, target: Path, size: int) -> None:
    """The header of ``source``, and its rows over and over until there are ``size`` bytes."""
    from data.distillation.file import shared_path

    header, _, rows = source.read_bytes().partition(b"\n")
    with open(target, "wb") as handle:
        handle.write(header + b"\n")
        while handle.tell() < size:
            handle.write(rows)
    shared_path(target).write_bytes(shared_path(source).read_bytes())


def peak_of(*words: object) -> float:
    """MB of memory that a run of a script had at its highest."""
    high = 0
    with subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            high = max([high, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
            time.sleep(0.05)
        if process.wait():
            raise SystemExit(f"{words} ended with {process.returncode}")
    return high / 1024


def memory(folder: Path, source: Path, tokenizer_folder: Path, sizes: list[float], steps: int) -> list[list[Any]]:
    """Rows of the table: MB of the file, its rows, MB of the training process."""
    from data.rows.index import open_index

    found = []
    small = folder / "val.jsonl"
    for megabytes in [0.3, *sizes]:
        path = small if megabytes == 0.3 else folder / "train.jsonl"
        enlarge(source, path, int(megabytes * 1e6))
        if path == small:
            continue
        for sampling in ([], ["--enable_epoch_sampling", "--max_train_samples", 500]):
            peak = peak_of(
                "knowledge_distillation.py",
                "--train_data_path",
                path,
                "--val_data_path",
                small,
                "--model_name",
                "scratch:tiny",
                "--tokenizer_name",
                tokenizer_folder,
                "--loss_components",
                "focal",
                "jsd",
                "--epochs",
                1,
                "--batch_size",
                4,
                "--gradient_accumulation_steps",
                1,
                "--max_steps",
                steps,
                "--num_workers",
                0,
                "--validation_frequency",
                0,
                "--no_final_evaluation",
                "--no_run_report",
                "--no_tensorboard",
                "--device",
                "cpu",
                "--output_dir",
                folder / "run",
                "--overwrite",
                *sampling,
            )
            rows = len(open_index(path)) - 1
            found.append([path.stat().st_size / 1e6, rows, "epoch sampling" if sampling else "all rows", peak])
        path.unlink()
    for row in found:
        row.append(row[-1] / next(other[3] for other in found if other[2] == row[2]))
    return found


def main() -> int:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--data", type=Path, help="raw rows; default: the sample corpus")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--big_mb", type=float, default=1000)
    parser.add_argument("--steps", type=int, default=10, help="of each training run")
    parser.add_argument("--part", choices=("speed", "memory", "both"), default="both")
    parser.add_argument("--profile", action="store_true", help="print where the time of decoding goes")
    args = parse(parser)
    if args.toy:
        args.rows = 64
        args.big_mb = 12
        args.steps = 2
    import torch

    from benchmarks.workload import KEPT
    from data.dataset import AssertionDataset

    torch.set_num_threads(1)
    name = args.data.stem if args.data else "sample"
    tokenizer = build_tokenizer(list_texts(read_mined_rows(args.data, 6000)), name, VOCABULARY)
    tables: dict[str, tuple] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "speed.jsonl"
        write_distillation_file(
            path, rows_of_32_tokens(args.data, tokenizer, args.rows), tokenizer, VOCABULARY, max_output_len=TOKENS
        )
        dataset = AssertionDataset(path, tokenizer, vocab_size=VOCABULARY, max_output_len=TOKENS)
        settings = {
            "data": args.data.name if args.data else "sample corpus",
            "rows": len(dataset),
            "vocabulary": VOCABULARY,
            "target_tokens": TOKENS,
            "batch_size": BATCH,
            "bytes_per_row": path.stat().st_size // len(dataset),
            "source_tokens": round(statistics.mean(len(dataset[i].input_ids) for i in range(len(dataset))), 1),
        }
        if args.part != "memory":
            rates = {
                title: count_samples_a_second(dataset, given, args.repeats, args.profile and given)
                for title, given in (("decode + collate, tokenised input given", True), ("tokeniser included", False))
            }
            rows = [[title, *(spread(rate)[key] for key in ("median", "low", "high"))] for title, rate in rates.items()]
            tables["samples a second of one core's time, disk to batch"] = (["case", "median", "low", "high"], rows)
        if args.part != "speed":
            found = memory(folder, path, KEPT / f"tokenizer_{name}_{VOCABULARY}", [10, args.big_mb], args.steps)
            columns = ["file MB", "rows", "reads", "peak MB of training", "to the small file"]
            tables["memory of knowledge_distillation.py"] = (columns, found)
    return report("data_loading", args, settings, tables)


if __name__ == "__main__":
    run_main(main)
