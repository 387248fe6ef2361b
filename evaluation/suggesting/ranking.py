"""The order of a pool: how likely each candidate is the one that a person would write."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from data.java.tokens import PLACEHOLDER, tokenize
from data.mining.focal import split_words
from data.rows.context import Sibling, split_declaration
from data.rows.readers import Sample
from evaluation.suggesting.copies import list_copies
from evaluation.suggesting.draft import MODEL, SIBLING, TEMPLATE, Draft
from evaluation.systems.nearest_sibling import FREE_NAME
from models.decoding.constraints.frames import QUALIFIERS
from models.decoding.constraints.offered import ALWAYS, NAME

# What each adds to the log-odds of a choice, fitted by benchmarks/pool_weights.py (results/pool_weights.json).
WEIGHTS = {
    "sibling": 0.791,
    "nearest sibling": 0.215,
    "log place of sibling": -0.775,
    "template": 0.438,
    "log place of template": -0.309,
    "model": 0.238,
    "model's first": -0.491,
    "proposed twice": 0.496,
    "likelihood of a token": 0.033,
    "likelihood": 0.011,
    "log length": -0.255,
    "log length, squared": -0.088,
    "edited": 0.362,
    "sibling's name alike": 1.494,
    "sibling's method the same": 0.897,
    "log votes of siblings": 0.76,
    "unknown names": -0.644,
    "calls the method": 1.5,
    "calls the method, as the last statement does": -0.686,
    "names the latest variable": 1.119,
    "stands in the test": -1.107,
    "stands behind the place": 0.162,
    "names in the test": 1.239,
    "names in the method": 0.741,
    "names in the last statement": 0.442,
    "literals in the test": 0.078,
    "literals": -0.173,
    "calls in the test": -0.452,
    "inner calls": 0.501,
    "words of the test's name": 0.107,
    "words from the test's name": 0.424,
    "kind among siblings": 0.589,
    "kind in the test": 0.144,
    "kind's share in the test": -0.126,
    "throws, as the test's name says": 1.654,
    "throws": -0.073,
    "fails in a try": 5.791,
    "fails before a catch": 1.249,
    "denies, as the test's name does": 0.858,
    "assertEquals": -0.487,
    "assertTrue": -0.483,
    "assertFalse": -0.521,
    "assertNull": -1.006,
    "assertNotNull": -0.725,
    "assertThrows": -0.479,
    "assertThat": 0.595,
    "verify": 0.314,
    "fail": -1.007,
    "assertSame": -0.19,
    "assertArrayEquals": -0.298,
}
LITERAL = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![\w.])\d[\w.]*""")
CALL = re.compile(r"(?<![\w$])([A-Za-z_$][\w$]*)\s*\(")
HEAD = re.compile(r"\s*(?:\w+\.)*(\w+)\s*\(")
BLANKS = re.compile(r"\s+")
IN_TRY = re.compile(r"\btry\s*\{[^}]*$")
CATCH = re.compile(r"\bcatch\b")
MAX_UNKNOWN = 2
# Assertion methods with a weight of their own; the others share 0.
HEADS = (
    "assertEquals",
    "assertTrue",
    "assertFalse",
    "assertNull",
    "assertNotNull",
    "assertThrows",
    "assertThat",
    "verify",
    "fail",
    "assertSame",
    "assertArrayEquals",
)
FAILURE = frozenset(["throws", "throw", "exception", "invalid", "illegal", "null", "fail", "fails", "error"])
DENIAL = frozenset(["not", "no", "false", "null", "empty", "without", "non"])


def rank(sample: Sample, pool: Sequence[Draft]) -> list[Draft]:
    """The candidates, best first. Those of equal value keep their order."""
    place = Place(sample)
    values = [sum(WEIGHTS[name] * size for name, size in place.describe(draft).items()) for draft in pool]
    return [pool[number] for number in sorted(range(len(pool)), key=lambda number: -values[number])]


def _squeeze(text: str) -> str:
    return BLANKS.sub("", text)


def _head(text: str) -> str:
    """The method that an assertion calls first."""
    found = HEAD.match(text)
    return found.group(1) if found else ""


def _share(items: Sequence[str], known: Collection[str]) -> float:
    return sum(item in known for item in items) / len(items) if items else 0.0


def _share_of(count: int, total: int) -> float:
    return count / total if total else 0.0


@dataclass(frozen=True)
class Place:
    """Where an assertion is to be written: what its test, its method and the other tests say of a candidate."""

    sample: Sample

    @cached_property
    def _known(self) -> frozenset[str]:
        """The names of the test, its variables, and those that every test knows."""
        context = self.sample.context
        declared = [*context.get("locals", []), *context.get("fields", [])]
        return frozenset({*ALWAYS, *QUALIFIERS, *self._in_test, *(split_declaration(text)[1] for text in declared)})

    @cached_property
    def _siblings(self) -> list[Sibling]:
        return self.sample.context.get("siblings", [])

    @cached_property
    def _copied(self) -> dict[str, Sibling]:
        """Copies without blanks, and the nearest sibling that each is from."""
        copies = list(list_copies(self.sample))
        return {_squeeze(text): sibling for text, sibling in reversed(copies)}

    @cached_property
    def _before_and_after(self) -> tuple[str, str]:
        before, _, after = self.sample.test.partition(PLACEHOLDER)
        return before, after

    @cached_property
    def _in_test(self) -> frozenset[str]:
        return frozenset(NAME.findall(self.sample.test))

    @cached_property
    def _in_method(self) -> frozenset[str]:
        return frozenset(NAME.findall(self.sample.focal))

    @cached_property
    def _in_last_statement(self) -> frozenset[str]:
        statements = re.split(r"[;{}]", self._before_and_after[0])
        return frozenset(NAME.findall(next((text for text in reversed(statements) if text.strip()), "")))

    @cached_property
    def _literals(self) -> frozenset[str]:
        return frozenset(LITERAL.findall(self.sample.test))

    @cached_property
    def _called(self) -> Counter[str]:
        return Counter(CALL.findall(self.sample.test))

    @cached_property
    def _asserted(self) -> Counter[str]:
        """The assertion methods of the test itself."""
        return Counter({name: n for name, n in self._called.items() if name.startswith("assert") or name in HEADS})

    @cached_property
    def _sibling_heads(self) -> Counter[str]:
        return Counter(_head(sibling["assertion"]) for sibling in self._siblings)

    @cached_property
    def _votes(self) -> Counter[str]:
        return Counter(_squeeze(sibling["assertion"]) for sibling in self._siblings)

    @cached_property
    def _title(self) -> frozenset[str]:
        return frozenset(split_words(self._tell("test_name")))

    @cached_property
    def _own(self) -> str:
        """The name of the method under test."""
        return self._tell("focal_name")

    def _tell(self, key: str) -> str:
        """What the row says of its origin; rows of others may hold anything there."""
        value = self.sample.source.get(key)
        return value if isinstance(value, str) else ""

    @cached_property
    def _squeezed(self) -> tuple[str, str]:
        """The test, and what follows the place, without blanks."""
        return _squeeze(self.sample.test), _squeeze(self._before_and_after[1])

    def describe(self, draft: Draft) -> dict[str, float]:
        """The features of a candidate, under the names in WEIGHTS."""
        return {**self._tell_origin(draft), **self._tell_text(draft.text), **self._tell_kind(draft.text)}

    def _tell_origin(self, draft: Draft) -> dict[str, float]:
        """Who proposes it, and how much a copied sibling's test is like this one."""
        places = dict(draft.origins)
        number, text = places.get(SIBLING, 0), _squeeze(draft.text)
        sibling = self._copied.get(text)
        their_title = frozenset(split_words(sibling.get("test_name", ""))) if sibling else frozenset()
        likelihood = 0.0 if math.isnan(draft.likelihood) else draft.likelihood
        length = len(tokenize(draft.text)) + 1
        return {
            "sibling": float(number > 0),
            "nearest sibling": float(number == 1),
            "log place of sibling": math.log(number or 1),
            "template": float(TEMPLATE in places),
            "log place of template": math.log(places.get(TEMPLATE, 1)),
            "model": float(MODEL in places),
            "model's first": float(places.get(MODEL) == 1),
            "proposed twice": float(len(places) > 1),
            "likelihood of a token": likelihood,
            "likelihood": likelihood * length,
            "log length": math.log(length),
            "log length, squared": math.log(length) ** 2,
            "edited": float(sibling is not None and _squeeze(sibling["assertion"]) != text),
            "sibling's name alike": _share_of(len(self._title & their_title), len(self._title | their_title)),
            "sibling's method the same": float(
                sibling is not None and bool(self._own) and sibling.get("focal_name") == self._own
            ),
            "log votes of siblings": math.log1p(self._votes[text]),
        }

    def _tell_text(self, text: str) -> dict[str, float]:
        """What it names, and where that stands."""
        names, literals, calls = NAME.findall(text), LITERAL.findall(text), CALL.findall(text)
        variables = {name for _, name in FREE_NAME.findall(text) if name and not "A" <= name[0] <= "Z"}
        words = {word for name in names for word in split_words(name)}
        latest = self.sample.context.get("locals", [])[:1]
        squeezed, (test, after) = _squeeze(text), self._squeezed
        return {
            "unknown names": float(min(MAX_UNKNOWN, len(variables - self._known))),
            "calls the method": float(self._own in names),
            "calls the method, as the last statement does": float(
                self._own in names and self._own in self._in_last_statement
            ),
            "names the latest variable": float(any(split_declaration(it)[1] in variables for it in latest)),
            "stands in the test": float(squeezed in test),
            "stands behind the place": float(squeezed in after),
            "names in the test": _share(names, self._in_test),
            "names in the method": _share(names, self._in_method),
            "names in the last statement": _share(names, self._in_last_statement),
            "literals in the test": _share(literals, self._literals),
            "literals": float(min(2, len(literals))),
            "calls in the test": _share(calls[1:], self._called),
            "inner calls": float(len(calls) > 1),
            "words of the test's name": _share_of(len(self._title & words), len(self._title)),
            "words from the test's name": _share_of(len(self._title & words), len(words)),
        }

    def _tell_kind(self, text: str) -> dict[str, float]:
        """Which assertion method it calls, and whether the tests around use it."""
        head, (before, after) = _head(text), self._before_and_after
        throws = "Throws" in head or "Thrown" in head
        return {
            "kind among siblings": _share_of(self._sibling_heads[head], len(self._siblings)),
            "kind in the test": float(head in self._asserted),
            "kind's share in the test": _share_of(self._asserted[head], self._asserted.total()),
            "throws, as the test's name says": float(throws and not self._title.isdisjoint(FAILURE)),
            "throws": float(throws),
            "fails in a try": float(head == "fail" and IN_TRY.search(before) is not None),
            "fails before a catch": float(head == "fail" and CATCH.search(after) is not None),
            "denies, as the test's name does": float(
                head in ("assertFalse", "assertNull") and not self._title.isdisjoint(DENIAL)
            ),
            **{name: float(head == name) for name in HEADS},
        }
