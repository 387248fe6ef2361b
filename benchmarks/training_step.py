#!/usr/bin/env python
"""A training step on real lengths: against the bare model's own step, and against an ordinary Seq2SeqTrainer.

    python benchmarks/training_step.py [--part PART] [--data raw.jsonl] [--rows 8] [--model NAME]

Floor: forward with labels, backward and fused AdamW of the bare model on ready-made batches. Ours: the engine's whole
step (loss, gradient norms, clipping, AdamW, CSV and TensorBoard logs) on the same batches; "from disk" with everything
before it (JSONL, tokeniser, stored top-64 logits). Trainer: transformers.Seq2SeqTrainer whose compute_loss adds
T^2 KL on dense teacher logits to the model's cross-entropy; its samples are tokenised and its logits in memory (fp16)
beforehand, which favours it. Every case sees the same rows, threads, dropout and number of workers (none).
Profile: self time of torch's operators in one step; the rest of the step is Python. Compile: the engine with --compile
beside it without, and what the first epoch costs with nothing compiled before.
Without --data: the sample corpus.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report, seconds, spread
from benchmarks.workload import (
    Workload,
    describe_lengths,
    parse_student_config,
    prepare_workload,
    write_distillation_file,
)
from utils.errors import run_main

if TYPE_CHECKING:
    import torch

    from data.dataset import AssertionDataset

TEMPERATURE = 4.0
PAIR, TRIDENT = ["focal", "jsd"], ["focal", "jsd", "semantic"]
GROUPED = "ours: focal + jsd, grouped"


class ReadyMade:
    """Training data of ready-made batches."""

    def __init__(self, batches: list) -> None:
        self.ready = batches

    def micro_batches(self, epoch: int) -> int:
        return len(self.ready)

    def batches(self, epoch: int, start: int):
        return iter(self.ready[start:])

    def fingerprint(self) -> str:
        return "ready-made"

    def lost_worker(self) -> None:
        """There are none."""

    def end_epoch(self, epoch: int) -> dict:
        return {}


def build_semantic(vocabulary: int, device: torch.device):
    """MiniLM behind a bridge of random rows: its cost does not depend on how well it was fitted."""
    import torch

    from config.defaults import SemanticConfig
    from models.text_encoder.bridge import SoftTextEncoder
    from models.text_encoder.encoders import EmbeddingCache, resolve_encoder

    encoder = resolve_encoder("embedded:minilm", device)
    tokens = torch.randn(vocabulary, encoder.word_embeddings.shape[1], device=device) * 0.05
    return SoftTextEncoder(encoder, tokens, EmbeddingCache(encoder, SemanticConfig()), 1.0)


def build_engine(model, tokenizer, components: list[str], data, folder: Path, accelerator=None, **flags):
    """The product's engine with all its logs, on a model of its own. ``flags``: further ones of a student."""
    from accelerate import Accelerator

    from config.defaults import LossConfig
    from models.loss_functions import LossResources, LossSettings
    from models.multi_component_loss import MultiComponentLoss
    from models.text_encoder.bridge import GoldQueue
    from models.training.engine import TrainingEngine
    from models.training.run import Run
    from utils.logging_utils import DistillationLogger

    flags = {"gradient_accumulation_steps": 1, "epochs": 1000, "num_workers": 0} | flags
    config = parse_student_config(output_dir=folder, **flags)
    accelerator = accelerator or Accelerator(cpu=True)
    needing = {"semantic", "contrastive"}.intersection(components)
    encoders = dict.fromkeys(needing, build_semantic(model.config.vocab_size, accelerator.device) if needing else None)
    queue = GoldQueue(256, encoders["contrastive"].cache) if "contrastive" in needing else None
    resources = LossResources(queue=queue, **encoders)
    loss = MultiComponentLoss(LossSettings(LossConfig(loss_components=components)), resources)
    logger = DistillationLogger(folder, tensorboard=True, console=False)
    run = Run(config, folder, accelerator, logger)
    return TrainingEngine(run, model, tokenizer, loss, data)


def run_epoch(engine) -> None:
    """All steps of one epoch."""
    for window in engine.epoch():
        engine.train_step(window)


def build_floor(model, batches: list, own_loss: bool):
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


def collate_dense(features: list[dict], pad: int, vocabulary: int, longest: bool) -> dict[str, Any]:
    """A batch with dense teacher logits, padded to its longest row, or with ``longest`` to 512 and 128 tokens."""
    import torch

    from data.batches.collate import IGNORED

    source = 512 if longest else max(len(f["input_ids"]) for f in features)
    target = 128 if longest else max(len(f["labels"]) for f in features)
    out = {
        "input_ids": torch.full((len(features), source), pad),
        "attention_mask": torch.zeros(len(features), source, dtype=torch.long),
        "labels": torch.full((len(features), target), IGNORED),
        "teacher_logits": torch.zeros(len(features), target, vocabulary),
    }
    for i, f in enumerate(features):
        out["input_ids"][i, : len(f["input_ids"])] = torch.tensor(f["input_ids"])
        out["attention_mask"][i, : len(f["input_ids"])] = 1
        out["labels"][i, : len(f["labels"])] = torch.tensor(f["labels"])
        out["teacher_logits"][i, : len(f["labels"])] = f["teacher_logits"]
    return out


def compute_kd_loss(model, inputs):
    """Half cross-entropy, half T^2 KL to the dense teacher, and the model's outputs."""
    import torch.nn.functional as F

    from data.batches.collate import IGNORED

    teacher = inputs.pop("teacher_logits")
    outputs = model(**inputs)
    mask = inputs["labels"] != IGNORED
    divergence = F.kl_div(
        F.log_softmax(outputs.logits / TEMPERATURE, dim=-1),
        F.softmax(teacher / TEMPERATURE, dim=-1),
        reduction="none",
    ).sum(-1)
    kd = (divergence * mask).sum() / mask.sum() * TEMPERATURE**2
    return 0.5 * outputs.loss + 0.5 * kd, outputs


def build_trainer(model, tokenizer, items: list, batch_size: int, folder: Path, policy: str):
    """A run of transformers.Seq2SeqTrainer over the items; policy: longest, grouped or max_length."""
    import torch
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
        return collate_dense(features, pad, vocabulary, longest=policy == "max_length")

    class DistillationTrainer(Seq2SeqTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            loss, outputs = compute_kd_loss(model, inputs)
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
    return lambda: trainer.train()


def profile_steps(cases: dict[str, Callable[[], None]], steps: int, shown: int = 12) -> tuple[list[str], list[list]]:
    """Milliseconds a step by operator (self time), the largest first; the whole step is last."""
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


@dataclass(frozen=True)
class Material:
    """What all cases train on: the same rows, as a file, as items and as batches."""

    workload: Workload
    batch_size: int
    path: Path
    dataset: AssertionDataset
    items: list
    batches: list

    def build_model(self):
        return self.workload.build_model(dropout_rate=0.1)


def prepare_material(args, folder: Path) -> Material:
    import numpy as np

    from data.batches.collate import Collator
    from data.batches.sampling import micro_batches
    from data.dataset import AssertionDataset

    workload = prepare_workload(args)
    # Evenly over the lengths, so that few rows stand for all.
    by_length = sorted(workload.rows, key=lambda row: len(row["test_method_masked"]) + len(row["focal_method"]))
    chosen = [by_length[int((i + 0.5) * len(by_length) / args.rows)] for i in range(args.rows)]
    path = folder / "data.jsonl"
    write_distillation_file(path, chosen, workload.tokenizer, workload.vocabulary)
    dataset = AssertionDataset(path, workload.tokenizer, vocab_size=workload.vocabulary)
    items = [dataset[i] for i in range(len(dataset))]
    collator = Collator(workload.tokenizer.pad_token_id, dataset.shared)
    lengths = dataset.byte_lengths()
    plan = micro_batches(np.arange(len(items)), lengths, args.batch_size, seed=42, epoch=0, window=64)
    batches = [collator([items[i] for i in numbers]) for numbers in plan]
    return Material(workload, args.batch_size, path, dataset, items, batches)


def build_step_cases(made: Material, folder: Path) -> dict[str, Callable[[], None]]:
    """Whole epochs on ready-made batches."""
    cases = {
        "floor: bare model": build_floor(made.build_model(), made.batches, True),
        "floor without any loss": build_floor(made.build_model(), made.batches, False),
    }
    everywhere = "focal + jsd, head at padding too"
    for title, components in (("focal + jsd", PAIR), (everywhere, PAIR), ("Trident", TRIDENT)):
        data = ReadyMade(made.batches)
        place, tokenizer = folder / title, made.workload.tokenizer
        engine = build_engine(made.build_model(), tokenizer, components, data, place, batch_size=made.batch_size)
        if title == everywhere:
            engine.through.head = None
        cases[title] = lambda engine=engine: run_epoch(engine)
    return cases


def build_compile_cases(made: Material, folder: Path) -> dict[str, Callable[[], None]]:
    """Whole epochs on ready-made batches, without --compile and with it."""
    cases = {"floor: bare model": build_floor(made.build_model(), made.batches, True)}
    for title, flag in (("focal + jsd", "False"), ("focal + jsd, --compile", "True")):
        data, place = ReadyMade(made.batches), folder / title
        flags = {"batch_size": made.batch_size, "compile": flag}
        engine = build_engine(made.build_model(), made.workload.tokenizer, PAIR, data, place, **flags)
        cases[title] = lambda engine=engine: run_epoch(engine)
    return cases


def build_trainer_cases(made: Material, folder: Path) -> dict[str, Callable[[], None]]:
    """Whole epochs from disk, and those of Seq2SeqTrainer."""
    from data.batches.loader import JsonlTrainingData
    from data.rows.rejected import RejectedRows

    tokenizer = made.workload.tokenizer
    cases = {"floor: bare model, grouped batches ready": build_floor(made.build_model(), made.batches, True)}
    for title, components, group in (
        (GROUPED, PAIR, "True"),
        ("ours: focal + jsd, not grouped", PAIR, "False"),
        ("ours: Trident, grouped", TRIDENT, "True"),
    ):
        place = folder / title.replace(" ", "_")
        place.mkdir()
        config = parse_student_config(
            batch_size=made.batch_size, num_workers=0, length_grouping=group, output_dir=place
        )
        rejected = RejectedRows(place / "r", made.path, len(made.dataset), 0.1)
        data = JsonlTrainingData(made.dataset, config, rejected)
        engine = build_engine(made.build_model(), tokenizer, components, data, place, batch_size=made.batch_size)
        cases[title] = lambda engine=engine: run_epoch(engine)
    for policy in ("longest", "grouped", "max_length"):
        cases[f"Seq2SeqTrainer, {policy}"] = build_trainer(
            made.build_model(), tokenizer, made.items, made.batch_size, folder / policy, policy
        )
    return cases


def tabulate_steps(times: dict[str, list[float]], made: Material) -> tuple[list[str], list[list]]:
    medians = {case: spread(values)["median"] for case, values in times.items()}
    rows = [
        [case, median / len(made.batches), len(made.items) / median, ratio(times, case, "floor: bare model")]
        for case, median in medians.items()
    ]
    return ["case", "seconds a step", "samples/s", "x floor"], rows


def tabulate_trainers(times: dict[str, list[float]], made: Material) -> tuple[list[str], list[list]]:
    rows = [
        [case, len(made.items) / spread(values)["median"], ratio(times, case, GROUPED)]
        for case, values in times.items()
    ]
    return ["case", "samples/s", "focal + jsd, grouped, is x times as fast"], rows


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--model", default="scratch:base")
    parser.add_argument("--part", choices=("step", "trainer", "profile", "compile"), default="step")
    args = parse(parser)
    if args.toy:
        args.rows = 8
        args.batch_size = 4
        args.model = "scratch:tiny"

    import logging

    import transformers

    from models.seq2seq.loading import count_parameters

    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    with (
        tempfile.TemporaryDirectory() as name,
        patch.dict(os.environ, {"DISTIL_CACHE": name} if args.part == "compile" else {}),
    ):
        folder = Path(name)
        made = prepare_material(args, folder)
        tables, stored = {}, {}
        times: dict[str, list[float]] = {}
        build = {"trainer": build_trainer_cases, "compile": build_compile_cases}.get(args.part, build_step_cases)
        cases = build(made, folder)
        if args.part == "compile":
            first = [[case, seconds(run, args.clock)] for case, run in cases.items()]
            tables["first epoch, nothing compiled before"] = (["case", "seconds"], first)
        if args.part == "profile":
            tables["operators by self time"] = profile_steps(cases, len(made.batches))
        else:
            times = in_turns(cases, args.repeats, budget=args.budget, clock=args.clock)
            stored[f"{args.part}_seconds"] = {case: spread(values) for case, values in times.items()}
        if args.part in ("step", "compile"):
            tables["training step on ready-made batches"] = tabulate_steps(times, made)
        elif args.part == "trainer":
            tables["samples a second from disk, against Seq2SeqTrainer"] = tabulate_trainers(times, made)
        settings = {
            "data": made.workload.data,
            "rows": len(made.items),
            "batch_size": args.batch_size,
            "model": args.model,
            "parameters": count_parameters(made.build_model()),
            "vocabulary": made.workload.vocabulary,
            **describe_lengths((item.input_ids for item in made.items), (item.labels for item in made.items)),
            "turns": len(next(iter(times.values()), [0])),
        }
    name = "training_step" + ("" if args.part == "step" else f"_{args.part}")
    return report(name, args, settings, tables, **stored)


if __name__ == "__main__":
    run_main(main)
