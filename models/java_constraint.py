"""Decoding that keeps to Java's brackets and literals: what cannot become Java any more is never written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor

CLOSERS = {"(": ")", "[": "]", "{": "}"}
QUOTES = "\"'"
# Texts without any of these leave the state as it is, whatever it is.
SIGNIFICANT = frozenset("()[]{}\"'\\\n;")
CLOSING = frozenset(")]}\"';")


@dataclass(frozen=True)
class State:
    """Where a text stands: the closers that it still needs, innermost last, and the literal that it is inside of."""

    needed: str = ""
    quote: str = ""
    escaped: bool = False

    @property
    def complete(self) -> bool:
        return not (self.needed or self.quote)

    @property
    def ending(self) -> str:
        """The shortest text that completes a statement."""
        return ("" if not self.escaped else " ") + self.quote + self.needed[::-1] + ";"

    def after(self, text: str) -> State | None:
        """The state after more text; None where a bracket does not fit, a literal runs over the end of a line, or a
        statement ends inside of round or square brackets (so the head of a classic for loop is no Java here)."""
        needed, quote, escaped = self.needed, self.quote, self.escaped
        for char in text:
            if quote:
                if char == "\n":
                    return None
                if escaped:
                    escaped = False
                elif char == "\\":
                    escaped = True
                elif char == quote:
                    quote = ""
            elif char in QUOTES:
                quote = char
            elif char in CLOSERS:
                needed += CLOSERS[char]
            elif char in CLOSERS.values():
                if not needed.endswith(char):
                    return None
                needed = needed[:-1]
            elif char == ";" and needed.endswith((")", "]")):
                return None
        return State(needed, quote, escaped)


class JavaConstraint(LogitsProcessor):
    """Tokens that would leave Java, or end a text inside of a bracket or literal, get the score -inf.

    Where such a token only closes, or ends the text, the model means to end and has miscounted: its score goes to the
    token that begins the right ending. Comments are not known: a bracket in one counts. Called with ids [n, written],
    start token first, and scores [n, V], logits or log-probabilities.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, end_ids: tuple[int, ...]) -> None:
        texts = tokenizer.batch_decode(
            torch.arange(vocab_size)[:, None], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self.texts: list[str] = texts
        self.end_ids = end_ids
        self._significant = [index for index, text in enumerate(texts) if not SIGNIFICANT.isdisjoint(text)]
        self._closing = {i for i in self._significant if CLOSING.issuperset(texts[i].strip())} | {*end_ids}
        self._by_text = {text: index for index, text in reversed([*enumerate(texts)]) if index not in end_ids}
        self._rules: dict[State, tuple[Tensor, Tensor, int]] = {}
        self._states: dict[tuple[int, ...], State] = {}

    def _state(self, ids: tuple[int, ...]) -> State:
        if not ids:
            return State()
        if ids not in self._states:
            before = self._state(ids[:-1])
            self._states[ids] = before.after(self.texts[ids[-1]]) or before  # an ended beam's padding says nothing
        return self._states[ids]

    def _rule(self, state: State) -> tuple[Tensor, Tensor, int]:
        """Forbidden tokens [V] bool, those of them that only close [V] bool, and the token that begins the ending."""
        if state not in self._rules:
            forbidden, closing = torch.zeros(2, len(self.texts), dtype=torch.bool)
            forbidden[[index for index in self._significant if state.after(self.texts[index]) is None]] = True
            if not state.complete:
                forbidden[list(self.end_ids)] = True
            closing[list(self._closing)] = True
            prefixes = (state.ending[:length] for length in range(len(state.ending), 0, -1))
            begin = next((self._by_text[text] for text in prefixes if text in self._by_text), -1)
            self._rules[state] = forbidden, forbidden & closing, begin
        return self._rules[state]

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        if input_ids.shape[1] == 1:
            self._states.clear()  # another batch
        rules = [self._rule(self._state(tuple(row[1:]))) for row in input_ids.tolist()]
        forbidden, closing = (torch.stack([rule[i] for rule in rules]).to(scores.device) for i in range(2))
        begins = torch.tensor([rule[2] for rule in rules], device=scores.device)
        allowed = scores.masked_fill(forbidden, -torch.inf)
        meant = scores.masked_fill(~closing, -torch.inf).logsumexp(-1)
        rows = (begins >= 0).nonzero()[:, 0]
        allowed[rows, begins[rows]] = torch.logaddexp(allowed[rows, begins[rows]], meant[rows])
        return allowed
