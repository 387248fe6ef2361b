"""Decoding that uses the names of its input: a variable that the test does not have, or a class that stands nowhere in
the input, mostly does not compile."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from models.decoding.constraints.frames import UNWANTED
from models.decoding.constraints.offered import find_offered
from models.decoding.constraints.token_texts import token_texts


@dataclass(frozen=True)
class Place:
    """Where a text stops.

    quote: the quote of the literal that is open, "" outside of literals; escaped: whether a backslash came last in it;
    name: the name being written, "" outside of names, None for a name that is not checked (a member after a dot, a
    number); member: whether a name that begins now follows a dot or two colons, so that it is not checked; colon:
    whether the last character is a colon.
    """

    quote: str = ""
    escaped: bool = False
    name: str | None = ""
    member: bool = False
    colon: bool = False

    def after(self, text: str) -> tuple[Place, list[str]]:
        """The place after more text, and the names that ended in it, each with a bracket or dot right behind it."""
        quote = self.quote
        escaped = self.escaped
        name = self.name
        member = self.member
        colon = self.colon
        ended: list[str] = []
        for char in text:
            if quote:
                if escaped:
                    escaped = False
                elif char == "\\":
                    escaped = True
                elif char == quote:
                    quote = ""
            elif char.isalnum() or char in "_$":
                if name == "":
                    name = None if char.isdigit() or member else char
                    member = False
                elif name is not None:
                    name += char
                colon = False
            else:
                if name:
                    ended.append(name + (char if char in "(." else ""))
                name = ""
                if char in "\"'":
                    quote = char
                if not char.isspace():
                    member, colon = char == "." or (colon and char == ":"), char == ":"
        return Place(quote, escaped, name, member, colon), ended


def fits(names: dict[str, str], ended: str) -> bool:
    """Whether a name may stand there, given with what follows it."""
    follows = names.get(ended.rstrip("(."))
    return follows is not None and ended.endswith(follows)


class NameVocabulary:
    """A tokenizer's tokens by the part of a name that they begin with, and the other names in them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
        self.texts = token_texts(tokenizer, vocab_size)
        # By the part of a name at their start: tokens that are nothing else, and tokens that end the name.
        self.alone: dict[str, list[int]] = defaultdict(list)
        self.ending: dict[str, list[int]] = defaultdict(list)
        self.further: list[tuple[int, list[str], str]] = []  # token, names that end in it, unfinished name
        for index, text in enumerate(self.texts):
            head = re.match(r"[\w$]*", text).group()  # type: ignore[union-attr]
            (self.ending if len(head) < len(text) or not text else self.alone)[head].append(index)
            place, ended = Place().after(text[len(head) :])
            if ended or place.name:
                self.further.append((index, ended, place.name or ""))
        # Tokens that begin with a number, or no name at all; with a class.
        heads = [*self.alone.items(), *self.ending.items()]
        self.others = [token for head, tokens in heads if not head or head[0].isdigit() for token in tokens]
        self.classes = [token for head, tokens in heads if head[:1].isupper() for token in tokens]

    def may_follow(self, rest: str, follows: str) -> list[int]:
        """The tokens that end a name with its ``rest``, if what comes then may follow it."""
        tokens = self.ending.get(rest, [])
        return [token for token in tokens if self.texts[token][len(rest) :].lstrip().startswith(follows)]


class NameConstraint(LogitsProcessor):
    """Lowers the score of tokens that would write an unknown name, so that they come only where no other can.

    A name that does not follow a dot must come from the input, a method's as a call, or be a keyword, an assertion, a
    usual static import or a class of java.lang. Where the input has no context, any class may. One object serves one
    batch of texts ``inputs`` [B], each continued in ``beams`` adjacent rows. Called with ids [B * beams, written],
    start token first, and scores [B * beams, V].
    """

    def __init__(
        self, vocabulary: NameVocabulary, inputs: Sequence[str], beams: int, free: frozenset[int] = frozenset()
    ) -> None:
        """``free``: the places of inputs that may use any name."""
        self.vocabulary, self.free = vocabulary, free
        self.rows = [index for index in range(len(inputs)) for _ in range(beams)]
        self.offered = [find_offered(text) for text in inputs]
        self.names = [offered.names for offered in self.offered]
        self._classes = [offered.classes for offered in self.offered]  # whether classes must come from the input, too
        self._begun = [{name[:end] for name in names for end in range(len(name) + 1)} for names in self.names]
        self._unknown = [self._tokens_of_others(index) for index in range(len(inputs))]
        self._forbidden: dict[tuple[int, str | None], Tensor] = {}
        self._places: dict[tuple[int, ...], Place] = {(): Place()}

    def keep(self, rows: Tensor) -> None:
        """Continue with these rows only."""
        self.rows = [self.rows[row] for row in rows.tolist()]

    def _place(self, ids: tuple[int, ...]) -> Place:
        if ids not in self._places:
            self._places[ids] = self._place(ids[:-1]).after(self.vocabulary.texts[ids[-1]])[0]
        return self._places[ids]

    def _tokens_of_others(self, index: int) -> list[int]:
        """The tokens with a name, after their start, that input ``index`` does not have."""
        names, begun = self.names[index], self._begun[index]

        def free(name: str) -> bool:
            return name[:1].isupper() and not self._classes[index]

        return [
            token
            for token, ended, last in self.vocabulary.further
            if not all(free(name) or fits(names, name) for name in ended) or not (last in begun or free(last))
        ]

    def _rule(self, index: int, prefix: str | None) -> Tensor:
        """[V] bool: the tokens that must not follow the beginning of a name (None: a name that is not checked)."""
        if (index, prefix) not in self._forbidden:
            vocabulary = self.vocabulary
            forbidden = torch.full((len(vocabulary.texts),), prefix is not None)
            if prefix is not None:
                allowed = [] if prefix else list(vocabulary.others)
                if not prefix and not self._classes[index]:
                    allowed += vocabulary.classes
                for name, follows in self.names[index].items():
                    if name.startswith(prefix):
                        rest = name[len(prefix) :]
                        for end in range(len(rest) + 1):
                            allowed += vocabulary.alone.get(rest[:end], ())
                        allowed += vocabulary.may_follow(rest, follows)
                forbidden[allowed] = False
            forbidden[self._unknown[index]] = True
            self._forbidden[index, prefix] = forbidden
        return self._forbidden[index, prefix]

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        anything = torch.zeros(scores.shape[1], dtype=torch.bool)
        forbidden = []
        for index, ids in zip(self.rows, input_ids.tolist(), strict=True):
            place = self._place(tuple(ids[1:]))
            name = None if place.member else place.name
            if name and name[0].isupper() and not self._classes[index]:
                name = None
            # A name that the input lacks can begin inside of a token, after the end of a literal: let it be.
            free = index in self.free or place.quote
            rule = anything if free or (name and name not in self._begun[index]) else self._rule(index, name)
            forbidden.append(anything if rule.all() else rule)
        return scores - UNWANTED * torch.stack(forbidden).to(scores)
