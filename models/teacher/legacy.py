"""How many times too large stored logits are, by the teacher's own forward pass on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig

from data.batches.collate import Collator
from data.dataset import Item
from data.distillation.legacy import BEGIN_SHARE, Evidence, head_factor
from data.rows.tokenization import TaskEncoder, TextFormat
from models.seq2seq.folders import find_model_folder
from models.seq2seq.loading import load_model
from models.teacher.forward import TeacherPass
from utils.errors import UserError

FLAG = "--teacher"
COMPARED_ROWS, MAX_INPUT = 16, 512
LEAST_CORRELATION, TOLERANCE = 0.5, 1.3


@dataclass(frozen=True)
class Measured:
    """stored = ratio x the teacher's own logits, each row less its mean; correlation: of the two."""

    ratio: float
    correlation: float


@torch.inference_mode()
def compare_with_teacher(model: torch.nn.Module, encoder: TaskEncoder, evidence: Evidence) -> Measured:
    """Ratio of the standard deviations, which holds even where the teacher saw a slightly different input."""
    teacher = TeacherPass(model)  # type: ignore[arg-type]
    collate = Collator(encoder.tokenizer.pad_token_id)
    offset = evidence.offset or 0
    stored, own = [], []
    for number, row in enumerate(evidence.rows[:COMPARED_ROWS]):
        count = min(len(row.ids), len(row.logits) - offset)
        labels = [*encoder.begin, *row.ids]
        item = Item(number, encoder.source(row.sample, MAX_INPUT), labels, row.sample, None)
        logits, _ = teacher(collate([item]))
        if logits.shape[1] != row.logits.shape[1]:
            raise UserError(
                f"{FLAG}: its vocabulary has {logits.shape[1]} entries, the stored logits {row.logits.shape[1]}"
            )
        own.append(logits.cpu().numpy()[len(encoder.begin) :][:count])
        stored.append(row.logits[offset : offset + count])
    x, y = (_centre(np.concatenate(parts)) for parts in (own, stored))
    norms = float(np.sqrt((x * x).sum())), float(np.sqrt((y * y).sum()))
    return Measured(norms[1] / norms[0], float((x * y).sum()) / (norms[0] * norms[1]))


def _centre(logits: np.ndarray) -> np.ndarray:
    """[N, V] float64, each row less its mean, since a softmax does not see that; -inf as the row's lowest."""
    wide = logits.astype(np.float64)
    wide = np.where(np.isfinite(wide), wide, np.nanmin(np.where(np.isfinite(wide), wide, np.nan), axis=1)[:, None])
    return wide - wide.mean(1, keepdims=True)


def teacher_factor(name: str, encoder: TaskEncoder, evidence: Evidence) -> tuple[float | None, str]:
    """How many times too large the logits are, 1.0 or sqrt(d_model), as the teacher's own logits show, and a line.

    Where the folder holds a configuration alone, how many times they may be too large, and no line. Raises UserError
    where the logits are not this teacher's.
    """
    folder = find_model_folder(name, FLAG, weights=False)
    if Path(name).is_dir() and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        return head_factor(AutoConfig.from_pretrained(folder).to_dict()), ""
    model = load_model(name, flag=FLAG)
    framed = TextFormat("tokenizer" if evidence.offset == 1 and evidence.begins >= BEGIN_SHARE else "end")
    found = compare_with_teacher(model, TaskEncoder(encoder.tokenizer, framed), evidence)
    said = f"{found.ratio:.3g} times those of {name} (correlation {found.correlation:.2f})"
    if found.correlation < LEAST_CORRELATION:
        raise UserError(f"{FLAG} {name}: the stored logits are not its own ({said})")
    for factor in (1.0, head_factor(model.config.to_dict()) or 1.0):
        if 1 / TOLERANCE < found.ratio / factor < TOLERANCE:
            return factor, said
    raise UserError(f"{FLAG} {name}: the stored logits are {said}; give --legacy_logit_scale")
