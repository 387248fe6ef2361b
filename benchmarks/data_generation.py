#!/usr/bin/env python
"""What writing distillation data costs in addition to the teacher's forward pass, and what its predictions cost.

    python benchmarks/data_generation.py [--data raw.jsonl] [--rows 32] [--model scratch:base]

The teacher's own forward pass computes the logits of every position of the same batches. The teacher-forced part is
what the writer does: forward, encoding, compression into rows. A smaller teacher leaves a larger share to the rest:
scratch:base has the shape of t5-small, a tenth of the default teacher's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report, spread
from benchmarks.workload import Workload, describe_lengths, prepare_workload
from utils.errors import run_main

if TYPE_CHECKING:
    from data.dataset import Item

FORWARD = "teacher's own forward"


def build_cases(args: argparse.Namespace, workload: Workload, folder: Path) -> tuple[dict[str, Callable], list[Item]]:
    """The parts to time, and the items that each of them works on."""
    import numpy as np
    import torch

    from data.batches.collate import Collator
    from data.dataset import AssertionDataset, Item
    from models.decoding.generate import GenerationOptions, generate_predictions
    from models.decoding.torch_writer import TorchWriter
    from models.seq2seq.inputs import shift_right
    from models.teacher.writer import DistillationWriter, WriterSettings

    model = workload.build_model().eval()
    tokenizer = workload.tokenizer
    rows = workload.rows
    path = folder / "raw.jsonl"
    chosen = [rows[i] for i in range(0, len(rows), len(rows) // args.rows)][: args.rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    dataset = AssertionDataset(path, tokenizer, vocab_size=workload.vocabulary, teacher=False)
    items = [item for item in (dataset[i] for i in range(len(dataset))) if isinstance(item, Item)]
    writers = {}
    for encoding, bits in (("topk", 16), ("hidden", 8), ("dense", 4)):
        settings = WriterSettings("made-up", encoding=encoding, bits=bits, batch_size=args.batch_size)
        writers[encoding] = DistillationWriter(model, tokenizer, dataset, folder / encoding, settings)
    collator = Collator(tokenizer.pad_token_id, {})
    batches = [collator(part) for part in writers["topk"].batches(items)]

    @torch.inference_mode()
    def run_forward() -> None:
        for batch in batches:
            model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                decoder_input_ids=shift_right(model, batch["labels"]),
            )

    cases: dict[str, Callable] = {FORWARD: run_forward}
    for encoding, writer in writers.items():
        cases[f"teacher-forced part, {encoding}"] = lambda writer=writer: writer.encode(
            items, np.zeros((2, workload.vocabulary)), writer.open_pool()
        )
    cases["predictions (16 tokens each), greedy"] = lambda: generate_predictions(
        TorchWriter(model, tokenizer),
        [item.input_ids for item in items],
        GenerationOptions(max_output_len=16, batch_size=args.batch_size),
    )
    return cases, items


def main() -> int:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--model", default="scratch:base")
    args = parse(parser)
    if args.toy:
        args.rows, args.model = 8, "scratch:tiny"
    workload = prepare_workload(args)
    with tempfile.TemporaryDirectory() as name:
        cases, items = build_cases(args, workload, Path(name))
        times = in_turns(cases, args.repeats, budget=args.budget, clock=args.clock)
    medians = {case: spread(values)["median"] for case, values in times.items()}
    lines = [[case, median, len(items) / median, ratio(times, case, FORWARD)] for case, median in medians.items()]
    settings = {
        "data": workload.data,
        "rows": len(items),
        "model": args.model,
        "batch_size": args.batch_size,
        "vocabulary": workload.vocabulary,
        **describe_lengths((item.input_ids for item in items), (item.labels for item in items)),
        "turns": len(next(iter(times.values()))),
    }
    tables = {"distillation data": (["part", "seconds", "rows/s", "x own forward"], lines)}
    return report("data_generation", args, settings, tables)


if __name__ == "__main__":
    run_main(main)
