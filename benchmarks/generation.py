#!/usr/bin/env python
"""Evaluation's generation against one-by-one ``generate``, tasks a second on real lengths.

    python benchmarks/generation.py [--data raw.jsonl] [--rows 24] [--model scratch:base] [--batch_size 32]

The model has random weights and would never stop by itself: in both ways each prediction ends where its reference ends,
so the output lengths are those of real assertions. The texts of both ways are compared: batching must not change them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report, spread
from benchmarks.workload import mined_rows, texts_of, tokenizer_of
from utils.errors import run_main


def ends_with_reference(model, tokenizer, lengths: dict[tuple[int, ...], int]) -> None:
    """Make ``model.generate`` end each row after its reference's number of tokens."""
    import torch
    from transformers import LogitsProcessorList

    generate = model.generate

    def bounded(input_ids, attention_mask, num_beams=1, **options):
        rows = zip(input_ids.tolist(), attention_mask.sum(1).tolist(), strict=True)
        limits = torch.tensor([lengths[tuple(row[:count])] for row, count in rows]).repeat_interleave(num_beams)

        def end(ids, scores):
            over = ids.shape[1] >= limits
            scores[:, tokenizer.eos_token_id] = torch.where(over, 1e9, -1e9)
            return scores

        return generate(
            input_ids=input_ids, attention_mask=attention_mask, num_beams=num_beams,
            logits_processor=LogitsProcessorList([end]), **options,
        )  # fmt: skip

    model.generate = bounded


def main() -> int:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--model", default="scratch:base")
    args = parse(parser)
    if args.toy:
        args.rows, args.model = 4, "scratch:tiny"

    import numpy as np

    from data.readers import parse_sample
    from data.tokenization import encode_source, encode_target
    from evaluation.generation import generate_predictions
    from models.loading import build_scratch, scratch_size

    size = scratch_size(args.model)
    rows = mined_rows(args.data, 200 if args.toy else 6000)
    vocabulary = 2048 if size != "base" else 32_100
    tokenizer = tokenizer_of(texts_of(rows), args.data.stem if args.data else "sample", vocabulary)
    samples = [parse_sample(rows[i]) for i in range(0, len(rows), len(rows) // args.rows)][: args.rows]
    sources = [encode_source(tokenizer, sample.test, sample.focal, 512) for sample in samples]
    lengths = [len(encode_target(tokenizer, sample.target, 128)) for sample in samples]
    model = build_scratch(size, tokenizer, dropout_rate=0.0, attention="sdpa", seed=0).eval()
    ends_with_reference(model, tokenizer, {tuple(s): n for s, n in zip(sources, lengths, strict=True)})

    def one_by_one(beams: int) -> list[str]:
        return [
            generate_predictions(model, tokenizer, [source], batch_size=1, num_beams=beams)[0] for source in sources
        ]

    def batched(beams: int) -> list[str]:
        return generate_predictions(model, tokenizer, sources, batch_size=args.batch_size, num_beams=beams)

    cases = {
        "one by one, greedy": lambda: one_by_one(1),
        "batched, greedy": lambda: batched(1),
        "one by one, 4 beams": lambda: one_by_one(4),
        "batched, 4 beams": lambda: batched(4),
    }
    equal = float(np.mean([a == b for a, b in zip(one_by_one(1), batched(1), strict=True)]))
    times = in_turns(cases, args.repeats, warmup=0, budget=args.budget, clock=args.clock)
    lines = [
        [case, spread(times[case])["median"], len(samples) / spread(times[case])["median"],
         ratio(times, "one by one" + case[case.index(","):], case)]
        for case in cases
    ]  # fmt: skip
    settings = {"data": args.data.name if args.data else "sample corpus", "rows": len(samples), "model": args.model,
                "batch_size": args.batch_size, "source_tokens": round(float(np.mean([len(s) for s in sources])), 1),
                "target_tokens": round(float(np.mean(lengths)), 1)}  # fmt: skip
    tables = {"generation": (["way", "seconds", "tasks/s", "x one by one"], lines)}
    settings["turns"] = len(next(iter(times.values())))
    return report("generation", args, settings, tables, share_of_equal_texts=equal)


if __name__ == "__main__":
    run_main(main)
