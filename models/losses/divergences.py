"""Divergences between teacher P and student Q from their logits, with the gradient in closed form.

Rows are distributions over symbols: the whole vocabulary, or the k stored tokens and one bucket for the rest. All
arithmetic is in log-space: logits may be -inf, probabilities may underflow, and nothing that has mass is clamped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# An impossible symbol must add 0, but 0 * -inf is NaN. With any finite number instead of -inf it adds exactly 0.
_FINITE = -1e30


def _kl(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    p = log_p.exp()
    terms = (log_p - log_q).mul_(p).masked_fill_(p == 0, 0.0)
    return terms.sum(-1), log_q.exp().sub_(p)


def _jsd(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    log_p, log_q = log_p.clamp_(min=_FINITE), log_q.clamp_(min=_FINITE)
    p, q = log_p.exp(), log_q.exp()
    # log M. Where both probabilities are 0, the smallest normal number avoids log 0.
    log_m = (p + q).add_(torch.finfo(p.dtype).tiny).log_().sub_(math.log(2.0))
    from_q = log_q.sub_(log_m).mul_(q)
    from_p = log_p.sub_(log_m).mul_(p)
    kl_q = from_q.sum(-1, keepdim=True)
    value = (from_p.sum(-1, keepdim=True) + kl_q).squeeze(-1).mul_(0.5)
    return value, from_q.addcmul_(q, kl_q, value=-1.0).mul_(0.5)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {"kl": _kl, "jsd": _jsd}


def divergence_rows(kind: str, student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute ``T^2 D(softmax(teacher / T), softmax(student / T))`` of each row, and its gradient on the student.

    student, teacher [N, S] logits of one float type -> value [N], gradient [N, S]. ``kind`` is ``kl``,
    KL(teacher || student), or ``jsd``, half of KL(P || M) + KL(Q || M) with M = (P + Q) / 2. The factor T^2 keeps the
    size of the gradient about the same at every temperature (Hinton, Vinyals, Dean, Distilling the Knowledge in a
    Neural Network, 2015).
    """
    log_p = torch.log_softmax(teacher / temperature, dim=-1)
    log_q = torch.log_softmax(student / temperature, dim=-1)
    value, gradient = DIVERGENCES[kind](log_p, log_q)
    # The derivative of logit / T, 1 / T, cancels one power of T^2.
    return value.mul_(temperature**2), gradient.mul_(temperature)


class _SymbolDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kind: str, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        value, gradient = divergence_rows(kind, student, teacher, temperature)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * grad.unsqueeze(-1), None, None


def symbol_divergence(kind: str, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``divergence_rows`` as a differentiable function of ``student``, for few symbols; the teacher is a constant."""
    return _SymbolDivergence.apply(kind, student, teacher, temperature)
