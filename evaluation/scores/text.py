"""The text metrics of one prediction: pure functions of tokens, and all of them together for one task."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from math import exp
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data.java.normal_form import name_assertion, normalise, split_assertions
from data.java.statements import is_valid_java
from data.java.tokens import tokenize
from data.rows.readers import PLACEHOLDER
from evaluation.scores.codebleu import codebleu

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU

Tokens = Sequence[str]
BLANK = re.compile(r"\s")
PANS_MAX_ORDER = 4
PANS_DECAY = 0.1


def _spaced(tokens: Tokens) -> str:
    """Tokens for sacrebleu, which splits at blanks; those inside a literal are replaced, so that it stays one token."""
    return " ".join(BLANK.sub("\N{SYMBOL FOR SPACE}", token) for token in tokens)


def edit_distance(a: Tokens, b: Tokens) -> int:
    """Levenshtein distance in tokens (insert, delete, replace cost 1).

    Bit-parallel (Myers 1999, in Hyyrö's 2003 form): a column of the usual table is two integers, the places where it
    rises and where it falls.
    """
    if not a or not b:
        return len(a) + len(b)
    places: dict[str, int] = {}
    for index, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << index
    last, mask = 1 << len(a) - 1, (1 << len(a)) - 1
    rises = mask
    falls = 0
    distance = len(a)
    for token in b:
        equal = places.get(token, 0)
        vertical = equal | falls
        horizontal = (((equal & rises) + rises) ^ rises) | equal
        up, down = falls | ~(horizontal | rises) & mask, rises & horizontal
        distance += bool(up & last) - bool(down & last)
        up, down = up << 1 | 1, down << 1
        rises, falls = (down | ~(vertical | up)) & mask, up & vertical & mask
    return distance


def token_similarity(prediction: Tokens, reference: Tokens) -> float:
    """1 - edit distance / longer length, in tokens; 0 to 1, two empty texts give 1.

    Trap: it rewards the frame that all assertions share; ``assertTrue(x)`` against ``assertTrue(!y)`` scores 0.6.
    """
    longer = max(len(prediction), len(reference))
    return 1 - edit_distance(prediction, reference) / longer if longer else 1.0


def pans(prediction: Tokens, reference: Tokens) -> float:
    """Position-aware n-gram similarity, 0 to 1 (1: the same tokens in the same places).

    ``sum over n = 1..4 and reference n-grams j of min(c_j, s_j) / sum of s_j`` with
    ``c_j = sum_i exp(-0.1 |i-j|) [prediction n-gram i == reference n-gram j]``, and s_j the same for the reference
    against itself. An n-gram collects at most s_j, so repetition gains nothing. The PANS loss is 1 - this.
    Trap: it is a recall; text after a perfect start costs nothing.
    """
    collected = possible = 0.0
    for n in range(1, PANS_MAX_ORDER + 1):
        wanted, given = _places(reference, n), _places(prediction, n)
        for gram, places in wanted.items():
            own = _nearness(places, places)
            possible += sum(own)
            if others := given.get(gram):
                collected += sum(map(min, own, _nearness(others, places)))
    return collected / possible if possible else 0.0


def _places(tokens: Tokens, n: int) -> dict[tuple[str, ...], list[int]]:
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index in range(len(tokens) - n + 1):
        places[tuple(tokens[index : index + n])].append(index)
    return places


def _nearness(places: list[int], at: list[int]) -> list[float]:
    """For each j of ``at`` the sum of exp(-0.1 |i-j|) over ``places``."""
    if len(places) * len(at) > 64:
        return np.exp(-PANS_DECAY * np.abs(np.subtract.outer(at, places))).sum(1).tolist()
    return [sum([exp(-PANS_DECAY * abs(i - j)) for i in places]) for j in at]


def align(predictions: Sequence[Tokens], references: Sequence[Tokens]) -> list[tuple[int | None, int | None]]:
    """Pairs (prediction, reference): first equal ones, then those with the greatest sum of token similarities.

    The two are matched as sets, whatever their order. Every index occurs once, in the references' order; what has no
    partner is paired with None.
    """
    if min(len(predictions), len(references)) == 0 or len(predictions) == len(references) == 1:
        return list(zip_longest(range(len(predictions)), range(len(references))))
    equal: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for p, tokens in enumerate(predictions):
        equal[tuple(tokens)].append(p)
    partner: dict[int, int] = {}
    for r, tokens in enumerate(references):
        if same := equal.get(tuple(tokens)):
            partner[r] = same.pop(0)
    used = set(partner.values())
    open_p = [p for p in range(len(predictions)) if p not in used]
    open_r = [r for r in range(len(references)) if r not in partner]
    if open_p and open_r:
        from scipy.optimize import linear_sum_assignment

        similarity = [[token_similarity(predictions[p], references[r]) for r in open_r] for p in open_p]
        rows, columns = linear_sum_assignment(similarity, maximize=True)
        partner |= {open_r[c]: open_p[r] for r, c in zip(rows, columns, strict=True)}
        used = set(partner.values())
    pairs: list[tuple[int | None, int | None]] = [(partner.get(r), r) for r in range(len(references))]
    return pairs + [(p, None) for p in range(len(predictions)) if p not in used]


@lru_cache(maxsize=1)
def _load_bleu() -> BLEU:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize="none", effective_order=True)


def token_overlap(prediction: Tokens, reference: Tokens) -> int:
    """The number of common tokens, as multisets: a token counts as often as both texts have it."""
    return sum((Counter(prediction) & Counter(reference)).values())


def agreement(text: str, other: str) -> float:
    """Token F1 of two texts, their assertions paired as in ``align``; two empty texts agree."""
    given, wanted = ([tokenize(part) for part in split_assertions(one)] for one in (text, other))
    total = sum(map(len, given)) + sum(map(len, wanted))
    pairs = [(given[p], wanted[r]) for p, r in align(given, wanted) if p is not None and r is not None]
    return 2 * sum(token_overlap(p, r) for p, r in pairs) / total if total else 1.0


class TextTask(NamedTuple):
    """A prediction, and all assertions that its task wants.

    ``test``: the masked test around them; ``framework`` says where a failure message is; ``kind``: of the assertion,
    where the data name it.
    """

    prediction: str
    references: Sequence[str]
    test: str | None = None
    framework: str | None = None
    kind: str | None = None


@dataclass
class TextScores:
    """Scores of one task. ``bleu_counts``: matches and totals of orders 1 to 4, prediction and reference length.

    ``length``: tokens of the reference. The aligned texts hold the assertions of both in the same order.
    """

    values: dict[str, float]
    bleu_counts: list[int]
    kind: str
    length: int
    aligned_prediction: str
    aligned_reference: str


@dataclass(frozen=True)
class _TokenScores:
    precision: float
    recall: float
    f1: float
    similarity: float


def _score_tokens(pairs: Sequence[tuple[Tokens, Tokens]]) -> _TokenScores:
    """Scores over the tokens of paired assertions (prediction, reference)."""
    distance = sum(edit_distance(given, wanted) for given, wanted in pairs)
    longer = sum(max(len(given), len(wanted)) for given, wanted in pairs)
    common = sum(token_overlap(given, wanted) for given, wanted in pairs)
    total_given, total_wanted = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    return _TokenScores(
        precision=common / total_given if total_given else 0.0,
        recall=common / total_wanted if total_wanted else 0.0,
        f1=2 * common / (total_given + total_wanted) if total_given + total_wanted else 0.0,
        similarity=1 - distance / longer if longer else 0.0,
    )


def _split_context(test: str | None) -> tuple[str, str]:
    """The test before and after its assertion; empty texts where the test is not known."""
    if test is None or PLACEHOLDER not in test:
        return "", ""
    before, _, after = test.partition(PLACEHOLDER)
    return before, after.lstrip().removeprefix(";")


def score_task(
    prediction: str,
    references: Sequence[str],
    test: str | None = None,
    framework: str | None = None,
    kind: str | None = None,
) -> TextScores:
    """All text metrics of one task, given as the fields of ``TextTask``; utils/metrics.py defines them.

    An empty prediction scores 0 everywhere.
    """
    wanted_texts = [part for reference in references for part in split_assertions(reference)]
    given_texts = split_assertions(prediction)
    wanted_tokens = [tokenize(text) for text in wanted_texts]
    given_tokens = [tokenize(text) for text in given_texts]
    pairs = align(given_tokens, wanted_tokens)
    tokens = _score_tokens(
        [(given_tokens[g] if g is not None else [], wanted_tokens[w] if w is not None else []) for g, w in pairs]
    )

    ordered = [given_texts[given] for given, _ in pairs if given is not None]
    hypothesis = "\n".join(text + ";" for text in ordered)
    reference = "\n".join(text + ";" for text in wanted_texts)
    hypothesis_tokens, reference_tokens = tokenize(hypothesis), tokenize(reference)
    bleu = _load_bleu().sentence_score(_spaced(hypothesis_tokens), [_spaced(reference_tokens)])

    def same_set(simplify: Callable[[str], Hashable]) -> float:
        return float(bool(given_texts) and Counter(map(simplify, given_texts)) == Counter(map(simplify, wanted_texts)))

    values = {
        "exact_match": same_set(lambda text: normalise(text, framework)),
        "exact_match_strict": same_set(lambda text: " ".join(text.split())),
        "precision": tokens.precision,
        "recall": tokens.recall,
        "f1": tokens.f1,
        "bleu": bleu.score / 100 if hypothesis_tokens else 0.0,
        "codebleu": codebleu(reference, hypothesis, _split_context(test)),
        "pans": pans(hypothesis_tokens, reference_tokens),
        "ast_validity": float(is_valid_java(prediction)),
        "token_similarity": tokens.similarity if given_texts else 0.0,
    }
    return TextScores(
        values={name: min(1.0, value) for name, value in values.items()},
        bleu_counts=[*bleu.counts, *bleu.totals, bleu.sys_len, bleu.ref_len],
        kind=kind or (name_assertion(wanted_texts[0]) if wanted_texts else "other"),
        length=sum(map(len, wanted_tokens)),
        aligned_prediction="\n".join(ordered),
        aligned_reference="\n".join(wanted_texts),
    )
