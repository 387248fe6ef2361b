#!/usr/bin/env python
"""How faithful the vocabulary bridge is, and what fitting it costs, for a vocabulary of CodeT5's size.

    python benchmarks/bridge.py --data raw_training.jsonl [--vocab_size 32100]

Trains a byte-level BPE on the data's tests, methods and assertions, fits a bridge into an encoder on some assertions
and reports the mean cosine of bridged and embedded text on assertions left out, before and after fitting.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import options, parse, report
from utils.errors import run_main


def main() -> int:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--data", type=Path, required=True, help="raw rows")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--vocab_size", type=int, default=32100)
    parser.add_argument("--encoder", default="embedded:minilm")
    parser.add_argument("--steps", type=int, default=300)
    args = parse(parser)

    from config.defaults import SemanticConfig
    from data.rows.files import require_file
    from data.rows.readers import parse_json_line, parse_sample
    from models.seq2seq.loading import train_tokenizer
    from models.text_encoder.bridge import MAX_TEXTS, fit_bridge
    from models.text_encoder.encoders import resolve_encoder

    with open(require_file(args.data, "--data", "make some with scripts/mine_assertions.py"), "rb") as lines:
        samples = [parse_sample(parse_json_line(line)) for line, _ in zip(lines, range(args.rows), strict=False)]
    tokenizer = train_tokenizer((text for s in samples for text in (s.test, s.focal, s.target)), args.vocab_size)
    texts = list(dict.fromkeys(sample.target for sample in samples))
    texts = texts[:: max(1, len(texts) // MAX_TEXTS)][: 64 if args.toy else MAX_TEXTS]
    encoder = resolve_encoder(args.encoder)
    config = SemanticConfig(bridge_fit_steps=2 if args.toy else args.steps)
    started = time.perf_counter()
    found = fit_bridge(encoder, tokenizer, len(tokenizer), texts, config)
    seconds = time.perf_counter() - started
    columns = ("encoder", "vocabulary", "assertions", "steps", "before", "after", "seconds")
    row = [args.encoder, len(tokenizer), len(texts), found.steps, found.initial, found.fidelity, seconds]
    return report("bridge", args, {"data": args.data.name}, {"Held-out fidelity": (columns, [row])})


if __name__ == "__main__":
    run_main(main)
