#!/usr/bin/env python
"""Whether a model that was pre-trained in its tokenizer's frame (<s> ... </s>) learns assertions faster in that frame.

    python benchmarks/frame.py [--data raw.jsonl] [--repeats 3]

A small T5 is pre-trained to restore spans of tokens, framed as CodeT5 frames texts. From the same weights, on
the same batches, it then learns assertions in both frames of TextFormat. Shown is the mean negative log-likelihood of a
held-out target's own tokens and its end, never of the begin token; one line for each seed.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report
from benchmarks.workload import list_texts, read_mined_rows
from utils.errors import run_main

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH, MAX_INPUT, MAX_OUTPUT = 16, 128, 48
SHOWN = (0, 10, 20, 40, 80, 160)


def framing_tokenizer(texts: Any) -> PreTrainedTokenizerBase:
    """A byte-level BPE that puts <s> and </s> around a text."""
    from tokenizers.processors import TemplateProcessing

    from models.seq2seq.loading import train_tokenizer

    tokenizer = train_tokenizer(texts, 1000)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    ids = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    return tokenizer


def losses(model: PreTrainedModel, pairs: Sequence[tuple[list[int], list[int]]], skip: int) -> Any:
    """Mean negative log-likelihood of the targets' tokens from place ``skip`` on."""
    import torch
    from torch.nn.functional import cross_entropy

    from models.decoding.generate import pad_rows

    inputs = pad_rows([source for source, _ in pairs], model.config.pad_token_id)
    labels = pad_rows([target for _, target in pairs], -100)
    logits = model(input_ids=inputs, attention_mask=(inputs != model.config.pad_token_id).long(), labels=labels).logits
    labels[:, :skip] = -100
    return cross_entropy(logits.transpose(1, 2), torch.as_tensor(labels))


def train(model: PreTrainedModel, batches: Sequence[list], held_out: Sequence, skip: int) -> dict[int, float]:
    """Learn the batches in their order; held-out loss after the numbers of steps in SHOWN."""
    import torch

    found = {}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(len(batches) + 1):
        if held_out and step in SHOWN:
            model.eval()
            with torch.no_grad():
                found[step] = float(losses(model, held_out, skip))
        if step < len(batches):
            model.train()
            optimiser.zero_grad()
            losses(model, batches[step], 0).backward()
            optimiser.step()
    return found


def span_task(ids: list[int], tokenizer: PreTrainedTokenizerBase, draw: np.random.Generator) -> tuple[list, list]:
    """A framed text with a span of 4 to 16 tokens replaced by <unk>, and the framed span."""
    start = int(draw.integers(0, max(1, len(ids) - 16)))
    end = start + int(draw.integers(4, 17))
    begin, stop = tokenizer.bos_token_id, tokenizer.eos_token_id
    source = [begin, *ids[:start], tokenizer.unk_token_id, *ids[end:]][: MAX_INPUT - 1]
    return [*source, stop], [begin, *ids[start:end], stop]


def compare(rows: Sequence[dict], seed: int, pre_steps: int, steps: int) -> dict[str, dict[int, float]]:
    """Held-out loss by frame and step."""
    import numpy as np
    import torch

    from data.rows.readers import parse_sample
    from data.rows.tokenization import TaskEncoder, TextFormat
    from models.seq2seq.loading import build_scratch

    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tokenizer = framing_tokenizer(list_texts(rows))
    model = build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="eager", seed=seed)
    texts = tokenizer(list(list_texts(rows)), add_special_tokens=False, truncation=True, max_length=MAX_INPUT)
    spans = [ids for ids in texts["input_ids"] if len(ids) > 8]
    chosen = draw.integers(0, len(spans), (pre_steps, BATCH))
    train(model, [[span_task(spans[i], tokenizer, draw) for i in batch] for batch in chosen], (), 0)
    samples = [parse_sample(row) for row in rows]
    held, learned = samples[::8], [sample for place, sample in enumerate(samples) if place % 8]
    order = draw.integers(0, len(learned), (steps, BATCH))
    found = {}
    for frame in ("tokenizer", "end"):
        encoder = TaskEncoder(tokenizer, TextFormat(frame))

        def encode(some: Sequence, encoder: TaskEncoder = encoder) -> list:
            return [(encoder.source(s, MAX_INPUT), encoder.target(s.target, MAX_OUTPUT)) for s in some]

        batches = [encode([learned[i] for i in batch]) for batch in order]
        found[frame] = train(copy.deepcopy(model), batches, encode(held[:64]), len(encoder.begin))
    return found


def main() -> int:
    parser = options(__doc__, 3)
    parser.add_argument("--data", type=Path, help="raw rows (default: the sample corpus)")
    args = parse(parser)
    rows = read_mined_rows(args.data, 60 if args.toy else 1000)
    pre_steps, steps = (4, 20) if args.toy else (300, 160)
    lines = []
    for seed in range(args.repeats):
        found = compare(rows, seed, pre_steps, steps)
        for step, value in found["tokenizer"].items():
            lines.append([seed, step, value, found["end"][step], value - found["end"][step]])
    settings = {"data": args.data.name if args.data else "sample corpus", "rows": len(rows), "pre_steps": pre_steps}
    columns = ["seed", "step", "frame tokenizer", "frame end", "difference"]
    return report("frame", args, settings, {"held-out loss of a token, nats": (columns, lines)})


if __name__ == "__main__":
    run_main(main)
