#!/usr/bin/env python
"""Cost against size: time and memory from 1,000 to 1,000,000 rows, and one process against two.

    python benchmarks/scaling.py [--sizes 1000 10000 100000 1000000] [--steps 6] [--model scratch:base]

Sizes: each in its own process, on made-up raw rows: building the index of offsets, opening it again, the plan of
an epoch's batches, drawing an epoch's sample, then reading, tokenising and collating 512 rows of a random order.
Processes: training steps on one core alone, two independent trainings at the same time (what the
shared memory bus costs), and two processes of one training (DistributedDataParallel over gloo: what talking costs),
with gradients summed at each micro-batch and, as by default, at every fourth.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report, spread
from benchmarks.training_step import ReadyMade, build_engine, run_epoch
from benchmarks.workload import build_tokenizer, list_texts, make_rows, write_distillation_file
from utils.errors import run_main

READ = 512


def tokenizer():
    return build_tokenizer(list_texts(make_rows(300)), "synthetic", 2048)


def measure_size(path: Path) -> dict[str, float]:
    """Run in a process of its own: its peak memory is part of the answer."""
    import numpy as np
    import psutil

    from data.batches.collate import Collator
    from data.batches.sampling import micro_batches
    from data.dataset import EpochSamplingDataset
    from data.rows.index import open_index

    def timed(function):
        started = time.perf_counter()
        return function(), time.perf_counter() - started

    tokens = tokenizer()
    base = psutil.Process().memory_info().rss
    index, build = timed(lambda: open_index(path))
    _, again = timed(lambda: open_index(path))
    dataset = EpochSamplingDataset(
        path, tokens, samples_per_epoch=min(1000, len(index)), sampling_seed=1, vocab_size=2048, teacher=False
    )
    lengths = dataset.byte_lengths()
    _, plan = timed(lambda: micro_batches(np.arange(len(dataset)), lengths, 4, seed=0, epoch=0, window=64))
    _, draw = timed(lambda: dataset.rows_of_epoch(1))
    order = np.random.default_rng(0).permutation(len(dataset))[:READ]
    collate = Collator(tokens.pad_token_id, {})

    def read() -> None:
        for start in range(0, len(order), 4):
            collate([dataset[int(row)] for row in order[start : start + 4]])

    read()
    _, reading = timed(read)
    return {
        "rows": len(index),
        "mb": path.stat().st_size / 1e6,
        "index_us_per_row": 1e6 * build / len(index),
        "reopen_ms": 1e3 * again,
        "plan_us_per_row": 1e6 * plan / len(dataset),
        "draw_1000_ms": 1e3 * draw,
        "read_us_per_sample": 1e6 * reading / len(order),
        "memory_mb": (psutil.Process().memory_info().rss - base) / 1e6,
    }


def train(steps: int, model_name: str, accumulated: int) -> dict[str, float]:
    """Micro-batches of one process (under torchrun: of several) on ready-made batches of its own."""
    import torch

    from data.batches.collate import Collator
    from data.dataset import AssertionDataset
    from models.seq2seq.loading import build_scratch, scratch_size

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(
            0, {cores[int(os.environ.get("BENCH_CORE", os.environ.get("LOCAL_RANK", "0"))) % len(cores)]}
        )
    tokens = tokenizer()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "data.jsonl"
        write_distillation_file(path, make_rows(32), tokens, 2048)
        dataset = AssertionDataset(path, tokens, vocab_size=2048)
        collate = Collator(tokens.pad_token_id, dataset.shared)
        batches = [collate([dataset[4 * i + j] for j in range(4)]) for i in range(4)]

        class Shared(ReadyMade):
            def micro_batches(self, epoch: int) -> int:
                return world * len(self.ready)

        model = build_scratch(scratch_size(model_name), tokens, dropout_rate=0.1, attention="sdpa", seed=0)
        engine = build_engine(
            model,
            tokens,
            ["focal", "jsd"],
            Shared(batches),
            Path(name),
            batch_size=4,
            grad_norm_steps=0,
            gradient_accumulation_steps=accumulated,
        )
        run_epoch(engine)
        times = []
        for _ in range(max(1, steps // len(batches))):
            started = time.perf_counter()
            run_epoch(engine)
            times.append((time.perf_counter() - started) / len(batches))
        if world > 1:
            torch.distributed.destroy_process_group()
    parameters = sum(p.numel() for p in model.parameters())
    return {"seconds": spread(times)["median"], "parameters": parameters}


def child(*arguments: str, prefix: tuple[str, ...] = (), core: int | None = None) -> subprocess.Popen:
    env = os.environ | {"OMP_NUM_THREADS": "1"} | ({"BENCH_CORE": str(core)} if core is not None else {})
    command = [sys.executable, *prefix, str(Path(__file__).resolve()), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)


def answers(*processes: subprocess.Popen) -> list[dict]:
    """The JSON objects that the processes print; two of one torchrun may share a line."""
    found = []
    for process in processes:
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(err[-2000:])
        found += [json.loads(text) for text in re.findall(r"\{[^{}]*\}", out)]
    return found


def size_tables(args) -> dict[str, tuple]:
    """What a file of each size costs."""
    sizes = []
    with tempfile.TemporaryDirectory() as name:
        for size in args.sizes:
            path = Path(name) / f"{size}.jsonl"
            with open(path, "w", encoding="utf-8") as handle:
                handle.writelines(json.dumps(row) + "\n" for row in make_rows(size))
            sizes += [measure_size(path)] if args.toy else answers(child("--measure_size", str(path)))
            path.unlink()
    columns = list(sizes[0])
    return {"file size": (columns, [[row[column] for column in columns] for row in sizes])}


def process_tables(args) -> tuple[dict[str, tuple], dict[str, list[float]], int]:
    """One process, two apart, two together; the turns, and the model's parameters."""
    work = ("--train", "--steps", str(args.steps), "--model", args.model)
    often = (*work, "--accumulated", "4")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    runs = {
        "one process": lambda: [child(*work, core=0)],
        "two apart": lambda: [child(*work, core=0), child(*work, core=1)],
        "two together": lambda: [child(*work, prefix=torchrun)],
        "one process, 4 accumulated": lambda: [child(*often, core=0)],
        "two together, 4 accumulated": lambda: [child(*often, prefix=torchrun)],
    }
    turns: dict[str, list[float]] = {case: [] for case in runs}
    parameters = 0
    for _ in range(args.repeats):
        for case, start in runs.items():
            found = answers(*start())
            parameters = found[0]["parameters"]
            turns[case].append(max(answer["seconds"] for answer in found))
    medians = {case: spread(values)["median"] for case, values in turns.items()}
    lines = []
    for case, seconds in medians.items():
        processes = 1 + case.startswith("two")
        base = medians["one process, 4 accumulated" if "accumulated" in case else "one process"]
        lines.append([case, seconds, 4 * processes / seconds, processes * base / seconds])
    alone, apart, together = (medians[case] for case in ("one process", "two apart", "two together"))
    lost = {
        "to the shared memory bus": 1 - alone / apart,
        "to talking and waiting, at each micro-batch": alone / apart - alone / together,
        "to talking and waiting, at every fourth": alone / apart
        - medians["one process, 4 accumulated"] / medians["two together, 4 accumulated"],
    }
    tables = {
        "processes (batch 4 each)": (["case", "seconds a micro-batch", "samples/s", "speed-up"], lines),
        "where the second core's time goes": (["lost of two cores' time", "share"], [[k, v] for k, v in lost.items()]),
    }
    return tables, turns, parameters


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--model", default="scratch:base")
    parser.add_argument("--part", choices=("sizes", "processes", "both"), default="both")
    parser.add_argument("--measure_size", type=Path, help="(internal) a file to measure")
    parser.add_argument("--train", action="store_true", help="(internal) train as one process")
    parser.add_argument("--accumulated", type=int, default=1, help="(internal) micro-batches of a step")
    args = parse(parser)
    if args.measure_size:
        print(json.dumps(measure_size(args.measure_size)))
        return 0
    if args.train:
        print(json.dumps(train(args.steps, args.model, args.accumulated)), flush=True)
        return 0
    if args.toy:
        args.sizes = [100, 1000]
        args.steps = 4
        args.model = "scratch:tiny"
        args.repeats = 1
    tokenizer()
    tables: dict[str, tuple] = {}
    if args.part != "processes":
        tables |= size_tables(args)
    turns: dict[str, list[float]] = {}
    parameters = None
    if args.part != "sizes":
        found, turns, parameters = process_tables(args)
        tables |= found
    settings = {
        "model": args.model,
        "parameters": parameters,
        "vocabulary": 2048,
        "steps": args.steps,
        "turns": args.repeats,
    }
    return report("scaling", args, settings, tables, turns=turns)


if __name__ == "__main__":
    run_main(main)
