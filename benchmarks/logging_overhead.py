#!/usr/bin/env python
"""What logging costs: the same training with all logs on and off, in turns, medians over the turns.

    python benchmarks/logging_overhead.py [--steps 2000] [--turns 10]

The real engine trains a small T5 on random tokens on the CPU, tens of milliseconds a step; "on" writes both CSV files,
the log, TensorBoard and plain lines at the default intervals, "off" is a logger that writes nothing. The final
checkpoint is left out of both. Wall time and the CPU time of all threads are given: on a machine that is busy with
other things only the second is steady. Prints a table and writes the turns as JSON with --output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.errors import run_main


def build_turns(folder: Path, steps: int):
    """A function (on, number) -> wall and CPU seconds of one turn of ``steps`` optimiser steps."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from config.command_line import parse_config
    from config.defaults import STUDENT_CATEGORIES
    from models.multi_component_loss import MultiComponentLoss
    from utils.device import build_accelerator
    from utils.engine import TrainingEngine
    from utils.logging_utils import DistillationLogger

    torch.set_num_threads(1)
    config = parse_config(
        STUDENT_CATEGORIES, description="", argv=["--device", "cpu", "--epochs", "1", "--save_steps", "0",
                                                  "--gradient_accumulation_steps", "1"])
    accelerator, _ = build_accelerator("cpu", fp16=False, bf16=False)
    shape = T5Config(vocab_size=2048, d_model=96, d_kv=24, d_ff=256, num_layers=2, num_heads=4,
                     decoder_start_token_id=0)
    torch.manual_seed(0)
    ids = torch.randint(2, 2048, (64, 4, 48))
    batches = [{"input_ids": one, "attention_mask": torch.ones_like(one), "labels": one[:, :16]} for one in ids]

    class Data:
        def micro_batches(self, epoch: int) -> int:
            return steps

        def batches(self, epoch: int, start: int):
            return (batches[i % len(batches)] for i in range(start, steps))

        def end_epoch(self, epoch: int) -> dict[str, float]:
            return {}

    def turn(on: bool, number: int) -> tuple[float, float]:
        logger = DistillationLogger(folder / f"{number}-{on}", tensorboard=on, console=on, main_process=on)
        loss = MultiComponentLoss(["ce", "focal"], lambda progress: {"ce": 0.5, "focal": 0.5})
        engine = TrainingEngine(config, accelerator, T5ForConditionalGeneration(shape), None, loss, Data(),
                                folder, logger)
        engine.save = lambda: None  # type: ignore[method-assign]
        logger.scalars("Loss", {"total": 0.0}, 0)  # TensorBoard is imported before the clock starts
        began = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            engine.run()
            logger.close()
        return time.perf_counter() - began[0], time.process_time() - began[1]

    return turn


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps with and without logging")
    parser.add_argument("--turns", type=int, default=10, help="turns that they are divided into")
    parser.add_argument("--output", type=Path, help="JSON file of the measurements")
    args = parser.parse_args()

    from utils.atomic_io import write_json

    each = args.steps // args.turns
    with tempfile.TemporaryDirectory() as folder:
        turn = build_turns(Path(folder), each)
        turn(True, -1)  # warm-up
        pairs = []
        for number in range(args.turns):
            order = (True, False) if number % 2 else (False, True)
            pairs.append({on: turn(on, number) for on in order})
    result = {}
    print(f"{'ms a step':<10} {'off':>8} {'on':>8} {'cost':>8}   {args.turns} turns of {each} steps each, medians")
    for clock, name in enumerate(("wall", "CPU")):
        off, on = (statistics.median(pair[which][clock] for pair in pairs) / each * 1000 for which in (False, True))
        cost = statistics.median(pair[True][clock] / pair[False][clock] for pair in pairs) - 1
        result[name] = {"ms_off": off, "ms_on": on, "cost": cost}
        print(f"{name:<10} {off:>8.3f} {on:>8.3f} {cost:>+8.2%}")
    if args.output:
        turns = [{"off": pair[False], "on": pair[True]} for pair in pairs]
        write_json(args.output, {"steps": args.steps, "turns": turns, **result})
    return 0


if __name__ == "__main__":
    run_main(main)
