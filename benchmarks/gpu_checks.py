#!/usr/bin/env python
"""Is training right on this GPU? The same bytes twice, after a resume, with and without graphs; compiled and plain.

    python benchmarks/gpu_checks.py [--checks NAME ...] [--output FILE]      (--toy: on the CPU)
    python benchmarks/gpu_checks.py --checks "half weights" --steps 2000 --budget 1800        (on a CPU too)

Each check trains a tiny T5 on batches of several lengths, keeps its losses and hashes all its weights. "compiled, 220M"
is timed: twice, in processes of their own with one cache, before the others begin. Exit code 1: a check failed, or was
not done within the budget.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_step import CASES, TRIDENT, run_case
from benchmarks.gpu_workload import SHAPES, Shape, build_model, device_name, make_batch
from benchmarks.measuring import NOT_RUN, options, parse, report
from benchmarks.training_step import ReadyMade, build_engine
from utils.cache import cache_dir
from utils.errors import UserError, run_main

TINY = Shape(128, 512, 4, 2, 2048, 8, 64, 16, 32)
SMALL = Shape(64, 256, 2, 2, 256, 8, 16, 16, 32)
COMPILERS_OWN = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")  # caches that the product does not choose
LENGTHS = [(40, 9), (61, 14), (33, 7), (64, 16), (90, 12)]
MINUTE = 60.0  # in which the first compiled step of 220M parameters must end, on a GPU


@dataclass(frozen=True)
class Run:
    """A training to repeat."""

    precision: str = "no"
    components: tuple[str, ...] = ("focal", "jsd")
    flags: tuple[tuple[str, str], ...] = ()
    steps: int = 0  # 0: as many as the check takes

    def with_flags(self, **flags: str) -> Run:
        return replace(self, flags=(*self.flags, *flags.items()))

    def lasting(self, on_gpu: int = 20, on_cpu: int = 4) -> Run:
        """With these numbers of steps, if it has none."""
        return self if self.steps else replace(self, steps=on_gpu if device_name() == "cuda" else on_cpu)

    @property
    def micro_batches(self) -> int:
        """Of all its steps."""
        return self.steps * int(dict(self.flags).get("gradient_accumulation_steps", 1))


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
    lengths = islice(cycle(LENGTHS), run.micro_batches)
    batches = batches or [make_batch(shape, seed, chosen) for seed, chosen in enumerate(lengths)]
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
    """The hash of the weights after all steps, and all losses; with ``stop``, saved there, gone on by a new engine.

    making: goes to ``new_engine``.
    """
    losses: list[float] = []

    def begin():
        engine = new_engine(run, folder, **making)
        record, engine.logger.step = engine.logger.step, lambda row: (losses.append(row["loss_total"]), record(row))
        return engine

    engine = begin()
    if stop:
        advance(engine, stop)
        engine.save()
        engine.logger.close()
        engine = begin()
        engine.restore(sorted(folder.glob("checkpoint-*"))[-1])
    advance(engine, run.steps)
    engine.logger.close()
    return fingerprint(engine), {"graphs": getattr(engine.through, "graphs", None), "losses": losses}


def compare(made: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Whether all trainings ended with the same weights, by the same losses; the facts are those of the first."""
    hashes = {name: found for name, (found, _) in made.items()}
    losses = [facts["losses"] for _, facts in made.values()]
    first = next((step for step, row in enumerate(zip(*losses, strict=False), 1) if len({*row}) > 1), None)
    same = len(set(hashes.values())) == 1 and all(one == losses[0] for one in losses)
    return {"ok": same, "hashes": hashes, "first_other_loss": first, **next(iter(made.values()))[1]}


def same_bytes(run: Run) -> dict[str, Any]:
    """Twice, resumed in the middle, and without graphs (padded alike): weights and losses must be equal."""
    run = run.lasting()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {title: train(run, folder / title) for title in ("first", "again")}
        made["resumed"] = train(run, folder / "resumed", stop=run.steps // 2)
        if made["first"][1]["graphs"]:
            with patch("models.training.passes.MAX_GRAPHS", 0):
                made["without graphs"] = train(run, folder / "without")
    return compare(made)


def recording_fails(run: Run) -> dict[str, Any]:
    """The second shape cannot be recorded: the run says so, goes on, and ends with the same bytes."""
    import torch

    from models.training import passes

    run = run.lasting()
    record, begun = passes.Graph.__init__, []

    def fail(graph, function, pool):
        def spoiled():
            begun.append(1)
            if len(begun) == 3:
                torch.cuda.synchronize()
            return function()

        record(graph, spoiled, pool)

    with tempfile.TemporaryDirectory() as name:
        made = {"recorded": train(run, Path(name) / "recorded")}
        with patch.object(passes.Graph, "__init__", fail):
            made["failed"] = train(run, Path(name) / "failed")
    if len(begun) < 3:
        return {"ok": False, "error": f"{run.steps} steps record too little for a recording to fail"}
    graphs = made["failed"][1]["graphs"]
    found = compare(made)
    return {**found, "ok": found["ok"] and graphs == 0, "graphs": graphs}


def compiled(run: Run) -> dict[str, Any]:
    """The loss of the first step without dropout, compiled and not; seconds to compile; then ``same_bytes``."""
    run = run.lasting()
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
    """A start with --compile, 220M parameters, with what the cache has: the first step, which compiles, then others.

    A CPU compiles the toy, which may take as long as it likes.
    """
    cuda = device_name() == "cuda"
    shape = SHAPES["220m" if cuda else "toy"]
    cached = sum(file.stat().st_size for file in cache_dir("compiled").rglob("*") if file.is_file())
    batches = [make_batch(shape, seed) for seed in range(2)]
    result = run_case(CASES["bf16, compiled"], shape, batches, run.lasting(12, 2).steps, precise=cuda)
    in_time = not cuda or result["first_step_seconds"] <= MINUTE
    return {"ok": in_time, "losses": [result["loss"]], "cached_mb": cached / 2**20, **result}


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
    """Losses in bf16 and fp32, means of twentieths of the steps; whether a resumed bf16 run is equal in all bytes."""
    cuda = device_name() == "cuda"
    run = run.lasting(300, 40)
    batches, block = make_chains(SMALL, run.steps), max(1, run.steps // 20)
    made, means = {}, {}
    with tempfile.TemporaryDirectory() as name:
        for precision, stop in (("no", None), ("bf16", None), ("bf16", run.steps // 2), ("fp16", None))[: 3 + cuda]:
            title = f"{precision}, resumed" if stop else precision
            one = replace(run, precision=precision)
            made[title] = train(one, Path(name) / title, stop, shape=SMALL, dropout=0.0, batches=batches)
            losses = made[title][1]["losses"]
            means[title] = [statistics.fmean(losses[i : i + block]) for i in range(0, len(losses), block)]
    gaps = [abs(half / exact - 1.0) for half, exact in zip(means["bf16"], means["no"], strict=True)]
    resumed = compare({title: made[title] for title in ("bf16", "bf16, resumed")})["ok"]
    found = {"steps": run.steps, "largest_gap": max(gaps), "last_gap": gaps[-1], "resumed_equal": resumed}
    return {"ok": max(gaps) < 0.02 and resumed, "losses": means["bf16"][-1:], **found, "means": means}


CHECKS: dict[str, tuple[Callable[[Run], dict[str, Any]], Run]] = {
    "fp32": (same_bytes, Run()),
    "fp32, SDPA, no graphs": (same_bytes, Run(flags=(("attention", "sdpa"), ("cuda_graphs", "False")))),
    "bf16": (same_bytes, Run("bf16")),
    "bf16 once more": (same_bytes, Run("bf16")),
    "bf16, SDPA": (same_bytes, Run("bf16", flags=(("attention", "sdpa"),))),
    "fp16": (same_bytes, Run("fp16")),
    "bf16, Trident, contrastive": (same_bytes, Run("bf16", (*TRIDENT, "contrastive"))),
    "bf16, ce kl pans": (same_bytes, Run("bf16", ("ce", "kl", "pans"))),
    "bf16, accumulated": (same_bytes, Run("bf16", flags=(("gradient_accumulation_steps", "2"),))),
    "bf16, recording fails": (recording_fails, Run("bf16")),
    "bf16, checkpointing": (same_bytes, Run("bf16", flags=(("gradient_checkpointing", "True"),))),
    "half weights": (half_weights, Run(components=("ce",), flags=(("grad_norm_steps", "0"), ("epochs", "1")))),
    "compiled, bf16": (compiled, Run("bf16")),
    "compiled, 220M": (compile_large, Run("bf16")),
    "compiled, 220M, second start": (compile_large, Run("bf16")),
}
EQUAL = [("bf16", "bf16 once more")]  # across processes
TIMED = ("compiled, 220M", "compiled, 220M, second start")
ON_CPU = ("half weights",)
TOY = ("fp32", "bf16", "half weights", *TIMED)


def end(process: subprocess.Popen) -> None:
    """Kill the process and what it has started, compilers among them."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def run_together(names: list[str], deadline: float, more: list[str], environment: dict[str, str]) -> dict[str, dict]:
    """The results of these checks, each a process, all at once; what is not done at ``deadline`` has failed."""
    if time.perf_counter() > deadline:
        return {name: {"ok": False, "error": NOT_RUN} for name in names}
    began = time.perf_counter()
    started = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--check", name, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for name in names
    }
    results = {}
    for name, process in started.items():
        try:
            out = process.communicate(timeout=max(0.1, deadline - time.perf_counter()))[0]
            line = next((x for x in out.splitlines() if x.startswith("RESULT ")), None)
            results[name] = json.loads(line[7:]) if line else {"ok": False, "error": out[-1500:]}
        except subprocess.TimeoutExpired:
            end(process)
            results[name] = {"ok": False, "error": f"not done after {deadline - began:.0f} s"}
    return results


def run_apart(names: list[str], deadline: float, steps: int | None) -> dict[str, dict]:
    """All checks, with a cache of compiled code that is empty at the start: first the timed ones, one by one."""
    more = ["--steps", str(steps)] if steps else []
    groups = [[name] for name in TIMED if name in names] + [[name for name in names if name not in TIMED]]
    results = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        environment = {name: value for name, value in os.environ.items() if name not in COMPILERS_OWN}
        for group in groups:
            results |= run_together(group, deadline, more, environment | {"DISTIL_CACHE": cache})
    return results


def tabulate(results: dict[str, dict]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Title -> columns and lines."""
    tables = {
        "checks": (
            ["check", "result", "graphs", "last loss", "seconds"],
            [
                [
                    name,
                    "ok" if found["ok"] else "FAILED",
                    found.get("graphs"),
                    (found.get("losses") or [None])[-1],
                    found.get("seconds"),
                ]
                for name, found in results.items()
            ],
        )
    }
    timed = {name: results[name] for name in TIMED if "step_seconds" in results.get(name, {})}
    if timed:
        tables["starts with --compile"] = (
            ["start", "MB cached before", "first step, s", "ms a step", "GPU ms", "launches", "peak MB"],
            [
                [
                    name,
                    found["cached_mb"],
                    found["first_step_seconds"],
                    1e3 * found["step_seconds"],
                    *((found["profile"] or {}).get(key) for key in ("gpu_ms", "launches")),
                    found["peak_mb"],
                ]
                for name, found in timed.items()
            ],
        )
    return tables


def main() -> int:
    began = time.perf_counter()
    parser = options(__doc__, repeats=1)
    parser.add_argument("--checks", nargs="+", choices=list(CHECKS), default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--steps", type=int, help="of each training, in place of the check's own number")
    parser.add_argument("--check", choices=list(CHECKS), help=argparse.SUPPRESS)
    args = parse(parser)
    logging.disable(logging.WARNING)
    if args.steps is not None and args.steps < 2:
        raise UserError(f"gpu_checks.py: --steps {args.steps}: a training that is resumed takes at least 2")
    if args.check:
        check, run = CHECKS[args.check]
        started = time.perf_counter()
        try:
            result = check(replace(run, steps=args.steps or 0))
        except Exception:  # a check that breaks is one that failed: the others go on, and the table shows it
            result = {"ok": False, "error": traceback.format_exc()[-3000:]}
        print("RESULT " + json.dumps(result | {"seconds": time.perf_counter() - started}))
        return 0
    names = [name for name in args.checks if name in TOY] if args.toy else args.checks
    if not args.toy and device_name() != "cuda" and not set(names) <= set(ON_CPU):
        raise UserError("gpu_checks.py: no CUDA device here; run it on a GPU machine, or --toy to try it on the CPU")
    if not names:
        raise UserError(f"gpu_checks.py: with --toy, --checks must name one of: {'; '.join(TOY)}")
    results = run_apart(names, began + args.budget, args.steps)
    for one, other in EQUAL:
        if one in results and other in results:
            same = results[one].get("hashes", 1) == results[other].get("hashes", 2)
            results[f"{one}, two processes"] = {"ok": same}
    report("gpu_checks", args, {"on": device_name()}, tabulate(results), checks=results)
    for name, found in results.items():
        if "error" in found:
            print(f"{name}: {found['error']}", file=sys.stderr)
    return 0 if all(found["ok"] for found in results.values()) else 1


if __name__ == "__main__":
    run_main(main)
