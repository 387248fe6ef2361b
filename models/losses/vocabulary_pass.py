"""The one place where a loss touches [positions, vocabulary], in chunks of rows that fit the cache.

The losses need only a few numbers from each row of logits: some logits, one or two logsumexps, a divergence from a
dense teacher, the embedding of the soft token. ``vocabulary_pass`` returns them as small tensors, on which the losses
are plain autograd. Its backward pass turns the gradients on these small tensors into the gradient on the logits: it
computes the exponentials again instead of storing them (chunking as in Liger Kernel, Hsu et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.losses.divergences import divergence_rows

# Elements of a work buffer. On a CPU it should fit the cache; on other devices fewer launches matter more.
CPU_CHUNK = 1 << 19
# A product with a matrix that does not fit the cache is more efficient with more rows at a time.
CPU_PRODUCT_CHUNK = 1 << 21
DEVICE_CHUNK = 1 << 25


@dataclass(frozen=True)
class PassRequest:
    """What to compute for each row.

    rows [N]: row numbers of ``logits`` (None: all). gather_ids [N, K]: the tokens whose logits to return. temperatures:
    those of the logsumexps; excluded_ids [N, k]: distinct tokens that the logsumexps leave out (None: none).
    divergences: kinds (``divergences.py``) against ``teacher(start, stop)`` [rows, V], asked for in ascending order, at
    ``divergence_temperature``. soft_tokens [V, d], soft_temperature tau: for ``softmax(row / tau) @ soft_tokens``.
    """

    gather_ids: Tensor
    temperatures: tuple[float, ...] = (1.0,)
    rows: Tensor | None = None
    excluded_ids: Tensor | None = None
    divergences: tuple[str, ...] = ()
    divergence_temperature: float = 1.0
    teacher: Callable[[int, int], Tensor] | None = None
    soft_tokens: Tensor | None = None
    soft_temperature: float = 1.0


class PassResult(NamedTuple):
    """gathered [N, K]; log_sum [N, temperatures], without the excluded tokens; divergences [N, kinds]; soft [N, d]."""

    gathered: Tensor
    log_sum: Tensor
    divergences: Tensor
    soft: Tensor


def compute_dtype(logits: Tensor) -> torch.dtype:
    """The type to compute in: float64 for float64 logits, else float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _rows_per_chunk(logits: Tensor, request: PassRequest) -> int:
    if logits.device.type != "cpu":
        size = DEVICE_CHUNK
    else:
        size = CPU_PRODUCT_CHUNK if request.soft_tokens is not None else CPU_CHUNK
    return max(1, size // logits.shape[1])


def _chunk(logits: Tensor, rows: Tensor | None, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    part = logits[start:stop] if rows is None else logits.index_select(0, rows[start:stop])
    return part.to(dtype)


def _room_for_gradients(logits: Tensor, request: PassRequest) -> list[Tensor]:
    # The small values of a gradient that is not scaled yet would underflow in float16.
    dtype = torch.bfloat16 if logits.dtype == torch.float16 else logits.dtype
    return [logits.new_empty((len(request.gather_ids), logits.shape[1]), dtype=dtype) for _ in request.divergences]


def _divergences(source: Tensor, request: PassRequest, start: int, stop: int, kept: list[Tensor]) -> Tensor:
    """The divergences [rows, kinds] of one chunk; their gradients go into ``kept``, unless it is empty."""
    assert request.teacher is not None
    teacher = request.teacher(start, stop).to(source.dtype)
    values = []
    for index, kind in enumerate(request.divergences):
        value, gradient = divergence_rows(kind, source, teacher, request.divergence_temperature)
        values.append(value)
        if kept:
            kept[index][start:stop] = gradient
    return torch.stack(values, dim=1)


def _recompute_kept(logits: Tensor, request: PassRequest) -> list[Tensor]:
    kept, step = _room_for_gradients(logits, request), _rows_per_chunk(logits, request)
    for start in range(0, len(request.gather_ids), step):
        stop = min(start + step, len(request.gather_ids))
        _divergences(_chunk(logits, request.rows, start, stop, compute_dtype(logits)), request, start, stop, kept)
    return kept


class _VocabularyPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, request: PassRequest) -> PassResult:
        dtype = compute_dtype(logits)
        count, vocab = request.gather_ids.shape[0], logits.shape[1]
        excluded, soft_tokens = request.excluded_ids, request.soft_tokens
        need_grad = ctx.needs_input_grad[0]
        gathered = logits.new_empty(request.gather_ids.shape, dtype=dtype)
        log_sum = logits.new_empty((count, len(request.temperatures)), dtype=dtype)
        divergences = logits.new_empty((count, len(request.divergences)), dtype=dtype)
        if soft_tokens is not None:
            soft_tokens = soft_tokens.to(dtype)
        soft = logits.new_empty((count, soft_tokens.shape[1] if soft_tokens is not None else 0), dtype=dtype)
        kept = _room_for_gradients(logits, request) if need_grad else []
        step = _rows_per_chunk(logits, request)
        work = logits.new_empty((min(step, count), vocab), dtype=dtype)
        scratch = torch.empty_like(work)
        for start in range(0, count, step):
            stop = min(start + step, count)
            source = _chunk(logits, request.rows, start, stop, dtype)
            torch.gather(source, 1, request.gather_ids[start:stop], out=gathered[start:stop])
            if soft_tokens is not None:
                tau = request.soft_temperature
                probs = torch.softmax(source if tau == 1.0 else source / tau, 1, out=work[: stop - start])
                torch.matmul(probs, soft_tokens, out=soft[start:stop])
            if request.divergences:
                divergences[start:stop] = _divergences(source, request, start, stop, kept)
            part, exponentials = work[: stop - start], scratch[: stop - start]
            part.copy_(source)
            if excluded is not None:
                part.scatter_(1, excluded[start:stop], -torch.inf)
            peak = part.amax(1, keepdim=True)
            # The peak of a row with everything excluded is -inf, and -inf - -inf would be NaN.
            peak.masked_fill_(peak == -torch.inf, 0.0)
            part.sub_(peak)
            for index, temperature in enumerate(request.temperatures):
                scaled = part if temperature == 1.0 else torch.mul(part, 1.0 / temperature, out=exponentials)
                total = torch.exp(scaled, out=exponentials).sum(1)
                log_sum[start:stop, index] = total.log_().add_(peak.squeeze(1), alpha=1.0 / temperature)
        ctx.request, ctx.kept = request, kept
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, log_sum, soft)
        return PassResult(gathered, log_sum, divergences, soft)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        logits, log_sum, soft = ctx.saved_tensors
        request: PassRequest = ctx.request
        grad_gathered, grad_log_sum, grad_divergences, grad_soft = grads
        dtype = compute_dtype(logits)
        count, vocab = request.gather_ids.shape[0], logits.shape[1]
        kept: list[Tensor] = []
        if grad_divergences is not None:
            # The first backward pass overwrites what forward kept; a second one has to compute it again.
            kept, ctx.kept = ctx.kept, None
            kept = _recompute_kept(logits, request) if kept is None else kept
        if request.rows is not None:
            gradient = torch.zeros_like(logits)
        else:
            gradient = kept[0] if kept and kept[0].dtype == logits.dtype else torch.empty_like(logits)
        in_place = request.rows is None and logits.dtype == dtype
        # If everything was excluded, the log-sum is -inf; with +inf each token's share is exp(x - inf) = 0.
        log_sum = log_sum.masked_fill(log_sum == -torch.inf, torch.inf)
        step = _rows_per_chunk(logits, request)
        scratch = logits.new_empty((min(step, count), vocab), dtype=dtype)
        for start in range(0, count, step):
            stop = min(start + step, count)
            source = _chunk(logits, request.rows, start, stop, dtype)
            share = scratch[: stop - start]
            result = gradient[start:stop] if in_place else torch.empty_like(share)
            written = False

            def add(values: Tensor, factor: Tensor, result: Tensor = result) -> None:
                nonlocal written
                if written:
                    result.addcmul_(values, factor)
                else:
                    torch.mul(values, factor, out=result)
                written = True

            for index, rows_gradient in enumerate(kept):
                add(rows_gradient[start:stop].to(dtype), grad_divergences[start:stop, index : index + 1])  # type: ignore[index]
            if grad_log_sum is not None:
                for index, temperature in enumerate(request.temperatures):
                    # softmax over the tokens not excluded, times the gradient on its log-sum
                    torch.add(log_sum[start:stop, index : index + 1].neg(), source, alpha=1.0 / temperature, out=share)
                    if request.excluded_ids is not None:
                        share.scatter_(1, request.excluded_ids[start:stop], -torch.inf)
                    add(share.exp_(), grad_log_sum[start:stop, index : index + 1] / temperature)
            if grad_soft is not None and request.soft_tokens is not None:
                tau = request.soft_temperature
                flow = grad_soft[start:stop] / tau
                inner = (flow * soft[start:stop]).sum(1, keepdim=True)
                product = torch.matmul(flow, request.soft_tokens.to(dtype).T, out=share).sub_(inner)
                add(torch.softmax(source if tau == 1.0 else source / tau, 1), product)
            if not written:
                result.zero_()
            if grad_gathered is not None:
                result.scatter_add_(1, request.gather_ids[start:stop], grad_gathered[start:stop])
            if request.rows is not None:
                gradient.index_copy_(0, request.rows[start:stop], result.to(gradient.dtype))
            elif not in_place:
                gradient[start:stop] = result
        return gradient, None


def vocabulary_pass(logits: Tensor, request: PassRequest) -> PassResult:
    """Compute a ``PassResult`` from logits [M, V], in float32 (float64 for float64 logits); differentiable."""
    return PassResult(*_VocabularyPass.apply(logits, request))
