#!/usr/bin/env python
"""Evaluation's generation against one-by-one ``generate``, tasks a second on real lengths.

    python benchmarks/generation.py [--data raw.jsonl] [--rows 64] [--model scratch:base] [--batch_size 32]

The model has random weights and would never stop by itself: in both ways each prediction ends where its reference ends,
so the output lengths are those of real assertions. The encoder alone is what no way of decoding can save. The texts
of both ways are compared: batching must not change them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report, spread
from benchmarks.workload import Workload, prepare_workload
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


def build_ways(model, tokenizer, sources: list[list[int]], batch_size: int) -> dict[str, Callable]:
    """The ways to time: one by one and batched, greedy and with beams; and the encoder alone."""
    import torch

    from models.decoding.generate import GenerationOptions, generate_predictions, length_sorted, pad_rows
    from models.decoding.torch_writer import TorchWriter

    def generate_one_by_one(beams: int) -> list[str]:
        options = GenerationOptions(batch_size=1, num_beams=beams)
        return [generate_predictions(TorchWriter(model, tokenizer), [source], options)[0] for source in sources]

    def generate_batched(beams: int) -> list[str]:
        options = GenerationOptions(batch_size=batch_size, num_beams=beams)
        return generate_predictions(TorchWriter(model, tokenizer), sources, options)

    @torch.inference_mode()
    def encode() -> None:
        for indices in length_sorted([len(source) for source in sources], batch_size):
            ids = pad_rows([sources[index] for index in indices], tokenizer.pad_token_id)
            model.get_encoder()(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long())

    return {
        "encoder alone, batched": encode,
        "one by one, greedy": lambda: generate_one_by_one(1),
        "batched, greedy": lambda: generate_batched(1),
        "one by one, 4 beams": lambda: generate_one_by_one(4),
        "batched, 4 beams": lambda: generate_batched(4),
    }


def choose_rows(workload: Workload, count: int) -> tuple[list[list[int]], list[int]]:
    """Token ids of inputs, no two of the same length (which is how ``end_at`` knows a row), and lengths of targets."""
    from data.rows.readers import parse_sample
    from data.rows.tokenization import TaskEncoder, TextFormat

    encoder = TaskEncoder(workload.tokenizer, TextFormat())
    by_length = {
        len(source := encoder.source(sample, 512)): (source, sample) for sample in map(parse_sample, workload.rows)
    }
    step = max(1, len(by_length) // count)
    chosen = [by_length[length] for length in sorted(by_length)][::step][:count]
    return [source for source, _ in chosen], [len(encoder.target(s.target, 128)) for _, s in chosen]


def main() -> int:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--model", default="scratch:base")
    args = parse(parser)
    if args.toy:
        args.rows, args.model = 4, "scratch:tiny"
    import torch

    workload = prepare_workload(args)
    sources, lengths = choose_rows(workload, args.rows)
    model = workload.build_model().eval()
    steps = torch.zeros(513, dtype=torch.int64)
    steps[[len(source) for source in sources]] = torch.tensor(lengths)
    end_at(model, steps)
    ways = build_ways(model, workload.tokenizer, sources, args.batch_size)
    pairs = list(zip(ways["one by one, greedy"](), ways["batched, greedy"](), strict=True))
    times = in_turns(ways, args.repeats, warmup=0, budget=args.budget, clock=args.clock)
    lines = []
    for way, values in times.items():
        base = "one by one" + (", greedy" if way.startswith("encoder") else way[way.index(",") :])
        median = spread(values)["median"]
        lines.append([way, median, len(sources) / median, ratio(times, base, way)])
    settings = {
        "data": workload.data,
        "rows": len(sources),
        "model": args.model,
        "batch_size": args.batch_size,
        "source_tokens": round(sum(map(len, sources)) / len(sources), 1),
        "target_tokens": round(sum(lengths) / len(lengths), 1),
        "turns": len(next(iter(times.values()))),
    }
    tables = {"generation": (["way", "seconds", "tasks/s", "x one by one"], lines)}
    equal = sum(one == other for one, other in pairs) / len(pairs)
    return report("generation", args, settings, tables, share_of_equal_texts=equal)


if __name__ == "__main__":
    run_main(main)
