"""The teacher's stored logits: how often its first choice is right, and how far a student is from it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.batches.collate import Batch, Collator
from data.dataset import AssertionDataset
from data.distillation.file import read_header
from data.distillation.signal import TopKSignal
from evaluation.scores.significance import bootstrap_interval, cluster_sums, mean_statistic
from models.decoding.generate import IGNORED, top_choice
from models.losses.divergences import divergence_rows
from models.losses.teacher_rows import TeacherRows
from utils.errors import UserError


@dataclass
class StoredLogits:
    """The rows of a distillation file as batches with the teacher's signal; ``rows`` [n] are the tasks' row numbers."""

    dataset: AssertionDataset
    rows: list[int]
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        """Batches of similar length; ``row_ids`` are places in ``rows``; a row without usable logits is left out."""
        collate = Collator(self.dataset.tokenizer.pad_token_id, self.dataset.shared)
        place = {row: index for index, row in enumerate(self.rows)}
        lengths = self.dataset.byte_lengths()
        order = sorted(self.rows, key=lambda row: (-lengths[row], row))
        for start in range(0, len(order), self.batch_size):
            batch = collate([self.dataset[row] for row in order[start : start + self.batch_size]])
            if "input_ids" in batch:
                batch["row_ids"] = torch.tensor([place[row] for row in batch["row_ids"].tolist()])
                yield batch


def open_stored_logits(
    path: str | Path,
    tokenizer: Any,
    vocab_size: int,
    rows: Sequence[int],
    *,
    max_input_len: int,
    max_output_len: int,
    batch_size: int,
) -> StoredLogits | str:
    """The logits of a file for this tokenizer, or why they cannot be used."""
    try:
        header = read_header(path)
        dataset = AssertionDataset(
            path,
            tokenizer,
            max_input_len=max_input_len,
            max_output_len=header.max_output_len if header else max_output_len,
            vocab_size=vocab_size,
            flag="--teacher_data",
        )
    except UserError as error:
        return str(error)
    if not dataset.has_teacher:
        return "the data hold no teacher logits"
    return StoredLogits(dataset, list(rows), batch_size)


@dataclass
class Closeness:
    """Per task [n], NaN where the file has no logits for it: sums over target tokens, and their number.

    ``kl``: temperature -> KL(teacher || student) in nats; ``agree``: positions where both have the same first choice.
    """

    kl: dict[float, np.ndarray]
    agree: np.ndarray
    tokens: np.ndarray


@torch.inference_mode()
def closeness(model: Any, stored: StoredLogits, temperatures: Sequence[float]) -> Closeness | str:
    """How near ``model`` is to the teacher at the reference's tokens, or why that cannot be told."""
    n = len(stored.rows)
    found = Closeness({t: np.full(n, np.nan) for t in temperatures}, np.full(n, np.nan), np.full(n, np.nan))
    model.eval()
    device = next(model.parameters()).device
    for batch in stored:
        stored_signal = batch["teacher"]
        assert stored_signal is not None  # these are the rows of a file with logits
        signal = stored_signal.to(device)
        if isinstance(signal, TopKSignal) and signal.tail_shape is None:
            return "the file stores the top of the distribution without the shape of its tail"
        labels = batch["labels"].to(device)
        output = model(
            input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device), labels=labels
        )
        target = labels != IGNORED
        student = output.logits[target].float()
        values = [(student.argmax(-1) == top_choice(signal)).float(), torch.ones_like(student[:, 0])]
        for temperature in temperatures:
            teacher = TeacherRows(signal, temperature)(0, len(student)).float()
            scaled, _ = divergence_rows("kl", student, teacher, temperature)
            values.append(scaled / temperature**2)
        sums = [_per_sample(value, target) for value in values]
        places = batch["row_ids"].numpy()
        found.agree[places], found.tokens[places] = sums[0], sums[1]
        for temperature, total in zip(temperatures, sums[2:], strict=True):
            found.kl[temperature][places] = total
    return found


def _per_sample(values: Tensor, target: Tensor) -> np.ndarray:
    """[N] values at the target positions of [B, T] to their [B] sums."""
    rows, values = target.nonzero()[:, 0].cpu(), values.cpu().double()
    return torch.zeros(len(target), dtype=torch.float64).index_add_(0, rows, values).numpy()


def closeness_summary(found: Closeness, clusters: Sequence[Hashable]) -> dict[str, Any]:
    """``top1_agreement`` (0 to 1) and ``kl_t<temperature>`` (nats a token, 0: the same), with bootstrap intervals.

    Means over the reference's tokens, so a long assertion weighs more. Trap: both look at the teacher where the
    reference leads, not where either model would go by itself.
    """
    columns = {"top1_agreement": found.agree, **{f"kl_t{t:g}": values for t, values in found.kl.items()}}
    known = ~np.isnan(found.tokens)
    if not known.any():
        return {name: {"value": None, "reason": "no task has usable teacher logits"} for name in columns}
    kept = [cluster for cluster, has in zip(clusters, known, strict=True) if has]
    result = {}
    for name, values in columns.items():
        sums = cluster_sums(np.stack([values[known], found.tokens[known]], axis=1), kept)
        interval = bootstrap_interval(sums, mean_statistic)
        result[name] = {**asdict(interval), "n": int(known.sum())}
    return result
