"""Lets a small model copy from its input before it has learned anything.

A transformer that starts at random needs millions of examples until it repeats a phrase of its input (the "induction
heads" of Olsson et al., In-context Learning and Induction Heads, 2022). Most assertions are such phrases: of the
siblings, of the test, of the method's signature. So the attention starts as the circuit that training would have to
find, in the spirit of Trockman and Kolter, Mimetic Initialization of Self-Attention Layers, 2023:

- the first encoder layer tells each token which tokens stand one, two and three places before it,
- the first decoder layer tells the last token which ones stand before it,
- cross-attention looks for the place where these agree, and copies the token that stands there.

All of it stays trainable, nothing is added to the model, and one head of each layer keeps its random start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

MAX_PLACES = 3  # how many tokens before a place are compared
NEAR = 8.0  # position bias of the place a head looks at: e^8 times any other
TOLD = 2.0  # weight of what a head tells beside the token itself
AGREEMENT = 5.0  # what each token that agrees adds to the score of cross-attention
COPIED = 1.5  # weight of the copied token beside what the decoder holds already


def _projection(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns) random orthonormal rows; rows <= columns."""
    return torch.linalg.qr(torch.randn(columns, rows, generator=generator))[0].T


@torch.no_grad()
def start_copying(model: T5ForConditionalGeneration, seed: int) -> None:
    """Set the attention of a T5 with random weights such that it copies; other weights stay as they are.

    Works in place. ``seed`` draws the projections, apart from the state of torch's generator. A model needs two heads
    of no more than half its width each; a narrower one is left as it is.
    """
    config = model.config
    width, heads, size = config.d_model, config.num_heads, config.d_kv
    places = min(MAX_PLACES, heads - 1, width // size)
    if places < 1:
        return
    generator = torch.Generator().manual_seed(seed)
    read = [_projection(size, width, generator) for _ in range(places)]  # of the token at each place, what is told
    written = _projection(places * size, width, generator)  # and where in the receiving token it is kept

    def rows(head: int) -> slice:
        return slice(head * size, (head + 1) * size)

    def tell_tokens_before(attention: Any, first: int) -> None:
        bias = attention.relative_attention_bias.weight
        for head, place in enumerate(range(first, places)):
            bias[:, head] = 0
            bias[head + 1, head] = NEAR  # T5 gives each of the nearest distances before a token a bias of its own
            attention.q.weight[rows(head)] *= 0.1  # the place decides, not the content
            attention.v.weight[rows(head)] = read[place]
            attention.o.weight[:, rows(head)] = TOLD * written[rows(place)].T

    encoder: Any = model.encoder  # torch gives the parts of a module no types
    decoder: Any = model.decoder
    tell_tokens_before(encoder.block[0].layer[0].SelfAttention, 0)
    tell_tokens_before(decoder.block[0].layer[0].SelfAttention, 1)
    whole = _projection(min(heads * size, width), width, generator)
    for block in decoder.block:
        attention = block.layer[1].EncDecAttention
        for head in range(heads):
            mixed = _projection(size, places * size, generator)
            # The decoder's own last token stands for the place before the one that it asks for.
            asked = mixed[:, :size] @ read[0] + mixed[:, size:] @ written[size:]
            attention.q.weight[rows(head)] = asked * (AGREEMENT * places / size)
            attention.k.weight[rows(head)] = mixed @ written
            copied = whole[rows(head)]
            attention.v.weight[rows(head)] = 0
            attention.v.weight[rows(head)][: len(copied)] = copied
            attention.o.weight[:, rows(head)][:, : len(copied)] = copied.T * (COPIED / len(decoder.block))
