"""What the GPU's benchmarks work on: shapes of T5, models with random weights, made-up batches on a GPU or the CPU."""

from __future__ import annotations

import gc
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A T5 and the batches it is trained on."""

    d_model: int
    d_ff: int
    heads: int
    layers: int
    vocabulary: int
    batch_size: int
    source: int
    target: int
    d_kv: int = 64


SHAPES = {
    "48m": Shape(512, 2048, 8, 6, 8192, 64, 160, 24),
    "220m": Shape(768, 3072, 12, 12, 32_100, 32, 256, 32),
    "770m": Shape(1024, 4096, 16, 24, 32_100, 16, 256, 32),
    "toy": Shape(96, 256, 3, 1, 2048, 2, 24, 8, 32),
}


def device_name() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def build_model(shape: Shape, seed: int = 0, dropout_rate: float = 0.1):
    """A T5 with random weights, drawn on the device itself."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=shape.vocabulary,
        d_model=shape.d_model,
        d_ff=shape.d_ff,
        num_heads=shape.heads,
        d_kv=shape.d_kv,
        num_layers=shape.layers,
        num_decoder_layers=shape.layers,
        decoder_start_token_id=0,
        pad_token_id=0,
        dropout_rate=dropout_rate,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    with torch.device(device_name()):
        return T5ForConditionalGeneration(config)


def make_batch(shape: Shape, seed: int, lengths: tuple[int, int] | None = None) -> dict:
    """Made-up tokens with a top-64 teacher. lengths: of source and target, whose rows then end at different places."""
    import torch

    from data.distillation.signal import TopKSignal
    from models.teacher.forward import encode_topk
    from utils.compress import TAIL_GRID

    batch, (source, target) = shape.batch_size, lengths or (shape.source, shape.target)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, shape.vocabulary, (batch, target), generator=generator)
    mask = torch.ones(batch, source, dtype=torch.long)
    if lengths:
        for row in range(batch):
            mask[row, source - row % 7 :] = 0
            labels[row, target - row % 3 :] = -100
    positions = int((labels != -100).sum())
    device = device_name()
    drawn = torch.Generator(device).manual_seed(seed)
    ids, values, mass = encode_topk(
        torch.randn(positions, shape.vocabulary, generator=drawn, device=device) * 3, min(64, shape.vocabulary)
    )
    made = {
        "input_ids": torch.randint(3, shape.vocabulary, (batch, source), generator=generator),
        "attention_mask": mask,
        "labels": labels,
        "row_ids": torch.arange(batch),
        "references": [f"assertEquals({row}, box.get({seed}));" for row in range(batch)],
        "teacher": TopKSignal(ids.cpu(), values.cpu(), mass.cpu(), torch.tensor(TAIL_GRID), shape.vocabulary),
    }
    if device == "cuda":
        made = {key: value.pin_memory() if hasattr(value, "pin_memory") else value for key, value in made.items()}
    return made


def wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
