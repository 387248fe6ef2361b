#!/usr/bin/env python
"""What each encoding of the teacher's logits costs and keeps, over a vocabulary of 32,100.

    python benchmarks/teacher_encodings.py [--data raw.jsonl] [--steps 240]

Trains a small T5 on the data (default: the sample corpus), takes its logits at target positions of held-out test
classes, stores and reads them in every encoding, and prints bytes a token in JSON, KL(exact || stored), top-1
agreement, and cosine and norm ratio of the KL and JSD gradients on a student half-way between the corpus mean and the
teacher, at T = 1, 1.5, 2, 4. The mean that shapes a top-k tail, and the directions of the hidden states of lower rank,
come from training rows.

"hidden, rank r" is not an encoding: it holds the states in their r main directions, and a head that fits them. Bytes
a token of hidden states grow with the teacher's width; a second table gives them for codet5p-770m's 1024.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import options, parse, report
from benchmarks.workload import VOCABULARY, build_tokenizer, list_texts, read_mined_rows
from utils.errors import run_main

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from data.batches.collate import Collator
    from data.dataset import Item

POSITIONS = 24  # tokens of a row
LARGE = 1024  # d_model of codet5p-770m
# name, encoding, k or rank, bits, tail
CASES: list[tuple[str, str, int, int, str]] = [
    *((f"topk {k}, {tail}", "topk", k, 16, tail) for k in (16, 64, 256) for tail in ("bucket", "shaped")),
    *((f"hidden {bits} bit", "hidden", 0, bits, "") for bits in (8, 16)),
    *((f"hidden 8 bit, rank {rank}", "hidden", rank, 8, "") for rank in (32, 64, 128)),
    *((f"dense {bits} bit, scale a token", "dense", 0, bits, "") for bits in (4, 8, 16)),
    *((f"dense {bits} bit, published", "published", 0, bits, "") for bits in (4, 8, 16)),
]


def build_model(tokenizer: PreTrainedTokenizerBase):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=256,
        d_ff=512,
        d_kv=32,
        num_heads=8,
        num_layers=2,
        dropout_rate=0.0,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return T5ForConditionalGeneration(config)


def fit(model, items: list[Item], collator: Collator, steps: int, batch_size: int) -> float:
    """Train on random batches. Returns the mean loss of the last 25 steps."""
    import numpy as np
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    random = np.random.default_rng(0)
    losses = []
    started = time.perf_counter()
    for step in range(steps):
        batch = collator([items[i] for i in random.integers(0, len(items), batch_size)])
        loss = model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        if step % 25 == 24:
            print(
                f"step {step + 1}: loss {np.mean(losses[-25:]):.3f}, {time.perf_counter() - started:.0f} s", flush=True
            )
    return float(np.mean(losses[-25:]))


def train_teacher(
    rows: list[dict], tokenizer: PreTrainedTokenizerBase, steps: int, batch_size: int, tokens: int
) -> tuple:
    """A T5 of V = 32,100 trained on all but some test classes.

    Returns its logits [N, V] and hidden states [N, d] at targets of those classes, hidden states [M, d] at targets of
    training rows, its head [V, d], and facts.
    """
    import numpy as np
    import torch

    from data.batches.collate import IGNORED, Collator
    from data.dataset import Item
    from data.rows.readers import parse_sample
    from data.rows.tokenization import TaskEncoder, TextFormat
    from models.teacher.forward import TeacherPass

    torch.manual_seed(0)
    model = build_model(tokenizer)
    samples = [parse_sample(row) for row in rows]
    encoder = TaskEncoder(tokenizer, TextFormat())
    items = [Item(n, encoder.source(s, 128), encoder.target(s.target, 48), s, None) for n, s in enumerate(samples)]
    classes = [sample.source.get("test_class", str(n)) for n, sample in enumerate(samples)]
    held = set(sorted(set(classes))[::10])
    held_out = [item for item, name in zip(items, classes, strict=True) if name in held]
    items = [item for item, name in zip(items, classes, strict=True) if name not in held]
    collator = Collator(tokenizer.pad_token_id)
    started = time.perf_counter()
    last_loss = fit(model, items, collator, steps, batch_size)
    teacher = TeacherPass(model)

    def look(items: list, count: int) -> list:
        found: list = []
        for start in range(0, len(items), batch_size):
            batch = collator(items[start : start + batch_size])
            found.append((*teacher(batch), batch["labels"][batch["labels"] != IGNORED]))
            if sum(len(labels) for *_, labels in found) >= count:
                break
        return [torch.cat(part)[:count].clone() for part in zip(*found, strict=True)]

    order = np.random.default_rng(1).permutation(len(held_out))
    exact, hidden, labels = look([held_out[i] for i in order], tokens)
    seen = look(items[:: max(1, len(items) // 200)], 4000)[1]
    facts = {
        "training_rows": len(items),
        "steps": steps,
        "batch_size": batch_size,
        "last_loss": last_loss,
        "held_out_tokens": len(exact),
        "held_out_top1_accuracy": float((exact.argmax(1) == labels).float().mean()),
        "teacher_seconds": time.perf_counter() - started,
    }
    return exact, hidden, seen, teacher.head.weight.detach().float(), facts


def reduce_rank(hidden: Tensor, seen: Tensor, head: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """States [N, rank + 1] and a head [V, rank + 1] to fit: the main directions of ``seen``, and their mean."""
    import torch

    mean = seen.mean(0)
    directions = torch.linalg.svd(seen - mean, full_matrices=False).Vh[:rank]
    states = (hidden - mean) @ directions.T
    size = states.abs().amax(1).mean()  # of the size of the others, so that 8 bits suffice for it too
    constant = torch.full((len(hidden), 1), float(size))
    return torch.cat([states, constant], 1), torch.cat([head @ directions.T, (head @ mean / size).unsqueeze(1)], 1)


def measure(exact: Tensor, hidden: Tensor, seen: Tensor, head: Tensor) -> list[dict[str, Any]]:
    """One result a case: bytes a token, and the fidelity at each temperature."""

    from data.distillation.file import build_signal
    from models.teacher.fidelity import TEMPERATURES, fidelity
    from models.teacher.forward import split_rows
    from utils.compress import DenseRows, compress_logits, decompress_logits, pack, unpack

    parts = exact.split(POSITIONS)
    counts = [len(part) for part in parts]
    mean = seen.mean(0) @ head.T
    students = (mean + 0.5 * (exact - mean)).split(POSITIONS)
    results = []
    for name, encoding, size, bits, tail in CASES:
        states, own_head = reduce_rank(hidden, seen, head, size) if encoding == "hidden" and size else (hidden, head)
        shared = {"mean_logits": mean - mean.max(), "head": own_head.half().float()}
        if encoding == "published":
            texts = [json.dumps(compress_logits(part.numpy(), bits)) for part in parts]
            rows: list = [DenseRows(decompress_logits(json.loads(text))) for text in texts]
        else:
            texts = [json.dumps(pack(part, bits)) for part in split_rows(encoding, exact, states, counts, size)]
            rows = [unpack(json.loads(text)) for text in texts]
        result: dict[str, Any] = {"encoding": name, "bytes_per_token": sum(map(len, texts)) / len(exact)}
        for temperature in TEMPERATURES:
            sums: dict[str, float] = {}
            for part, row, student in zip(parts, rows, students, strict=True):
                signal = build_signal([row], shared)
                for key, value in fidelity(part, signal, student, temperature, tail or "shaped").items():
                    sums[key] = sums.get(key, 0.0) + value
            result[f"T={temperature:g}"] = {key: value / len(exact) for key, value in sums.items()}
        results.append(result)
        print(f"{name}: {result['bytes_per_token']:.0f} bytes, KL {result['T=1']['kl']:.1e}", flush=True)
    return results


def measure_large_teacher() -> list[list[Any]]:
    """Bytes a token of hidden states 1024 wide; random ones, which nothing can shrink."""
    import numpy as np

    from utils.compress import HiddenRows, pack

    states = np.random.default_rng(0).standard_normal((POSITIONS, LARGE)).astype(np.float32)
    cases = (("hidden 8 bit", LARGE, 8), ("hidden 16 bit", LARGE, 16), ("hidden 8 bit, rank 256", 257, 8))
    return [[name, len(json.dumps(pack(HiddenRows(states[:, :w]), bits))) / POSITIONS] for name, w, bits in cases]


def main() -> int:
    parser = options(__doc__, repeats=1)
    parser.add_argument("--data", type=Path, help="raw rows; default: the sample corpus")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=360, help="held-out target tokens that are judged")
    args = parse(parser)
    if args.toy:
        args.rows = 100
        args.steps = 2
        args.tokens = 48
    import torch

    from models.teacher.fidelity import TEMPERATURES

    rows = read_mined_rows(args.data, args.rows)
    name = args.data.stem if args.data else "sample"
    tokenizer = build_tokenizer(list_texts(read_mined_rows(args.data, 6000)), name, VOCABULARY)
    exact, hidden, seen, head, facts = train_teacher(rows, tokenizer, args.steps, args.batch_size, args.tokens)
    results = measure(exact, hidden, seen, head)
    top = exact.topk(64, 1).indices
    outside = [
        [f"T={t:g}", float((1 - torch.softmax(exact / t, 1).gather(1, top).sum(1)).mean())] for t in TEMPERATURES
    ]
    settings = {
        "data": args.data.name if args.data else "sample corpus",
        "vocabulary": VOCABULARY,
        "d_model": head.shape[1],
        **facts,
    }
    at = [f"T={t:g}" for t in TEMPERATURES]

    def gradient(loss: str) -> tuple[list[str], list[list[Any]]]:
        figures = [(word, f"{loss}_gradient_{key}") for word, key in (("cosine", "cosine"), ("norm ratio", "ratio"))]
        columns = [f"{word}, {t}" for word, _ in figures for t in at]
        lines = [[r["encoding"], *(r[t][key] for _, key in figures for t in at)] for r in results]
        return ["encoding", *columns], lines

    tables = {
        "fidelity": (
            ["encoding", "bytes/token", "top-1 agreement", *(f"KL, {t}" for t in at)],
            [[r["encoding"], r["bytes_per_token"], r["T=1"]["top1"], *(r[t]["kl"] for t in at)] for r in results],
        ),
        "gradient of kl": gradient("kl"),
        "gradient of jsd": gradient("jsd"),
        f"bytes of hidden states {LARGE} wide": (["encoding", "bytes/token"], measure_large_teacher()),
        "mass outside the 64 most probable tokens": (["temperature", "mass"], outside),
    }
    return report("teacher_encodings", args, settings, tables)


if __name__ == "__main__":
    run_main(main)
