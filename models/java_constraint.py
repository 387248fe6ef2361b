"""Decoding that keeps to Java's brackets and literals: what cannot become Java any more is never written."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor

# The closer that each opener asks for. No statement stands in the braces of an array's initialiser: theirs is another.
CLOSERS = {"(": ")", "[": "]", "{": "}"}
OF_ARRAY = "|"
QUOTES = "\"'"
ESCAPES = frozenset("btnfrsu01234567\"'\\")
CHARACTER = re.compile(r"[^\\']|\\[btnfrs\"'\\]|\\[0-7]{1,3}|\\u+[0-9a-fA-F]{4}")
CHARACTER_BEGUN = re.compile(r"|\\|\\u+[0-9a-fA-F]{0,3}")
# Texts of other characters leave the state as it is, outside of literals of one character.
SIGNIFICANT = frozenset("()[]{}\"'\\\n;")
CLOSING = frozenset(")]};")
MAX_RULES = 512


@dataclass(frozen=True)
class State:
    """Where a text stands: the closers that it still needs, innermost last; the literal that it is inside of, and what
    of one of a single character is written; the last character outside of literals that is no blank."""

    needed: str = ""
    quote: str = ""
    escaped: bool = False
    character: str = ""
    last: str = ""

    @property
    def complete(self) -> bool:
        return not (self.needed or self.quote)

    @property
    def ending(self) -> str:
        """The shortest text that ends the statement, or the block after its last statement; "" where none does."""
        closers, text, last = self.needed[::-1], "", self.last
        if self.quote:
            if self.quote == "'" and not CHARACTER.fullmatch(self.character):
                return ""
            text, last = "\\" * self.escaped + self.quote, self.quote
        if last in (";", "}") and closers.startswith("}"):
            text, closers = text + "}", closers[1:]
        elif self.complete and last in (";", "}"):
            return ""
        return text + closers.partition("}")[0].replace(OF_ARRAY, "}") + ";"

    def after(self, text: str) -> State | None:
        """The state after more text; None where a bracket does not fit, a literal is none of Java's, or a statement
        ends inside of round or square brackets (so the head of a classic for loop is no Java here)."""
        needed, quote, escaped, character, last = self.needed, self.quote, self.escaped, self.character, self.last
        for char in text:
            if quote == "'":
                if char == quote and CHARACTER.fullmatch(character):
                    quote, character, last = "", "", char
                elif CHARACTER.fullmatch(character + char) or CHARACTER_BEGUN.fullmatch(character + char):
                    character += char
                else:
                    return None
            elif quote:
                if char == "\n" or (escaped and char not in ESCAPES):
                    return None
                if escaped:
                    escaped = False
                elif char == "\\":
                    escaped = True
                elif char == quote:
                    quote, last = "", char
            elif char in QUOTES:
                quote = char
            else:
                if char in CLOSERS:
                    in_array = last == "]" or (needed.endswith(OF_ARRAY) and last in ("{", ","))
                    needed += OF_ARRAY if char == "{" and in_array else CLOSERS[char]
                elif char in CLOSERS.values():
                    if needed[-1:] != char and not (char == "}" and needed[-1:] == OF_ARRAY):
                        return None
                    needed = needed[:-1]
                elif char == ";" and needed.endswith((")", "]", OF_ARRAY)):
                    return None
                last = last if char.isspace() else char
        return State(needed, quote, escaped, character, last)


@dataclass(frozen=True)
class Rule:
    """What holds after a state: ids that may not follow, those of them that mean to end, and the one that begins the
    right ending (-1: none)."""

    forbidden: Tensor
    ending: Tensor
    begin: int


class JavaConstraint(LogitsProcessor):
    """Tokens that would leave Java, or end a text inside of a bracket or literal, get the score -inf.

    Where such a token only closes, or ends the text, the model means to end and has miscounted: its score goes to the
    token that begins the right ending. Comments are not known: what stands in one counts. Called with ids [n, written],
    start token first, and scores [n, V], logits or log-probabilities.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, end_ids: tuple[int, ...]) -> None:
        self.texts: list[str] = tokenizer.batch_decode(
            torch.arange(vocab_size)[:, None], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self.end_ids = end_ids
        self._significant = [index for index, text in enumerate(self.texts) if not SIGNIFICANT.isdisjoint(text)]
        self._by_text = {text: index for index, text in reversed([*enumerate(self.texts)]) if index not in end_ids}
        self._rules: dict[State, Rule] = {}
        self._states: dict[tuple[int, ...], State] = {}

    def _state(self, ids: tuple[int, ...]) -> State:
        if not ids:
            return State()
        if ids not in self._states:
            before = self._state(ids[:-1])
            self._states[ids] = before.after(self.texts[ids[-1]]) or before  # an ended beam's padding says nothing
        return self._states[ids]

    def _only_closes(self, index: int, state: State) -> bool:
        text = self.texts[index].strip()
        if state.quote:
            return text.startswith(state.quote) and CLOSING.issuperset(text[1:])
        return bool(text) and CLOSING.issuperset(text)

    def _rule(self, state: State) -> Rule:
        if state not in self._rules:
            if len(self._rules) == MAX_RULES:
                self._rules.clear()
            # Within a literal of one character every token counts.
            looked_at = range(len(self.texts)) if state.quote == "'" else self._significant
            forbidden = [i for i in looked_at if i not in self.end_ids and state.after(self.texts[i]) is None]
            meant = [index for index in forbidden if self._only_closes(index, state)]
            if not state.complete:
                forbidden += self.end_ids
                meant += self.end_ids
            prefixes = (state.ending[:length] for length in range(len(state.ending), 0, -1))
            begin = next((self._by_text[text] for text in prefixes if text in self._by_text), -1)
            if state.complete and not state.ending:
                begin = self.end_ids[0]
            self._rules[state] = Rule(torch.tensor(forbidden, dtype=torch.long), torch.tensor(meant).long(), begin)
        return self._rules[state]

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        if input_ids.shape[1] == 1:
            self._states.clear()  # another batch
        rows_of: dict[State, list[int]] = defaultdict(list)
        for number, row in enumerate(input_ids.tolist()):
            rows_of[self._state(tuple(row[1:]))].append(number)
        allowed = scores.clone()
        for state, numbers in rows_of.items():
            rule = self._rule(state)
            rows = torch.tensor(numbers, device=scores.device)
            allowed[rows[:, None], rule.forbidden.to(scores.device)] = -torch.inf
            if rule.begin >= 0 and len(rule.ending):
                meant = scores[rows[:, None], rule.ending.to(scores.device)].logsumexp(-1)
                allowed[rows, rule.begin] = torch.logaddexp(allowed[rows, rule.begin], meant)
        return allowed
