"""Lets a small model copy from its input before it has learned anything.

A transformer that starts at random needs millions of examples until it repeats a phrase of its input (the "induction
heads" of Olsson et al., In-context Learning and Induction Heads, 2022). Most assertions are such phrases, above all of
the nearest test's assertion. So the attention starts as the circuit that training would have to find, in the spirit of
Trockman and Kolter, Mimetic Initialization of Self-Attention Layers, 2023:

- the first encoder layer tells each token which tokens stand one, two and three places before it, and whether a
  separator is near, before it and behind it: both hold for the assertion of the nearest test alone, nearly always,
- the first decoder layer tells the last token which ones stand before it,
- cross-attention looks for the place where these agree, among equal ones for that between separators, and copies the
  token that stands there. The start of the output looks like a separator to it, so it finds the place behind
  three of them (data/rows/tokenization.py).

Words, what is told, and the flag have directions of their own in the hidden states, so they do not disturb each other.
All of it stays trainable, and nothing is added to the model. Whatever has no task starts quietly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:  # its import takes seconds, and an exported model does without
    from transformers import T5ForConditionalGeneration

PLACES = 3  # how many tokens before a place are compared; as many separators mark the nearest assertion
FLAGS = 2  # heads that look for a separator: one behind a token, one before it
NEAR = 12.0  # position bias of the place that a head looks at: e^12 times any other
NEARBY = slice(1, 14)  # T5's position buckets for the distances 1 to 63
BEHIND = 16  # the first of the buckets for tokens that stand behind
SEPARATOR = 13.0  # score of a separator for the heads that look for one
CONSTANT = 0.5  # length of the direction that all tokens share, beside their own
TOLD = 2.0  # length of what a head tells about a place, beside the token itself
FLAG = 0.35  # length of the flag that one of the two heads writes
AGREEMENT = 12.0  # what each token that agrees adds to the score of cross-attention
PREFERENCE = 8.0  # what the flags of both heads add
COPIED = 12.0  # weight of the copied token beside what the decoder holds already
OWN = 0.3  # length of what the start of the output has beside what makes it read as a separator
QUIET = 0.1  # weight of what has no task


def _directions(count: int, width: int, generator: torch.Generator) -> Tensor:
    """(count, width) random orthonormal rows; count <= width."""
    return torch.linalg.qr(torch.randn(width, count, generator=generator))[0].T


@dataclass(frozen=True)
class _Space:
    """Who has which directions of the hidden states, all orthonormal. Lengths are in units of a random embedding's.

    ``words``: [t, width] of the tokens; ``read``: per place [r, width], what is told of a token; ``told``: per place
    [r, width], where it is kept; ``constant``, ``flag``: [width].
    """

    words: Tensor
    read: list[Tensor]
    told: list[Tensor]
    constant: Tensor
    flag: Tensor


def _divide(width: int, places: int, size: int, generator: torch.Generator) -> _Space:
    rank = min(size, width // 8)
    basis = _directions(width, width, generator)
    count = width - places * rank - 2
    words, told = basis[:count], basis[count:-2].split(rank)
    scale = math.sqrt(count / rank)  # keeps a token's length
    read = [_directions(rank, count, generator) @ words * scale for _ in range(places)]
    return _Space(words, read, list(told), basis[-2], basis[-1])


@torch.no_grad()
def start_copying(model: T5ForConditionalGeneration, separator: int, seed: int) -> None:
    """Set embeddings and attention of a T5 with random weights such that it copies.

    Works in place. ``separator``: the id between the parts of an input. ``seed`` draws the directions, apart from the
    state of torch's generator. With five heads it compares three places, with three one. A model with fewer heads, or
    with heads too narrow to copy a token together, is left as it is.
    """
    config = model.config
    width, heads, size = config.d_model, config.num_heads, config.d_kv
    places = min(PLACES, heads - FLAGS)
    if places < 1 or heads * size < width:
        return
    generator = torch.Generator().manual_seed(seed)
    space = _divide(width, places, size, generator)
    encoder: Any = model.encoder  # torch gives the parts of a module no types
    decoder: Any = model.decoder
    for block in (*encoder.block, *decoder.block):
        block.layer[0].SelfAttention.o.weight *= QUIET
        block.layer[-1].DenseReluDense.wo.weight *= QUIET
    embedded = _embed(model.shared.weight, space, separator, config.decoder_start_token_id)
    _tell_tokens_before(encoder.block[0].layer[0].SelfAttention, size, space, 0)
    _tell_tokens_before(decoder.block[0].layer[0].SelfAttention, size, space, 1)
    _flag_near_separators(encoder.block[0].layer[0].SelfAttention, size, space, embedded[separator], places)
    for block in decoder.block:
        attention = block.layer[1].EncDecAttention
        _look_for_agreement(attention, heads, size, space, COPIED / len(decoder.block), generator)


def _embed(weight: Tensor, space: _Space, separator: int, start: int) -> Tensor:
    """Give the tokens their directions; the ``start`` of the output reads as a ``separator``. Returns the tokens [V,
    width] without what they share."""
    width = weight.shape[1]
    tokens = (weight @ space.words.T) @ space.words * math.sqrt(width / len(space.words))
    read = torch.cat(space.read)
    inverse = torch.linalg.pinv(read)
    own = tokens[start] - inverse @ (read @ tokens[start])
    tokens[start] = inverse @ (read @ tokens[separator]) + own * OWN
    weight.copy_(tokens + CONSTANT * math.sqrt(width) * space.constant)
    return tokens


def _rows(head: int, size: int, count: int | None = None) -> slice:
    return slice(head * size, head * size + (size if count is None else count))


# What the first layers see is a token and the constant, scaled by this to a mean square of 1.
_SHRUNK = math.sqrt(1 + CONSTANT**2)


def _tell_tokens_before(attention: Any, size: int, space: _Space, first: int) -> None:
    """A head for each place from ``first`` on: it looks at its place, whatever stands there."""
    bias = attention.relative_attention_bias.weight
    for head, place in enumerate(range(first, len(space.told))):
        rows, used = _rows(head, size), _rows(head, size, len(space.told[place]))
        bias[:, head] = 0
        bias[head + 1, head] = NEAR  # T5 gives each of the nearest distances a bucket of its own
        attention.q.weight[rows] = 0
        attention.v.weight[rows] = 0
        attention.v.weight[used] = space.read[place] * _SHRUNK
        attention.o.weight[:, rows] = 0
        attention.o.weight[:, used] = TOLD * space.told[place].T


def _flag_near_separators(attention: Any, size: int, space: _Space, separator: Tensor, first: int) -> None:
    """Heads ``first`` and the next: is there a separator among the 63 tokens behind, and among the 63 before?"""
    width = len(separator)
    square = separator.square().sum()
    bias = attention.relative_attention_bias.weight
    for head, side in ((first, BEHIND), (first + 1, 0)):
        rows, one = _rows(head, size), head * size
        for weight in (attention.q.weight, attention.k.weight, attention.v.weight):
            weight[rows] = 0
        attention.q.weight[one] = space.constant * _SHRUNK / (CONSTANT * math.sqrt(width)) * math.sqrt(SEPARATOR)
        attention.k.weight[one] = separator * _SHRUNK / square * math.sqrt(SEPARATOR)
        attention.v.weight[one] = separator * _SHRUNK / square
        attention.o.weight[:, rows] = 0
        attention.o.weight[:, one] = FLAG * math.sqrt(width) * space.flag
        bias[:, head] = -NEAR
        bias[side + NEARBY.start : side + NEARBY.stop, head] = 0


def _look_for_agreement(
    attention: Any, heads: int, size: int, space: _Space, copied: float, generator: torch.Generator
) -> None:
    """Each head compares all places through directions of its own, and copies its share of the token."""
    width, places = len(space.flag), len(space.told)
    told = torch.cat(space.told)
    in_encoder = math.sqrt(1 + CONSTANT**2 + places * TOLD**2 + 2 * FLAG**2)
    in_decoder = math.sqrt(1 + CONSTANT**2 + (places - 1) * TOLD**2)
    count = min(size - 1, len(told))
    one = TOLD**2 * width / (in_encoder * in_decoder) * count / len(told)  # score of a token that agrees, unscaled
    share = -(-len(space.words) // heads)
    for head in range(heads):
        rows, used, last = _rows(head, size), _rows(head, size, count), (head + 1) * size - 1
        mixed = _directions(count, len(told), generator)
        rank = len(space.told[0])
        # The decoder's own last token stands for the place before the one that it asks for.
        asked = mixed[:, :rank] @ space.read[0] * TOLD + mixed[:, rank:] @ told[rank:]
        attention.q.weight[rows] = 0
        attention.k.weight[rows] = 0
        attention.q.weight[used] = asked * (AGREEMENT / one)
        attention.k.weight[used] = mixed @ told
        attention.q.weight[last] = space.constant * in_decoder / (CONSTANT * math.sqrt(width)) * PREFERENCE
        attention.k.weight[last] = space.flag * in_encoder / (2 * FLAG * math.sqrt(width))
        words = space.words[head * share : (head + 1) * share]
        part = _rows(head, size, len(words))
        attention.v.weight[rows] = 0
        attention.v.weight[part] = words
        attention.o.weight[:, rows] = 0
        attention.o.weight[:, part] = words.T * copied
