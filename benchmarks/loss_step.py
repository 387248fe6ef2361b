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


def main() -> int:
    parser = options(__doc__, repeats=9)
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32_100)
    args = parse(parser)
    if args.toy:
        args.positions, args.vocabulary = 64, 500

    import torch
    import torch.nn.functional as F

    from config.defaults import DistillationConfig, LossConfig, SemanticConfig
    from data.distillation.signal import DenseSignal, HiddenSignal, TopKSignal
    from models.loss_functions import LossResources, LossSettings
    from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss
    from models.teacher.forward import encode_topk
    from models.text_encoder.bridge import SoftTextEncoder
    from models.text_encoder.encoders import EmbeddingCache, resolve_encoder
    from utils.compress import TAIL_GRID

    torch.manual_seed(0)
    n, v = args.positions, args.vocabulary
    length = min(SEQUENCE, n)
    batch = n // length
    logits = (torch.randn(batch, length, v) * 3).requires_grad_()
    flat = logits.detach().view(-1, v).requires_grad_()
    labels = torch.randint(3, v, (batch, length))
    head, hidden = torch.randn(v, HIDDEN) * 3 / HIDDEN**0.5, torch.randn(n, HIDDEN)
    dense = hidden @ head.T
    ids, values, mass = encode_topk(dense, 64)
    topk = TopKSignal(ids, values, mass, torch.tensor(TAIL_GRID, dtype=torch.float32), v, dense.mean(0))
    encoder = resolve_encoder("embedded:minilm")
    tokens = torch.randn(v, encoder.word_embeddings.shape[1]) * 0.05
    semantic = SoftTextEncoder(encoder, tokens, EmbeddingCache(encoder, SemanticConfig()), 1.0)
    references = [f"assertEquals({i}, list.size());" for i in range(batch)]
    progress, ones = LossProgress(temperature=TEMPERATURE), Denominators(float(n), float(batch))

    def ours(names, teacher, tail="bucket"):
        loss = MultiComponentLoss(
            LossSettings(
                LossConfig(loss_components=names, loss_weights=[0.5] * len(names)),
                distillation=DistillationConfig(topk_tail=tail),
            ),
            LossResources(semantic=semantic),
        )
        data = {"labels": labels, "teacher": teacher, "references": references}

        def run():
            logits.grad = None
            loss(logits, data, progress, ones).total.backward()

        return run

    def plain(function):
        def run():
            flat.grad = None
            function().backward()

        return run

    target = labels.view(-1)
    pair, trident = ["focal", "jsd"], ["focal", "jsd", "semantic"]
    cases = {
        "cross_entropy": plain(lambda: F.cross_entropy(flat, target)),
        "focal": ours(["focal"], None),
        "focal+jsd topk": ours(pair, topk),
        "focal+jsd topk, shaped tail": ours(pair, topk, "shaped"),
        "focal+jsd dense rows": ours(pair, DenseSignal(dense)),
        "focal+jsd hidden": ours(pair, HiddenSignal(hidden, head)),
        "head product of hidden": lambda: hidden @ head.T,
        "trident topk": ours(trident, topk),
        "semantic alone": ours(["semantic"], None),
        "naive focal+jsd dense rows": plain(lambda: naive_focal_jsd(flat, target, dense)),
    }
    times = in_turns(cases, args.repeats, warmup=2, budget=args.budget, clock=args.clock)
    extra = {}
    for name, case in cases.items():
        logits.grad = flat.grad = None
        extra[name] = peak_extra_bytes(case)
    size = logits.numel() * logits.element_size()
    rows = [
        [
            name,
            1e3 * spread(times[name])["median"],
            ratio(times, name, "cross_entropy"),
            None if extra[name] is None else extra[name] / size,
        ]
        for name in cases
    ]
    hidden_only = [a - b for a, b in zip(times["focal+jsd hidden"], times["head product of hidden"], strict=True)]
    both = times | {"hidden without product": hidden_only}
    rows.append(
        [
            "focal+jsd hidden less its head product",
            1e3 * spread(hidden_only)["median"],
            ratio(both, "hidden without product", "cross_entropy"),
            None,
        ]
    )
    columns = ["forward + backward", "ms", "x cross_entropy", "peak extra / logits"]
    settings = {
        "logits": [n, v],
        "temperature": TEMPERATURE,
        "topk": 64,
        "hidden_width": HIDDEN,
        "batch": [batch, length],
    }
    settings["turns"] = len(next(iter(times.values())))
    return report(
        "loss_step",
        args,
        settings,
        {"losses": (columns, rows)},
        seconds={name: spread(values) for name, values in times.items()},
    )


if __name__ == "__main__":
    run_main(main)
