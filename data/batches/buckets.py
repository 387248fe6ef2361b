"""Pads batches to a few lengths, because a recorded CUDA graph fits one shape alone."""

from __future__ import annotations

from torch.nn.functional import pad

from data.batches.collate import IGNORED, Batch

SOURCE_STEP, TARGET_STEP = 32, 8


def pad_to_buckets(batch: Batch, pad_token_id: int) -> Batch:
    """The batch with its sources filled up to a multiple of 32 tokens and its labels to one of 8."""
    source = -batch["input_ids"].shape[1] % SOURCE_STEP
    target = -batch["labels"].shape[1] % TARGET_STEP
    if not source and not target:
        return batch
    return {
        **batch,
        "input_ids": pad(batch["input_ids"], (0, source), value=pad_token_id),
        "attention_mask": pad(batch["attention_mask"], (0, source), value=0),
        "labels": pad(batch["labels"], (0, target), value=IGNORED),
    }
