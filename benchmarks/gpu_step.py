#!/usr/bin/env python
"""A training step on a GPU, lever by lever: time, GPU busy, launches, memory, share of the peak.

    python benchmarks/gpu_step.py [--shape 220m] [--cases NAME ...] [--budget 120] [--output FILE]
    python benchmarks/gpu_step.py --toy            (a tiny shape on the CPU, to see that it runs)

Random weights, made-up batches of static length, every position a target. "bare": the Hugging Face model's own loss,
clipping and fused AdamW. "trainer": Seq2SeqTrainer with the dense logits of a teacher on the GPU already. All other
cases are the product's engine with its logs. Wall time is the mean of a block of steps; GPU time and launches are of
one profiled step; memory is what torch reserved, since a recorded graph keeps its memory. TFLOP/s count matrix products
of forward and backward. The result is stored after each case, so that a limit of time loses only what did not run. Exit
code 1: a case failed, or no time was left for it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_workload import SHAPES, Shape, build_model, device_name, free_memory, make_batch, wait_for_gpu
from benchmarks.measuring import NOT_RUN, options, parse, report
from benchmarks.training_step import ReadyMade, build_engine, compute_kd_loss
from utils.errors import UserError, run_main

PAIR, CE, TRIDENT = ("focal", "jsd"), ("ce",), ("focal", "jsd", "semantic")


@dataclass(frozen=True)
class Case:
    """What is on: precision, loss components, flags of the run; parts that are switched off (see ``switched_off``)."""

    precision: str = "bf16"
    components: tuple[str, ...] = PAIR
    flags: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()
    tf32: bool = True
    deterministic: bool = True
    peer: str | None = None


CASES = {
    "bare, bf16 autocast": Case(peer="bare", deterministic=False),
    "bf16": Case(),
    "Seq2SeqTrainer, bf16": Case(peer="trainer", deterministic=False),
    "bf16, no graphs": Case(flags=(("cuda_graphs", "False"),)),
    "bf16, not deterministic": Case(deterministic=False),
    "bf16, cross-entropy alone": Case(components=CE),
    "bf16, Trident": Case(components=TRIDENT),
    "bf16, SDPA": Case(flags=(("attention", "sdpa"),)),
    "bf16, plain norms": Case(without=("norms",)),
    "bf16, all kept for backward": Case(without=("lean",)),
    "bf16, autocast": Case(without=("copy",)),
    "fp16": Case("fp16"),
    "tf32": Case("no"),
    "fp32": Case("no", tf32=False),
    "bare, fp32": Case("no", peer="bare", deterministic=False, tf32=False),
    "bare, fp16 autocast": Case("fp16", peer="bare", deterministic=False),
    "bf16, compiled": Case(flags=(("compile", "True"),)),
}
# The cases that a CPU runs in seconds.
TOY = ("bare, bf16 autocast", "bf16", "Seq2SeqTrainer, bf16", "fp32", "bf16, autocast", "bf16, Trident")
COLUMNS = [
    "case",
    "ms a step",
    "x bare",
    "GPU ms",
    "busy",
    "launches",
    "TFLOP/s",
    "of peak",
    "peak MB",
    "syncs",
    "loss - fp32's",
    "first step, s",
]
# Dense peaks of tensor cores in TFLOP/s (vendor's data sheets): half precision, TF32, FP32.
PEAKS = {
    "H200": (989, 495, 67),
    "H100": (989, 495, 67),
    "A100": (312, 156, 19.5),
    "V100": (125, 15.7, 15.7),
    "L40": (181, 90.5, 90.5),
    "A10": (125, 62.5, 31.2),
    "T4": (65, 8.1, 8.1),
}


def count_matrix_flops(shape: Shape) -> float:
    """Forward and backward of the products with weights and of attention, for one step."""
    batch, source, target = shape.batch_size, shape.source, shape.target
    width, inner = shape.d_model, shape.heads * shape.d_kv
    attention, feed = 4 * width * inner, 2 * width * shape.d_ff
    encoder = shape.layers * (batch * source * (attention + feed) + batch * 2 * source**2 * inner)
    cross = (
        batch * target * 2 * width * inner + batch * source * 2 * width * inner + batch * 2 * source * target * inner
    )
    decoder = shape.layers * (batch * target * (attention + feed) + batch * 2 * target**2 * inner + cross)
    return 2.0 * 3.0 * (encoder + decoder + batch * target * width * shape.vocabulary)


def count_syncs(step: Callable[[int], Any]) -> int:
    """How often one step makes the CPU wait for the GPU."""
    import torch

    if not torch.cuda.is_available():
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        step(0)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)


def profile_step(step: Callable[[int], Any]) -> dict[str, Any]:
    """One step under the profiler: the GPU's milliseconds, kernels, launches, and the costliest kernels."""
    import torch
    from torch.autograd import DeviceType

    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with torch.profiler.profile(activities=kinds) as traced:
        step(0)
        wait_for_gpu()
    total, kernels, launches, by_name = 0.0, 0, 0, {}
    for event in traced.events():
        if event.device_type == DeviceType.CUDA and not event.name.startswith("Optimizer.step"):
            spent = event.time_range.elapsed_us() / 1e3
            total, kernels = total + spent, kernels + 1
            calls, ms = by_name.get(event.name, (0, 0.0))
            by_name[event.name] = (calls + 1, ms + spent)
        elif "Launch" in event.name and event.name.startswith("cu"):
            launches += 1
    costly = sorted(by_name.items(), key=lambda item: -item[1][1])[:60]
    return {
        "gpu_ms": total,
        "kernels": kernels,
        "launches": launches,
        "costly": [[name[:90], calls, ms] for name, (calls, ms) in costly],
    }


def build_bare(case: Case, shape: Shape, batches: list[dict]) -> Callable[[int], float | None]:
    """The Hugging Face step: labels in, loss out, clipping, fused AdamW."""
    import torch

    from models.seq2seq.inputs import to_device
    from utils.training_utils import group_by_decay

    device = torch.device(device_name())
    model = build_model(shape).train()
    optimizer = torch.optim.AdamW(group_by_decay(model, 0.01), lr=5e-5, fused=True)
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}
    scaler = torch.amp.GradScaler(device.type, enabled=case.precision == "fp16" and device.type == "cuda")

    def step(number: int) -> None:
        batch = to_device(batches[number % len(batches)], device)
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}
        with torch.autocast(device.type, kinds[case.precision], enabled=case.precision != "no"):
            loss = model(**inputs).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def build_trainer_step(case: Case, shape: Shape, batches: list[dict]) -> Callable[[int], float | None]:
    """``Seq2SeqTrainer.training_step``, clipping and its optimiser, on batches with dense logits of the teacher."""
    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    cuda = device_name() == "cuda"

    class DistillationTrainer(Seq2SeqTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return compute_kd_loss(model, inputs)[0]

    model = build_model(shape)
    arguments = Seq2SeqTrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=shape.batch_size,
        bf16=case.precision == "bf16" and cuda,
        use_cpu=not cuda,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        optim="adamw_torch_fused",
        remove_unused_columns=False,
    )
    trainer = DistillationTrainer(model=model, args=arguments, train_dataset=[{}])
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # what its own loop sets
    wrapped, optimizer = trainer.accelerator.prepare(model, trainer.optimizer)
    dense = torch.randn(shape.batch_size, shape.target, shape.vocabulary, device=device_name()).half()

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "labels")} | {"teacher_logits": dense}
        trainer.training_step(wrapped, inputs, None)
        trainer.accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def build_ours(case: Case, shape: Shape, batches: list[dict], folder: Path) -> Callable[[int], float | None]:
    """The engine's whole step."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    cuda = device_name() == "cuda"
    precision = case.precision if cuda or case.precision != "fp16" else "no"
    AcceleratorState._reset_state(reset_partial_state=False)  # the precision of the case before
    accelerator = Accelerator(cpu=not cuda, mixed_precision=precision)
    flags = {"grad_norm_steps": 0, "logging_steps": 1000, "batch_size": shape.batch_size, **dict(case.flags)}
    engine = build_engine(
        build_model(shape), None, list(case.components), ReadyMade(batches), folder, accelerator, **flags
    )
    losses: list[float] = []
    record, engine.logger.step = engine.logger.step, lambda row: (losses.append(row["loss_total"]), record(row))

    def step(number: int) -> float:
        engine.progress.window = engine.progress.epoch = 0
        engine.train_step([(batches[number % len(batches)], True)])
        return losses[-1]

    step.engine = engine  # type: ignore[attr-defined]
    return step


def switched_off(parts: tuple[str, ...]) -> contextlib.ExitStack:
    """Without these parts of the product: norms in one kernel, the bf16 copy, keeping less for backward."""
    from models.seq2seq.fast_parts import use_fast_parts

    instead = {
        "norms": ("models.training.passes.use_fast_parts", functools.partial(use_fast_parts, norms=False)),
        "copy": ("models.training.passes.half_copy", lambda model: model),
        "lean": ("models.seq2seq.fast_parts.lean", lambda module, rate: False),
    }
    stack = contextlib.ExitStack()
    for part in parts:
        stack.enter_context(patch(*instead[part]))
    return stack


def run_case(case: Case, shape: Shape, batches: list[dict], steps: int, precise: bool) -> dict[str, Any]:
    """Time one case; ``precise``: with a profile."""
    import torch

    from utils.seeding import seed_everything

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.tf32
    seed_everything(42, case.deterministic)
    free_memory()
    with tempfile.TemporaryDirectory() as name, switched_off(case.without):
        started = time.perf_counter()
        if case.peer:
            step = (build_bare if case.peer == "bare" else build_trainer_step)(case, shape, batches)
        else:
            step = build_ours(case, shape, batches, Path(name))
        wait_for_gpu()
        built = time.perf_counter() - started
        started = time.perf_counter()
        losses = [step(0)]
        wait_for_gpu()
        first = time.perf_counter() - started
        losses += [step(number) for number in range(1, 5)]
        wait_for_gpu()
        warm_up = time.perf_counter() - started
        free_memory()
        started = time.perf_counter()
        losses += [step(number) for number in range(5, 5 + steps)]
        wait_for_gpu()
        seconds = (time.perf_counter() - started) / steps
        cuda = torch.cuda.is_available()
        result = {
            "step_seconds": seconds,
            "build_seconds": built,
            "first_step_seconds": first,
            "first_steps_seconds": warm_up,
            "peak_mb": torch.cuda.max_memory_reserved() / 2**20 if cuda else 0.0,
            "peak_allocated_mb": torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0,
            "loss": losses[-1],
            "syncs": count_syncs(step),
            "profile": profile_step(step) if precise else None,
        }
        if engine := getattr(step, "engine", None):
            result["graphs"] = getattr(engine.through, "graphs", 0)
            engine.logger.close()
    return result


def find_peak(name: str | None, case: Case) -> float | None:
    """The GPU's dense peak in TFLOP/s for the case's precision; None for an unknown GPU."""
    for key, (half, tf32, single) in PEAKS.items():
        if name and key in name:
            return half if case.precision != "no" else tf32 if case.tf32 else single
    return None


def tabulate(results: dict[str, dict], shape: Shape, gpu: str | None) -> tuple[list[str], list[list]]:
    """A line for each case that ran."""
    fine = {name: result for name, result in results.items() if "error" not in result}
    bare, exact = fine.get("bare, bf16 autocast"), fine.get("fp32")
    lines = []
    for name, result in fine.items():
        seconds, profile = result["step_seconds"], result["profile"] or {}
        rate = count_matrix_flops(shape) / seconds / 1e12
        peak, busy = find_peak(gpu, CASES[name]), profile.get("gpu_ms")
        ours = exact is not None and not CASES[name].peer and CASES[name].components == PAIR
        lines.append(
            [
                name,
                1e3 * seconds,
                bare["step_seconds"] / seconds if bare else None,
                busy,
                busy / (1e3 * seconds) if busy else None,
                profile.get("launches"),
                rate,
                rate / peak if peak else None,
                result["peak_mb"],
                result["syncs"],
                abs(result["loss"] - exact["loss"]) if ours and exact else None,
                result["first_step_seconds"],
            ]
        )
    return COLUMNS, lines


def parse_arguments() -> argparse.Namespace:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--shape", choices=[name for name in SHAPES if name != "toy"], default="220m")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE")
    parser.add_argument("--steps", type=int, default=12)
    args = parse(parser)
    if args.toy:
        args.shape, args.steps = "toy", 2
        args.cases = [name for name in args.cases if name in TOY]
        if not args.cases:
            raise UserError(f"gpu_step.py: with --toy, --cases must name one of: {'; '.join(TOY)}")
    return args


def main() -> int:
    began = time.perf_counter()
    args = parse_arguments()
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    cuda = torch.cuda.is_available()
    if not args.toy and not cuda:
        raise UserError("gpu_step.py: no CUDA device here; run it on a GPU machine, or --toy to try it on the CPU")
    gpu = torch.cuda.get_device_name() if cuda else None
    shape = SHAPES[args.shape]
    batches = [make_batch(shape, seed) for seed in range(2)]
    settings = {"shape": args.shape, "steps": args.steps, "on": gpu or "CPU (a trial: no GPU figures)"}
    results: dict[str, dict] = {name: {"error": NOT_RUN} for name in args.cases}

    def store() -> None:
        tables = {f"training step, {args.shape}": tabulate(results, shape, gpu)}
        report("gpu_step", args, settings, tables, gflop=count_matrix_flops(shape) / 1e9, cases=results)

    for name in args.cases:
        if time.perf_counter() - began > args.budget:
            break
        try:
            results[name] = run_case(CASES[name], shape, batches, args.steps, precise=cuda)
        except Exception as error:  # the other cases go on
            results[name] = {"error": f"{type(error).__name__}: {error}"[:2000]}
        with contextlib.redirect_stdout(None):
            store()
    store()
    failed = {name: result["error"] for name, result in results.items() if "error" in result}
    for name, error in failed.items():
        print(f"{name}: {error[:500]}")
    return int(bool(failed))


if __name__ == "__main__":
    run_main(main)
