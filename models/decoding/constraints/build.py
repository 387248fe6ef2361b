"""The constraints of each kind of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from data.java.scope import JavaScope
from models.decoding.constraints.java import JavaConstraint
from models.decoding.constraints.loops import NoLoops
from models.decoding.constraints.names import NameConstraint, NameVocabulary
from models.decoding.constraints.offered import Offered, read_inputs
from models.decoding.constraints.readable import ReadableConstraint
from models.decoding.constraints.token_texts import token_texts

# free: no constraint. java: Java's grammar, numbers of an assertion's arguments, no loops, and what would be cut off is
# closed. names: java, and names come from the input where any fits. types: java, and what javac knows of the place;
# names where it knows nothing.
Decoding = Literal["free", "java", "names", "types"]

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
    longest: int,
    scopes: Sequence[JavaScope | None] = (),
    wanted: int = 0,
) -> LogitsProcessorList:
    """Build the constraints for one batch: the input ids of its ``rows``, each continued in ``num_beams`` beams.

    ``vocab_size``: the width of the model's logits; ``end_ids``: the tokens with which it ends a text; ``longest``: how
    many tokens a text may have; ``scopes``: for the decoding "types", what can be named at the place of each row;
    ``wanted``: how many tokens are kept at each step, 0: as many as a search of ``num_beams`` needs.
    """
    constraints = LogitsProcessorList()
    if decoding == "free":
        return constraints
    offered: Sequence[Offered] = ()
    if decoding == "names" or (decoding == "types" and not (scopes and all(scopes))):
        free = frozenset(place for place, scope in enumerate(scopes) if scope is not None)
        texts = read_inputs(tokenizer, rows)
        kept = NameConstraint(name_vocabulary_of(tokenizer, vocab_size), texts, num_beams, free)
        constraints.append(kept)
        offered = kept.offered
    constraints += [java_constraint_of(tokenizer, vocab_size, tuple(end_ids)).until(longest), NoLoops()]
    # The last, because it tries what the others leave.
    known = scopes if decoding == "types" and scopes else [None] * len(rows)
    texts_of_tokens = token_texts(tokenizer, vocab_size)
    constraints.append(ReadableConstraint(texts_of_tokens, end_ids, known, num_beams, offered, wanted))
    return constraints
