#!/usr/bin/env python
"""A training step on a GPU: precision, compilation, memory, utilisation, host syncs, profile, loading of data.

    python benchmarks/gpu_step.py [--shapes student teacher] [--steps 20] [--peak_tflops 989]
    python benchmarks/gpu_step.py --toy            (a tiny shape on the CPU, to see that it runs)

Shapes: codet5p-220m (student, focal + jsd from top-64) and codet5p-770m (teacher, cross-entropy), random weights. Each
case is the product's engine in a process of its own on made-up batches of static length: fp32 with and without TF32,
fp16, bf16, and bf16 compiled; SDPA and fused AdamW throughout. Model-flop utilisation counts the matrix products of
forward and backward (no recomputation) over the GPU's dense peak. Half precision is also judged by its losses: the last
one's distance from fp32's. A profile of bf16 names the costliest kernels; loading runs with 0 and 4 workers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report, spread
from benchmarks.training_step import ReadyMade, build_engine
from benchmarks.workload import build_tokenizer, list_texts, make_rows, write_distillation_file
from utils.errors import UserError, run_main

# d_model, d_ff, heads, d_kv, layers each side, vocabulary, loss components
SHAPES = {
    "student": (768, 3072, 12, 64, 12, 32_100, ["focal", "jsd"]),
    "teacher": (1024, 4096, 16, 64, 24, 32_100, ["ce"]),
    "toy": (96, 256, 3, 32, 1, 2048, ["focal", "jsd"]),
}
CASES = {
    "fp32": ("no", False, False),
    "tf32": ("no", True, False),
    "fp16": ("fp16", True, False),
    "bf16": ("bf16", True, False),
    "bf16, compiled": ("bf16", True, True),
}
COLUMNS = [
    "shape",
    "case",
    "samples/s",
    "x fp32",
    "utilisation",
    "peak MB",
    "syncs a step",
    "loss - fp32's",
    "first 3 steps, s",
]
# Dense peaks of tensor cores in Tflop/s (vendor's data sheets): half precision, TF32, FP32.
PEAKS = {
    "H200": (989, 495, 67),
    "H100": (989, 495, 67),
    "A100": (312, 156, 19.5),
    "V100": (125, 15.7, 15.7),
    "L40": (181, 90.5, 90.5),
    "A10": (125, 62.5, 31.2),
    "T4": (65, 8.1, 8.1),
}


def count_matrix_flops(model, size: Size) -> float:
    """Forward and backward of the products with weights and of attention, for one step."""
    config = model.config
    batch = size.batch_size
    source = size.source
    target = size.target
    width, inner = config.d_model, config.num_heads * config.d_kv
    attention, feed = 4 * width * inner, 2 * width * config.d_ff
    encoder = config.num_layers * (batch * source * (attention + feed) + batch * 2 * source**2 * inner)
    cross = (
        batch * target * 2 * width * inner + batch * source * 2 * width * inner + batch * 2 * source * target * inner
    )
    decoder = config.num_decoder_layers * (batch * target * (attention + feed) + batch * 2 * target**2 * inner + cross)
    return 2.0 * 3.0 * (encoder + decoder + batch * target * width * config.vocab_size)


def make_batch(size: Size, vocabulary: int, seed: int) -> dict:
    """Static lengths, every position a target."""
    import torch

    from data.distillation.signal import TopKSignal
    from models.teacher.forward import encode_topk
    from utils.compress import TAIL_GRID

    batch = size.batch_size
    source = size.source
    target = size.target
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, vocabulary, (batch, target), generator=generator)
    ids, values, mass = encode_topk(torch.randn(batch * target, vocabulary, generator=generator) * 3, 64)
    made = {
        "input_ids": torch.randint(3, vocabulary, (batch, source), generator=generator),
        "attention_mask": torch.ones(batch, source, dtype=torch.long),
        "labels": labels,
        "row_ids": torch.arange(batch),
        "references": ["x"] * batch,
        "teacher": TopKSignal(ids, values, mass, torch.tensor(TAIL_GRID), vocabulary),
    }
    if torch.cuda.is_available():
        made = {key: value.pin_memory() if hasattr(value, "pin_memory") else value for key, value in made.items()}
    return made


@dataclass(frozen=True)
class Size:
    """Of the made-up batches: rows, tokens on each side; and how many steps are timed."""

    batch_size: int
    source: int
    target: int
    steps: int


def build_model(shape: str):
    """A T5 of one of SHAPES with random weights."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    d_model, d_ff, heads, d_kv, layers, vocabulary, _ = SHAPES[shape]
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=d_model,
        d_ff=d_ff,
        num_heads=heads,
        d_kv=d_kv,
        num_layers=layers,
        num_decoder_layers=layers,
        decoder_start_token_id=0,
        pad_token_id=0,
        dropout_rate=0.1,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return T5ForConditionalGeneration(config)


def wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def count_syncs(step: Callable[[int], None]) -> int:
    """How often one step makes the CPU wait for the GPU; the peak of memory counts from here."""
    import torch

    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        step(0)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)


def time_steps(step: Callable[[int], None], steps: int) -> list[float]:
    times = []
    for number in range(steps):
        wait_for_gpu()
        started = time.perf_counter()
        step(number)
        wait_for_gpu()
        times.append(time.perf_counter() - started)
    return times


def profile_step(step: Callable[[int], None]) -> list[list]:
    """The twelve costliest operations of a step: name, calls, milliseconds, share."""
    import torch

    cuda = torch.cuda.is_available()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
    with torch.profiler.profile(activities=kinds) as traced:
        step(0)
        wait_for_gpu()
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(traced.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events) or 1
    return [
        [event.key[:60], event.count, getattr(event, key) / 1e3, getattr(event, key) / total] for event in events[:12]
    ]


def run_case(shape: str, case: str, size: Size) -> dict:
    """Train on made-up batches in this process; see the module."""
    import torch
    from accelerate import Accelerator

    precision, tf32, compiled = CASES[case]
    cuda = torch.cuda.is_available()
    if not cuda:
        precision = "no"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    model = build_model(shape)
    accelerator = Accelerator(cpu=not cuda, mixed_precision=precision)
    model = model.to(accelerator.device)
    flags = {"grad_norm_steps": 0, "logging_steps": 1000, "batch_size": size.batch_size}
    flags |= {"compile": "True"} if compiled else {}
    batches = [make_batch(size, model.config.vocab_size, seed) for seed in range(2)]
    with tempfile.TemporaryDirectory() as name:
        data = ReadyMade(batches)
        engine = build_engine(model, None, SHAPES[shape][-1], data, Path(name), accelerator, **flags)

        def step(number: int) -> None:
            engine.progress.window = engine.progress.epoch = 0
            engine.train_step([(batches[number % len(batches)], True)])

        started = time.perf_counter()
        for number in range(3):
            step(number)
        wait_for_gpu()
        warm_up = time.perf_counter() - started
        syncs = count_syncs(step)
        times = time_steps(step, size.steps)
        profile = profile_step(step) if case == "bf16" else []
        engine.logger.close()
        lines = (Path(name) / "step_metrics.csv").read_text().splitlines()
        loss = float(dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))["loss_total"])
    return {
        "samples_per_second": size.batch_size / spread(times)["median"],
        "step_seconds": spread(times)["median"],
        "first_steps_seconds": warm_up,
        "gflop": count_matrix_flops(model, size) / 1e9,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0,
        "syncs": syncs,
        "loss": loss,
        "precision": precision,
        "parameters": sum(p.numel() for p in model.parameters()),
        "profile": profile,
    }


def time_loading(rows: int, batch: int) -> list[list]:
    """Batches from disk with no worker and with four: samples a second."""
    from benchmarks.workload import parse_student_config
    from data.batches.loader import JsonlTrainingData
    from data.dataset import AssertionDataset
    from data.rows.rejected import RejectedRows

    tokens = build_tokenizer(list_texts(make_rows(300)), "synthetic", 2048)
    found = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "data.jsonl"
        write_distillation_file(path, make_rows(rows), tokens, 2048)
        dataset = AssertionDataset(path, tokens, vocab_size=2048)
        for workers in (0, 4):
            config = parse_student_config(batch_size=batch, num_workers=workers, output_dir=name)
            data = JsonlTrainingData(dataset, config, RejectedRows(Path(name) / "r", path, len(dataset), 0.1))
            batches = data.batches(0, 0)
            next(batches)
            started, count = time.perf_counter(), 0
            for made in batches:
                count += len(made["labels"])
            found.append([workers, count / (time.perf_counter() - started)])
    return [[workers, rate, rate / found[0][1]] for workers, rate in found]


def find_peak(name: str | None, case: str) -> float | None:
    """The GPU's dense peak in Tflop/s for the case's precision; None for an unknown GPU."""
    for key, (half, tf32, single) in PEAKS.items():
        if name and key in name:
            return single if case == "fp32" else tf32 if case == "tf32" else half
    return None


def run_apart(shape: str, case: str, size: Size) -> dict:
    """A case in a process of its own: its result, or the last line of its error."""
    command = [sys.executable, __file__, "--case", shape, case]
    command += [word for name, value in vars(size).items() for word in (f"--{name}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
    if line is None:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(line.removeprefix("RESULT "))


def tabulate(results: dict[tuple[str, str], dict], find: Callable[[str], float | None]) -> dict[str, tuple]:
    """A line for each shape and case, and the profiles. ``find``: the GPU's peak in Tflop/s for a case."""
    lines, profiles = [], {}
    for (shape, case), result in results.items():
        if "error" in result:
            lines.append([shape, case, *[None] * 7])
            continue
        base = next(one for (other, _), one in results.items() if other == shape and "error" not in one)
        peak = find(case)
        lines.append(
            [
                shape,
                case,
                result["samples_per_second"],
                result["samples_per_second"] / base["samples_per_second"],
                result["gflop"] / 1e3 / result["step_seconds"] / peak if peak else None,
                result["peak_mb"],
                result["syncs"],
                abs(result["loss"] - base["loss"]),
                result["first_steps_seconds"],
            ]
        )
        if result["profile"]:
            profiles[f"profile, {shape}, {case}"] = (["operation", "calls", "ms", "share"], result["profile"])
    return {"training step": (COLUMNS, lines), **profiles}


def parse_arguments() -> argparse.Namespace:
    parser = options(__doc__, repeats=20)
    parser.add_argument(
        "--shapes", nargs="+", choices=[s for s in SHAPES if s != "toy"], default=["student", "teacher"]
    )
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--source", type=int, default=256)
    parser.add_argument("--target", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", type=int, default=4000, help="rows of the loading part")
    parser.add_argument("--peak_tflops", type=float, help="half-precision peak of a GPU that the script does not know")
    parser.add_argument("--case", nargs=2, metavar=("SHAPE", "CASE"), help="(internal) one case in this process")
    args = parse(parser)
    if args.toy:
        args.shapes = ["toy"]
        args.batch_size = 2
        args.source = 16
        args.target = 8
        args.steps = 2
        args.rows = 16
    return args


def main() -> int:
    args = parse_arguments()
    import torch

    size = Size(args.batch_size, args.source, args.target, args.steps)
    if args.case:
        print("RESULT " + json.dumps(run_case(*args.case, size)))
        return 0
    if not args.toy and not torch.cuda.is_available():
        raise UserError("gpu_step.py: no CUDA device here; run it on a GPU machine, or --toy to try it on the CPU")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    # A toy case runs in this process, which has imported everything.
    run, cases = (run_case, ("fp32", "bf16")) if args.toy else (run_apart, tuple(CASES))
    results = {(shape, case): run(shape, case, size) for shape in args.shapes for case in cases}

    def find(case: str) -> float | None:
        return args.peak_tflops if args.peak_tflops and case not in ("fp32", "tf32") else find_peak(gpu, case)

    loading = (["workers", "samples/s", "x none"], time_loading(args.rows, args.batch_size))
    tables = {**tabulate(results, find), "loading": loading}
    stored = {
        f"{shape}, {case}": {key: value for key, value in result.items() if key != "profile"}
        for (shape, case), result in results.items()
    }
    settings = vars(size) | {"on": gpu or "CPU (a trial: no GPU figures)"}
    return report("gpu_step", args, settings, tables, cases=stored)


if __name__ == "__main__":
    run_main(main)
