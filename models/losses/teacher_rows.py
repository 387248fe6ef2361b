"""Rows of a teacher's logits over the whole vocabulary, computed a few at a time from any stored encoding."""

from __future__ import annotations

import torch
from torch import Tensor

from data.distillation.signal import DenseSignal, HiddenSignal, TeacherSignal, TopKSignal
from utils.errors import UserError

# Rows of hidden states that go through the output head at a time: few enough for the memory, and enough for an
# efficient product.
HEAD_ROWS = 128


class TeacherRows:
    """Calling it with (start, stop) gives logits [stop - start, V] whose softmax at ``temperature`` is the teacher.

    Ask for rows in ascending order. A top-k signal becomes dense with a tail shaped by the mean logits, for this one
    temperature. Raises UserError if the signal has no mean logits.
    """

    def __init__(self, signal: TeacherSignal, temperature: float) -> None:
        self.signal = signal
        self.temperature = temperature
        self._block: Tensor | None = None
        self._start = self._stop = 0
        if isinstance(signal, TopKSignal):
            if signal.tail_shape is None:
                raise UserError("--topk_tail shaped: the teacher's data have no mean logits; use --topk_tail bucket")
            self._tail_log_mass = signal.tail_log_mass_at(temperature)

    def _shaped(self, signal: TopKSignal, start: int, stop: int) -> Tensor:
        """The k stored logits, and a tail with the shape of the mean logits and the exact mass at this temperature."""
        assert signal.tail_shape is not None
        ids = signal.ids[start:stop]
        rows = signal.tail_shape.to(signal.logits.dtype).expand(len(ids), -1).scatter(1, ids, -torch.inf)
        log_sum = torch.logsumexp(rows / self.temperature, dim=1)
        shift = self._tail_log_mass[start:stop] - log_sum
        # With k = V there is no tail, and -inf - -inf would be NaN.
        shift = shift.masked_fill(log_sum == -torch.inf, 0.0)
        return rows.add_(shift.unsqueeze(1), alpha=self.temperature).scatter_(1, ids, signal.logits[start:stop])

    def __call__(self, start: int, stop: int) -> Tensor:
        signal = self.signal
        if isinstance(signal, DenseSignal):
            return signal.logits[start:stop]
        if isinstance(signal, TopKSignal):
            return self._shaped(signal, start, stop)
        assert isinstance(signal, HiddenSignal)
        if self._block is None or start < self._start or stop > self._stop:
            self._start, self._stop = start, min(max(stop, start + HEAD_ROWS), signal.num_positions)
            self._block = None  # free the memory before the next block
            hidden = signal.hidden[self._start : self._stop].to(signal.head.dtype)
            self._block = hidden @ signal.head.T
        rows = self._block[start - self._start : stop - self._start]
        if stop == signal.num_positions:
            self._block = None
        return rows
