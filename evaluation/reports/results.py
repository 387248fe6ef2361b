"""From systems to what the files of an evaluation hold: scores, comparisons, the summary, and one row per task."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.java.normal_form import name_assertion, split_assertions
from data.java.tokens import TOKEN
from data.rows.readers import Sample
from evaluation.evaluators import Evaluation, TextEncoder, evaluate_predictions, knowledge_retention
from evaluation.running.outcomes import Outcome, compute_rates
from evaluation.scores.significance import REPLICATES, adjust_holm
from evaluation.scores.text import agreement
from evaluation.summary import (
    STUDENT,
    TEACHER,
    Json,
    Measured,
    MeasuredDifference,
    Metrics,
    RunFacts,
    Summary,
    in_order,
    title_of,
)
from evaluation.systems.models import System
from evaluation.tasks import find_clusters
from utils.metrics import METRICS


@dataclass
class Judged:
    """A system and its scores; ``outcomes``: of running its predictions, one per task, if they were run."""

    system: System
    evaluation: Evaluation
    outcomes: list[Outcome] | None = None


def judge(
    system: System,
    samples: Sequence[Sample],
    encoder: TextEncoder | None,
    workers: int,
    outcomes: list[Outcome] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Judged:
    """Score a system on the first tasks of ``samples``, as many as it has predictions for."""
    samples = samples[: len(system.predictions)]
    measured = dict(system.measured)
    if outcomes is not None:
        measured |= compute_rates(outcomes)
    evaluation = evaluate_predictions(
        system.predictions,
        [sample.assertions for sample in samples],
        samples=samples,
        encoder=encoder,
        workers=workers,
        measured=measured,
        reasons={**(reasons or {}), **system.reasons},
        clusters=find_clusters(samples),
    )
    return Judged(system, evaluation, outcomes)


def compare(
    mine: Judged, other: Judged, replicates: int = REPLICATES, chosen: np.ndarray | None = None
) -> dict[str, MeasuredDifference]:
    """``mine`` minus ``other`` for every metric that both have, on the tasks that both have, with Holm's adjustment.

    ``chosen``: [tasks] bool, which of them (None: all).
    """
    n = min(len(mine.evaluation), len(other.evaluation))
    rows = np.arange(n) if chosen is None else np.flatnonzero(chosen[:n])
    a, b = mine.evaluation.select(rows), other.evaluation.select(rows)
    differences: dict[str, MeasuredDifference] = {}
    for metric in METRICS:
        if metric == "knowledge_retention_score":
            continue
        found = a.subtract(b, metric, replicates)
        if found is not None:
            known = ~np.isnan(a.per_sample[metric]) & ~np.isnan(b.per_sample[metric])
            differences[metric] = found.measured(int(known.sum()))
        else:
            lacking = a if metric not in a.per_sample else b
            differences[metric] = {"value": None, "reason": lacking.reasons.get(metric, "no task has both values")}
    tested = [metric for metric, found in differences.items() if found["value"] is not None]
    for metric, p in zip(tested, adjust_holm([differences[metric]["p_value"] for metric in tested]), strict=True):
        differences[metric]["p_value_holm"] = p
    return differences


def measure_retention(student: Judged, teacher: Judged, replicates: int = REPLICATES) -> tuple[Measured, Measured]:
    """Knowledge Retention Score, and the output agreement that is a part of it, on the tasks that both have."""
    n = min(len(student.evaluation), len(teacher.evaluation))
    texts = zip(student.system.predictions[:n], teacher.system.predictions[:n], strict=True)
    same = np.array([agreement(mine, theirs) for mine, theirs in texts])
    taken = student.evaluation.take(n)
    score = knowledge_retention(taken, teacher.evaluation.take(n), same, replicates)
    taken.per_sample = {"output_agreement": same}
    return score, taken.measure(["output_agreement"], replicates=replicates)["output_agreement"]


def explain_absence(reason: str) -> Metrics:
    """The metrics of a system that was not judged."""
    return {metric: {"value": None, "reason": reason} for metric in METRICS}


def build_summary(
    judged: Mapping[str, Judged],
    missing: Mapping[str, str],
    run: RunFacts,
    closeness: Metrics,
    strata: Json | None = None,
) -> Summary:
    """The content of metrics_summary_final.json.

    ``missing``: system -> why it was not judged. ``closeness``: of the student to the teacher's logits. ``strata``:
    of reports/strata.py.
    """
    summaries = {name: one.evaluation.summarise() for name, one in judged.items()}
    comparison: Json = {}
    if TEACHER in judged:
        for name in judged:
            if name == TEACHER or "code_quality_score" not in judged[name].evaluation.per_sample:
                continue
            score, output_agreement = measure_retention(judged[name], judged[TEACHER])
            summaries[name]["knowledge_retention_score"] = score
            if name == STUDENT:
                comparison["output_agreement"] = output_agreement
    main = STUDENT if STUDENT in judged else TEACHER
    for name in judged:
        if name != main and main in judged:
            comparison[f"{main}_minus_{name}"] = compare(judged[main], judged[name])
    if {STUDENT, TEACHER} <= set(judged):
        comparison["teacher_logits"] = closeness
    return {
        TEACHER: summaries.get(TEACHER) or explain_absence(missing.get(TEACHER, "not judged")),
        STUDENT: summaries.get(STUDENT) or explain_absence(missing.get(STUDENT, "not judged")),
        "baselines": {
            name: summaries.get(name) or explain_absence(missing[name])
            for name in in_order({**missing, **summaries})
            if name not in (TEACHER, STUDENT)
        },
        "comparison": comparison,
        "strata": strata or {},
        "run": {
            **run,
            "systems": {name: {"title": title_of(name), **one.system.facts} for name, one in judged.items()},
            "breakdown": {name: one.evaluation.break_down(500) for name, one in judged.items()},
        },
    }


def name_failure(prediction: str, reference: str, exact: bool, valid: bool) -> str:
    """In a few words what is wrong with a prediction: the first of these that holds."""
    given, wanted = split_assertions(prediction), split_assertions(reference)
    if exact:
        return "right"
    if not given:
        return "empty"
    if not valid:
        return "not Java"
    if len(given) != len(wanted):
        return "other number of assertions"
    if sorted(map(name_assertion, given)) != sorted(map(name_assertion, wanted)):
        return "other kind of assertion"
    return "other arguments"


def mark_differences(text: str, other: str) -> list[tuple[int, str]]:
    """``text`` in pieces, compared by tokens: (1, piece) where ``other`` differs at that place, else (0, piece)."""
    pieces = [match for match in TOKEN.finditer(text) if match.lastgroup != "blank"]
    theirs = [match.group() for match in TOKEN.finditer(other) if match.lastgroup != "blank"]
    matcher = difflib.SequenceMatcher(None, [match.group() for match in pieces], theirs, autojunk=False)
    result: list[tuple[int, str]] = []
    end = 0
    for kind, start, stop, _, _ in matcher.get_opcodes():
        if start == stop:
            continue
        upto = pieces[stop - 1].end()
        first = pieces[start].start()
        if first > end:
            result.append((0, text[end:first]))
        result.append((int(kind != "equal"), text[first:upto]))
        end = upto
    return result


def _round_number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def make_task_rows(samples: Sequence[Sample], judged: Mapping[str, Judged], places: Sequence[str] = ()) -> list[Json]:
    """One row per task: input, reference, all systems, and of the main one (the student, else the first there is) its
    prediction and metrics again at the top. ``places``: where the answers stand in the inputs (empty: not known)."""
    main = STUDENT if STUDENT in judged else next(iter(judged))
    rows = []
    for index, sample in enumerate(samples):
        systems: Json = {}
        for name, one in judged.items():
            if index >= len(one.evaluation):
                continue
            values = {metric: _round_number(column[index]) for metric, column in one.evaluation.per_sample.items()}
            prediction = one.system.predictions[index]
            systems[name] = {
                "prediction": prediction,
                "failure": name_failure(
                    prediction, sample.target, values["exact_match"] == 1, values["ast_validity"] == 1
                ),
                "metrics": values,
            }
            if one.system.candidates is not None:
                systems[name]["candidates"] = one.system.candidates[index]
            if one.outcomes is not None:
                outcome = one.outcomes[index]
                systems[name]["execution"] = {
                    key: getattr(outcome, key) for key in ("status", "reason", "compiled", "passed", "nontrivial")
                }
        if main not in systems:
            continue
        rows.append(
            {
                "index": index,
                "input": {"test": sample.test, "focal": sample.focal},
                "reference": list(sample.assertions),
                "prediction": systems[main]["prediction"],
                "metrics": systems[main]["metrics"],
                "kind": judged[main].evaluation.kinds[index],
                "systems": systems,
                "source": sample.source,
                **({"answer_in_input": places[index]} if places else {}),
            }
        )
    return rows
