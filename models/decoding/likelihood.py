"""How likely a model finds texts that it did not write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from data.batches.collate import IGNORED
from models.decoding.generate import Writer, pad_rows

MAX_TEXTS = 64  # of one pass through the decoder


def score_texts(writer: Writer, row: Sequence[int], texts: Sequence[Sequence[int]], begin: int = 0) -> list[float]:
    """The mean log-likelihood of a token of each text, end token included, for the input ids ``row``.

    ``texts``: target ids; ``begin``: so many ids before each text are the same everywhere and not counted.
    """
    scores: list[float] = []
    for start in range(0, len(texts), MAX_TEXTS):
        labels = pad_rows(texts[start : start + MAX_TEXTS], IGNORED)
        input_ids = torch.tensor([list(row)]).expand(len(labels), -1)
        batch_mask = torch.ones_like(input_ids)
        logits = writer.logits({"input_ids": input_ids, "attention_mask": batch_mask, "labels": labels})
        labels = labels.to(logits.device)
        costs = cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        counted = (labels != IGNORED)[:, begin:].sum(1)
        scores += (-costs[:, begin:].sum(1) / counted).tolist()
    return scores
