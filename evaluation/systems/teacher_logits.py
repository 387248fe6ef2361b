"""The teacher's stored logits as batches, and how near a student is to them."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data.batches.collate import IGNORED, Batch, Collator
from data.dataset import AssertionDataset
from data.distillation.file import read_header
from data.distillation.legacy import LegacyOptions
from data.distillation.signal import TopKSignal
from data.rows.tokenization import TextFormat
from evaluation.request import EvaluationRequest
from evaluation.scores.significance import bootstrap_interval, cluster_sums, mean_statistic
from evaluation.summary import Metrics
from evaluation.tasks import Tasks, find_clusters
from models.decoding.generate import Writer
from models.losses.divergences import divergence_rows
from models.losses.teacher_rows import TeacherRows
from models.seq2seq.teacher_forced import top_choice
from models.teacher.legacy import teacher_factor
from utils.errors import UserError


@dataclass
class StoredLogits:
    """The rows of a distillation file as batches with the teacher's signal; ``rows`` [n]: the tasks' row numbers."""

    dataset: AssertionDataset
    rows: list[int]
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        """Batches of similar length; ``row_ids`` are places in ``rows``. Rows without usable logits are left out."""
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
    request: EvaluationRequest,
    rows: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    text_format: TextFormat | None = None,
) -> StoredLogits | str:
    """The logits of ``--teacher_data`` in these rows for this tokenizer, or why they cannot be used.

    ``text_format``: that of the model they are compared with.
    """
    try:
        header = read_header(request.teacher_data)
        dataset = AssertionDataset(
            request.teacher_data,
            tokenizer,
            max_input_len=request.max_input_len,
            max_output_len=header.max_output_len if header else request.max_output_len,
            vocab_size=vocab_size,
            text_format=text_format,
            legacy=LegacyOptions(request.legacy_offset, request.legacy_logit_scale, teacher_factor),
            flag="--teacher_data",
        )
    except UserError as error:
        return str(error)
    if not dataset.has_teacher:
        return "the data hold no teacher logits"
    if dataset.note:
        print(f"note: {dataset.note}", file=sys.stderr)
    return StoredLogits(dataset, list(rows), request.batch_size)


@dataclass
class Closeness:
    """Per task [n], NaN where the file has no logits for it: sums over target tokens, and their number.

    ``kl``: temperature -> KL(teacher || student) in nats; ``agree``: positions where both have the same first choice.
    """

    kl: dict[float, np.ndarray]
    agree: np.ndarray
    tokens: np.ndarray


@torch.inference_mode()
def compare_logits(writer: Writer, stored: StoredLogits, temperatures: Sequence[float]) -> Closeness | str:
    """How near the model is to the teacher at the reference's tokens, or why that is not known."""
    n = len(stored.rows)
    found = Closeness({t: np.full(n, np.nan) for t in temperatures}, np.full(n, np.nan), np.full(n, np.nan))
    for batch in stored:
        stored_signal = batch["teacher"]
        assert stored_signal is not None  # these are the rows of a file with logits
        if isinstance(stored_signal, TopKSignal) and stored_signal.tail_shape is None:
            return "the file stores the top of the distribution without the shape of its tail"
        logits = writer.logits(batch)
        signal = stored_signal.to(logits.device)
        target = batch["labels"].to(logits.device) != IGNORED
        student = logits[target].float()
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


def summarise_closeness(found: Closeness, clusters: Sequence[Hashable]) -> Metrics:
    """``top1_agreement`` (0 to 1) and ``kl_t<temperature>`` (nats a token, 0: the same), with bootstrap intervals.

    Means over the reference's tokens, so a long assertion weighs more. Trap: both are measured along the reference, not
    along what either model would write by itself.
    """
    columns = dict(zip(name_closeness_measures(found.kl), (found.agree, *found.kl.values()), strict=True))
    known = ~np.isnan(found.tokens)
    if not known.any():
        return {name: {"value": None, "reason": "no task has usable teacher logits"} for name in columns}
    kept = [cluster for cluster, has in zip(clusters, known, strict=True) if has]
    result: Metrics = {}
    for name, values in columns.items():
        sums = cluster_sums(np.stack([values[known], found.tokens[known]], axis=1), kept)
        result[name] = bootstrap_interval(sums, mean_statistic).measured(int(known.sum()))
    return result


def name_closeness_measures(temperatures: Iterable[float]) -> list[str]:
    """The measures of closeness; of the divergence one per temperature."""
    return ["top1_agreement", *(f"kl_t{temperature:g}" for temperature in temperatures)]


def measure_closeness(request: EvaluationRequest, tasks: Tasks, writer: Writer) -> Metrics:
    """How near a model is to the stored teacher logits, at temperature 1 and at the request's."""
    temperatures = list(dict.fromkeys([1.0, request.temperature]))
    stored = open_stored_logits(request, tasks.rows, writer.tokenizer, writer.vocab_size, writer.text_format)
    found = stored if isinstance(stored, str) else compare_logits(writer, stored, temperatures)
    if isinstance(found, str):
        return {name: {"value": None, "reason": found} for name in name_closeness_measures(temperatures)}
    return summarise_closeness(found, find_clusters(tasks.samples))
