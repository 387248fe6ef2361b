"""Runs the output head at the target positions alone, so that padding costs nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data.batches.collate import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def target_rows(labels: Tensor, count: int | None = None) -> Tensor:
    """[N] row-major places of the labels [B, T] that are not -100; with ``count`` = N a GPU need not be asked."""
    target = labels.reshape(-1) != IGNORED
    if count is not None and labels.device.type != "cpu":
        return torch.nonzero_static(target, size=count, fill_value=0).squeeze(1)
    return target.nonzero().squeeze(1)


class TargetHead:
    """Within ``only(rows)`` the model's logits are [1, N, V], those of the N ``rows`` of its [B * T, d] last states.

    Where short and long targets are mixed, half of [B, T] is padding, whose logits would cost as much as the others.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._rows: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    @contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """rows [N] as ``target_rows`` gives them, on the model's device."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def _select(self, head: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self._rows is None:
            return None
        states = inputs[0]
        return (states.reshape(-1, states.shape[-1]).index_select(0, self._rows).unsqueeze(0), *inputs[1:])
