"""What a model is given: decoder inputs from labels, and batches on its device."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from data.batches.collate import IGNORED, Batch


def shift_right(model: PreTrainedModel, labels: Tensor) -> Tensor:
    """Decoder input: the labels one place to the right, padding where there is no target."""
    start = model.config.decoder_start_token_id
    shifted = labels.new_full(labels.shape, start)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == IGNORED, model.config.pad_token_id)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors and its teacher signal on ``device``; a GPU need not be asked for ``num_targets``."""
    if device.type == "cpu" or batch["labels"].device == device:
        return batch
    moved = {key: v.to(device, non_blocking=True) if hasattr(v, "to") else v for key, v in batch.items()}
    return cast(Batch, moved | {"num_targets": int((batch["labels"] != IGNORED).sum())})
