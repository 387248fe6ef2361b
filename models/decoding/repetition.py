"""Decoding that leaves a loop: small models often repeat a token, or a few, until the text is cut off."""

from __future__ import annotations

import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor


class NoLoops(LogitsProcessor):
    """The token that would write the same block of tokens for the ``times``-th time in a row gets the score -inf.

    ``longest``: tokens of the longest block that is looked for. Called with ids [n, written] and scores [n, V]. Of
    28,704 mined assertions in the vocabulary of docs/results.md, 36 hold eight such repetitions: numbers such as
    0x1111111111111111L.
    """

    def __init__(self, times: int = 8, longest: int = 16) -> None:
        self.times, self.longest = times, longest

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        allowed = scores
        for length in range(1, self.longest + 1):
            whole = self.times * length - 1  # what stands there before the token in question
            if input_ids.shape[1] < whole:
                break
            before = input_ids[:, -whole:]
            looping = (before[:, length:] == before[:, :-length]).all(1).nonzero()[:, 0]
            if len(looping):
                allowed = scores.clone() if allowed is scores else allowed
                allowed[looping, input_ids[looping, -length]] = -torch.inf
        return allowed
