"""Text to token ids. Teacher, student and evaluation all build their input here, so they see the same thing."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from config.defaults import MAX_CONTEXT_TOKENS
from data.rows.answer import find_answer
from data.rows.context import ContextItem, list_items
from data.rows.readers import PLACEHOLDER, Json, Sample
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FRAMES = ("end", "tokenizer")
SENTINEL = re.compile(r"<extra_id_\d+>")  # control tokens that not every tokenizer marks as such

# The fingerprint encodes this text, too, so that it depends on merges and normalisation as well as the vocabulary.
PROBE = 'assertEquals("ä\\n", foo.getBar(0x1F, -2.5f));\n\tassertThat(xs).containsExactly(1, 2) <AssertPlaceHolder>'
# Separators before the assertion of the nearest test. No other place has so many, so a model finds it without looking
# at anything else (models/seq2seq/copying.py).
NEAREST_MARK = 3
UNKNOWN_REFUSED = 0.3  # above this share of unknown tokens a tokenizer is not one for such texts


@dataclass(frozen=True)
class TextFormat:
    """How texts become ids beyond the vocabulary: stored in the distillation header and in the model's config.json.

    ``frame``: "end", where only the end-of-sequence token closes a text; "tokenizer", where the tokenizer's own begin
    and end tokens enclose it. ``context``: the parts of a row's context that are shown, in at most
    ``max_context_tokens`` tokens. ``nearest_apart``: the assertion of the nearest test closes the input, as a text of
    its own. Files and models from before a field was stored have its default.
    """

    frame: str = "end"
    context: tuple[str, ...] = ()
    max_context_tokens: int = MAX_CONTEXT_TOKENS
    nearest_apart: bool = False

    def sets_nearest_apart(self, parts: Sequence[str]) -> bool:
        """Whether the nearest assertion stands apart where these parts are shown next: in a first context it does, a
        later one is as the one before."""
        return bool(parts) and (self.nearest_apart or not self.context)

    @property
    def shows_nearest_apart(self) -> bool:
        """Whether the parts that are shown can hold an assertion that stands apart."""
        return self.nearest_apart and not {"siblings", "retrieved"}.isdisjoint(self.context)

    @classmethod
    def read(cls, value: Json | None) -> TextFormat:
        """The format from what ``to_json`` gave; the default for None. Raises UserError for one of a later version."""
        if value is None:
            return cls()
        try:
            found = cls(**{**value, "context": tuple(value.get("context", ()))})
        except (TypeError, AttributeError):
            found = cls(frame="unknown")
        if found.frame not in FRAMES:
            raise UserError(f"text format {value}: not known to this version of the program")
        return found

    @classmethod
    def of_model(cls, model: PreTrainedModel) -> TextFormat:
        """What the model was trained with."""
        return cls.read(getattr(model.config, "text_format", None))

    def store_in(self, model: PreTrainedModel) -> None:
        """Make the model remember it; its folder will hold it."""
        model.config.text_format = self.to_json()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "context": list(self.context)}


@dataclass(frozen=True)
class Layout:
    """An input: all its ids, those of the masked test, the items of the context that are in it, and how many pieces
    were ``cut``: items by part, and 1 for "test" and "focal method" where they are not whole."""

    ids: list[int]
    test: list[int]
    shown: list[ContextItem]
    cut: Counter[str]


@dataclass(frozen=True)
class TaskEncoder:
    """Token ids of tasks for one tokenizer and format."""

    tokenizer: PreTrainedTokenizerBase
    format: TextFormat

    @cached_property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after a text; the end always holds the end of sequence, where generation stops."""
        end = (self.tokenizer.eos_token_id,)
        if self.format.frame == "end":
            return (), end
        whole = self.tokenizer("assert", verbose=False)["input_ids"]
        inner = self.tokenizer("assert", add_special_tokens=False, verbose=False)["input_ids"]
        start = next(i for i in range(len(whole)) if whole[i : i + len(inner)] == inner)
        own = tuple(whole[start + len(inner) :])
        return tuple(whole[:start]), own if end[0] in own else end

    @property
    def separator(self) -> int:
        """The id between the parts of an input."""
        own = self.tokenizer.sep_token_id
        return self.tokenizer.eos_token_id if own is None else own

    @property
    def begin(self) -> tuple[int, ...]:
        """The ids before a text, which are the first labels of a target."""
        return self.frame[0]

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """The spellings of the tokenizer's control tokens; the placeholder is not one."""
        added = {token.content for token in self.tokenizer.added_tokens_decoder.values()}
        names = {*map(str, self.tokenizer.all_special_tokens), *filter(SENTINEL.fullmatch, added)} - {PLACEHOLDER}
        return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")

    def spells_control(self, text: str) -> bool:
        """Whether a text holds the spelling of a control token, such as ``"<s>"`` in a Java literal."""
        return self._control.search(text) is not None

    def plain(self, text: str) -> list[int]:
        """The ids of a text without a frame. What spells a control token is text like any other: written in pieces."""
        encode = partial(self.tokenizer.__call__, add_special_tokens=False, verbose=False)
        if not self.spells_control(text):
            return encode(text)["input_ids"]
        ids = encode(text, split_special_tokens=True)["input_ids"]
        control = {self.tokenizer.convert_tokens_to_ids(token) for token in self._control.findall(text)}
        if control.isdisjoint(ids):
            return ids
        # Some tokenizers find the spelling in their vocabulary again: break it after its first character.
        broken = self._control.sub(lambda match: f"{match[0][0]}\0{match[0][1:]}", text).split("\0")
        return [index for part in broken for index in encode(part, split_special_tokens=True)["input_ids"]]

    def source(self, sample: Sample, max_len: int) -> list[int]:
        """The ids of the input, at most ``max_len``; ``lay_out`` says what is where."""
        return self.lay_out(sample, max_len).ids

    def show(self, ids: Sequence[int]) -> str:
        """The text of these ids, exactly as the model sees it, marks included."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def lay_out(self, sample: Sample, max_len: int) -> Layout:
        """Masked test, separator, focal method, and if there is any: separator, context; all in the frame.

        What does not fit is cut at the far ends. The test keeps the surroundings of its placeholder (three quarters
        of its room are before it), the focal method keeps its signature and gets at least a third of their room. The
        context has one item a line, each of the ids that it has alone, so that it can be copied. The assertion of the
        nearest test stands behind them, between ``NEAREST_MARK`` separators and the end, as what is to be written
        stands between start and end. The context may take ``max_context_tokens``, but no more than 3/8 of ``max_len``
        where test and method fill the rest.
        """
        before, _, after = sample.test.partition(PLACEHOLDER)
        left, mask, right = (self.plain(text) for text in (before, PLACEHOLDER, after))
        method = self.plain(sample.focal)
        separator = self.separator
        begin, end = self.frame
        room = max_len - len(begin) - 1 - len(end)
        test_length, method_length = len(left) + len(mask) + len(right), len(method)
        limit = min(self.format.max_context_tokens, max(room * 3 // 8, room - test_length - method_length))
        items = list_items(sample.context, self.format.context, self.format.nearest_apart)
        context, shown = self._lay_out_context(items, separator, limit)
        room -= len(context)
        if test_length + len(method) > room:
            method = method[: max(room - test_length, min(len(method), room // 3))]
            around = max(0, room - len(method) - len(mask))
            keep_right = min(len(right), max(around // 4, around - len(left)))
            keep_left = min(len(left), around - keep_right)
            left, right = left[len(left) - keep_left :], right[:keep_right]
        test = [*left, *mask, *right]
        cut = Counter(item.part for item in items) - Counter(item.part for item in shown)
        cut += Counter({"test": int(len(test) < test_length), "focal method": int(len(method) < method_length)})
        return Layout([*begin, *test, separator, *method, *context, *end], test, shown, cut)

    def place_answer(self, sample: Sample, layout: Layout) -> str:
        """Whether the answer stands in what is shown: "test", "context" or "none"."""
        return find_answer(sample.assertions, self.show(layout.test), [item.assertion for item in layout.shown])

    def _lay_out_context(
        self, items: list[ContextItem], separator: int, limit: int
    ) -> tuple[list[int], list[ContextItem]]:
        """At most ``limit`` ids, and the items that are in them.

        From the first item on that does not fit all are left out; one that is longer than everything is passed over.
        """
        newline = self.plain("\n")
        lines: list[int] = []
        nearest: list[int] = []
        shown: list[ContextItem] = []
        for number, item in enumerate(items):
            if len(item.text) > 16 * limit:  # nobody writes so many characters a token
                continue
            tokens = self.plain(item.text)
            apart = number == 0 and self.format.nearest_apart and item.assertion
            before = [*[separator] * NEAREST_MARK, *self.begin] if apart else newline if lines else []
            line = [*before, *tokens]
            if 1 + len(lines) + len(nearest) + len(line) <= limit:
                if apart:
                    nearest = line
                else:
                    lines += line
                shown.append(item)
            elif len(tokens) + (len(before) if apart else 0) < limit:
                break
        return [*([separator, *lines] if lines else []), *nearest], shown

    def target(self, text: str, max_len: int) -> list[int]:
        """The ids of the assertion in the frame, which ends with the end of sequence here whatever the tokenizer adds
        to it; a longer one is cut to ``max_len`` and has no end."""
        return [*self.begin, *self.plain(text), self.tokenizer.eos_token_id][:max_len]


def encode_source(tokenizer: PreTrainedTokenizerBase, test: str, focal: str, max_len: int) -> list[int]:
    """What model cards from before ``TaskEncoder`` call."""
    return TaskEncoder(tokenizer, TextFormat()).source(Sample(test, focal, ()), max_len)


def share_unknown(tokenizer: PreTrainedTokenizerBase, *texts: str) -> float:
    """Which share of the texts' tokens the tokenizer does not know; 1.0 where it makes no tokens of them."""
    encoder, unknown = TaskEncoder(tokenizer, TextFormat()), tokenizer.unk_token_id
    ids = [index for text in texts for index in encoder.plain(text)]
    return sum(index == unknown for index in ids) / len(ids) if ids else 1.0


def labels_hash(labels: Sequence[int]) -> str:
    """16 hex digits that tell whether stored teacher logits belong to these label ids."""
    return hashlib.sha256(np.asarray(labels, dtype="<i4").tobytes()).hexdigest()[:16]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits over the vocabulary, the special ids and the encoding of a probe text."""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items()):
        digest.update(f"{token}\0{index}\n".encode())
    special = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id)
    probe = tokenizer(PROBE, add_special_tokens=False, verbose=False)["input_ids"]
    digest.update(repr((special, probe)).encode())
    return digest.hexdigest()[:16]
