"""The text that each token of a vocabulary adds to a text."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@lru_cache(maxsize=4)
def token_texts(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> tuple[str, ...]:
    """The texts [V] of all tokens, "" for special tokens.

    Some tokenizers drop the leading blank of the first token, so each token is decoded after another one.
    """

    def decoded(rows: list[list[int]]) -> list[str]:
        return tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    alone = decoded([[index] for index in range(vocab_size)])
    first = next((index for index, text in enumerate(alone) if text.isascii() and text.strip()), 0)
    return tuple(text[len(alone[first]) :] for text in decoded([[first, index] for index in range(vocab_size)]))
