#!/usr/bin/env python
"""Forward and backward of the losses on logits [512, 32100], as ratios to F.cross_entropy on the same tensor.

    python benchmarks/loss_step.py [--repeats 9] [--threads 2]

Cases: focal + jsd with a top-64 teacher (bucket and shaped tail), with a dense one (rows ready, and made from hidden
states of width 1024 by the output head), full Trident (with the semantic term through MiniLM and a [V, 384] bridge of
random values: the cost does not depend on them), and the same focal + jsd as autograd makes it from plain torch
operations. Apart: the head's product, the semantic term alone. Peak memory: resident bytes above those before the
call, over the bytes of the logits; the gradient itself is the first 1.0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, peak_extra_bytes, ratio, report, spread
from utils.errors import run_main

TEMPERATURE = 4.0
HIDDEN = 1024
SEQUENCE = 32


def naive_focal_jsd(logits, labels, teacher):
    """What one writes with autograd in a few lines."""
    import torch

    log_p = torch.log_softmax(logits, dim=-1).gather(1, labels[:, None]).squeeze(1)
    focal = -(0.25 * (1 - log_p.exp()) ** 2 * log_p).mean()
    p = torch.softmax(teacher / TEMPERATURE, dim=-1)
    q = torch.softmax(logits / TEMPERATURE, dim=-1)
    m = (0.5 * (p + q)).clamp_min(1e-12)
    kl_p = (p * (p.clamp_min(1e-12).log() - m.log())).sum(-1)
    kl_q = (q * (q.clamp_min(1e-12).log() - m.log())).sum(-1)
    return 0.3 * focal + 0.7 * TEMPERATURE**2 * 0.5 * (kl_p + kl_q).mean()


class Inputs:
    """Logits of a student at n positions, and all that the losses compare them with."""

    def __init__(self, positions: int, vocabulary: int) -> None:
        import torch

        from config.defaults import SemanticConfig
        from data.distillation.signal import DenseSignal, HiddenSignal, TopKSignal
        from models.teacher.forward import encode_topk
        from models.text_encoder.bridge import SoftTextEncoder
        from models.text_encoder.encoders import EmbeddingCache, resolve_encoder
        from utils.compress import TAIL_GRID

        torch.manual_seed(0)
        n, v = positions, vocabulary
        self.length = min(SEQUENCE, n)
        self.batch = n // self.length
        self.logits = (torch.randn(self.batch, self.length, v) * 3).requires_grad_()
        self.flat = self.logits.detach().view(-1, v).requires_grad_()
        self.labels = torch.randint(3, v, (self.batch, self.length))
        head, hidden = torch.randn(v, HIDDEN) * 3 / HIDDEN**0.5, torch.randn(n, HIDDEN)
        self.rows = hidden @ head.T
        ids, values, mass = encode_topk(self.rows, 64)
        grid = torch.tensor(TAIL_GRID, dtype=torch.float32)
        self.topk = TopKSignal(ids, values, mass, grid, v, self.rows.mean(0))
        self.dense, self.hidden = DenseSignal(self.rows), HiddenSignal(hidden, head)
        self.multiply_head = lambda: hidden @ head.T
        encoder = resolve_encoder("embedded:minilm")
        tokens = torch.randn(v, encoder.word_embeddings.shape[1]) * 0.05
        self.semantic = SoftTextEncoder(encoder, tokens, EmbeddingCache(encoder, SemanticConfig()), 1.0)

    def build_case(self, names: list[str], teacher, tail: str = "bucket") -> Callable[[], None]:
        """Forward and backward of the product's loss."""
        from config.defaults import DistillationConfig, LossConfig
        from models.loss_functions import LossResources, LossSettings
        from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss

        loss = MultiComponentLoss(
            LossSettings(
                LossConfig(loss_components=names, loss_weights=[0.5] * len(names)),
                distillation=DistillationConfig(topk_tail=tail),
            ),
            LossResources(semantic=self.semantic),
        )
        references = [f"assertEquals({i}, list.size());" for i in range(self.batch)]
        data = {"labels": self.labels, "teacher": teacher, "references": references}
        progress = LossProgress(temperature=TEMPERATURE)
        ones = Denominators(float(self.labels.numel()), float(self.batch))

        def run() -> None:
            self.logits.grad = None
            loss(self.logits, data, progress, ones).total.backward()

        return run

    def build_plain_case(self, function: Callable) -> Callable[[], None]:
        def run() -> None:
            self.flat.grad = None
            function().backward()

        return run


def build_cases(made: Inputs) -> dict[str, Callable]:
    import torch.nn.functional as F

    target = made.labels.view(-1)
    pair, trident = ["focal", "jsd"], ["focal", "jsd", "semantic"]
    return {
        "cross_entropy": made.build_plain_case(lambda: F.cross_entropy(made.flat, target)),
        "focal": made.build_case(["focal"], None),
        "focal+jsd topk": made.build_case(pair, made.topk),
        "focal+jsd topk, shaped tail": made.build_case(pair, made.topk, "shaped"),
        "focal+jsd dense rows": made.build_case(pair, made.dense),
        "focal+jsd hidden": made.build_case(pair, made.hidden),
        "head product of hidden": made.multiply_head,
        "trident topk": made.build_case(trident, made.topk),
        "semantic alone": made.build_case(["semantic"], None),
        "naive focal+jsd dense rows": made.build_plain_case(lambda: naive_focal_jsd(made.flat, target, made.rows)),
    }


def tabulate(times: dict[str, list[float]], extra: dict[str, float | None], size: int) -> tuple[list[str], list[list]]:
    """``extra``: peak bytes of each case; ``size``: bytes of the logits."""
    hidden_only = [a - b for a, b in zip(times["focal+jsd hidden"], times["head product of hidden"], strict=True)]
    both = times | {"focal+jsd hidden less its head product": hidden_only}
    rows = []
    for name, values in both.items():
        peak = extra.get(name)
        memory = None if peak is None else peak / size
        rows.append([name, 1e3 * spread(values)["median"], ratio(both, name, "cross_entropy"), memory])
    return ["forward + backward", "ms", "x cross_entropy", "peak extra / logits"], rows


def main() -> int:
    parser = options(__doc__, repeats=9)
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32_100)
    args = parse(parser)
    if args.toy:
        args.positions, args.vocabulary = 64, 500
    made = Inputs(args.positions, args.vocabulary)
    cases = build_cases(made)
    times = in_turns(cases, args.repeats, warmup=2, budget=args.budget, clock=args.clock)
    extra = {}
    for name, case in cases.items():
        made.logits.grad = made.flat.grad = None
        extra[name] = peak_extra_bytes(case)
    settings = {
        "logits": [args.positions, args.vocabulary],
        "temperature": TEMPERATURE,
        "topk": 64,
        "hidden_width": HIDDEN,
        "batch": [made.batch, made.length],
        "turns": len(next(iter(times.values()))),
    }
    return report(
        "loss_step",
        args,
        settings,
        {"losses": tabulate(times, extra, made.logits.numel() * made.logits.element_size())},
        seconds={name: spread(values) for name, values in times.items()},
    )


if __name__ == "__main__":
    run_main(main)
