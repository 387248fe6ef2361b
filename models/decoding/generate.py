"""Write texts with a trained model, whatever runs it, and time it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from config.defaults import DataConfig, ValidationConfig
from data.batches.collate import Batch
from data.java.scope import JavaScope
from data.java.statements import is_valid_java
from data.rows.tokenization import TextFormat
from models.decoding.constraints.build import Decoding


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How inputs become texts.

    Inputs are cut at ``max_input_len`` tokens, texts at ``max_output_len``. ``num_beams`` 1 is greedy decoding;
    with more, beam search keeps the ``num_return_sequences`` best texts; a writer that mends what breaks the rules may
    leave it at ``fewest`` (None: at none fewer; 0: it mends none). ``latency_samples``: how many tasks are timed one by
    one.
    """

    max_input_len: int = DataConfig.max_input_len
    max_output_len: int = DataConfig.max_output_len
    batch_size: int = 16
    num_beams: int = ValidationConfig.num_beams
    num_return_sequences: int = 1
    fewest: int | None = None
    latency_samples: int = 20
    decoding: Decoding = "java"


class Writer(Protocol):
    """A trained model that writes assertions: in torch (``TorchWriter``), or exported to another engine.

    ``text_format``: what its inputs look like; ``vocab_size``: the width V of its logits. ``steers``: whether it keeps
    to rules and scopes at each step; one that mends whole texts afterwards may need many seconds for a scope.
    """

    steers: bool

    tokenizer: PreTrainedTokenizerBase
    text_format: TextFormat
    vocab_size: int

    @property
    def device(self) -> torch.device: ...

    def to(self, device: str) -> None:
        """Move to another device."""
        ...

    def write(
        self, rows: Sequence[Sequence[int]], options: GenerationOptions, scopes: Sequence[JavaScope | None] = ()
    ) -> list[list[str]]:
        """The ``num_return_sequences`` best texts of each row of input ids, in one batch.

        ``scopes``: what can be named at the place of each row, for the decoding "types".
        """
        ...

    def logits(self, batch: Batch) -> Tensor:
        """[B, T, V] float: what it expects at each of the batch's labels [B, T], given those before."""
        ...

    def log_likelihoods(self, row: Sequence[int], texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """The log-probability of each id of each text, given the input ids ``row`` and the ids before it."""
        ...


def pad_rows(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """[len(rows), longest] int64, filled up with ``value`` on the right."""
    padded = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded


def length_sorted(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield indices in batches of similar length, longest first: if memory runs out, it does so at the start."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def rank_texts(texts: Sequence[str], options: GenerationOptions) -> list[str]:
    """The ``num_return_sequences`` best of a model's texts, which come best first.

    Unless decoding is free, those that parse come before those that do not.
    """
    found = [text.strip() for text in texts]
    if options.decoding != "free":
        found.sort(key=is_valid_java, reverse=True)
    return found[: options.num_return_sequences]


def generate_candidates(
    writer: Writer,
    rows: Sequence[Sequence[int]],
    options: GenerationOptions,
    scopes: Sequence[JavaScope | None] = (),
    *,
    on_batch: Callable[[list[int], list[list[str]]], None] | None = None,
) -> list[list[str]]:
    """Write ``num_return_sequences`` texts for each row of input ids, best first, in the order of ``rows``.

    ``scopes``: as in ``Writer.write``. Nothing is sampled, so the result is a function of model and input. ``on_batch``
    is called after each batch with the places in ``rows`` and their texts.
    """
    texts: list[list[str]] = [[] for _ in rows]
    for indices in length_sorted([len(row) for row in rows], options.batch_size):
        written = writer.write(
            [rows[index] for index in indices], options, [scopes[index] for index in indices] if scopes else ()
        )
        for index, found in zip(indices, written, strict=True):
            texts[index] = found
        if on_batch is not None:
            on_batch(indices, written)
    return texts


def generate_predictions(writer: Writer, rows: Sequence[Sequence[int]], options: GenerationOptions) -> list[str]:
    """Write the best text for each row of input ids."""
    return [candidates[0] for candidates in generate_candidates(writer, rows, options)]


def latency_per_assertion(writer: Writer, rows: Sequence[Sequence[int]], options: GenerationOptions) -> list[float]:
    """Measure the seconds that each row takes in a batch of its own, after one run to warm up."""
    alone = replace(options, batch_size=1)
    on_gpu = writer.device.type == "cuda"
    seconds: list[float] = []
    for number, row in enumerate([rows[0], *rows]):
        if on_gpu:
            torch.cuda.synchronize(writer.device)
        start = time.perf_counter()
        generate_candidates(writer, [row], alone)
        if on_gpu:
            torch.cuda.synchronize(writer.device)
        if number:
            seconds.append(time.perf_counter() - start)
    return seconds
