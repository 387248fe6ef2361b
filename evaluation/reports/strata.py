"""Every score once more for the tasks whose answer stands in the input, and for those where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from data.rows.answer import ANSWER_PLACES, find_answer
from data.rows.context import CONTEXT_PARTS, list_items
from data.rows.readers import Sample
from evaluation.reports.results import Judged, compare
from evaluation.summary import STUDENT, TEACHER, Json, Metrics, Summary, title_of
from evaluation.systems.models import System
from utils.metrics import METRICS
from utils.pages.html_page import interval

REPLICATES = 500
SHOWN = ("exact_match", "f1", "code_quality_score", "compile_rate", "pass_rate", "nontrivial_rate")


def place_answers(samples: Sequence[Sample], systems: Mapping[str, System]) -> list[str]:
    """Where each task's answer stands: in what the student, else another model, was shown; without a model, in the
    whole test and context."""
    for name in (STUDENT, TEACHER, *systems):
        found = systems[name].answer_places if name in systems else None
        if found is not None and len(found) >= len(samples):
            return found[: len(samples)]
    return [
        find_answer(s.assertions, s.test, [item.assertion for item in list_items(s.context, CONTEXT_PARTS)])
        for s in samples
    ]


def build_strata(judged: Mapping[str, Judged], places: Sequence[str]) -> Json:
    """``answer_in_input`` -> place -> what the summary itself holds: teacher, student, baselines, comparison; and how
    many tasks."""
    return {"answer_in_input": {place: _build(judged, np.array(places) == place) for place in ANSWER_PLACES}}


def _build(judged: Mapping[str, Judged], chosen: np.ndarray) -> Json:
    main = STUDENT if STUDENT in judged else TEACHER
    metrics: dict[str, Metrics] = {
        name: one.evaluation.measure(list(METRICS), chosen[: len(one.evaluation)], REPLICATES)
        for name, one in judged.items()
    }
    return {
        "tasks": int(chosen.sum()),
        **{name: metrics[name] for name in (TEACHER, STUDENT) if name in metrics},
        "baselines": {name: found for name, found in metrics.items() if name not in (TEACHER, STUDENT)},
        "comparison": {
            f"{main}_minus_{name}": compare(judged[main], one, REPLICATES, chosen)
            for name, one in judged.items()
            if main in judged and name != main
        },
    }


def make_strata_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: where the answer stands, the system, and its scores there."""
    rows = []
    strata: Json = summary.get("strata", {}).get("answer_in_input", {})  # older summaries have none
    for place, found in strata.items():
        systems = {name: found[name] for name in (STUDENT, TEACHER) if name in found} | found["baselines"]
        for name, metrics in systems.items() if found["tasks"] else ():
            shown = (interval(metrics[m]) if metrics[m]["value"] is not None else "–" for m in SHOWN)
            rows.append([place, f"{found['tasks']}", title_of(name), *shown])
    return ["the answer is in", "tasks", "system", *(METRICS[metric].title for metric in SHOWN)], rows
