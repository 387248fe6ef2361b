#!/usr/bin/env python
"""What logging costs: one training whose logs are switched on and off every 20 steps, medians over the blocks.

    python benchmarks/logging_overhead.py

The real engine trains a small T5 on random tokens on the CPU, tens of milliseconds a step: 2,000 steps with logging
and 2,000 without, in the order on, off, off, on, so that a busy spell or a drift hits both alike. "on" writes both CSV
files, the log, TensorBoard and plain lines at the default intervals, "off" is a logger that writes nothing.
Checkpoints and validations are left out of both. Wall time and the CPU time of all threads are given: on a machine that
is busy with other things only the second is steady. Stores benchmarks/results/logging_overhead.json.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import options, parse, report
from utils.errors import run_main

BLOCK = 20  # steps; two logging intervals
ORDER = (True, False, False, True)
Block = tuple[bool, float, float]  # logging on or off, wall and CPU seconds


def make_batches() -> list[dict[str, Any]]:
    import torch

    torch.manual_seed(0)
    ids = torch.randint(2, 2048, (64, 4, 48))
    return [{"input_ids": one, "attention_mask": torch.ones_like(one), "labels": one[:, :16]} for one in ids]


def build_model():
    from transformers import T5Config, T5ForConditionalGeneration

    shape = T5Config(vocab_size=2048, d_model=96, d_kv=24, d_ff=256, num_layers=2, num_heads=4)
    shape.decoder_start_token_id = 0
    return T5ForConditionalGeneration(shape)


def train(folder: Path, steps: int) -> list[Block]:
    """Train for ``steps`` optimiser steps; the time of each block of them."""
    from config.command_line import parse_config
    from config.defaults import LossConfig, StudentConfig
    from models.loss_functions import LossSettings
    from models.multi_component_loss import MultiComponentLoss
    from models.training.engine import TrainingEngine
    from models.training.run import Run
    from utils.device import build_accelerator
    from utils.logging_utils import DistillationLogger

    flags = ["--device", "cpu", "--epochs", "1", "--save_steps", "0", "--gradient_accumulation_steps", "1"]
    config = parse_config(StudentConfig, argv=flags)
    accelerator, _ = build_accelerator("cpu", fp16=False, bf16=False)
    batches = make_batches()
    loggers = {
        on: DistillationLogger(folder / str(on), tensorboard=on, console=on, main_process=on) for on in (True, False)
    }
    loggers[True].scalars("Loss", {"total": 0.0}, 0)  # TensorBoard is imported before the clock starts
    blocks: list[Block] = []

    class Switched:
        """One logger or the other, by the block."""

        on = True

        def __getattr__(self, name: str) -> Any:
            return getattr(loggers[self.on], name)

    switched = Switched()

    class Data:
        def micro_batches(self, epoch: int) -> int:
            return steps

        def batches(self, epoch: int, start: int) -> Iterator[dict[str, Any]]:
            before = time.perf_counter(), time.process_time()
            for step in range(steps):
                if step and step % BLOCK == 0:
                    now = time.perf_counter(), time.process_time()
                    blocks.append((switched.on, now[0] - before[0], now[1] - before[1]))
                    switched.on = ORDER[step // BLOCK % len(ORDER)]
                    before = time.perf_counter(), time.process_time()
                yield batches[step % len(batches)]

        def lost_worker(self) -> None:
            """There are none."""

        def end_epoch(self, epoch: int) -> dict[str, float]:
            return {}

    loss = MultiComponentLoss(LossSettings(LossConfig(loss_components=["ce", "focal"], loss_weights=[0.5, 0.5])))
    run = Run(config, folder, accelerator, switched)  # type: ignore[arg-type]
    engine = TrainingEngine(run, build_model(), None, loss, Data())  # type: ignore[arg-type]
    engine.save = lambda: True  # type: ignore[method-assign]
    with contextlib.redirect_stdout(io.StringIO()):
        engine.run()
    for logger in loggers.values():
        logger.close()
    return blocks


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Median with its 95 % bootstrap interval."""
    import numpy as np

    draws = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return statistics.median(values), float(low), float(high)


def main() -> int:
    parser = options(__doc__, 1)
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps with logging, and as many without")
    args = parse(parser)
    steps = 4 * BLOCK if args.toy else args.steps
    with tempfile.TemporaryDirectory() as folder:
        # Four blocks more to warm up, one step more to close the last block.
        blocks = train(Path(folder), 2 * steps + len(ORDER) * BLOCK + 1)[len(ORDER) :]
    pairs = [
        dict(zip((first[0], second[0]), (first[1:], second[1:]), strict=True))
        for first, second in zip(blocks[::2], blocks[1::2], strict=True)
    ]
    rows: list[list[Any]] = []
    for clock, name in enumerate(("wall", "CPU")):
        off, on = (statistics.median(pair[which][clock] for pair in pairs) / BLOCK * 1000 for which in (False, True))
        cost, low, high = median_interval([100 * (pair[True][clock] / pair[False][clock] - 1) for pair in pairs])
        rows.append([name, off, on, cost, low, high])
    columns = ("clock", "ms a step, off", "ms a step, on", "cost, %", "95 % from", "to")
    settings = {"steps": steps, "steps_of_a_block": BLOCK, "pairs": len(pairs)}
    stored = [{"off": pair[False], "on": pair[True]} for pair in pairs]
    return report("logging_overhead", args, settings, {"medians over pairs of blocks": (columns, rows)}, pairs=stored)


if __name__ == "__main__":
    run_main(main)
