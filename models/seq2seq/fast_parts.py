"""Leaner forms of parts of a T5, for training: the same weights under the same names, fewer kernels, less memory."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.t5.modeling_t5 import T5DenseActDense, T5LayerNorm

from utils.cache import cache_dir

BIASED = "biased"
CACHE = "TORCHINDUCTOR_CACHE_DIR"


class FusedNorm(T5LayerNorm):
    """T5's norm in one kernel."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if hidden_states.dtype != self.weight.dtype:  # under autocast the kernel would convert both ways
            return super().forward(hidden_states)
        return functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


class ReluDropout(torch.autograd.Function):
    """Dropout of the positive part. Its result, which the next product keeps anyway, is all that backward needs."""

    @staticmethod
    def forward(context: FunctionCtx, inner: Tensor, rate: float) -> Tensor:
        kept = functional.dropout(inner.relu(), rate)
        context.save_for_backward(kept)
        context.scale = 1.0 / (1.0 - rate)  # type: ignore[attr-defined]
        return kept

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = context.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, kept, 0).mul_(context.scale), None


class LeanFeedForward(T5DenseActDense):
    """T5's feed-forward with ``ReluDropout``."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if not lean(self, self.dropout.p):
            return super().forward(hidden_states)
        return self.wo(ReluDropout.apply(self.wi(hidden_states), self.dropout.p))


class DroppedMix(torch.autograd.Function):
    """weights [B, H, Q, K] after dropout @ values [B, H, K, d]; backward makes what was dropped again from its mask."""

    @staticmethod
    def forward(context: FunctionCtx, weights: Tensor, value: Tensor, rate: float) -> Tensor:
        kept, mask = torch.native_dropout(weights, rate, True)
        value = value.contiguous()
        context.save_for_backward(weights, mask, value)
        context.scale = 1.0 / (1.0 - rate)  # type: ignore[attr-defined]
        return torch.matmul(kept, value)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weights, mask, value = context.saved_tensors
        gradient, drop = gradient.contiguous(), torch.ops.aten.native_dropout_backward
        of_value = torch.matmul(drop(weights, mask, context.scale).transpose(2, 3), gradient)
        return drop(torch.matmul(gradient, value.transpose(2, 3)), mask, context.scale), of_value, None


def lean(module: torch.nn.Module, rate: float) -> bool:
    """Whether it pays to keep less for backward: not where torch.compile decides what is kept."""
    return module.training and 0.0 < rate < 1.0 and not torch.compiler.is_compiling()


def attend_with_bias(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of T5, which does not scale: [B, heads, Q, d] queries to [B, Q, heads, d].

    A fused kernel would write the bias out for every row of the batch, and its gradient too: on a GPU that costs more
    than the scores [B, heads, Q, K] themselves.
    """
    scores = torch.matmul(query, key.transpose(2, 3))
    if position_bias is not None:
        scores += position_bias
    if attention_mask is not None:
        scores += attention_mask
    weights = scores.softmax(-1).to(value.dtype)
    if lean(module, dropout):
        mixed = DroppedMix.apply(weights, value, dropout)
    else:
        mixed = torch.matmul(functional.dropout(weights, dropout, module.training), value)
    return mixed.transpose(1, 2).contiguous(), None


def _always_a_mask(*arguments: Any, **options: Any) -> Tensor:
    """transformers leaves out a mask that hides nothing: looking waits for the GPU, and is one more case to compile."""
    return eager_mask(*arguments, **options | {"allow_is_bidirectional_skip": False})


AttentionInterface.register(BIASED, attend_with_bias)
AttentionMaskInterface.register(BIASED, _always_a_mask)


def is_t5(model: torch.nn.Module) -> bool:
    """Whether the model is built of T5's parts."""
    return any(isinstance(module, T5LayerNorm) for module in model.modules())


def use_fast_parts(model: PreTrainedModel, *, norms: bool = True, attention: bool = True) -> None:
    """Let a T5 compute with these parts, in place; another model stays as it is."""
    if not is_t5(model):
        return
    for module in model.modules():
        if norms and type(module) is T5LayerNorm:
            module.__class__ = FusedNorm
        if type(module) is T5DenseActDense and isinstance(module.act, torch.nn.ReLU):
            module.__class__ = LeanFeedForward
    if attention:
        for part in model.modules():  # encoder and decoder have configurations of their own
            if isinstance(part, PreTrainedModel):
                part.set_attn_implementation(BIASED)


def keep_what_is_compiled() -> None:
    """Let torch.compile store its results in the cache folder, unless the user chose another place.

    torch sets the variable itself, to a folder that a cluster's node empties after the job.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    given = os.environ.get(CACHE)
    if not given or os.path.abspath(given) == os.path.abspath(default_cache_dir()):
        os.environ[CACHE] = str(cache_dir("compiled"))


def compile_blocks(model: PreTrainedModel, deterministic: bool) -> None:
    """Let torch.compile fuse each block of layers in training; all blocks of a kind, and all lengths, share one result.

    Evaluation and generation, whose shapes grow by one at each token, keep the blocks as they are.
    """
    keep_what_is_compiled()
    torch._dynamo.config.recompile_limit = 64  # torch has no public name for these two
    torch._inductor.config.deterministic = deterministic  # choose kernels by rule, not by what was faster this time
    kinds = set(model._no_split_modules or ())
    for block in [module for module in model.modules() if type(module).__name__ in kinds] or [model]:
        _compile_in_training(block)


def _compile_in_training(block: torch.nn.Module) -> None:
    plain = block.forward
    fused = torch.compile(plain, dynamic=True)

    def forward(*inputs: Any, **options: Any) -> Any:
        return (fused if block.training else plain)(*inputs, **options)

    block.forward = forward
