"""Puts items together to a batch: padded at the right, labels of padding -100, the teacher's rows in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from data.dataset import Item, Rejected
from data.distillation.file import build_signal
from data.distillation.signal import TeacherSignal
from data.rows.readers import Sample

IGNORED = -100  # the label of a position that is no target: padding. PyTorch's cross-entropy has the same default.


class Batch(TypedDict, total=False):
    """A micro-batch of B rows, S input tokens and T target tokens; one whose rows are all bad has no input_ids."""

    input_ids: Tensor  # [B, S]
    attention_mask: Tensor  # [B, S], 1 for a token, 0 for padding
    labels: Tensor  # [B, T], IGNORED for padding
    num_targets: int  # labels that are not IGNORED; known once the batch has left the CPU
    row_ids: Tensor  # [B] numbers of the rows in their file
    references: list[str]  # the targets as text
    teacher_predictions: list[str | None]
    samples: list[Sample]
    teacher: TeacherSignal | None  # what the teacher knows at the target positions
    rejected: list[tuple[int, str]]  # (row, reason)


def _pad(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """[B, S] rows padded with ``value`` at the right, and a mask: 1 for a row's own values, 0 for padding."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    present = np.arange(lengths.max()) < lengths[:, None]
    out = np.full(present.shape, value, np.int64)
    out[present] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    return torch.from_numpy(out), torch.from_numpy(present.astype(np.int64))


class Collator:
    """Makes a ``Batch`` of items; bad rows go into ``rejected``.

    ``shared``: the tensors of the file, where batches stay in the process that makes them; see ``attach_shared``.
    """

    def __init__(self, pad_token_id: int, shared: dict[str, Tensor] | None = None) -> None:
        self.pad_token_id, self.shared = pad_token_id, shared

    def __call__(self, entries: Sequence[Item | Rejected]) -> Batch:
        items = [entry for entry in entries if isinstance(entry, Item)]
        rejected = [(entry.row_id, entry.reason) for entry in entries if isinstance(entry, Rejected)]
        if not items:
            return {"rejected": rejected, "labels": torch.zeros((0, 0), dtype=torch.int64)}
        teachers = [item.teacher for item in items]
        input_ids, attention_mask = _pad([item.input_ids for item in items], self.pad_token_id)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": _pad([item.labels for item in items], IGNORED)[0],
            "row_ids": torch.tensor([item.row_id for item in items]),
            "references": [item.sample.target for item in items],
            "teacher_predictions": [item.sample.teacher_prediction for item in items],
            "samples": [item.sample for item in items],
            "teacher": build_signal(teachers, self.shared) if teachers[0] is not None else None,  # type: ignore[arg-type]
            "rejected": rejected,
        }
