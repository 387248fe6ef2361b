"""Random sequence-to-sequence models for tests of decoding."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import BartConfig, BartForConditionalGeneration


def model_without_ties(
    vocab_size: int, *, seed: int, end: int = 1, often: Iterable[int] = ()
) -> BartForConditionalGeneration:
    """A random model whose text does not depend on how a processor rounds; 0 pads and starts, ``end`` ends.
    It writes the tokens ``often`` more than others.

    It computes in float64, and its next token depends on the position. In a model without positions, beams that
    repeat a loop hold the same transitions in another order: their scores are equal up to rounding.
    """
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=vocab_size,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=0,
        decoder_start_token_id=0,
        eos_token_id=end,
        forced_eos_token_id=None,
        init_std=0.5,
    )
    model = BartForConditionalGeneration(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight[list(often)] *= 2
    return model
