#!/usr/bin/env python
"""What writing distillation data costs beside the teacher's own forward pass; predictions apart.

    python benchmarks/data_generation.py [--data raw.jsonl] [--rows 32] [--model scratch:base]

The teacher's own forward runs on the same batches and gives the logits of every position. The teacher-forced part is
the writer's: forward, encoding, compression into rows. The smaller the teacher, the larger the share of the rest:
scratch:base has the shape of t5-small, a tenth of the default teacher's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report, spread
from benchmarks.workload import mined_rows, texts_of, tokenizer_of
from utils.errors import run_main


def main() -> int:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--model", default="scratch:base")
    args = parse(parser)
    if args.toy:
        args.rows, args.model = 8, "scratch:tiny"

    import numpy as np
    import torch

    from data.batches.collate import Collator
    from data.dataset import AssertionDataset, Item
    from models.decoding.generate import GenerationOptions, generate_predictions
    from models.seq2seq.inputs import shift_right
    from models.seq2seq.loading import build_scratch, scratch_size
    from models.teacher.writer import DistillationWriter, WriterSettings

    size = scratch_size(args.model)
    rows = mined_rows(args.data, 200 if args.toy else 6000)
    vocabulary = 2048 if size != "base" else 32_100
    tokenizer = tokenizer_of(texts_of(rows), args.data.stem if args.data else "sample", vocabulary)
    model = build_scratch(size, tokenizer, dropout_rate=0.0, attention="sdpa", seed=0).eval()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "raw.jsonl"
        chosen = [rows[i] for i in range(0, len(rows), len(rows) // args.rows)][: args.rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in chosen))
        dataset = AssertionDataset(path, tokenizer, vocab_size=vocabulary, teacher=False)
        items = [item for item in (dataset[i] for i in range(len(dataset))) if isinstance(item, Item)]
        writers = {
            encoding: DistillationWriter(
                model,
                tokenizer,
                dataset,
                Path(name) / encoding,
                WriterSettings("made-up", encoding=encoding, bits=bits, batch_size=args.batch_size),
            )
            for encoding, bits in (("topk", 16), ("hidden", 8), ("dense", 4))
        }
        collator = Collator(tokenizer.pad_token_id, {})
        writer = writers["topk"]
        batches = [collator(part) for part in writer.batches(items)]

        @torch.inference_mode()
        def own_forward() -> None:
            for batch in batches:
                model(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    decoder_input_ids=shift_right(model, batch["labels"]),
                )

        cases = {"teacher's own forward": own_forward}
        for encoding, writer in writers.items():
            cases[f"teacher-forced part, {encoding}"] = lambda writer=writer: writer.encode(
                items, np.zeros((2, vocabulary)), writer.open_pool()
            )
        cases["predictions (16 tokens each), greedy"] = lambda: generate_predictions(
            model,
            tokenizer,
            [item.input_ids for item in items],
            GenerationOptions(max_output_len=16, batch_size=args.batch_size),
        )
        times = in_turns(cases, args.repeats, budget=args.budget, clock=args.clock)
    lines = [
        [
            case,
            spread(times[case])["median"],
            len(items) / spread(times[case])["median"],
            ratio(times, case, "teacher's own forward"),
        ]
        for case in cases
    ]
    settings = {
        "data": args.data.name if args.data else "sample corpus",
        "rows": len(items),
        "model": args.model,
        "batch_size": args.batch_size,
        "vocabulary": vocabulary,
        "source_tokens": round(float(np.mean([len(item.input_ids) for item in items])), 1),
        "target_tokens": round(float(np.mean([len(item.labels) for item in items])), 1),
    }
    tables = {"distillation data": (["part", "seconds", "rows/s", "x own forward"], lines)}
    settings["turns"] = len(next(iter(times.values())))
    return report("data_generation", args, settings, tables)


if __name__ == "__main__":
    run_main(main)
