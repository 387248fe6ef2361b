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
        self._catch = False
        self._caught: Tensor | None = None
        self.head = model.get_output_embeddings()
        self.head.register_forward_pre_hook(self._select)

    @contextmanager
    def only(self, rows: Tensor) -> Iterator[None]:
        """rows [N] as ``target_rows`` gives them, on the model's device."""
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Within it the model stops short of its head, but for one position; ``caught`` gives the last states."""
        self._catch = True
        try:
            yield
        finally:
            self._catch = False

    def caught(self) -> Tensor:
        """The states [B, T, d] that reached the head within ``catching``; given once."""
        states, self._caught = self._caught, None
        assert states is not None
        return states

    def logits(self, states: Tensor, rows: Tensor) -> Tensor:
        """[1, N, V]: the head at the N ``rows`` of states [B, T, d]."""
        return self.head(states.reshape(-1, states.shape[-1]).index_select(0, rows).unsqueeze(0))

    def _select(self, head: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        states = inputs[0]
        if self._catch:
            self._caught = states
            return (states[:1, :1].detach(), *inputs[1:])
        if self._rows is None:
            return None
        return (states.reshape(-1, states.shape[-1]).index_select(0, self._rows).unsqueeze(0), *inputs[1:])
