"""Decoding that ends loops: small models often repeat one or more tokens until the text is cut off."""

from __future__ import annotations

import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor


class NoLoops(LogitsProcessor):
    """Gives the score -inf to a token that would complete the same block of tokens several times in a row: a single
    token eight times, each further token of the block once less, any block four times.

    ``longest``: the number of tokens of the longest block that it looks for. Called with ids [n, written] and scores
    [n, V]. Of 20,000 mined assertions in the vocabulary of docs/results/context.md, 20 repeat that much, in numbers
    such as 0x1111111111111111L and in arrays.
    """

    def __init__(self, longest: int = 16) -> None:
        self.longest = longest

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        allowed = scores
        for length in range(1, self.longest + 1):
            whole = max(4, 9 - length) * length - 1  # tokens of the repetitions without the last token
            if input_ids.shape[1] < whole:
                continue
            before = input_ids[:, -whole:]
            looping = (before[:, length:] == before[:, :-length]).all(1).nonzero()[:, 0]
            if len(looping):
                allowed = scores.clone() if allowed is scores else allowed
                allowed[looping, input_ids[looping, -length]] = -torch.inf
        return allowed
