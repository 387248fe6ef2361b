"""Distillation data to and from Parquet (data/distillation/parquet.py): which position belongs to which task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from data.distillation.file import Header, build_signal, publishing, tokenizer_path
from data.distillation.parquet import from_log_probabilities, place_labels, read_parquet, read_width
from data.distillation.predictions import read_numbered
from data.distillation.signal import TopKSignal
from data.rows.readers import Json, RowError, parse_sample
from data.rows.tokenization import TaskEncoder, TextFormat, labels_hash, tokenizer_fingerprint
from utils.atomic_io import atomic_directory, atomic_writer
from utils.compress import TAIL_GRID, Rows, TopKRows, try_pack
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_PADDING = 512  # ids by which a model's vocabulary may be wider than its tokenizer's


def cut_topk(rows: TopKRows, k: int) -> TopKRows:
    """Only the first k entries of top-k rows; the mass of the others is added to the tail at each node of its grid."""
    if k > rows.ids.shape[1]:
        raise UserError(f"--topk {k}: the file holds only {rows.ids.shape[1]} entries a token")
    mass = rows.tail_log_mass.astype(np.float64)
    for entry in range(k, rows.ids.shape[1]):
        mass = np.logaddexp(mass, rows.logits[:, entry : entry + 1].astype(np.float64) * TAIL_GRID)
    return TopKRows(rows.ids[:, :k], rows.logits[:, :k], mass.astype(np.float32), rows.vocab_size)


def check_rejected(path: Path, written: int, rejected: Counter[str], max_reject_rate: float) -> None:
    """Raise UserError where too many rows are bad, or none is good."""
    bad = sum(rejected.values())
    if not written or bad > max_reject_rate * (written + bad):
        reasons = ", ".join(f"{n} x {reason}" for reason, n in rejected.most_common(3))
        raise UserError(f"{path}: {bad} of {written + bad} rows are bad ({reasons}); nothing was written")


def make_parquet_rows(
    rows: Iterable[tuple[int, Json, Rows]], encoder: TaskEncoder, max_output_len: int, rejected: Counter[str]
) -> Iterator[tuple[int, list[int], np.ndarray, np.ndarray]]:
    """What ``write_parquet`` takes, from numbered rows with top-k logits; ``rejected`` counts those left out."""
    for number, row, top in rows:
        labels = encoder.target(parse_sample(row).target, max_output_len)
        if row.get("labels_hash") != labels_hash(labels):
            rejected["labels differ from those the teacher saw"] += 1
            continue
        signal = build_signal([top])
        assert isinstance(top, TopKRows) and isinstance(signal, TopKSignal)
        mass = torch.logaddexp(signal.logits.logsumexp(-1), signal.tail_log_mass_at(1.0))
        values = (signal.logits - mass[:, None]).numpy()
        yield number, [encoder.tokenizer.pad_token_id, *labels], top.ids, values


@dataclass(frozen=True)
class ParquetSettings:
    """How Parquet becomes a distillation file."""

    teacher: str
    topk: int
    bits: int
    max_output_len: int
    max_reject_rate: float


def read_parquet_rows(
    path: Path,
    rows: Path,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    settings: ParquetSettings,
    rejected: Counter[str],
) -> int:
    """Write the distillation file ``output`` of the tasks in ``rows``; returns their number.

    ``rejected`` counts sequences that are left out. Raises UserError where the vocabulary is another than the
    tokenizer's, and where too many sequences are bad.
    """
    width = read_width(path) or len(tokenizer)
    if not len(tokenizer) <= width <= len(tokenizer) + MOST_PADDING:
        raise UserError(
            f"{path}: its teacher has a vocabulary of {width}, the tokenizer of {len(tokenizer)}; logits of another"
            " vocabulary cannot be used, take the teacher's texts (--predictions)"
        )
    encoder = TaskEncoder(tokenizer, TextFormat())
    tasks = dict(read_numbered(rows))
    k = min(settings.topk, next((ids.shape[1] for _, ids, _ in read_parquet(path)), settings.topk))

    def lines() -> Iterator[str]:
        for number, (row, ids, values) in enumerate(read_parquet(path)):
            try:
                task = tasks.get(str(row.get("id", number)))
                if task is None:
                    raise RowError("no row of that id in --rows")
                labels = encoder.target(parse_sample(task).target, settings.max_output_len)
                part = place_labels(row, labels, len(ids), tokenizer.pad_token_id)
                text, problem = try_pack(
                    cut_topk(from_log_probabilities(ids[part], values[part], width), k), settings.bits
                )
                if problem:
                    raise RowError(problem)
            except RowError as error:
                rejected[str(error)] += 1
                continue
            made = {"teacher_logits_compressed": text, "labels_hash": labels_hash(labels)}
            yield json.dumps({**task, **made}, ensure_ascii=False) + "\n"

    shared = {"mean_logits": torch.zeros(width)}  # nothing is known of the tail but its mass
    written = 0
    with publishing(shared, output) as digest, atomic_writer(output, "wb") as target:
        header = Header(
            teacher=settings.teacher,
            tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
            vocab_size=width,
            encoding="topk",
            topk=k,
            bits=settings.bits,
            max_output_len=settings.max_output_len,
            shared_sha256=digest,
            teacher_parameters=0,
        )
        target.write(header.line().encode())
        for line in lines():
            target.write(line.encode())
            written += 1
        check_rejected(path, written, rejected, settings.max_reject_rate)
    with atomic_directory(tokenizer_path(output)) as folder:
        tokenizer.save_pretrained(folder)
    return written
