"""The constraints of each kind of decoding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from models.decoding.constraints.java import JavaConstraint
from models.decoding.constraints.loops import NoLoops
from models.decoding.constraints.names import NameConstraint, NameVocabulary

# free: no constraint. java: brackets, literals and the number of an assertion's arguments follow Java's rules, and
# loops end. names: java, and variables must come from the input.
Decoding = Literal["free", "java", "names"]

# Their tables depend on the vocabulary alone and are costly: build them once, for one text or thousands.
java_constraint_of = lru_cache(maxsize=4)(JavaConstraint)
name_vocabulary_of = lru_cache(maxsize=4)(NameVocabulary)


def build_constraints(
    decoding: Decoding,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Sequence[int]],
    num_beams: int,
    *,
    vocab_size: int,
    end_ids: Sequence[int],
) -> LogitsProcessorList:
    """Build the constraints for one batch: the input ids of its ``rows``, each continued in ``num_beams`` beams.

    ``vocab_size``: the width of the model's logits; ``end_ids``: the tokens with which it ends a text.
    """
    constraints = LogitsProcessorList()
    if decoding == "free":
        return constraints
    if decoding == "names":
        texts = tokenizer.batch_decode([list(row) for row in rows], skip_special_tokens=False)
        marks = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)))
        texts = [marks.sub("\n", text) for text in texts]  # so that test, method and context end their lines
        constraints.append(NameConstraint(name_vocabulary_of(tokenizer, vocab_size), texts, num_beams))
    return LogitsProcessorList([*constraints, java_constraint_of(tokenizer, vocab_size, tuple(end_ids)), NoLoops()])
