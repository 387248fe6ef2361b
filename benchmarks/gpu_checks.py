#!/usr/bin/env python
"""Is training right on this GPU? The same bytes twice, after a resume, with and without graphs; compiled and plain.

    python benchmarks/gpu_checks.py [--checks NAME ...] [--output FILE]      (--toy: on the CPU)
    python benchmarks/gpu_checks.py --checks "half weights" --steps 2000 --budget 1800        (on a CPU too)

Each check trains a tiny T5 on batches of several lengths and hashes all its weights. Exit code 1: one failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_step import Shape, build_model, device_name, make_batch
from benchmarks.measuring import options, parse, report
from benchmarks.training_step import ReadyMade, build_engine
from utils.errors import UserError, run_main

TINY = Shape(128, 512, 4, 2, 2048, 8, 64, 16, 32)
SMALL = Shape(64, 256, 2, 2, 256, 8, 16, 16, 32)
LENGTHS = [(40, 9), (61, 14), (33, 7), (64, 16), (90, 12)]
STEPS, TOY_STEPS = 20, 4


@dataclass(frozen=True)
class Run:
    """A training to repeat."""

    precision: str = "no"
    components: tuple[str, ...] = ("focal", "jsd")
    flags: tuple[tuple[str, str], ...] = ()
    steps: int | None = None  # None: as many as the check takes

    def with_flags(self, **flags: str) -> Run:
        return replace(self, flags=(*self.flags, *flags.items()))


class NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        """A made-up vocabulary has none."""


def new_engine(run: Run, folder: Path, shape: Shape = TINY, dropout: float = 0.1, batches: list | None = None):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from utils.seeding import seed_everything

    cuda = device_name() == "cuda"
    AcceleratorState._reset_state(reset_partial_state=False)
    precision = run.precision if cuda or run.precision != "fp16" else "no"
    accelerator = Accelerator(cpu=not cuda, mixed_precision=precision)
    seed_everything(42, deterministic=True)
    folder.mkdir(parents=True, exist_ok=True)
    flags = {"lr": "1e-3", "grad_norm_steps": 7, "logging_steps": 1000, **dict(run.flags)}
    flags["gradient_checkpointing"] = flags.get("gradient_checkpointing", "False")
    model = build_model(shape, dropout_rate=dropout)
    if flags["gradient_checkpointing"] == "True":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    batches = batches or [make_batch(shape, seed, lengths) for seed, lengths in enumerate(LENGTHS * 4)]
    return build_engine(model, NoTokenizer(), list(run.components), ReadyMade(batches), folder, accelerator, **flags)


def advance(engine, steps: int) -> None:
    for window in engine.epoch():
        if engine.progress.step >= steps:
            return
        engine.train_step(window)


def fingerprint(engine) -> str:
    digest = hashlib.sha256()
    for name, tensor in engine.bare_model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def train(run: Run, folder: Path, stop: int | None = None, **making: Any) -> tuple[str, dict[str, Any]]:
    """The hash of the weights after all steps; with ``stop``, saved there and gone on with by a new engine.

    making: goes to ``new_engine``.
    """
    engine = new_engine(run, folder, **making)
    losses: list[float] = []
    record, engine.logger.step = engine.logger.step, lambda row: (losses.append(row["loss_total"]), record(row))
    steps = min(run.steps or (STEPS if device_name() == "cuda" else TOY_STEPS), engine.plan.steps_per_epoch[0])
    advance(engine, stop or steps)
    if stop:
        engine.save()
        engine.logger.close()
        engine = new_engine(run, folder, **making)
        engine.restore(sorted(folder.glob("checkpoint-*"))[-1])
        advance(engine, steps)
    engine.logger.close()
    return fingerprint(engine), {"graphs": getattr(engine.through, "graphs", None), "losses": losses}


def same_bytes(run: Run) -> dict[str, Any]:
    """Twice, resumed in the middle, and without graphs (padded alike): all hashes must be equal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, facts = train(run, folder / "first")
        found = {"first": first, "again": train(run, folder / "again")[0]}
        found["resumed"] = train(run, folder / "resumed", stop=9 if device_name() == "cuda" else 2)[0]
        if facts["graphs"]:
            from unittest.mock import patch

            with patch("models.training.passes.MAX_GRAPHS", 0):
                found["without graphs"] = train(run, folder / "without")[0]
    return {"ok": len(set(found.values())) == 1, "hashes": found, **facts}


def recording_fails(run: Run) -> dict[str, Any]:
    """The second shape cannot be recorded: the run says so, goes on, and ends with the same bytes."""
    import torch

    from models.training import passes

    record, made = passes.Graph.__init__, []

    def fail(graph, function, pool):
        def spoiled():
            made.append(1)
            if len(made) == 3:
                torch.cuda.synchronize()
            return function()

        record(graph, spoiled, pool)

    with tempfile.TemporaryDirectory() as name:
        found = {"recorded": train(run, Path(name) / "recorded")[0]}
        passes.Graph.__init__ = fail  # type: ignore[method-assign]
        found["failed"], facts = train(run, Path(name) / "failed")
    return {"ok": len(set(found.values())) == 1 and facts["graphs"] == 0, "hashes": found, **facts}


def compiled(run: Run) -> dict[str, Any]:
    """The loss of the first step without dropout, compiled and not; seconds to compile; then ``same_bytes``."""
    with tempfile.TemporaryDirectory() as name:
        values, seconds = {}, {}
        for flag in ("False", "True"):
            engine = new_engine(run.with_flags(compile=flag), Path(name) / flag, dropout=0.0)
            started = time.perf_counter()
            window = next(iter(engine.epoch()))
            values[flag] = engine.step(window, 0, 1e-3, engine.plan.loss_progress(0)).loss
            seconds[flag] = time.perf_counter() - started
            engine.logger.close()
    close = abs(values["True"] - values["False"]) < 2e-2 * abs(values["False"])
    rest = same_bytes(run.with_flags(compile="True"))
    return {**rest, "ok": close and rest["ok"], "first_losses": values, "first_step_seconds": seconds}


def compile_large(run: Run) -> dict[str, Any]:
    """How long the first compiled steps of 220M parameters take; fills the cache for the table of steps."""
    from benchmarks.gpu_step import CASES, SHAPES, run_case

    shape = SHAPES["220m" if device_name() == "cuda" else "toy"]
    result = run_case(CASES["bf16, compiled"], shape, [make_batch(shape, seed) for seed in range(2)], 2, False)
    return {"ok": True, "first_steps_seconds": result["first_steps_seconds"], "losses": [result["loss"]]}


def make_chains(shape: Shape, count: int) -> list[dict]:
    """Batches whose labels follow a random chain, each token having four likely successors: there is much to learn."""
    import torch

    generator = torch.Generator().manual_seed(0)
    following = torch.randint(3, shape.vocabulary, (shape.vocabulary, 4), generator=generator)
    batches = []
    for seed in range(count):
        batch = make_batch(shape, seed)
        labels = batch["labels"].clone()
        for place in range(1, shape.target):
            choice = torch.randint(4, (shape.batch_size,), generator=generator)
            labels[:, place] = following[labels[:, place - 1], choice]
        batches.append(batch | {"labels": labels, "teacher": None})
    return batches


def half_weights(run: Run) -> dict[str, Any]:
    """Losses in bf16 and fp32, means of twentieths of the steps; whether a resumed bf16 run ends with equal bytes."""
    cuda = device_name() == "cuda"
    run = replace(run, steps=run.steps or (600 if cuda else 10 * TOY_STEPS))
    batches, block = make_chains(SMALL, run.steps), run.steps // 20
    prints, means = {}, {}
    with tempfile.TemporaryDirectory() as name:
        for precision, stop in (("no", None), ("bf16", None), ("bf16", run.steps // 2), ("fp16", None))[: 3 + cuda]:
            title = f"{precision}, resumed" if stop else precision
            one = replace(run, precision=precision)
            prints[title], facts = train(one, Path(name) / title, stop, shape=SMALL, dropout=0.0, batches=batches)
            losses = facts["losses"]
            means[title] = [sum(losses[i : i + block]) / block for i in range(0, len(losses), block)]
    gaps = [abs(half / exact - 1.0) for half, exact in zip(means["bf16"], means["no"], strict=True)]
    resumed = prints["bf16"] == prints["bf16, resumed"]
    found = {"steps": run.steps, "largest_gap": max(gaps), "last_gap": gaps[-1], "resumed_equal": resumed}
    return {"ok": max(gaps) < 0.02 and resumed, "losses": means["bf16"][-1:], **found, "means": means}


CHECKS: dict[str, tuple[Callable[[Run], dict[str, Any]], Run]] = {
    "fp32": (same_bytes, Run()),
    "fp32, SDPA, no graphs": (same_bytes, Run(flags=(("attention", "sdpa"), ("cuda_graphs", "False")))),
    "bf16": (same_bytes, Run("bf16")),
    "bf16 once more": (same_bytes, Run("bf16")),
    "bf16, SDPA": (same_bytes, Run("bf16", flags=(("attention", "sdpa"),))),
    "fp16": (same_bytes, Run("fp16")),
    "bf16, ce kl pans": (same_bytes, Run("bf16", ("ce", "kl", "pans"))),
    "bf16, accumulated": (same_bytes, Run("bf16", flags=(("gradient_accumulation_steps", "2"),))),
    "bf16, recording fails": (recording_fails, Run("bf16")),
    "bf16, checkpointing": (same_bytes, Run("bf16", flags=(("gradient_checkpointing", "True"),))),
    "half weights": (half_weights, Run(components=("ce",), flags=(("grad_norm_steps", "0"), ("epochs", "1")))),
    "compiled, bf16": (compiled, Run("bf16")),
    "compiled, 220M": (compile_large, Run("bf16")),
}
EQUAL = [("bf16", "bf16 once more")]  # across processes
ON_CPU = ("half weights",)
TOY = ("fp32", "bf16", "half weights")


def run_apart(names: list[str], limit: float, steps: int | None) -> dict[str, dict]:
    """The checks in processes of their own, all at once; what is not done after ``limit`` seconds has failed."""
    began = time.perf_counter()
    more = ["--steps", str(steps)] if steps else []
    started = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--check", name, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in names
    }
    results = {}
    for name, process in started.items():
        try:
            out = process.communicate(timeout=max(0.1, limit - (time.perf_counter() - began)))[0]
            line = next((x for x in out.splitlines() if x.startswith("RESULT ")), None)
            results[name] = json.loads(line[7:]) if line else {"ok": False, "error": out[-1500:]}
        except subprocess.TimeoutExpired:
            process.kill()
            results[name] = {"ok": False, "error": f"not done after {limit:.0f} s"}
    return results


def main() -> int:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--checks", nargs="+", choices=list(CHECKS), default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--steps", type=int, help="of each training, in place of the check's own number")
    parser.add_argument("--check", choices=list(CHECKS), help=argparse.SUPPRESS)
    args = parse(parser)
    logging.disable(logging.WARNING)
    if args.check:
        check, run = CHECKS[args.check]
        started = time.perf_counter()
        try:
            result = check(replace(run, steps=args.steps))
        except Exception:  # a check that breaks is one that failed: the others go on, and the table shows it
            result = {"ok": False, "error": traceback.format_exc()[-3000:]}
        print("RESULT " + json.dumps(result | {"seconds": time.perf_counter() - started}))
        return 0
    names = [name for name in args.checks if name in TOY] if args.toy else args.checks
    if not args.toy and device_name() != "cuda" and not set(names) <= set(ON_CPU):
        raise UserError("gpu_checks.py: no CUDA device here; run it on a GPU machine, or --toy to try it on the CPU")
    results = run_apart(names, args.budget, args.steps)
    for one, other in EQUAL:
        if one in results and other in results:
            same = results[one].get("hashes", 1) == results[other].get("hashes", 2)
            results[f"{one}, two processes"] = {"ok": same}
    lines = [
        [
            name,
            "ok" if found["ok"] else "FAILED",
            found.get("graphs"),
            *found.get("losses", [None])[-1:],
            found.get("seconds"),
        ]
        for name, found in results.items()
    ]
    tables = {"checks": (["check", "result", "graphs", "last loss", "seconds"], lines)}
    report("gpu_checks", args, {"on": device_name()}, tables, checks=results)
    for name, found in results.items():
        if "error" in found:
            print(f"{name}: {found['error']}", file=sys.stderr)
    return 0 if all(found["ok"] for found in results.values()) else 1


if __name__ == "__main__":
    run_main(main)
