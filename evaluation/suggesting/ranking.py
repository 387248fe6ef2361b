"""The order of a pool: how likely each candidate is the one that a person would write."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from data.rows.context import split_declaration
from data.rows.readers import Sample
from evaluation.suggesting.draft import MODEL, SIBLING, TEMPLATE, Draft
from models.decoding.constraints.names import ALWAYS

# What each adds to the log-odds of a choice, fitted by benchmarks/pool_weights.py (results/pool_weights.json).
WEIGHTS = {
    "sibling": 1.923,
    "nearest sibling": 0.655,
    "log place of sibling": -0.441,
    "template": 1.846,
    "log place of template": -0.009,
    "model": 0.687,
    "proposed twice": -0.337,
    "likelihood": 0.277,
    "unknown names": -0.786,
    "calls the method": 1.14,
    "names the latest variable": 1.908,
}
# A variable: no member, no method; literals are matched first, so that what is in them stays.
VARIABLE = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![\w$.])([a-z_$][\w$]*)(?!\s*\()""")
NAME = re.compile(r"[A-Za-z_$][\w$]*")
MAX_UNKNOWN = 2


def rank(sample: Sample, pool: Sequence[Draft]) -> list[Draft]:
    """The candidates, best first. Those of equal value keep their order."""
    known = list_known(sample)
    values = [value(sample, draft, known) for draft in pool]
    return [pool[place] for place in sorted(range(len(pool)), key=lambda place: -values[place])]


def value(sample: Sample, draft: Draft, known: frozenset[str]) -> float:
    """The weighted sum of a candidate's features."""
    return sum(WEIGHTS[name] * size for name, size in describe(sample, draft, known).items())


def describe(sample: Sample, draft: Draft, known: frozenset[str]) -> dict[str, float]:
    """The features of a candidate, under the names in WEIGHTS. ``known``: the names that exist at its place."""
    places = dict(draft.origins)
    variables = {name for name in VARIABLE.findall(draft.text) if name}
    latest = sample.context.get("locals", [])[:1]
    return {
        "sibling": float(SIBLING in places),
        "nearest sibling": float(places.get(SIBLING) == 1),
        "log place of sibling": math.log(places.get(SIBLING, 1)),
        "template": float(TEMPLATE in places),
        "log place of template": math.log(places.get(TEMPLATE, 1)),
        "model": float(MODEL in places),
        "proposed twice": float(len(places) > 1),
        "likelihood": 0.0 if math.isnan(draft.likelihood) else draft.likelihood,
        "unknown names": float(min(MAX_UNKNOWN, len(variables - known))),
        "calls the method": float(sample.source.get("focal_name", "") in NAME.findall(draft.text)),
        "names the latest variable": float(any(split_declaration(text)[1] in variables for text in latest)),
    }


def list_known(sample: Sample) -> frozenset[str]:
    """The names of a task's test, its variables, and those that every test knows."""
    declared = [*sample.context.get("locals", []), *sample.context.get("fields", [])]
    return frozenset({*ALWAYS, *NAME.findall(sample.test), *(split_declaration(text)[1] for text in declared)})
