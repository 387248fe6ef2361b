"""Write texts with a model, and time it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from config.defaults import DataConfig, ValidationConfig
from data.java.statements import is_valid_java
from models.decoding.constraints.build import Decoding, build_constraints
from models.decoding.search import decode


@dataclass(frozen=True)
class GenerationOptions:
    """How inputs become texts.

    Inputs are cut at ``max_input_len`` tokens, texts at ``max_output_len``. ``num_beams`` 1 is greedy decoding;
    with more, beam search keeps the ``num_return_sequences`` best texts. ``latency_samples``: how many tasks are timed
    one by one.
    """

    max_input_len: int = DataConfig.max_input_len
    max_output_len: int = DataConfig.max_output_len
    batch_size: int = 16
    num_beams: int = ValidationConfig.num_beams
    num_return_sequences: int = 1
    latency_samples: int = 20
    decoding: Decoding = "java"


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


def _write_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    options: GenerationOptions,
) -> list[list[str]]:
    """The candidates of each row of one batch."""
    beams = options.num_beams
    input_ids = pad_rows(rows, tokenizer.pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    for place, row in enumerate(rows):
        attention_mask[place, : len(row)] = 1
    output = decode(
        model,
        input_ids.to(model.device),
        attention_mask.to(model.device),
        max_new_tokens=options.max_output_len,
        num_beams=beams,
        num_return_sequences=beams,
        constraints=build_constraints(options.decoding, model, tokenizer, rows, beams),
    )
    decoded = tokenizer.batch_decode(output, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    texts = []
    for place in range(len(rows)):
        found = [text.strip() for text in decoded[place * beams : (place + 1) * beams]]
        if options.decoding != "free" and beams > 1:
            found.sort(key=is_valid_java, reverse=True)
        texts.append(found[: options.num_return_sequences])
    return texts


@torch.inference_mode()
def generate_candidates(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    on_batch: Callable[[list[int], list[list[str]]], None] | None = None,
) -> list[list[str]]:
    """Write ``num_return_sequences`` texts for each row of input ids, best first, in the order of ``rows``.

    Nothing is sampled, so the result is a function of model and input. Unless decoding is free, beams that parse come
    before those that do not. ``on_batch`` is called after each batch with the places in ``rows`` and their texts.
    """
    was_training = model.training
    model.eval()
    texts: list[list[str]] = [[] for _ in rows]
    try:
        for indices in length_sorted([len(row) for row in rows], options.batch_size):
            written = _write_batch(model, tokenizer, [rows[index] for index in indices], options)
            for index, found in zip(indices, written, strict=True):
                texts[index] = found
            if on_batch is not None:
                on_batch(indices, written)
    finally:
        model.train(was_training)
    return texts


def generate_predictions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    options: GenerationOptions,
) -> list[str]:
    """Write the best text for each row of input ids."""
    return [candidates[0] for candidates in generate_candidates(model, tokenizer, rows, options)]


def latency_per_assertion(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    options: GenerationOptions,
) -> list[float]:
    """Measure the seconds that each row takes in a batch of its own, after one run to warm up."""
    alone = replace(options, batch_size=1)
    on_gpu = model.device.type == "cuda"
    seconds: list[float] = []
    for number, row in enumerate([rows[0], *rows]):
        if on_gpu:
            torch.cuda.synchronize(model.device)
        start = time.perf_counter()
        generate_candidates(model, tokenizer, [row], alone)
        if on_gpu:
            torch.cuda.synchronize(model.device)
        if number:
            seconds.append(time.perf_counter() - start)
    return seconds
