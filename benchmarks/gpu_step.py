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

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report, spread
from benchmarks.training_step import ReadyMade, engine_of
from benchmarks.workload import synthetic_rows, texts_of, tokenizer_of, write_distillation_file
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


def matrix_flops(model, batch: int, source: int, target: int, positions: int) -> float:
    """Forward and backward of the products with weights and of attention, for one step."""
    config = model.config
    width, inner = config.d_model, config.num_heads * config.d_kv
    attention, feed = 4 * width * inner, 2 * width * config.d_ff
    encoder = config.num_layers * (batch * source * (attention + feed) + batch * 2 * source**2 * inner)
    cross = (
        batch * target * 2 * width * inner + batch * source * 2 * width * inner + batch * 2 * source * target * inner
    )
    decoder = config.num_decoder_layers * (batch * target * (attention + feed) + batch * 2 * target**2 * inner + cross)
    return 2.0 * 3.0 * (encoder + decoder + positions * width * config.vocab_size)


def made_up_batch(batch: int, source: int, target: int, vocabulary: int, seed: int) -> dict:
    """Static lengths, every position a target."""
    import torch

    from data.distillation.signal import TopKSignal
    from models.teacher.forward import encode_topk
    from utils.compress import TAIL_GRID

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


def run_case(shape: str, case: str, batch: int, source: int, target: int, steps: int, profile: bool) -> dict:
    """Train on made-up batches in this process; see the module."""
    import torch
    from accelerate import Accelerator
    from transformers import T5Config, T5ForConditionalGeneration

    d_model, d_ff, heads, d_kv, layers, vocabulary, components = SHAPES[shape]
    precision, tf32, compiled = CASES[case]
    cuda = torch.cuda.is_available()
    if not cuda:
        precision = "no"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
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
    )
    config._attn_implementation = "sdpa"
    accelerator = Accelerator(cpu=not cuda, mixed_precision=precision)
    model = T5ForConditionalGeneration(config).to(accelerator.device)
    flags = {"compile": "True"} if compiled else {}
    batches = [made_up_batch(batch, source, target, vocabulary, seed) for seed in range(2)]
    with tempfile.TemporaryDirectory() as name:
        engine = engine_of(
            model,
            None,
            components,
            ReadyMade(batches),
            Path(name),
            batch,
            len(batches),
            accelerator=accelerator,
            grad_norm_steps=0,
            logging_steps=1000,
            **flags,
        )

        def step(number: int) -> None:
            engine.progress.window = engine.progress.epoch = 0
            engine.train_step([(batches[number % len(batches)], True)])

        def wait() -> None:
            if cuda:
                torch.cuda.synchronize()

        started = time.perf_counter()
        for number in range(3):
            step(number)
        wait()
        warm_up = time.perf_counter() - started
        syncs = 0
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.set_sync_debug_mode("warn")
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                step(0)
            syncs = sum("synchroniz" in str(warning.message) for warning in seen)
            torch.cuda.set_sync_debug_mode("default")
        times = []
        for number in range(steps):
            wait()
            started = time.perf_counter()
            step(number)
            wait()
            times.append(time.perf_counter() - started)
        top = []
        if profile:
            kinds = [torch.profiler.ProfilerActivity.CPU]
            kinds += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
            with torch.profiler.profile(activities=kinds) as traced:
                step(0)
                wait()
            key = "self_device_time_total" if cuda else "self_cpu_time_total"
            events = sorted(traced.key_averages(), key=lambda event: -getattr(event, key))
            total = sum(getattr(event, key) for event in events) or 1
            top = [
                [event.key[:60], event.count, getattr(event, key) / 1e3, getattr(event, key) / total]
                for event in events[:12]
            ]
        engine.logger.close()
        lines = (Path(name) / "step_metrics.csv").read_text().splitlines()
        loss = float(dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))["loss_total"])
    return {
        "samples_per_second": batch / spread(times)["median"],
        "step_seconds": spread(times)["median"],
        "first_steps_seconds": warm_up,
        "gflop": matrix_flops(model, batch, source, target, batch * target) / 1e9,
        "peak_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0,
        "syncs": syncs,
        "loss": loss,
        "precision": precision,
        "parameters": sum(p.numel() for p in model.parameters()),
        "profile": top,
    }


def loading(rows: int, batch: int) -> list[list]:
    """Batches from disk with no worker and with four: samples a second."""
    from benchmarks.workload import student_config
    from data.batches.loader import JsonlTrainingData
    from data.dataset import AssertionDataset
    from data.rows.rejected import RejectedRows

    tokens = tokenizer_of(texts_of(synthetic_rows(300)), "synthetic", 2048)
    found = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "data.jsonl"
        write_distillation_file(path, synthetic_rows(rows), tokens, 2048)
        dataset = AssertionDataset(path, tokens, vocab_size=2048)
        for workers in (0, 4):
            config = student_config(batch_size=batch, num_workers=workers, output_dir=name)
            data = JsonlTrainingData(dataset, config, RejectedRows(Path(name) / "r", path, len(dataset), 0.1))
            batches = data.batches(0, 0)
            next(batches)
            started, count = time.perf_counter(), 0
            for made in batches:
                count += len(made["labels"])
            found.append([workers, count / (time.perf_counter() - started)])
    return [[workers, rate, rate / found[0][1]] for workers, rate in found]


def peak_of(name: str | None, case: str) -> float | None:
    """The GPU's dense peak in Tflop/s for the case's precision; None for an unknown GPU."""
    for key, (half, tf32, single) in PEAKS.items():
        if name and key in name:
            return single if case == "fp32" else tf32 if case == "tf32" else half
    return None


def main() -> int:
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
    import torch

    if args.toy:
        args.shapes, args.batch_size, args.source, args.target, args.steps, args.rows = ["toy"], 2, 16, 8, 2, 16
    if args.case:
        shape, case = args.case
        result = run_case(shape, case, args.batch_size, args.source, args.target, args.steps, case == "bf16")
        print("RESULT " + json.dumps(result))
        return 0
    if not args.toy and not torch.cuda.is_available():
        raise UserError("gpu_step.py: no CUDA device here; run it on a GPU machine, or --toy to try it on the CPU")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    numbers = ("batch_size", "source", "target", "steps")
    lines, profiles, stored = [], {}, {}
    for shape in args.shapes:
        base = None
        for case in CASES if not args.toy else ("fp32", "bf16"):
            if args.toy:  # in this process, which has imported everything
                result = run_case(shape, case, args.batch_size, args.source, args.target, args.steps, case == "bf16")
            else:
                command = [sys.executable, __file__, "--case", shape, case]
                command += [word for name in numbers for word in (f"--{name}", str(getattr(args, name)))]
                done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
                line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
                if line is None:
                    lines.append([shape, case, *[None] * 7])
                    stored[f"{shape}, {case}"] = {"error": done.stderr.strip().splitlines()[-1:]}
                    continue
                result = json.loads(line.removeprefix("RESULT "))
            peak = args.peak_tflops if args.peak_tflops and case not in ("fp32", "tf32") else peak_of(gpu, case)
            utilisation = result["gflop"] / 1e3 / result["step_seconds"] / peak if peak else None
            base = base or result
            lines.append(
                [
                    shape,
                    case,
                    result["samples_per_second"],
                    result["samples_per_second"] / base["samples_per_second"],
                    utilisation,
                    result["peak_mb"],
                    result["syncs"],
                    abs(result["loss"] - base["loss"]),
                    result["first_steps_seconds"],
                ]
            )
            if result["profile"]:
                profiles[f"profile, {shape}, {case}"] = (["operation", "calls", "ms", "share"], result["profile"])
            stored[f"{shape}, {case}"] = {key: value for key, value in result.items() if key != "profile"}
    columns = [
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
    tables = {
        "training step": (columns, lines),
        **profiles,
        "loading": (["workers", "samples/s", "x none"], loading(args.rows, args.batch_size)),
    }
    settings = {name: getattr(args, name) for name in numbers} | {"on": gpu or "CPU (a trial: no GPU figures)"}
    return report("gpu_step", args, settings, tables, cases=stored)


if __name__ == "__main__":
    run_main(main)
