#!/usr/bin/env python
"""Evaluation's generation against one-by-one ``generate``, tasks a second on real lengths.

    python benchmarks/generation.py [--data raw.jsonl] [--rows 64] [--model scratch:base] [--batch_size 32]

The model has random weights and would never stop by itself: in both ways each prediction ends where its reference ends,
so the output lengths are those of real assertions. The encoder alone is what no way of decoding can save. The texts
of both ways are compared: batching must not change them.
"""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report, spread
from benchmarks.workload import mined_rows, texts_of, tokenizer_of
from utils.errors import run_main


def end_at(model, steps) -> None:
    """Make the model end each row whose input has n tokens at its token number ``steps[n]``."""
    import torch

    forward, end = model.forward, model.generation_config.eos_token_id

    @wraps(forward)
    def bounded(*args, attention_mask, past_key_values, **options):
        out = forward(*args, attention_mask=attention_mask, past_key_values=past_key_values, **options)
        over = out.past_key_values.get_seq_length() >= steps[attention_mask.sum(1)]
        out.logits[:, -1, end] = torch.where(over, 1e9, -1e9)
        return out

    model.forward = bounded


def main() -> int:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--model", default="scratch:base")
    args = parse(parser)
    if args.toy:
        args.rows, args.model = 4, "scratch:tiny"

    import numpy as np
    import torch

    from data.rows.readers import parse_sample
    from data.rows.tokenization import encode_source, encode_target
    from models.decoding.generate import GenerationOptions, generate_predictions, length_sorted, pad_rows
    from models.seq2seq.loading import build_scratch, scratch_size

    size = scratch_size(args.model)
    rows = mined_rows(args.data, 200 if args.toy else 6000)
    vocabulary = 2048 if size != "base" else 32_100
    tokenizer = tokenizer_of(texts_of(rows), args.data.stem if args.data else "sample", vocabulary)
    # No two of the same input length, which is how a row is known while it is decoded.
    of_length = {
        len(source := encode_source(tokenizer, sample.test, sample.focal, 512)): (source, sample)
        for sample in map(parse_sample, rows)
    }
    step = max(1, len(of_length) // args.rows)
    chosen = [of_length[length] for length in sorted(of_length)][::step][: args.rows]
    sources = [source for source, _ in chosen]
    lengths = [len(encode_target(tokenizer, sample.target, 128)) for _, sample in chosen]
    model = build_scratch(size, tokenizer, dropout_rate=0.0, attention="sdpa", seed=0).eval()
    steps = torch.zeros(513, dtype=torch.int64)
    steps[[len(source) for source in sources]] = torch.tensor(lengths)
    end_at(model, steps)

    def one_by_one(beams: int) -> list[str]:
        options = GenerationOptions(batch_size=1, num_beams=beams)
        return [generate_predictions(model, tokenizer, [source], options)[0] for source in sources]

    def batched(beams: int) -> list[str]:
        options = GenerationOptions(batch_size=args.batch_size, num_beams=beams)
        return generate_predictions(model, tokenizer, sources, options)

    @torch.inference_mode()
    def encoder() -> None:
        for indices in length_sorted([len(source) for source in sources], args.batch_size):
            ids = pad_rows([sources[index] for index in indices], tokenizer.pad_token_id)
            model.get_encoder()(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long())

    cases = {
        "encoder alone, batched": encoder,
        "one by one, greedy": lambda: one_by_one(1),
        "batched, greedy": lambda: batched(1),
        "one by one, 4 beams": lambda: one_by_one(4),
        "batched, 4 beams": lambda: batched(4),
    }
    equal = float(np.mean([a == b for a, b in zip(one_by_one(1), batched(1), strict=True)]))
    times = in_turns(cases, args.repeats, warmup=0, budget=args.budget, clock=args.clock)
    lines = [
        [
            case,
            spread(times[case])["median"],
            len(sources) / spread(times[case])["median"],
            ratio(times, "one by one" + (", greedy" if case.startswith("encoder") else case[case.index(",") :]), case),
        ]
        for case in cases
    ]
    settings = {
        "data": args.data.name if args.data else "sample corpus",
        "rows": len(sources),
        "model": args.model,
        "batch_size": args.batch_size,
        "source_tokens": round(float(np.mean([len(s) for s in sources])), 1),
        "target_tokens": round(float(np.mean(lengths)), 1),
    }
    tables = {"generation": (["way", "seconds", "tasks/s", "x one by one"], lines)}
    settings["turns"] = len(next(iter(times.values())))
    return report("generation", args, settings, tables, share_of_equal_texts=equal)


if __name__ == "__main__":
    run_main(main)
