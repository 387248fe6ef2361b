"""What the teacher knows at the target positions of a batch, behind one interface.

Row n of a signal belongs to the n-th label that is not -100, in row-major order of ``labels``. Losses see only this;
whether it came from a file in one of three encodings or from a live teacher makes no difference to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from utils.errors import UserError

# The largest 1/T at which the tail's mass is stored; 0 is the other end, so every temperature from 0.5 up is covered.
MAX_INVERSE_TEMPERATURE = 2.0

SignalT = TypeVar("SignalT", bound="TeacherSignal")


class TeacherSignal(ABC):
    """Base of the three encodings: N target positions over a vocabulary of V tokens."""

    @property
    @abstractmethod
    def num_positions(self) -> int:
        """N."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V."""

    def _map(self: SignalT, function: Callable[[Tensor], Tensor]) -> SignalT:
        changes = {f.name: function(v) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}  # type: ignore[arg-type]
        return replace(self, **changes)  # type: ignore[type-var]

    def to(self: SignalT, device: torch.device | str, non_blocking: bool = False) -> SignalT:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: SignalT) -> SignalT:
        return self._map(lambda tensor: tensor.pin_memory())


def widest_float(device: torch.device) -> torch.dtype:
    """float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass
class DenseSignal(TeacherSignal):
    """The whole row of logits. ``logits`` [N, V], any float type."""

    logits: Tensor

    @property
    def num_positions(self) -> int:
        return self.logits.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.logits.shape[1]


@dataclass
class TopKSignal(TeacherSignal):
    """The k largest logits and the mass of the rest.

    ids [N, k] int64; logits [N, k] float32, falling, relative to the row's maximum; tail_log_mass [N, G] float32:
    for each inverse temperature b in ``inverse_temperatures`` [G] (rising) the exact log of the sum over the tail of
    exp(b * logit);
    tail_shape [V] float32 or None: the file's mean logits, which give the tail a shape.
    """

    ids: Tensor
    logits: Tensor
    tail_log_mass: Tensor
    inverse_temperatures: Tensor
    full_vocab_size: int
    tail_shape: Tensor | None = None

    @property
    def num_positions(self) -> int:
        return self.ids.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.full_vocab_size

    def tail_log_mass_at(self, temperature: float) -> Tensor:
        """[N]: log of the sum over the tail of exp(logit / temperature), on the scale of ``logits``; no host sync.

        The log-mass is smooth in 1/T and known at Chebyshev nodes, so the polynomial through them is near-exact
        and costs one product. A tail without any mass gives -inf.
        """
        beta = 1.0 / temperature
        if not 0.0 < beta <= MAX_INVERSE_TEMPERATURE:
            raise UserError(f"temperature {temperature:g}: top-k teacher data covers temperatures of 0.5 and more")
        nodes = self.inverse_temperatures.to(widest_float(self.ids.device))
        eye = torch.eye(len(nodes), dtype=torch.bool, device=nodes.device)
        factors = (beta - nodes)[None, :] / (nodes[:, None] - nodes[None, :]).masked_fill(eye, 1.0)
        weights = factors.masked_fill(eye, 1.0).prod(dim=1).to(self.tail_log_mass.dtype)
        # 0 * -inf is NaN: rows of an empty tail are -inf at every node and stay so.
        empty = self.tail_log_mass[:, -1] == -torch.inf
        return (self.tail_log_mass.nan_to_num(neginf=0.0) @ weights).masked_fill(empty, -torch.inf)


@dataclass
class HiddenSignal(TeacherSignal):
    """The decoder's last state as the head sees it, and the head: logits = hidden @ head.T, exact at any temperature.

    hidden [N, d] float32 or float16; head [V, d].
    """

    hidden: Tensor
    head: Tensor

    @property
    def num_positions(self) -> int:
        return self.hidden.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.head.shape[0]
