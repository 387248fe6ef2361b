"""The teacher-forced pass: the model's logits at every target position, encoded on the model's device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from data.batches.collate import Batch
from data.distillation.signal import DenseSignal, TeacherSignal, widest_float
from data.rows.tokenization import TextFormat
from models.losses.vocabulary_pass import CPU_CHUNK
from models.seq2seq.inputs import shift_right
from models.seq2seq.target_head import TargetHead, target_rows
from utils.compress import TAIL_GRID, DenseRows, HiddenRows, Rows, TopKRows
from utils.errors import UserError


class TeacherPass:
    """Runs the model's own forward on batches and gives its logits at the target positions.

    The logits come from the forward itself, never from a head applied by hand, so T5's scaling of tied embeddings is
    in them; the hidden state is caught at the head's own input.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        head = model.get_output_embeddings()
        if head is None:
            raise UserError("--teacher_encoding hidden: the model has no output head; use topk")
        self.head = head
        self.target_head = TargetHead(model)
        self._hidden: Tensor | None = None
        head.register_forward_pre_hook(self._catch)
        self.checked = False

    def _catch(self, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._hidden = inputs[0]

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """logits [N, V] and hidden [N, d] at the N target positions, row-major."""
        device = next(self.model.parameters()).device
        labels = batch["labels"].to(device)
        with self.target_head.only(target_rows(labels)):
            logits = self.model(
                input_ids=batch["input_ids"].to(device),
                attention_mask=batch["attention_mask"].to(device),
                decoder_input_ids=shift_right(self.model, labels),
            ).logits
        assert self._hidden is not None
        return logits[0].float(), self._hidden[0].float()

    @torch.inference_mode()
    def check_head(self, logits: Tensor, hidden: Tensor) -> None:
        """Refuse a model whose logits are more than head times hidden state: its encoding would not be exact."""
        product = hidden @ self.head.weight.float().T
        if getattr(self.head, "bias", None) is not None:
            product = product + self.head.bias.float()
        if not torch.allclose(product, logits, rtol=1e-3, atol=1e-2 * float(logits.abs().max())):
            raise UserError("--teacher_encoding hidden: this model's logits are not head x hidden state; use topk")
        if getattr(self.head, "bias", None) is not None and bool(self.head.bias.any()):
            raise UserError("--teacher_encoding hidden: this model's output head has a bias; use topk")


@torch.inference_mode()
def encode_topk(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """ids [N, k], logits [N, k] relative to the largest, tail log-mass [N, G] at TAIL_GRID; on the logits' device."""
    k = min(k, logits.shape[1])
    values, ids = logits.topk(k, dim=1)
    top = values[:, :1]
    mass = logits.new_empty((len(logits), len(TAIL_GRID)))
    step = len(logits) if logits.device.type != "cpu" else max(1, CPU_CHUNK // logits.shape[1])
    for start in range(0, len(logits), max(1, step)):
        rows = slice(start, start + step)
        # Against the tail's own maximum: its mass must not underflow where the top is far above it.
        tail = (logits[rows] - top[rows]).scatter_(1, ids[rows], -torch.inf)
        peak = tail.amax(1, keepdim=True)
        peak.masked_fill_(peak == -torch.inf, 0.0)
        tail.sub_(peak)
        work = torch.empty_like(tail)
        for index, b in enumerate(map(float, TAIL_GRID)):
            total = torch.mul(tail, b, out=work).exp_().sum(1)
            mass[rows, index] = total.log_().add_(peak.squeeze(1), alpha=b)
    return ids, values - top, mass


def split_rows(encoding: str, logits: Tensor, hidden: Tensor, counts: list[int], k: int) -> list[Rows]:
    """The teacher's rows of each sample: ``counts`` target positions each, in order."""
    rows: list[Rows] = []
    if encoding == "topk":
        ids, values, mass = (part.cpu().split(counts) for part in encode_topk(logits, k))
        for i, v, m in zip(ids, values, mass, strict=True):
            rows.append(TopKRows(i.numpy(), v.numpy(), m.numpy(), logits.shape[1]))
    elif encoding == "hidden":
        rows.extend(HiddenRows(part.numpy()) for part in hidden.cpu().split(counts))
    elif encoding == "dense":
        rows.extend(DenseRows(part.numpy()) for part in logits.cpu().split(counts))
    else:
        raise ValueError(f"unknown encoding {encoding}")
    return rows


def finite_sums(logits: Tensor) -> Tensor:
    """[2, V]: sum and number of each token's finite logits, over the rows [N, V] that can be stored."""
    rows = logits[logits.amax(1).isfinite()]
    finite = rows.isfinite()
    wide = widest_float(logits.device)
    return torch.stack([rows.masked_fill(~finite, 0.0).sum(0, dtype=wide), finite.sum(0).to(wide)])


def mean_logits(sums: np.ndarray) -> Tensor:
    """[V] float32 from ``finite_sums`` [2, V]: means with the largest at 0; -inf for a token that has none."""
    total, count = sums
    mean = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
    return torch.from_numpy((mean - mean.max(initial=-1e30)).astype(np.float32))


class LiveTeacher:
    """A teacher that runs during training, instead of stored logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.forward = TeacherPass(model)
        self.text_format = TextFormat.of_model(model)

    def __call__(self, batch: Batch) -> TeacherSignal:
        """The dense signal of a batch, on the teacher's device."""
        logits, _ = self.forward(batch)
        return DenseSignal(logits.clone())
