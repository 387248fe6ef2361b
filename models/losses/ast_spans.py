"""Find the tokens that keep a prediction from parsing as Java: the error spans of its syntax tree, mapped to tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from data.java.statements import STATEMENT_EXPRESSIONS, is_valid_java
from data.java.syntax import parse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from tree_sitter import Node

HEAD = "class A { void m() {\n"
TAIL = "\n}}"


def _faults(node: Node) -> Iterator[tuple[int, int]]:
    """Byte spans of what Java's grammar, or its rules beyond the grammar, forbid; a missing token has length 0."""
    if node.is_error or node.is_missing:
        yield node.start_byte, node.end_byte
        return
    if node.type == "expression_statement" and node.named_children[0].type not in STATEMENT_EXPRESSIONS:
        yield node.start_byte, node.end_byte
    for child in node.children:
        yield from _faults(child)


def error_spans(text: str) -> list[tuple[int, int]]:
    """Byte spans [start, end) of ``text`` that keep it from being Java statements; empty if it is valid.

    A span of length 0 marks a place where something is missing. A text that is wrong as a whole (empty, or one that
    closes the method around it) is one span.
    """
    if is_valid_java(text):
        return []
    size = len(text.encode("utf-8", "replace"))
    shift = len(HEAD)
    end = text.rstrip()[-1:]
    code = f"{HEAD}{text}{'' if end in (';', '}') else ';'}{TAIL}"
    spans = []
    for start, stop in _faults(parse(code.encode("utf-8", "replace"))):
        first, last = max(0, min(start - shift, size)), max(0, min(stop - shift, size))
        spans.append((first, last))
    return spans or [(0, size)]


class SpanFinder:
    """Finds the greedy tokens that the loss should make less likely."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._end = {i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id) if i is not None}

    def _texts(self, ids: list[list[int]]) -> list[str]:
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _tokens(self, ids: Sequence[int]) -> list[int]:
        """The positions at fault in ``ids``, one prediction with its end token."""
        length = next((place for place, token in enumerate(ids) if token in self._end), len(ids))
        text = self._texts([list(ids[:length])])[0]
        spans = error_spans(text)
        if not spans:
            return []
        prefixes = self._texts([list(ids[:stop]) for stop in range(1, length + 1)])
        # A prefix that ends within a character shows a replacement character, which can be longer than the bytes.
        ends = [len(prefix.rstrip("\ufffd").encode("utf-8", "replace")) for prefix in prefixes]
        last = min(length, len(ids) - 1)  # the end token, or the last token if there is none
        found: set[int] = set()
        for start, stop in spans:
            first = bisect_right(ends, start)
            beyond = first
            while beyond < length and (ends[beyond - 1] if beyond else 0) < stop:
                beyond += 1
            # If something is missing, the token in its place is at fault; at the very end, the end token.
            found.update(range(first, beyond) if beyond > first else [min(first, last)])
        return sorted(found)

    def flag(
        self, greedy: Sequence[int], labels: Sequence[int], sample_index: Sequence[int], num_samples: int
    ) -> tuple[list[int], list[float]]:
        """Return the flat positions at fault and their weights, which add up to 1 in each sample that has any.

        greedy, labels, sample_index: the N target positions of a batch, sample by sample. A token that equals its label
        is never at fault: if all tokens of the error spans do, the sample's other wrong tokens are.
        """
        positions: list[list[int]] = [[] for _ in range(num_samples)]
        for place, sample in enumerate(sample_index):
            positions[sample].append(place)
        flagged: list[int] = []
        weights: list[float] = []
        for places in positions:
            wrong = {place for place in places if greedy[place] != labels[place]}
            if wrong:
                at_fault = [places[i] for i in self._tokens([greedy[place] for place in places])]
                chosen = at_fault and (sorted(wrong.intersection(at_fault)) or sorted(wrong))
                flagged += chosen
                weights += [1.0 / len(chosen) for _ in chosen]
        return flagged, weights
