#!/usr/bin/env python
"""What each encoding of the teacher's logits costs and keeps, over a vocabulary of 32,100.

    python benchmarks/teacher_encodings.py [--data raw.jsonl] [--steps 400] [--output benchmarks/results/FILE.json]

Trains a small T5 on the data (default: the sample corpus), takes its logits at held-out target positions, stores and
reads them in every encoding, and prints bytes a token in JSON, KL(exact || stored), top-1 agreement, and cosine and
norm ratio of the KL and JSD gradients on a student half-way between the corpus mean and the teacher, at T = 1, 1.5, 2,
4. Every second row gives the mean logits that shape a top-k tail, the others are judged.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.atomic_io import write_json
from utils.errors import UserError, run_main

VOCABULARY = 32_100
# name, encoding, k, bits, tail
CASES = [
    *((f"topk {k}, {tail}", "topk", k, 16, tail) for k in (16, 64, 256) for tail in ("bucket", "shaped")),
    *((f"hidden {bits} bit", "hidden", 0, bits, "") for bits in (8, 16)),
    *((f"dense {bits} bit, scale a token", "dense", 0, bits, "") for bits in (4, 8, 16)),
    *((f"dense {bits} bit, old format", "old", 0, bits, "") for bits in (4, 8, 16)),
]


def sample_data(folder: Path) -> Path:
    """Raw rows of the sample corpus, through the real miner."""
    raw = folder / "raw.jsonl"
    commands = (
        ["data/sample_corpus.py", "--output", folder / "project", "--seed", "1"],
        ["scripts/mine_assertions.py", "--source", folder / "project", "--output", raw],
    )
    for command in commands:
        subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True)
    return raw


def read_samples(path: Path, limit: int) -> list:
    """The first ``limit`` usable rows, spread over the whole file."""
    from data.jsonl_index import RowReader, open_index
    from data.readers import RowError, parse_json_line, parse_sample

    index = open_index(path)
    read, samples = RowReader(index), []
    for number in range(0, len(index), max(1, len(index) // limit)):
        try:
            samples.append(parse_sample(parse_json_line(read(number))))
        except RowError:
            continue
    return samples[:limit]


def train_teacher(samples: list, steps: int, batch_size: int):
    """A T5 of V = 32,100 trained on all but the last tenth.

    Returns its logits [N, V] and hidden states [N, d] at the targets of that tenth, its head [V, d], and facts.
    """
    import numpy as np
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from data.collate import Collator
    from data.dataset import Item
    from data.tokenization import encode_source, encode_target
    from models.loading import train_tokenizer
    from models.teacher_pass import TeacherPass

    torch.manual_seed(0)
    tokenizer = train_tokenizer((text for s in samples for text in (s.test, s.focal, s.target)), VOCABULARY)
    config = T5Config(
        vocab_size=VOCABULARY, d_model=256, d_ff=512, d_kv=32, num_heads=8, num_layers=2, dropout_rate=0.0,
        decoder_start_token_id=tokenizer.pad_token_id, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    items = [
        Item(n, encode_source(tokenizer, s.test, s.focal, 160), encode_target(tokenizer, s.target, 48), s, None)
        for n, s in enumerate(samples)
    ]
    held_out, items = items[-len(items) // 10 :], items[: -len(items) // 10]
    collator = Collator(tokenizer.pad_token_id, {})
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    random, losses, started = np.random.default_rng(0), [], time.perf_counter()
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
            seconds = time.perf_counter() - started
            print(f"step {step + 1}: loss {np.mean(losses[-25:]):.3f}, {seconds:.0f} s", flush=True)
    teacher, logits, hidden, labels = TeacherPass(model), [], [], []
    for start in range(0, len(held_out), batch_size):
        batch = collator(held_out[start : start + batch_size])
        rows, states = teacher(batch)
        logits.append(rows)
        hidden.append(states)
        labels.append(batch["labels"][batch["labels"] != -100])
        if sum(map(len, logits)) >= 600:
            break
    exact = torch.cat(logits)
    accuracy = float((exact.argmax(1) == torch.cat(labels)).float().mean())
    facts = {"steps": steps, "rows": len(items), "last_loss": float(np.mean(losses[-25:])), "top1_accuracy": accuracy}
    return exact, torch.cat(hidden), teacher.head.weight.detach().float(), facts


def measure(exact, hidden, head, positions: int) -> list[dict]:
    """One result a case: bytes a token of ``positions`` tokens a row, and the fidelity at each temperature."""
    import torch

    from data.distillation_file import build_signal
    from models.teacher_fidelity import TEMPERATURES, fidelity
    from models.teacher_pass import split_rows
    from utils.compress import DenseRows, compress_logits, decompress_logits, pack, unpack

    counts = [len(part) for part in exact.split(positions)]
    mean = torch.cat(exact.split(positions)[::2]).double().mean(0).float()
    shared = {"mean_logits": mean, "head": head.half()}
    student = mean + 0.5 * (exact - mean)
    results = []
    for name, encoding, k, bits, tail in CASES:
        if encoding == "old":
            texts = [json.dumps(compress_logits(part.numpy(), bits)) for part in exact.split(positions)]
            rows = [DenseRows(decompress_logits(json.loads(text))) for text in texts]
        else:
            texts = [json.dumps(pack(part, bits)) for part in split_rows(encoding, exact, hidden, counts, k)]
            rows = [unpack(json.loads(text)) for text in texts]
        result: dict = {"encoding": name, "bytes_per_token": sum(map(len, texts)) / len(exact)}
        for temperature in TEMPERATURES:
            sums: dict[str, float] = {}
            judged = 0
            for number in range(1, len(rows), 2):
                part = exact.split(positions)[number]
                signal, own = build_signal([rows[number]], shared), student.split(positions)[number]
                for key, value in fidelity(part, signal, own, temperature, tail or "shaped").items():
                    sums[key] = sums.get(key, 0.0) + value
                judged += len(part)
            result[f"T={temperature:g}"] = {key: value / judged for key, value in sums.items()}
        results.append(result)
        print(table([result], header=len(results) == 1), flush=True)
    top = exact.topk(64, 1).indices
    outside = {
        f"T={t:g}": float((1 - torch.softmax(exact / t, 1).gather(1, top).sum(1)).mean()) for t in TEMPERATURES
    }
    print("mass outside the top 64:", ", ".join(f"{key} {value:.3f}" for key, value in outside.items()))
    return [*results, {"mass_outside_top64": outside}]


def table(results: list[dict], header: bool = True) -> str:
    lines = []
    if header:
        lines.append("| encoding | bytes/token | T | KL | top-1 | KL grad cos | ratio | JSD grad cos | ratio |")
        lines.append("|---|---|---|---|---|---|---|---|---|")
    for result in results:
        for key in [key for key in result if key.startswith("T=")]:
            f = result[key]
            lines.append(
                f"| {result['encoding']} | {result['bytes_per_token']:.0f} | {key[2:]} | {f['kl']:.1e} |"
                f" {f['top1']:.3f} |"
                f" {f['kl_gradient_cosine']:.4f} | {f['kl_gradient_ratio']:.3f} |"
                f" {f['jsd_gradient_cosine']:.4f} | {f['jsd_gradient_ratio']:.3f} |"
            )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="raw rows; default: the sample corpus")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--output", type=Path, help="where to write the results as JSON")
    args = parser.parse_args()
    if args.data is not None and not args.data.is_file():
        raise UserError(f"--data {args.data} does not exist; make one with scripts/mine_assertions.py")
    with tempfile.TemporaryDirectory() as folder:
        samples = read_samples(args.data or sample_data(Path(folder)), args.rows)
        exact, hidden, head, facts = train_teacher(samples, args.steps, args.batch_size)
    facts |= {"tokens": len(exact), "vocabulary": VOCABULARY, "data": args.data.name if args.data else "sample corpus"}
    print(json.dumps(facts))
    results = measure(exact, hidden, head, positions=24)
    if args.output:
        write_json(args.output, {"teacher": facts, "results": results})
    return 0


if __name__ == "__main__":
    run_main(main)
