#!/usr/bin/env python
"""What each loss component is worth on real data: value, gradient norm on the logits, and its share of a step's time.

    python benchmarks/loss_components.py --data TEACHER/distillation_data_validation.jsonl --student scratch:tiny FOLDER

Students are named folders or ``scratch:SIZE``: one at the start of its training and one at its end show how the
components' sizes move. ms: forward and backward of the component alone, on ready logits; its share: of the student's
forward and backward pass with all eight. The shares do not add up: together the components share one pass over the
vocabulary and one text encoder.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, report
from utils.errors import run_main

if TYPE_CHECKING:
    import torch

    from models.multi_component_loss import MultiComponentLoss

COMPONENT_NAMES = ("ce", "focal", "kl", "jsd", "semantic", "contrastive", "pans", "ast")
COLUMNS = ("student", "component", "weight", "value", "gradient norm", "weighted gradient share", "ms", "share of step")


def make_flags(args: argparse.Namespace, name: str) -> list[str]:
    values = {
        "train_data_path": args.data,
        "val_data_path": args.data,
        "model_name": name,
        "batch_size": args.batch_size,
        "device": "cpu",
        "max_input_len": args.max_input_len,
        "max_output_len": args.max_output_len,
        "embedding_model": "embedded:minilm",
        "contrastive_encoder": "embedded:minilm",
        "bridge_fit_steps": args.bridge_fit_steps,
        "bridge_min_fidelity": 0.3,
    }
    words = [word for flag, value in values.items() for word in (f"--{flag}", str(value))]
    return [*words, "--loss_components", *COMPONENT_NAMES, "--dry_run"]


def compute_logits(model, batch: dict) -> torch.Tensor:
    return model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).logits


def average_components(loss: MultiComponentLoss, model, batches: list, progress) -> tuple[dict, dict]:
    """Each component's mean value and norm of its gradient on the logits."""
    import torch

    from data.batches.collate import IGNORED
    from models.multi_component_loss import Denominators

    values, norms = dict.fromkeys(COMPONENT_NAMES, 0.0), dict.fromkeys(COMPONENT_NAMES, 0.0)
    for batch in batches:
        with torch.no_grad():
            logits = compute_logits(model, batch)
        tokens = float((batch["labels"] != IGNORED).sum())
        denominators = Denominators(tokens, float(len(batch["labels"])))
        for key, value in loss(logits, batch, progress, denominators).raw.items():
            values[key] += value.item() / len(batches)
        for key, value in loss.gradient_norms(logits, batch, progress, denominators).items():
            norms[key] += value.item() / len(batches)
    return values, norms


def time_components(loss: MultiComponentLoss, model, batches: list, progress, repeats: int) -> dict[str, float]:
    """Seconds a batch of a whole step, and of each component alone on ready-made logits."""
    import torch

    from models.multi_component_loss import Denominators, MultiComponentLoss

    one = Denominators(1.0, 1.0)
    with torch.no_grad():
        leaves = [compute_logits(model, batch) for batch in batches]

    def step() -> None:
        for batch in batches:
            loss(compute_logits(model, batch), batch, progress, one).total.backward()
            model.zero_grad(set_to_none=True)

    def run_alone(objective: MultiComponentLoss) -> None:
        for batch, leaf in zip(batches, leaves, strict=True):
            objective(leaf.requires_grad_(), batch, progress, one).total.backward()
            leaf.grad = None

    cases = {"step": step}
    for key in COMPONENT_NAMES:
        config = replace(loss.settings.loss, loss_components=[key])
        alone = MultiComponentLoss(replace(loss.settings, loss=config), loss.resources)
        cases[key] = lambda alone=alone: run_alone(alone)
    return {key: statistics.median(found) / len(batches) for key, found in in_turns(cases, repeats).items()}


def measure(args, name: str) -> list[list]:
    """A row a component for one student."""
    from config.command_line import parse_config
    from config.defaults import StudentConfig
    from data.batches.loader import validation_batches
    from data.rows.rejected import RejectedRows
    from knowledge_distillation import build_student_loss, load_student
    from models.multi_component_loss import LossProgress
    from models.training.run import open_run
    from models.training.stages import open_datasets

    config = parse_config(StudentConfig, make_flags(args, name), description=__doc__ or "")
    run = open_run(config, "benchmarks/loss_components.py")
    tokenizer, model = load_student(config, args.data)
    vocab_size = model.config.vocab_size
    dataset, _ = open_datasets(run, tokenizer, vocab_size, teacher=True, train=args.data, validation=args.data)
    loss = build_student_loss(config, run, tokenizer, vocab_size, dataset, has_teacher=True)
    rejected = RejectedRows(None, args.data, len(dataset), 1.0)
    every = list(validation_batches(dataset, args.batch_size, rejected)())
    batches = every[:: max(1, len(every) // args.batches)][: args.batches]
    progress = LossProgress(temperature=args.temperature)
    weights = loss.weights(progress)
    model.train()
    values, norms = average_components(loss, model, batches, progress)
    times = time_components(loss, model, batches, progress, args.repeats)
    total = sum(weights[key] * norms[key] for key in COMPONENT_NAMES)
    rows = []
    for key in COMPONENT_NAMES:
        share = weights[key] * norms[key] / total
        rows.append(
            [
                name if name.startswith("scratch:") else Path(name).parent.name,
                key,
                weights[key],
                values[key],
                norms[key],
                share,
                1000 * times[key],
                times[key] / times["step"],
            ]
        )
    return rows


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--data", type=Path, required=True, help="distillation data of a trained teacher")
    parser.add_argument("--student", nargs="+", default=["scratch:tiny"])
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--temperature", type=float, default=1.5)
    parser.add_argument("--max_input_len", type=int, default=320)
    parser.add_argument("--max_output_len", type=int, default=48)
    parser.add_argument("--bridge_fit_steps", type=int, default=300)
    args = parse(parser)
    rows = [row for name in args.student for row in measure(args, name)]
    settings = {key: getattr(args, key) for key in ("batches", "batch_size", "temperature")}
    return report("loss_components", args, settings, {"Components": (COLUMNS, rows)})


if __name__ == "__main__":
    run_main(main)
