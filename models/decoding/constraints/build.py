"""The constraints of each kind of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from data.java.scope import JavaScope
from models.decoding.constraints.java import JavaConstraint
from models.decoding.constraints.loops import NoLoops
from models.decoding.constraints.names import NameConstraint, NameVocabulary, read_inputs
from models.decoding.constraints.token_texts import token_texts
from models.decoding.constraints.types import TypeConstraint

# free: no constraint. java: brackets, literals and the number of an assertion's arguments follow Java's rules, and
# loops end. names: java, and variables must come from the input. types: java, and what javac knows of the place; names
# where it knows nothing.
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
    scopes: Sequence[JavaScope | None] = (),
) -> LogitsProcessorList:
    """Build the constraints for one batch: the input ids of its ``rows``, each continued in ``num_beams`` beams.

    ``vocab_size``: the width of the model's logits; ``end_ids``: the tokens with which it ends a text; ``scopes``: for
    the decoding "types", what can be named at the place of each row.
    """
    constraints = LogitsProcessorList()
    if decoding == "free":
        return constraints
    if decoding == "names" or (decoding == "types" and not (scopes and all(scopes))):
        free = frozenset(place for place, scope in enumerate(scopes) if scope is not None)
        texts = read_inputs(tokenizer, rows)
        constraints.append(NameConstraint(name_vocabulary_of(tokenizer, vocab_size), texts, num_beams, free))
    constraints += [java_constraint_of(tokenizer, vocab_size, tuple(end_ids)), NoLoops()]
    if decoding == "types" and any(scopes):  # the last, because it tries what the others leave
        constraints.append(TypeConstraint(token_texts(tokenizer, vocab_size), end_ids, scopes, num_beams))
    return constraints
