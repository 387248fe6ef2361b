#!/usr/bin/env python
"""A training step on real lengths: against the bare model's own step, and against an ordinary Seq2SeqTrainer.

    python benchmarks/training_step.py [--part step|trainer|profile] [--data raw.jsonl] [--rows 8] [--model NAME]

Floor: forward with labels, backward and fused AdamW of the bare model on ready-made batches. Ours: the engine's whole
step (loss, gradient norms, clipping, AdamW, CSV and TensorBoard logs) on the same batches; "from disk" with everything
before it (JSONL, tokeniser, stored top-64 logits). Trainer: transformers.Seq2SeqTrainer whose compute_loss adds
T^2 KL on dense teacher logits to the model's cross-entropy; its samples are tokenised and its logits in memory (fp16)
beforehand, which favours it. Every case sees the same rows, threads, dropout and number of workers (none).
Profile: self time of torch's operators in one step; what they do not add up to is Python between them.
Without --data: the sample corpus.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report, spread
from benchmarks.workload import mined_rows, student_config, texts_of, tokenizer_of, write_distillation_file
from utils.errors import run_main

TEMPERATURE = 4.0


class ReadyMade:
    """Training data that is there already."""

    def __init__(self, batches: list) -> None:
        self.ready = batches

    def micro_batches(self, epoch: int) -> int:
        return len(self.ready)

    def batches(self, epoch: int, start: int):
        return iter(self.ready[start:])

    def end_epoch(self, epoch: int) -> dict:
        return {}


def semantic_resource(vocabulary: int):
    """MiniLM behind a bridge of random rows: its cost does not depend on how well it was fitted."""
    import torch

    from config.defaults import SemanticConfig
    from models.text_encoder.bridge import SoftTextEncoder
    from models.text_encoder.encoders import EmbeddingCache, resolve_encoder

    encoder = resolve_encoder("embedded:minilm")
    tokens = torch.randn(vocabulary, encoder.word_embeddings.shape[1]) * 0.05
    return SoftTextEncoder(encoder, tokens, EmbeddingCache(encoder, SemanticConfig()), 1.0)


def engine_of(
    model,
    tokenizer,
    components: list[str],
    data,
    folder: Path,
    batch_size: int,
    steps: int,
    *,
    accelerator=None,
    **flags,
):
    """The product's engine with all its logs, on a model of its own."""
    from accelerate import Accelerator

    from config.defaults import LossConfig
    from models.loss_functions import LossResources, LossSettings
    from models.multi_component_loss import MultiComponentLoss
    from models.training.engine import TrainingEngine
    from models.training.run import Run
    from utils.logging_utils import DistillationLogger

    flags = {"gradient_accumulation_steps": 1} | flags
    config = student_config(output_dir=folder, batch_size=batch_size, epochs=1000, num_workers=0, **flags)
    semantic = semantic_resource(len(tokenizer)) if "semantic" in components else None
    loss = MultiComponentLoss(LossSettings(LossConfig(loss_components=components)), LossResources(semantic=semantic))
    logger = DistillationLogger(folder, tensorboard=True, console=False)
    run = Run(config, folder, accelerator or Accelerator(cpu=True), logger)
    return TrainingEngine(run, model, tokenizer, loss, data)


def epoch_of(engine) -> None:
    """All steps of one epoch."""
    for window in engine.epoch():
        engine.train_step(window)


def floor_of(model, batches: list, own_loss: bool):
    """Bare steps; without ``own_loss`` backward starts from a ready-made gradient on the logits."""
    import torch

    from models.seq2seq.inputs import shift_right
    from utils.training_utils import group_by_decay

    optimizer = torch.optim.AdamW(group_by_decay(model, 0.01), lr=5e-5, fused=True)
    gradients = {id(b): torch.full((*b["labels"].shape, model.config.vocab_size), 1e-6) for b in batches}

    def run() -> None:
        model.train()
        for batch in batches:
            inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
            if own_loss:
                model(**inputs, labels=batch["labels"]).loss.backward()
            else:
                out = model(**inputs, decoder_input_ids=shift_right(model, batch["labels"]))
                out.logits.backward(gradients[id(batch)])
            optimizer.step()
            optimizer.zero_grad()

    return run


def trainer_of(model, tokenizer, items: list, batch_size: int, folder: Path, policy: str):
    """A run of transformers.Seq2SeqTrainer over the items; policy: longest, grouped or max_length."""
    import torch
    import torch.nn.functional as F
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    vocabulary, pad = model.config.vocab_size, tokenizer.pad_token_id
    generator = torch.Generator().manual_seed(0)
    pool = (torch.randn(128, vocabulary, generator=generator) * 3).half()
    rows = [
        {
            "input_ids": item.input_ids,
            "labels": item.labels,
            "teacher_logits": pool[: len(item.labels)],
            "length": len(item.input_ids),
        }
        for item in items
    ]

    def collate(features: list[dict]) -> dict[str, Any]:
        longest = policy == "max_length"
        source = 512 if longest else max(len(f["input_ids"]) for f in features)
        target = 128 if longest else max(len(f["labels"]) for f in features)
        out = {
            "input_ids": torch.full((len(features), source), pad),
            "attention_mask": torch.zeros(len(features), source, dtype=torch.long),
            "labels": torch.full((len(features), target), -100),
            "teacher_logits": torch.zeros(len(features), target, vocabulary),
        }
        for i, f in enumerate(features):
            out["input_ids"][i, : len(f["input_ids"])] = torch.tensor(f["input_ids"])
            out["attention_mask"][i, : len(f["input_ids"])] = 1
            out["labels"][i, : len(f["labels"])] = torch.tensor(f["labels"])
            out["teacher_logits"][i, : len(f["labels"])] = f["teacher_logits"]
        return out

    class DistillationTrainer(Seq2SeqTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            teacher = inputs.pop("teacher_logits")
            outputs = model(**inputs)
            mask = inputs["labels"] != -100
            divergence = F.kl_div(
                F.log_softmax(outputs.logits / TEMPERATURE, dim=-1),
                F.softmax(teacher / TEMPERATURE, dim=-1),
                reduction="none",
            ).sum(-1)
            kd = (divergence * mask).sum() / mask.sum() * TEMPERATURE**2
            loss = 0.5 * outputs.loss + 0.5 * kd
            return (loss, outputs) if return_outputs else loss

    grouped = {"train_sampling_strategy": "group_by_length"} if policy == "grouped" else {}
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        num_train_epochs=1,
        learning_rate=5e-5,
        weight_decay=0.01,
        max_grad_norm=1.0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=10,
        remove_unused_columns=False,
        seed=42,
        **grouped,
    )
    trainer = DistillationTrainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)

    def run() -> None:
        trainer.train()

    return run


def profile_table(cases: dict[str, Callable[[], None]], steps: int, shown: int = 12) -> tuple[list[str], list[list]]:
    """Milliseconds a step by operator (self time), the largest first; what no operator accounts for stands last."""
    import time

    from torch.profiler import ProfilerActivity, profile

    found, walls = {}, {}
    for case, run in cases.items():
        run()
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            started = time.perf_counter()
            run()
            walls[case] = 1e3 * (time.perf_counter() - started) / steps
        found[case] = {e.key: e.self_cpu_time_total / 1e3 / steps for e in trace.key_averages()}
    keys = {key for times in found.values() for key in times}
    largest = sorted(keys, key=lambda key: -max(times.get(key, 0.0) for times in found.values()))
    rows = [[key, *(found[case].get(key, 0.0) for case in cases)] for key in largest[:shown]]
    rows.append(["all other operators", *(sum(found[case].get(k, 0.0) for k in largest[shown:]) for case in cases)])
    rows.append(["whole step", *walls.values()])
    return ["ms a step", *cases], rows


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--model", default="scratch:base")
    parser.add_argument("--part", choices=("step", "trainer", "profile"), default="step")
    args = parse(parser)
    if args.toy:
        args.rows, args.batch_size, args.model = 8, 4, "scratch:tiny"

    import logging

    import numpy as np
    import transformers

    from data.batches.collate import Collator
    from data.batches.loader import JsonlTrainingData
    from data.batches.sampling import micro_batches
    from data.dataset import AssertionDataset
    from data.rows.rejected import RejectedRows
    from models.seq2seq.loading import build_scratch, count_parameters, scratch_size

    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    size = scratch_size(args.model)
    rows = mined_rows(args.data, 200 if args.toy else 6000)
    vocabulary = 2048 if size != "base" else 32_100
    tokenizer = tokenizer_of(texts_of(rows), args.data.stem if args.data else "sample", vocabulary)
    # Evenly over the lengths, so that few rows stand for all.
    by_length = sorted(rows, key=lambda row: len(row["test_method_masked"]) + len(row["focal_method"]))
    chosen = [by_length[int((i + 0.5) * len(rows) / args.rows)] for i in range(args.rows)]

    def model():
        return build_scratch(size, tokenizer, dropout_rate=0.1, attention="sdpa", seed=0)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "data.jsonl"
        write_distillation_file(path, chosen, tokenizer, vocabulary)
        dataset = AssertionDataset(path, tokenizer, vocab_size=vocabulary)
        items = [dataset[i] for i in range(len(dataset))]
        collator = Collator(tokenizer.pad_token_id, dataset.shared)
        lengths = dataset.byte_lengths()
        plan = micro_batches(np.arange(len(items)), lengths, args.batch_size, seed=42, epoch=0, window=64)
        batches = [collator([items[i] for i in numbers]) for numbers in plan]
        sources, targets = [len(item.input_ids) for item in items], [len(item.labels) for item in items]
        settings = {
            "data": args.data.name if args.data else "sample corpus",
            "rows": len(items),
            "batch_size": args.batch_size,
            "model": args.model,
            "parameters": count_parameters(model()),
            "vocabulary": vocabulary,
            "source_tokens": round(float(np.mean(sources)), 1),
            "target_tokens": round(float(np.mean(targets)), 1),
        }
        tables, stored = {}, {}
        times: dict[str, list[float]] = {}
        if args.part != "trainer":
            cases = {
                "floor: bare model": floor_of(model(), batches, True),
                "floor without any loss": floor_of(model(), batches, False),
            }
            pair, trident = ["focal", "jsd"], ["focal", "jsd", "semantic"]
            everywhere = "focal + jsd, head at padding too"
            for title, components in (("focal + jsd", pair), (everywhere, pair), ("Trident", trident)):
                engine = engine_of(
                    model(), tokenizer, components, ReadyMade(batches), folder / title, args.batch_size, len(batches)
                )
                if title == everywhere:
                    engine.target_head = None
                cases[title] = lambda engine=engine: epoch_of(engine)
        if args.part == "profile":
            tables["operators by self time"] = profile_table(cases, len(batches))
        elif args.part == "step":
            times = in_turns(cases, args.repeats, budget=args.budget, clock=args.clock)
            stored["step_seconds"] = {case: spread(values) for case, values in times.items()}
            tables["training step on ready-made batches"] = (
                ["case", "seconds a step", "samples/s", "x floor"],
                [
                    [
                        case,
                        spread(times[case])["median"] / len(batches),
                        len(items) / spread(times[case])["median"],
                        ratio(times, case, "floor: bare model"),
                    ]
                    for case in cases
                ],
            )
        else:
            cases = {"floor: bare model, grouped batches ready": floor_of(model(), batches, True)}
            for title, components, group in (
                ("ours: focal + jsd, grouped", ["focal", "jsd"], "True"),
                ("ours: focal + jsd, not grouped", ["focal", "jsd"], "False"),
                ("ours: Trident, grouped", ["focal", "jsd", "semantic"], "True"),
            ):
                place = folder / title.replace(" ", "_")
                place.mkdir()
                config = student_config(
                    batch_size=args.batch_size, num_workers=0, length_grouping=group, output_dir=place
                )
                data = JsonlTrainingData(dataset, config, RejectedRows(place / "r", path, len(dataset), 0.1))
                engine = engine_of(model(), tokenizer, components, data, place, args.batch_size, 1)
                cases[title] = lambda engine=engine: epoch_of(engine)
            for policy in ("longest", "grouped", "max_length"):
                cases[f"Seq2SeqTrainer, {policy}"] = trainer_of(
                    model(), tokenizer, items, args.batch_size, folder / policy, policy
                )
            times = in_turns(cases, args.repeats, budget=args.budget, clock=args.clock)
            stored["trainer_seconds"] = {case: spread(values) for case, values in times.items()}
            base = "ours: focal + jsd, grouped"
            tables["samples a second from disk, against Seq2SeqTrainer"] = (
                ["case", "samples/s", "focal + jsd, grouped, is x times as fast"],
                [[case, len(items) / spread(times[case])["median"], ratio(times, case, base)] for case in cases],
            )
    settings["turns"] = len(next(iter(times.values()), [0]))
    name = "training_step" + ("" if args.part == "step" else f"_{args.part}")
    return report(name, args, settings, tables, **stored)


if __name__ == "__main__":
    run_main(main)
