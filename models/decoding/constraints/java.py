"""Decoding that follows Java's rules for brackets, literals and numbers of arguments, and closes what it opens."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from data.java.frameworks import ARITY, WITH_DELTA
from models.decoding.constraints.frames import CLAIMS, UNWANTED
from models.decoding.constraints.token_texts import token_texts

CLOSERS = {"(": ")", "[": "]", "{": "}"}
CHECKED = ("assertTrue", "assertFalse", "assertNull", "assertNotNull", "assertSame", "assertNotSame", "assertThrows")
# The fewest and the most arguments of these assertions, with the optional delta and message. TestNG alone has an
# assertThrows with one argument, which is refused; the assertThat of AssertJ and Truth has one.
ARGUMENTS = {name: (ARITY[name], ARITY[name] + 1 + (name in WITH_DELTA)) for name in (*CHECKED, *WITH_DELTA)}
ARGUMENTS["assertThat"] = (1, 3)
PREFIXES = frozenset(name[:length] for name in ARGUMENTS for length in range(1, len(name) + 1))
OTHER = "?"  # a name that is none of these
QUOTES = "\"'"
ESCAPES = frozenset("btnfrsu01234567\"'\\")
CHARACTER = re.compile(r"[^\\'\n]|\\[btnfrs\"'\\]|\\[0-7]{1,3}|\\u+[0-9a-fA-F]{4}")
CHARACTER_BEGUN = re.compile(r"|\\|\\u+[0-9a-fA-F]{0,3}")
# Outside of character literals, and unless a backslash comes before, a text without these characters is never refused.
SIGNIFICANT = frozenset("()[]{}\"'\\\n;,")
CLOSING = frozenset(")]};")
MAX_RULES = 2048
MARGIN = 3  # tokens kept for what must come before an ending, such as the operand after a comma


@dataclass(frozen=True)
class Open:
    """An open bracket.

    closer: the character that closes it. For the bracket of an assertion, owed: how many arguments it still needs,
    including the current one; left: how many more it may have (None: any number); claims: whether it needs a boolean,
    so that a text alone is only the message. array: whether it holds the elements of an array.
    """

    closer: str
    owed: int = 0
    left: int | None = None
    claims: bool = False
    array: bool = False

    def after_comma(self) -> Open | None:
        """The bracket after a comma; None if another argument is too many."""
        if self.left == 0:
            return None
        return replace(self, owed=max(0, self.owed - 1), left=None if self.left is None else self.left - 1)

    def after_text(self) -> Open:
        """The bracket after a text as the first argument. Here as in ``Signs``, so that ``State.ending`` knows that a
        boolean is to come."""
        return replace(self, owed=2) if self.claims else self

    def closes_after(self, last: str) -> bool:
        """Whether it may close after the character ``last``: its last argument is complete and none is missing."""
        if self.closer == "}":
            return True
        return self.owed < 2 and last not in (",", ".") and not (self.owed and last == "(")


BLOCK, ELEMENTS = Open("}"), Open("}", array=True)


def unsay(brackets: list[Open], last: str) -> None:
    """The text that came last was no message: something goes on behind it."""
    if last == '"' and brackets and brackets[-1].claims and brackets[-1].owed == 2:
        brackets[-1] = replace(brackets[-1], owed=1)


@dataclass(frozen=True)
class State:
    """Where a text stops.

    open: its open brackets, innermost last; quote: the quote of the literal that is open, "" outside of literals;
    escaped: whether a backslash came last; character: what is written of a character literal; last: the last character
    outside of literals that is not blank ("a" for any in a name, "0" for any in a number); word: the name it ends.
    """

    open: tuple[Open, ...] = ()
    quote: str = ""
    escaped: bool = False
    character: str = ""
    last: str = ""
    word: str = ""

    @property
    def complete(self) -> bool:
        """Whether no bracket and no literal is open."""
        return not (self.open or self.quote)

    @property
    def ending(self) -> str:
        """The shortest text that ends the statement, or the block after its last statement.

        If an argument is still missing, the text that leads up to it; "" if there is no such text.
        """
        text = ""
        last = self.last
        inner = list(self.open)
        if self.quote:
            if self.quote == "'" and not CHARACTER.fullmatch(self.character):
                return ""
            if last == "(" and inner:
                inner[-1] = inner[-1].after_text()
            text, last = "\\" * self.escaped + self.quote, self.quote
        if last in (";", "}"):
            if not inner:
                return ""
            if inner[-1] == BLOCK:
                text, last = text + "}", inner.pop().closer
        while inner and inner[-1] != BLOCK:
            bracket = inner.pop()
            if not bracket.closes_after(last):
                return text + "," if bracket.owed > 1 and last not in ("(", ",", ".") else text
            text, last = text + bracket.closer, bracket.closer
        return text + ";"

    def after(self, text: str) -> State | None:
        """The state after more text; None if the text cannot be Java.

        That is: a bracket does not match, a literal is not valid, or a statement ends inside of round or square
        brackets (which also refuses the head of a classic for loop).
        """
        brackets = [*self.open]
        quote = self.quote
        escaped = self.escaped
        character = self.character
        last, word = self.last, self.word
        for char in text:
            if quote == "'":
                if char == quote and CHARACTER.fullmatch(character):
                    quote = ""
                    character = ""
                    last = char
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
                    if last == "(" and brackets:
                        brackets[-1] = brackets[-1].after_text()
                    quote, last = "", char
            elif char in QUOTES:
                quote, word = char, ""
            elif char.isspace():
                word = ""
            elif char.isalnum() or char in "_$":
                unsay(brackets, last)
                last = "0" if char.isdigit() and (not word or last == "0") else "a"
                word = word + char if word + char in PREFIXES else OTHER
            else:
                if char not in ",)":
                    unsay(brackets, last)
                innermost = brackets[-1] if brackets else None
                if char == "(":
                    least, most = ARGUMENTS.get(word, (0, None))
                    brackets.append(Open(")", least, most and most - 1, word in CLAIMS))
                elif char in CLOSERS:
                    elements = char == "{" and (last == "]" or (last in ("{", ",") and innermost == ELEMENTS))
                    brackets.append(ELEMENTS if elements else Open(CLOSERS[char]))
                elif char in CLOSERS.values():
                    if innermost is None or innermost.closer != char or not innermost.closes_after(last):
                        return None
                    brackets.pop()
                elif char == "," and innermost is not None and innermost.closer == ")":
                    following = innermost.after_comma()
                    if last in ("(", ",", ".") or following is None:
                        return None
                    brackets[-1] = following
                elif char == ";" and innermost not in (None, BLOCK):
                    return None
                last, word = "0" if char == "." and last == "0" else char, ""
        return State(tuple(brackets), quote, escaped, character, last, word)


@dataclass(frozen=True)
class Rule:
    """What holds after a state: the ids that must not follow, those among them with which the model tries to end, the
    id that begins the right ending (-1: none), and how many tokens that takes."""

    forbidden: list[int]
    ending: list[int]
    begin: int
    length: int


class RuleTable:
    """The rules of the states met so far on one device, a row each, so that a batch needs few launches there."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self.device = device
        self.forbidden = torch.zeros(64, vocab_size, dtype=torch.bool, device=device)
        self.ending = torch.zeros_like(self.forbidden)
        self.begin = torch.full((64, 1), -1, device=device)
        self.lengths: list[int] = []
        self._numbers: dict[State, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, state: State, rule_of: Callable[[State], Rule]) -> int:
        """The row of a state."""
        if state not in self._numbers:
            number = len(self._numbers)
            if number == len(self.begin):
                self.forbidden, self.ending = (
                    torch.cat([part, torch.zeros_like(part)]) for part in (self.forbidden, self.ending)
                )
                self.begin = torch.cat([self.begin, torch.full_like(self.begin, -1)])
            rule = rule_of(state)
            self.forbidden[number, torch.tensor(rule.forbidden, dtype=torch.long, device=self.device)] = True
            if rule.begin >= 0:
                self.ending[number, torch.tensor(rule.ending, dtype=torch.long, device=self.device)] = True
                self.begin[number] = rule.begin
            self.lengths.append(rule.length)
            self._numbers[state] = number
        return self._numbers[state]

    def apply(self, numbers: list[int], left: int | None, scores: Tensor) -> Tensor:
        """The scores [n, V] under the rules ``numbers``. Where of the ``left`` tokens (None: any number) no more than
        MARGIN remain beside an ending and the end, it comes before all else."""
        rows = torch.tensor(numbers, device=self.device)
        allowed = scores.masked_fill(self.forbidden[rows], -torch.inf)
        known = self.begin[rows] >= 0
        begin = self.begin[rows].clamp(min=0)
        # Without an ending that was meant, the logsumexp is -inf and changes nothing.
        meant = scores.masked_fill(~self.ending[rows], -torch.inf).logsumexp(-1, keepdim=True)
        best = torch.logaddexp(allowed.gather(1, begin), meant)
        closing = [left is not None and left <= self.lengths[number] + MARGIN + 1 for number in numbers]
        if any(closing):
            late = torch.tensor(closing, device=self.device)[:, None] & known
            allowed = torch.where(late, allowed - 2 * UNWANTED, allowed)
        return allowed.scatter(1, begin, best)


class JavaConstraint(LogitsProcessor):
    """Gives the score -inf to tokens that would break Java's rules, or end a text inside of a bracket or literal.

    If such a token only closes brackets or ends the text, the model wants to end and has miscounted: its score goes to
    the token that begins the right ending. Where a text has hardly room for more than its ending, that comes before all
    else. Comments are read as code. Called with ids [n, written], start token first, and scores [n, V], logits or
    log-probabilities.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, end_ids: tuple[int, ...]) -> None:
        self.texts = token_texts(tokenizer, vocab_size)
        self.end_ids = end_ids
        self._significant = [index for index, text in enumerate(self.texts) if not SIGNIFICANT.isdisjoint(text)]
        self._by_text = {text: index for index, text in reversed([*enumerate(self.texts)]) if index not in end_ids}
        self._table: RuleTable | None = None
        self._longest: int | None = None
        self._states: dict[tuple[int, ...], State] = {}

    def until(self, longest: int | None) -> JavaConstraint:
        """This constraint, from now on for texts of at most so many tokens."""
        self._longest = longest
        return self

    def _state(self, ids: tuple[int, ...]) -> State:
        if not ids:
            return State()
        if ids not in self._states:
            before = self._state(ids[:-1])
            self._states[ids] = before.after(self.texts[ids[-1]]) or before  # the padding of a finished beam
        return self._states[ids]

    def _only_closes(self, index: int, state: State) -> bool:
        text = self.texts[index].strip()
        if state.quote:
            return text.startswith(state.quote) and CLOSING.issuperset(text[1:])
        return bool(text) and CLOSING.issuperset(text)

    def _spell(self, text: str) -> list[int]:
        """The tokens of a text, each as long as there is one; those before its first part that no token spells."""
        found: list[int] = []
        while begin := next((text[:end] for end in range(len(text), 0, -1) if text[:end] in self._by_text), ""):
            found.append(self._by_text[begin])
            text = text[len(begin) :]
        return found

    def _rule(self, state: State) -> Rule:
        # In a character literal, and after a backslash, any token can be wrong.
        looked_at = range(len(self.texts)) if state.quote == "'" or state.escaped else self._significant
        forbidden = [i for i in looked_at if i not in self.end_ids and state.after(self.texts[i]) is None]
        meant = [index for index in forbidden if self._only_closes(index, state)]
        if not state.complete:
            forbidden += self.end_ids
            meant += self.end_ids
        spelt = self._spell(state.ending)
        begin = spelt[0] if spelt else -1
        if state.complete and not state.ending:
            begin = self.end_ids[0]
        whole = "".join(self.texts[index] for index in spelt) == state.ending
        return Rule(forbidden, meant, begin, len(spelt) if whole else len(spelt) - 1)

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        if input_ids.shape[1] == 1:
            self._states.clear()  # another batch
        full = self._table is not None and len(self._table) + len(input_ids) > MAX_RULES
        if self._table is None or self._table.device != scores.device or full:
            self._table = RuleTable(scores.shape[1], scores.device)
        states = [self._state(tuple(row[1:])) for row in input_ids.tolist()]
        left = None if self._longest is None else self._longest - input_ids.shape[1] + 1
        return self._table.apply([self._table.number(state, self._rule) for state in states], left, scores)
