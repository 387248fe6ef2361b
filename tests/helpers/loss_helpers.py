"""A small vocabulary of Java assertions, bridged once a process into the packaged MiniLM."""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from config.defaults import SemanticConfig
from models.seq2seq.loading import train_tokenizer
from models.text_encoder.bridge import SoftTextEncoder, load_bridge
from models.text_encoder.encoders import EmbeddingCache, Encoder, resolve_encoder

MINILM = "embedded:minilm"


@functools.cache
def assertion_texts() -> list[str]:
    """500 distinct assertions."""
    rng = random.Random(0)
    nouns = ["account", "basket", "parser", "queue", "invoice", "matrix", "customer", "ticket", "sensor", "route"]
    verbs = ["getBalance", "size", "isEmpty", "parse", "total", "getName", "count", "isValid", "next", "length"]

    def value() -> str:
        return rng.choice(
            [str(rng.randint(0, 99)), f'"{rng.choice(nouns)}"', f"{rng.choice(nouns)}.{rng.choice(verbs)}()"]
        )

    def call() -> str:
        return f"{rng.choice(nouns)}.{rng.choice(verbs)}({rng.choice(['', '', str(rng.randint(0, 9))])})"

    shapes = [
        lambda: f"assertEquals({value()}, {call()});",
        lambda: f"assertTrue({call()});",
        lambda: f"assertFalse({call()});",
        lambda: f"assertNull({call()});",
        lambda: f"assertNotEquals({value()}, {call()});",
        lambda: f"assertThat({call()}).isEqualTo({value()});",
        lambda: f"assertSame({rng.choice(nouns)}, {call()});",
        lambda: f"verify({rng.choice(nouns)}).{rng.choice(verbs)}();",
    ]
    texts: dict[str, None] = {}
    while len(texts) < 500:
        texts[rng.choice(shapes)()] = None
    return list(texts)


@functools.cache
def java_tokenizer():
    """Byte-level BPE, about 480 tokens."""
    return train_tokenizer(assertion_texts(), 480)


@functools.cache
def minilm() -> Encoder:
    return resolve_encoder(MINILM)


@functools.cache
def fitted_bridge():
    """Bridge of ``java_tokenizer`` into MiniLM."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict("os.environ", DISTIL_CACHE=str(Path(folder))):
        tokenizer = java_tokenizer()
        config = SemanticConfig(bridge_fit_steps=32, bridge_batch_size=16)
        texts = assertion_texts()
        return load_bridge(minilm(), tokenizer, len(tokenizer), texts, config, flag="--embedding_model", progress=False)


def soft_encoder(encoder: Encoder | None = None) -> SoftTextEncoder:
    """With its own cache; ``encoder`` for another precision."""
    encoder = encoder or minilm()
    return SoftTextEncoder(
        encoder, fitted_bridge().tokens.to(encoder.dtype), EmbeddingCache(encoder, SemanticConfig()), 1.0
    )


def labels_of(texts: list[str]) -> Tensor:
    """[B, T] with the end token, padded by -100."""
    tokenizer = java_tokenizer()
    rows = [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in texts]
    labels = torch.full((len(rows), max(map(len, rows))), -100)
    for row, ids in zip(labels, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return labels


def not_text() -> Tensor:
    tokenizer = java_tokenizer()
    flags = torch.zeros(len(tokenizer), dtype=torch.bool)
    flags[[tokenizer.pad_token_id, tokenizer.eos_token_id]] = True
    return flags


def decode(logits: Tensor, labels: Tensor) -> list[str]:
    """Greedy text of each sample at its target positions, up to the end token."""
    tokenizer = java_tokenizer()
    texts = []
    for row, wanted in zip(logits.argmax(-1), labels, strict=True):
        ids = row[wanted != -100].tolist()
        if tokenizer.eos_token_id in ids:
            ids = ids[: ids.index(tokenizer.eos_token_id)]
        texts.append(tokenizer.decode(ids, skip_special_tokens=True))
    return texts
