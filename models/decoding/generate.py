"""Text from a model, and how well it does when it is shown the reference (teacher-forced)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LogitsProcessor, LogitsProcessorList

from data.batches.collate import IGNORED, Batch
from data.distillation.signal import TeacherSignal
from data.java.statements import is_valid_java
from models.decoding.java_constraint import JavaConstraint
from models.decoding.name_constraint import NameConstraint, NameVocabulary
from models.decoding.repetition import NoLoops
from models.decoding.search import decode

Decoding = Literal["free", "java", "names"]


def pad_rows(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """[len(rows), longest] int64, filled up with ``value`` on the right."""
    padded = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded


def length_sorted(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, the longest first: memory runs out at the start or not at all."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


# Their tables are costly: the same for one text or thousands.
java_constraint = lru_cache(maxsize=4)(JavaConstraint)
name_vocabulary = lru_cache(maxsize=4)(NameVocabulary)


@torch.inference_mode()
def generate_candidates(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Sequence[int]],
    *,
    max_output_len: int = 128,
    batch_size: int = 32,
    num_beams: int = 1,
    num_return_sequences: int = 1,
    decoding: Decoding = "java",
    on_batch: Callable[[list[int], list[list[str]]], None] | None = None,
) -> list[list[str]]:
    """For each row of input ids its ``num_return_sequences`` texts, best first, in the order of ``rows``.

    Greedy with ``num_beams`` 1, else beam search; never sampled, so the result is a function of model and input.
    ``decoding``: free; java: brackets, literals and the number of an assertion's arguments are kept to Java's rules,
    loops are left, and beams that parse come before those that do not; names: java, and variables are the input's.
    ``on_batch`` is called after each batch with the places in ``rows`` and their texts.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    texts: list[list[str]] = [[] for _ in rows]
    ends = model.generation_config.eos_token_id
    ends = (ends,) if isinstance(ends, int) else tuple(ends)
    vocab_size = model.config.vocab_size
    try:
        for indices in length_sorted([len(row) for row in rows], batch_size):
            input_ids = pad_rows([rows[index] for index in indices], tokenizer.pad_token_id)
            attention_mask = torch.zeros_like(input_ids)
            for place, index in enumerate(indices):
                attention_mask[place, : len(rows[index])] = 1
            constraints: list[LogitsProcessor] = []
            if decoding == "names":
                texts_in = tokenizer.batch_decode([rows[index] for index in indices], skip_special_tokens=True)
                constraints.append(NameConstraint(name_vocabulary(tokenizer, vocab_size), texts_in, num_beams))
            if decoding != "free":
                constraints += [java_constraint(tokenizer, vocab_size, ends), NoLoops()]
            output = decode(
                model,
                input_ids.to(device),
                attention_mask.to(device),
                max_new_tokens=max_output_len,
                num_beams=num_beams,
                num_return_sequences=num_beams,
                constraints=LogitsProcessorList(constraints),
            )
            decoded = tokenizer.batch_decode(output, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for place, index in enumerate(indices):
                found = [text.strip() for text in decoded[place * num_beams : (place + 1) * num_beams]]
                if decoding != "free" and num_beams > 1:
                    found.sort(key=is_valid_java, reverse=True)
                texts[index] = found[:num_return_sequences]
            if on_batch is not None:
                on_batch(indices, [texts[index] for index in indices])
    finally:
        model.train(was_training)
    return texts


def generate_predictions(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], **options: Any) -> list[str]:
    """The best text for each row of input ids; options as in ``generate_candidates``."""
    return [candidates[0] for candidates in generate_candidates(model, tokenizer, rows, **options)]


@dataclass
class TeacherForced:
    """Per sample, in the order of the batches: first-choice accuracy over the target's tokens (end included).

    token_accuracy [n]; critical_token_accuracy [n], NaN without a critical token (all NaN where none were named);
    loss [n], mean negative log-likelihood of a token; tokens [n]; row_ids [n].
    """

    token_accuracy: np.ndarray
    critical_token_accuracy: np.ndarray
    loss: np.ndarray
    tokens: np.ndarray
    row_ids: np.ndarray

    @property
    def mean_loss(self) -> float:
        """Negative log-likelihood a token over all samples."""
        return float((self.loss * self.tokens).sum() / max(1, self.tokens.sum()))


def accuracy_per_sample(
    predicted: Tensor, labels: Tensor, critical: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Right and all target positions, and the same of critical ones: four [B] counts.

    ``predicted``, ``labels`` [B, T]; labels of -100 are no target; ``critical`` [V] bool marks label ids.
    """
    target = labels != IGNORED
    right = (predicted == labels) & target
    marked = torch.zeros_like(target)
    if critical is not None:
        marked = critical.to(labels.device)[labels.clamp(min=0)] & target
    return right.sum(1), target.sum(1), (right & marked).sum(1), marked.sum(1)


def _forced(rows: list[list[Tensor]], losses: list[Tensor], row_ids: list[Tensor]) -> TeacherForced:
    right, tokens, critical_right, critical = (
        torch.cat([row[i] for row in rows]).cpu().double().numpy() if rows else np.zeros(0) for i in range(4)
    )
    with np.errstate(invalid="ignore"):
        return TeacherForced(
            token_accuracy=right / tokens,
            critical_token_accuracy=critical_right / critical,
            loss=torch.cat(losses).cpu().double().numpy() / tokens if losses else np.full(len(tokens), np.nan),
            tokens=tokens,
            row_ids=torch.cat(row_ids).cpu().numpy() if row_ids else np.zeros(0, dtype=np.int64),
        )


@torch.inference_mode()
def teacher_forced(model: Any, batches: Iterable[Batch], critical: Tensor | None = None) -> TeacherForced:
    """One forward pass over each batch (input_ids, attention_mask, labels and, if there, row_ids)."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    rows: list[list[Tensor]] = []
    losses: list[Tensor] = []
    row_ids: list[Tensor] = []
    try:
        for batch in batches:
            labels = batch["labels"].to(device)
            logits = model(
                input_ids=batch["input_ids"].to(device),
                attention_mask=batch["attention_mask"].to(device),
                labels=labels,
            ).logits
            rows.append(list(accuracy_per_sample(logits.argmax(-1), labels, critical)))
            nll = cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
            losses.append(nll.sum(1))
            if "row_ids" in batch:
                row_ids.append(batch["row_ids"])
    finally:
        model.train(was_training)
    return _forced(rows, losses, row_ids)


def top_choice(signal: TeacherSignal) -> Tensor:
    """[N] the most likely token of each position of a stored teacher signal."""
    from data.distillation.signal import DenseSignal, HiddenSignal, TopKSignal

    if isinstance(signal, TopKSignal):
        return signal.ids[:, 0]
    if isinstance(signal, HiddenSignal):
        return (signal.hidden.float() @ signal.head.float().T).argmax(-1)
    assert isinstance(signal, DenseSignal)
    return signal.logits.argmax(-1)


def teacher_forced_signal(batches: Iterable[Batch], critical: Tensor | None = None) -> TeacherForced:
    """The accuracies from stored teacher logits (``batch["teacher"]``), no model needed; the loss is NaN."""
    rows: list[list[Tensor]] = []
    row_ids: list[Tensor] = []
    for batch in batches:
        labels, signal = batch["labels"], batch["teacher"]
        assert signal is not None  # these are the rows of a file with logits
        predicted = torch.full_like(labels, IGNORED)
        predicted[labels != IGNORED] = top_choice(signal)
        rows.append(list(accuracy_per_sample(predicted, labels, critical)))
        row_ids.append(batch["row_ids"])
    return _forced(rows, [], row_ids)


@torch.inference_mode()
def latency_per_assertion(model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], **options: Any) -> list[float]:
    """Seconds for each row alone (batch of one), after one call to warm up."""
    device = next(model.parameters()).device
    seconds: list[float] = []
    for number, row in enumerate([rows[0], *rows]):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        generate_candidates(model, tokenizer, [row], batch_size=1, **options)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            seconds.append(time.perf_counter() - start)
    return seconds
