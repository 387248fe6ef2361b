"""What each token of a vocabulary writes after others."""

from __future__ import annotations

from typing import Any


def token_texts(tokenizer: Any, vocab_size: int) -> list[str]:
    """[V] texts, "" for special tokens. Some tokenizers drop the blank that a token brings where it is the first, so
    each is decoded after another one."""

    def decoded(rows: list[list[int]]) -> list[str]:
        return tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    alone = decoded([[index] for index in range(vocab_size)])
    first = next((index for index, text in enumerate(alone) if text.isascii() and text.strip()), 0)
    return [text[len(alone[first]) :] for text in decoded([[first, index] for index in range(vocab_size)])]
