"""Critical assertion tokens in a tokenizer's vocabulary: which ids they are, and a weight for each id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.critical_tokens import CRITICAL_TOKENS
from config.schedules import nearest
from utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

WHOLE, LEADING_SPACE, FIRST_PIECE = "whole", "leading space", "first sub-token"
# A first piece of one letter would stand for half of all words.
SHORTEST_PIECE = 2


@dataclass(frozen=True)
class CriticalTokens:
    """ids: those of the vocabulary that count as critical; found: category -> token -> how it was found, or None."""

    ids: frozenset[int]
    found: dict[str, dict[str, str | None]]

    def coverage(self) -> dict[str, dict[str, int]]:
        """Category -> how many of its tokens were found, by kind, beside ``tokens`` (all) and ``missing``."""
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
        """The coverage in one line, for the log."""
        parts = [f"{name} {row['tokens'] - row['missing']}/{row['tokens']}" for name, row in self.coverage().items()]
        return f"{len(self.ids)} critical token ids; found: " + ", ".join(parts)


def _locate(tokenizer: PreTrainedTokenizerBase, vocabulary: dict[str, int], token: str) -> tuple[set[int], str | None]:
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
    """Map the curated tokens (of ``categories``; None: all) to ids: as one token, with a leading space, or by their
    first piece.

    Raises UserError for an unknown category.
    """
    chosen = list(CRITICAL_TOKENS) if categories is None else list(categories)
    for category in chosen:
        if category not in CRITICAL_TOKENS:
            hint = nearest(category, CRITICAL_TOKENS) or f"; known: {' '.join(CRITICAL_TOKENS)}"
            raise UserError(f"--critical_token_categories {category}: unknown category{hint}")
    vocabulary = tokenizer.get_vocab()
    ids: set[int] = set()
    found: dict[str, dict[str, str | None]] = {}
    for category in chosen:
        found[category] = {}
        for token in CRITICAL_TOKENS[category]:
            located, how = _locate(tokenizer, vocabulary, token)
            ids |= located
            found[category][token] = how
    return CriticalTokens(frozenset(ids), found)


def token_weights(critical: CriticalTokens, vocab_size: int, weight: float) -> Tensor:
    """[V] float32: ``weight`` at the critical ids, 1 elsewhere."""
    import torch

    if not (0 < weight < float("inf")):
        raise UserError(f"--critical_token_weight {weight:g}: must be a finite number above 0")
    weights = torch.ones(vocab_size)
    weights[sorted(index for index in critical.ids if index < vocab_size)] = weight
    return weights
