#!/usr/bin/env python
"""Writing texts and distillation data on a GPU, and reading training rows from disk: rows and tokens a second.

    python benchmarks/gpu_generation.py [--shape 220m] [--rows 512] [--output FILE]     (--toy: tiny, on the CPU)

Random weights never end a text, so each text has 30 tokens. "java": with the constraints of the product. The result is
stored after each line. Exit code 1: no time was left for some.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_workload import SHAPES, build_model, device_name, wait_for_gpu
from benchmarks.measuring import NOT_RUN, options, parse, report
from benchmarks.workload import build_tokenizer, list_texts, make_rows, parse_student_config, write_distillation_file
from utils.errors import run_main

TOKENS = 30
# Name, decoding, beams, batch size.
WAYS = (
    ("greedy, free", "free", 1, 128),
    ("greedy, java", "java", 1, 128),
    ("4 beams, free", "free", 4, 64),
    ("4 beams, java", "java", 4, 64),
)
DATA = "distillation data, topk"


def write_like_java(model, tokenizer, rows: list[dict[str, Any]]) -> None:
    """Keep the model to tokens of assertions: random ones would lead into states that no trained model visits."""
    import torch

    used = {token for row in rows for text in row["assertions"] for token in tokenizer(text)["input_ids"]}
    head = model.get_output_embeddings()
    barred = torch.full((head.weight.shape[0],), -1e4, device=head.weight.device)
    barred[sorted(used - {tokenizer.eos_token_id})] = 0.0
    head.register_forward_hook(lambda module, inputs, logits: logits + barred)


def time_generation(model, tokenizer, rows: list[list[int]], way: tuple[str, str, int, int]) -> list[Any]:
    """One of ``WAYS``: name, seconds, rows and tokens a second."""
    from models.decoding.generate import GenerationOptions, generate_candidates
    from models.decoding.torch_writer import TorchWriter

    title, decoding, beams, batch = way
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    options = GenerationOptions(max_output_len=TOKENS, batch_size=batch, num_beams=beams, decoding=decoding)
    generate_candidates(TorchWriter(model, tokenizer), rows[:8], options)  # kernels, tables of the constraints
    used = rows if beams == 1 else rows[: len(rows) // 2]
    wait_for_gpu()
    started = time.perf_counter()
    generate_candidates(TorchWriter(model, tokenizer), used, options)
    wait_for_gpu()
    seconds = time.perf_counter() - started
    return [title, seconds, len(used) / seconds, TOKENS * len(used) / seconds]


def time_distillation(model, tokenizer, path: Path, rows: int) -> list[Any]:
    """The writer's whole work on a raw file: name, seconds, rows and tokens a second."""
    from data.dataset import AssertionDataset
    from models.teacher.writer import DistillationWriter, WriterSettings

    dataset = AssertionDataset(
        path, tokenizer, vocab_size=model.config.vocab_size, teacher=False, max_output_len=TOKENS, max_samples=rows
    )
    settings = WriterSettings("made-up", batch_size=128, workers=2)
    started = time.perf_counter()
    DistillationWriter(model, tokenizer, dataset, path.with_name("distilled.jsonl"), settings).run()
    seconds = time.perf_counter() - started
    return [DATA, seconds, rows / seconds, TOKENS * rows / seconds]


def time_loading(folder: Path, rows: int, batch: int, workers: tuple[int, ...]) -> list[list[Any]]:
    """Batches from disk, two epochs: workers, samples a second of the first and of the second epoch."""
    from data.batches.loader import JsonlTrainingData
    from data.dataset import AssertionDataset
    from data.rows.rejected import RejectedRows

    tokens = build_tokenizer(list_texts(make_rows(300)), "synthetic", 2048)
    path = folder / "data.jsonl"
    write_distillation_file(path, make_rows(rows), tokens, 2048)
    dataset = AssertionDataset(path, tokens, vocab_size=2048)
    found = []
    for count in workers:
        config = parse_student_config(batch_size=batch, num_workers=count, output_dir=folder)
        data = JsonlTrainingData(dataset, config, RejectedRows(folder / "r", path, len(dataset), 0.1))
        rates = []
        for epoch in range(2):
            started = time.perf_counter()
            read = sum(len(made["labels"]) for made in data.batches(epoch, 0))
            rates.append(read / (time.perf_counter() - started))
        found.append([count, *rates])
    return found


def main() -> int:
    began = time.perf_counter()
    parser = options(__doc__, repeats=1)
    parser.add_argument("--shape", choices=list(SHAPES), default="220m")
    parser.add_argument("--rows", type=int, default=512)
    args = parse(parser)
    if args.toy:
        args.shape, args.rows = "toy", 8
    logging.disable(logging.WARNING)
    shape = SHAPES[args.shape]
    lines: list[list[Any]] = []
    loading: list[list[Any]] = []

    def missing() -> list[str]:
        return [name for name in (*(way[0] for way in WAYS), DATA) if name not in {line[0] for line in lines}]

    def store() -> None:
        tables = {
            "generation": (["what", "seconds", "rows/s", "tokens/s"], lines),
            "loading": (["workers", "samples/s, first epoch", "second epoch"], loading),
        }
        settings = {"shape": args.shape, "rows": args.rows, "on": device_name()}
        report("gpu_generation", args, settings, tables, not_run=dict.fromkeys(missing(), NOT_RUN))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loading += time_loading(folder, 4 * args.rows, 8 if args.toy else 64, (0, 1) if args.toy else (4,))
        tokenizer = build_tokenizer(list_texts(make_rows(300)), "synthetic", shape.vocabulary)
        model = build_model(shape, dropout_rate=0.0).eval()
        raw = list(make_rows(args.rows))
        write_like_java(model, tokenizer, raw)
        path = folder / "raw.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in raw))
        from data.rows.tokenization import encode_source

        sources = [encode_source(tokenizer, row["test_method_masked"], row["focal_method"], 256) for row in raw]
        ways = [functools.partial(time_generation, model, tokenizer, sources, way) for way in WAYS]
        for measure in (*ways, functools.partial(time_distillation, model, tokenizer, path, args.rows)):
            if time.perf_counter() - began > args.budget:
                break
            lines.append(measure())
            with contextlib.redirect_stdout(None):
                store()
    store()
    for name in missing():
        print(f"{name}: {NOT_RUN}")
    return int(bool(missing()))


if __name__ == "__main__":
    run_main(main)
