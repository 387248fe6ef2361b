"""Faster forms of parts of a T5, for training: the same weights under the same names, fewer kernels."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.t5.modeling_t5 import T5LayerNorm

from utils.cache import cache_dir

BIASED = "biased"


class FusedNorm(T5LayerNorm):
    """T5's norm in one kernel."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if hidden_states.dtype != self.weight.dtype:  # under autocast the kernel would convert both ways
            return super().forward(hidden_states)
        return functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


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
    weights = functional.dropout(scores.softmax(-1).to(value.dtype), dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


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
    if norms:
        for module in model.modules():
            if type(module) is T5LayerNorm:
                module.__class__ = FusedNorm
    if attention:
        for part in model.modules():  # encoder and decoder have configurations of their own
            if isinstance(part, PreTrainedModel):
                part.set_attn_implementation(BIASED)


def compile_blocks(model: PreTrainedModel, deterministic: bool) -> None:
    """Let torch.compile fuse each block of layers in training; all blocks of a kind, and all lengths, share one result.

    Evaluation and generation, whose shapes grow by one at each token, keep the blocks as they are.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir("compiled")))
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
