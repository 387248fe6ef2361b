"""Text to token ids. Teacher, student and evaluation all build their input here, so they see the same thing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data.rows.readers import PLACEHOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The fingerprint encodes this text, too, so that it depends on merges and normalisation as well as the vocabulary.
PROBE = 'assertEquals("ä\\n", foo.getBar(0x1F, -2.5f));\n\tassertThat(xs).containsExactly(1, 2) <AssertPlaceHolder>'


def _encode_plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def encode_source(tokenizer: PreTrainedTokenizerBase, test: str, focal: str, max_len: int) -> list[int]:
    """Masked test, separator, focal method, end of sequence: at most ``max_len`` ids.

    What does not fit is cut at the far ends. The test keeps the surroundings of its placeholder (three quarters of its
    room are before it), the focal method keeps its signature and gets at least a third of the room.
    """
    before, _, after = test.partition(PLACEHOLDER)
    left, mask, right = (_encode_plain(tokenizer, text) for text in (before, PLACEHOLDER, after))
    method = _encode_plain(tokenizer, focal)
    end = tokenizer.eos_token_id
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else end
    room = max_len - 2
    test_length = len(left) + len(mask) + len(right)
    if test_length + len(method) > room:
        method = method[: max(room - test_length, min(len(method), room // 3))]
        around = max(0, room - len(method) - len(mask))
        keep_right = min(len(right), max(around // 4, around - len(left)))
        keep_left = min(len(left), around - keep_right)
        left, right = left[len(left) - keep_left :], right[:keep_right]
    return [*left, *mask, *right, separator, *method, end]


def encode_target(tokenizer: PreTrainedTokenizerBase, target: str, max_len: int) -> list[int]:
    """The ids of the assertion and the end of sequence; a longer one is cut to ``max_len`` and has no end."""
    return [*_encode_plain(tokenizer, target), tokenizer.eos_token_id][:max_len]


def labels_hash(labels: Sequence[int]) -> str:
    """16 hex digits that tell whether stored teacher logits belong to these label ids."""
    return hashlib.sha256(np.asarray(labels, dtype="<i4").tobytes()).hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits over the vocabulary, the special ids and the encoding of a probe text."""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items()):
        digest.update(f"{token}\0{index}\n".encode())
    special = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id)
    digest.update(repr((special, _encode_plain(tokenizer, PROBE))).encode())
    return digest.hexdigest()[:16]
