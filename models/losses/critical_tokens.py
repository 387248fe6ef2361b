"""Find the critical assertion tokens (config/critical_tokens.py) in a tokenizer's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from config.critical_tokens import CRITICAL_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHOLE = "whole"
LEADING_SPACE = "leading space"
FIRST_PIECE = "first sub-token"
# A first piece of one letter would match half of all words.
SHORTEST_PIECE = 2


@dataclass(frozen=True)
class CriticalTokens:
    """ids: the vocabulary ids that count as critical; found: category -> token -> how it was found, or None."""

    ids: frozenset[int]
    found: dict[str, dict[str, str | None]]

    def coverage(self) -> dict[str, dict[str, int]]:
        """Count the tokens of each category: all (``tokens``), found in each way, and ``missing``."""
        table = {}
        for category, tokens in self.found.items():
            kinds = list(tokens.values())
            table[category] = {
                "tokens": len(kinds),
                **{kind: kinds.count(kind) for kind in (WHOLE, LEADING_SPACE, FIRST_PIECE)},
                "missing": kinds.count(None),
            }
        return table

    def describe(self) -> str:
        """Describe the coverage in one line, for the log."""
        parts = [f"{name} {row['tokens'] - row['missing']}/{row['tokens']}" for name, row in self.coverage().items()]
        return f"{len(self.ids)} critical token ids; found: " + ", ".join(parts)

    def mask(self, vocab_size: int) -> Tensor:
        """[V] bool: True at the critical ids."""
        mask = torch.zeros(vocab_size, dtype=torch.bool)
        mask[[index for index in self.ids if index < vocab_size]] = True
        return mask

    def weights(self, vocab_size: int, weight: float) -> Tensor:
        """[V] float32: ``weight`` at the critical ids, 1 elsewhere."""
        return torch.ones(vocab_size).masked_fill(self.mask(vocab_size), weight)


def _locate(tokenizer: PreTrainedTokenizerBase, vocabulary: dict[str, int], token: str) -> tuple[set[int], str | None]:
    """The ids that stand for ``token``, and how they were found."""

    def single(text: str) -> set[int]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return set(ids) - {tokenizer.unk_token_id} if len(ids) == 1 else set()

    whole = single(token)
    if token in vocabulary:
        whole.add(vocabulary[token])
    spaced = single(f" {token}")
    if whole or spaced:
        return whole | spaced, WHOLE if whole else LEADING_SPACE
    for index in tokenizer(token, add_special_tokens=False)["input_ids"]:
        piece = str(tokenizer.decode([index])).strip()
        if piece:
            usable = len(piece) >= SHORTEST_PIECE and token.startswith(piece) and index != tokenizer.unk_token_id
            return ({index}, FIRST_PIECE) if usable else (set(), None)
    return set(), None


def find_critical_tokens(tokenizer: PreTrainedTokenizerBase, categories: Sequence[str] | None = None) -> CriticalTokens:
    """Map the curated tokens of ``categories`` (None: all) to vocabulary ids.

    A token is found as one token of the vocabulary, with a leading space, or by its first piece.
    """
    vocabulary = tokenizer.get_vocab()
    ids: set[int] = set()
    found: dict[str, dict[str, str | None]] = {}
    for category in CRITICAL_TOKENS if categories is None else categories:
        found[category] = {}
        for token in CRITICAL_TOKENS[category]:
            located, how = _locate(tokenizer, vocabulary, token)
            ids |= located
            found[category][token] = how
    return CriticalTokens(frozenset(ids), found)
