"""How well a model predicts the reference when it is shown the reference so far (teacher-forced)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from data.batches.collate import IGNORED, Batch
from data.distillation.signal import DenseSignal, HiddenSignal, TeacherSignal, TopKSignal


@dataclass
class TeacherForced:
    """Values of each sample, in the order of the batches, over the target's tokens including the end token.

    token_accuracy [n]: share of tokens that are the first choice; critical_token_accuracy [n]: the same over the
    critical tokens, NaN if there are none; loss [n]: mean negative log-likelihood of a token; tokens [n]; row_ids [n].
    """

    token_accuracy: np.ndarray
    critical_token_accuracy: np.ndarray
    loss: np.ndarray
    tokens: np.ndarray
    row_ids: np.ndarray

    @property
    def mean_loss(self) -> float:
        """The mean negative log-likelihood of a token over all samples."""
        return float((self.loss * self.tokens).sum() / max(1, self.tokens.sum()))


def accuracy_per_sample(
    predicted: Tensor, labels: Tensor, critical: Tensor | None = None, begin: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Count correct and all target positions, and the same over critical ones: four counts [B].

    ``predicted``, ``labels`` [B, T], where a label of -100 is not a target; ``critical`` [V] bool marks label ids.
    ``begin``: so many labels before the text are the same in every row and not counted.
    """
    target = labels != IGNORED
    target[:, :begin] = False
    right = (predicted == labels) & target
    marked = torch.zeros_like(target)
    if critical is not None:
        marked = critical.to(labels.device)[labels.clamp(min=0)] & target
    return right.sum(1), target.sum(1), (right & marked).sum(1), marked.sum(1)


def _combine(rows: list[list[Tensor]], losses: list[Tensor], row_ids: list[Tensor]) -> TeacherForced:
    """Join the counts of ``accuracy_per_sample``, the summed losses and the row ids of all batches."""
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
def score_teacher_forced(
    logits_of: Callable[[Batch], Tensor], batches: Iterable[Batch], critical: Tensor | None = None, begin: int = 0
) -> TeacherForced:
    """Score a model on each batch (input_ids, attention_mask, labels and, optionally, row_ids).

    ``logits_of`` a batch: [B, T, V] at its labels, as ``Writer.logits`` gives them. ``begin``: see
    ``accuracy_per_sample``.
    """
    rows: list[list[Tensor]] = []
    losses: list[Tensor] = []
    row_ids: list[Tensor] = []
    for batch in batches:
        logits = logits_of(batch)
        labels = batch["labels"].to(logits.device)
        rows.append(list(accuracy_per_sample(logits.argmax(-1), labels, critical, begin)))
        nll = cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        losses.append(nll[:, begin:].sum(1))
        if "row_ids" in batch:
            row_ids.append(batch["row_ids"])
    return _combine(rows, losses, row_ids)


def top_choice(signal: TeacherSignal) -> Tensor:
    """The most likely token [N] at each position of a stored teacher signal."""
    if isinstance(signal, TopKSignal):
        return signal.ids[:, 0]
    if isinstance(signal, HiddenSignal):
        return (signal.hidden.float() @ signal.head.float().T).argmax(-1)
    assert isinstance(signal, DenseSignal)
    return signal.logits.argmax(-1)


def score_stored_teacher(batches: Iterable[Batch], critical: Tensor | None = None, begin: int = 0) -> TeacherForced:
    """Compute the accuracies from stored teacher logits (``batch["teacher"]``), without a model; the loss is NaN."""
    rows: list[list[Tensor]] = []
    row_ids: list[Tensor] = []
    for batch in batches:
        labels, signal = batch["labels"], batch["teacher"]
        assert signal is not None  # the batches come from a file with logits
        predicted = torch.full_like(labels, IGNORED)
        predicted[labels != IGNORED] = top_choice(signal)
        rows.append(list(accuracy_per_sample(predicted, labels, critical, begin)))
        row_ids.append(batch["row_ids"])
    return _combine(rows, [], row_ids)
