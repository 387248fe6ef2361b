#!/usr/bin/env python
"""Samples a second that one core decodes and collates, and the memory of files of different size.

    python benchmarks/data_loading.py [--rows 4000] [--big_mb 300] [--output FILE]

Writes top-64 data of 32 target tokens a row over V = 32,100, then times the reading of rows from disk through decoding
to the finished batch of 32: as the trainer does it, tokeniser included, and with the tokeniser's results given (what
the storage alone costs). Memory: the resident size of a process after an epoch over a 10 MB and a larger file.
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
from utils.errors import run_main

VOCABULARY, TOKENS, BATCH = 32_100, 32, 32
MEMORY = """
import sys
sys.path.insert(0, {root!r})
import psutil, torch
torch.set_num_threads(1)
from data.collate import Collator
from data.dataset import AssertionDataset
from models.loading import load_tokenizer
tokenizer = load_tokenizer({tokenizer!r})
dataset = AssertionDataset({path!r}, tokenizer, vocab_size={vocabulary}, max_output_len={tokens})
collate = Collator(tokenizer.pad_token_id, dataset.shared)
for start in range(0, len(dataset), 32):
    collate([dataset[i] for i in range(start, min(start + 32, len(dataset)))])
print(psutil.Process().memory_info().rss)
"""


def build(path: Path, tokenizer, rows: int) -> None:
    """A file of top-64 rows whose targets have exactly TOKENS labels."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from data.distillation_file import Header, file_sha256, shared_path
    from data.tokenization import encode_target, labels_hash, tokenizer_fingerprint
    from models.teacher_pass import encode_topk
    from utils.compress import TopKRows, pack

    random = np.random.default_rng(0)
    save_file({"mean_logits": torch.zeros(VOCABULARY)}, shared_path(path))
    header = Header("made-up", tokenizer_fingerprint(tokenizer), VOCABULARY, "topk", 64, 16, TOKENS,
                    file_sha256(shared_path(path)), 0)  # fmt: skip
    target = "assertEquals(7, box.getCount(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17));"
    labels = encode_target(tokenizer, target, TOKENS)
    texts = []
    for _ in range(8):
        logits = torch.from_numpy(random.standard_normal((len(labels), VOCABULARY)) * 3).float()
        ids, values, mass = encode_topk(logits, 64)
        texts.append(pack(TopKRows(ids.numpy(), values.numpy(), mass.numpy(), VOCABULARY)))
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(header.line())
        for number in range(rows):
            body = " ".join(f"box.add({number + i});" for i in range(20))
            row = {
                "focal_method": "public int getCount(int... xs) { int n = 0; for (int x : xs) { n += x; } return n; }",
                "test_method_masked": f"@Test public void adds{number}() {{ {body} <AssertPlaceHolder> }}",
                "assertions": [target], "teacher_prediction": target, "teacher_logits_compressed": texts[number % 8],
                "labels_hash": labels_hash(labels),
            }  # fmt: skip
            handle.write(json.dumps(row) + "\n")


def speed(path: Path, tokenizer, tokenised: bool) -> float:
    """Samples a second of CPU time from disk to batch; the best of three passes."""
    import data.dataset as module
    from data.collate import Collator

    dataset = module.AssertionDataset(path, tokenizer, vocab_size=VOCABULARY, max_output_len=TOKENS)
    collate = Collator(tokenizer.pad_token_id, dataset.shared)
    source, target = module.encode_source, module.encode_target
    if tokenised:
        first = dataset[0]
        module.encode_source = lambda *_: first.input_ids
        module.encode_target = lambda *_: first.labels
    try:
        best = 0.0
        for _ in range(3):
            started = time.process_time()
            for start in range(0, len(dataset) - BATCH + 1, BATCH):
                batch = collate([dataset[i] for i in range(start, start + BATCH)])
                assert not batch["rejected"]
            best = max(best, len(dataset) / (time.process_time() - started))
    finally:
        module.encode_source, module.encode_target = source, target
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--big_mb", type=int, default=100)
    parser.add_argument("--output", type=Path, help="where to write the results as JSON")
    args = parser.parse_args()
    import torch

    from models.loading import load_tokenizer, train_tokenizer

    torch.set_num_threads(1)
    results: dict[str, float] = {"target_tokens": TOKENS, "batch_size": BATCH}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [f"assertEquals({i}, box.getCount()); public void adds{i}() int x return for" for i in range(300)]
        train_tokenizer(texts, 1000).save_pretrained(folder / "tokenizer")
        tokenizer = load_tokenizer(str(folder / "tokenizer"))
        path = folder / "speed.jsonl"
        build(path, tokenizer, args.rows)
        results["bytes_per_row"] = path.stat().st_size / args.rows
        results["samples_per_cpu_second"] = speed(path, tokenizer, False)
        results["samples_per_cpu_second_tokenised_input_given"] = speed(path, tokenizer, True)
        for megabytes in (10, args.big_mb):
            path = folder / f"{megabytes}.jsonl"
            build(path, tokenizer, int(megabytes * 1e6 / results["bytes_per_row"]))
            names = {"root": str(ROOT), "tokenizer": str(folder / "tokenizer"), "path": str(path)}
            code = MEMORY.format(**names, vocabulary=VOCABULARY, tokens=TOKENS)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            results[f"memory_mb_of_{megabytes}_mb_file"] = int(done.stdout.split()[-1]) / 2**20
    for key, value in results.items():
        print(f"{key}: {value:,.0f}")
    if args.output:
        write_json(args.output, results)
    return 0


if __name__ == "__main__":
    run_main(main)
