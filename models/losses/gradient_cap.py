"""A cap on the gradient of one loss term on the logits: no larger than a share of another's, sequence by sequence.

The value of the loss stays its formula. Only what ``backward`` sends into the model changes, so it costs a second
backward pass through the loss, but none through the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.losses.vocabulary_pass import compute_dtype


@dataclass(frozen=True)
class SequenceRows:
    """Which of the M rows of logits belong to which of the B sequences; see ``models.loss_functions.LossInputs``."""

    sample_index: Tensor
    num_samples: int
    rows: Tensor | None

    def norms(self, gradient: Tensor) -> Tensor:
        """The L2 norm [B] of a gradient [M, V] on each sequence; other rows hold zeros."""
        squares = torch.linalg.vector_norm(gradient, dim=1, dtype=compute_dtype(gradient)).square()
        if self.rows is not None:
            squares = squares[self.rows]
        return squares.new_zeros(self.num_samples).index_add_(0, self.sample_index, squares).sqrt()

    def cap(self, gradient: Tensor, limits: Tensor) -> Tensor:
        """The gradient [M, V], in place, scaled down on each sequence whose norm is above its limit [B]."""
        norms = self.norms(gradient)
        # Only where it is above: 0 / 0 would be NaN, and what fits keeps its bytes.
        factors = torch.where(norms > limits, limits / norms, 1.0)[self.sample_index]
        if self.rows is not None:
            factors = factors.new_ones(len(gradient)).index_copy_(0, self.rows, factors)
        return gradient.mul_(factors.unsqueeze(1).to(gradient.dtype))


def cap_leaf(logits: Tensor) -> Tensor:
    """What to compute the loss from, so that its gradient can be read; float16 would lose the small ones."""
    return (logits.detach().float() if logits.dtype == torch.float16 else logits.detach()).requires_grad_()


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.gradient, ctx.dtype = gradient, logits.dtype
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, flow: Tensor) -> tuple[Tensor, None, None]:
        # First the scale of --fp16, then its narrow type: the other way round small values would be lost.
        return (ctx.gradient * flow.to(ctx.gradient.dtype)).to(ctx.dtype), None, None


def with_gradient(logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """A scalar that is ``value`` and whose gradient on ``logits`` is ``gradient``, of their shape."""
    return _WithGradient.apply(logits, value.detach(), gradient)
