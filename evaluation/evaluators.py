"""Every metric of a set of predictions, with intervals: the same code for teacher, student and baselines."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Protocol

import numpy as np

from data.rows.readers import Sample
from evaluation.scores.significance import (
    REPLICATES,
    Difference,
    Statistic,
    bootstrap_interval,
    bootstrap_sums,
    cluster_sums,
    constant_interval,
    corpus_bleu,
    mean_columns,
    mean_statistic,
    paired_difference,
    percentile_interval,
)
from evaluation.scores.text import TextScores, TextTask, score_task
from evaluation.summary import Breakdown, Measured, Metrics
from utils.metrics import EXECUTION_METRICS, FORCED_METRICS, METRICS, QUALITY_WEIGHTS

LENGTHS = ((8, "up to 8 tokens"), (12, "9 to 12 tokens"), (20, "13 to 20 tokens"), (math.inf, "over 20 tokens"))
NOT_MEASURED = {
    "semantic_similarity": "no text encoder",
    **dict.fromkeys(FORCED_METRICS, "text only: no model's logits"),
    **dict.fromkeys(EXECUTION_METRICS, "not run: no project and class path given"),
    "knowledge_retention_score": "it compares a student with its teacher",
}


class TextEncoder(Protocol):
    """A frozen text encoder; rows of the result have length 1."""

    def encode(self, texts: list[str]) -> np.ndarray: ...


@dataclass
class Evaluation:
    """Scores of one system, task by task.

    ``per_sample``: metric -> [n] float64, NaN where a task has no value; for BLEU, that of the sentence.
    ``reasons``: metric -> why it could not be computed. ``clusters`` [n]: equal for tasks that belong together (None:
    no tasks do).
    """

    per_sample: dict[str, np.ndarray]
    bleu_counts: np.ndarray  # [n, 10]
    kinds: list[str]
    lengths: np.ndarray  # [n] reference tokens
    aligned: list[tuple[str, str]]  # prediction and reference, the assertions of both in the same order
    reasons: dict[str, str] = field(default_factory=dict)
    clusters: Sequence[Hashable] | None = None

    def __len__(self) -> int:
        return len(self.kinds)

    def take(self, n: int) -> Evaluation:
        """The first ``n`` tasks."""
        return self.select(np.arange(min(n, len(self))))

    def select(self, rows: np.ndarray) -> Evaluation:
        """The tasks of these numbers."""
        places = rows.tolist()
        return Evaluation(
            {name: values[rows] for name, values in self.per_sample.items()},
            self.bleu_counts[rows],
            [self.kinds[i] for i in places],
            self.lengths[rows],
            [self.aligned[i] for i in places],
            self.reasons,
            None if self.clusters is None else [self.clusters[i] for i in places],
        )

    def columns(self, metric: str) -> tuple[np.ndarray, Statistic]:
        """The rows [n, k] whose sums give the metric, and the function of the sums that is the metric."""
        if metric == "bleu":
            return self.bleu_counts, corpus_bleu
        return mean_columns(self.per_sample[metric]), mean_statistic

    def measure(self, metrics: Sequence[str], rows: np.ndarray | None = None, replicates: int = REPLICATES) -> Metrics:
        """Each metric over the tasks ``rows`` [n] bool (None: all), with its interval, or why it has no value.

        ``low`` and ``high`` are None where all tasks are of one cluster, unless they agree at 0 or 1. All metrics
        share their bootstrap draws.
        """
        rows = np.ones(len(self), dtype=bool) if rows is None else rows
        parts: dict[str, tuple[np.ndarray, Statistic]] = {}
        result: Metrics = {}
        for metric in metrics:
            if metric not in self.per_sample:
                result[metric] = {"value": None, "reason": self.reasons.get(metric, "not computed")}
            elif not rows.any() or np.isnan(self.per_sample[metric][rows]).all():
                result[metric] = {"value": None, "reason": "no task has a value"}
            else:
                columns, statistic = self.columns(metric)
                parts[metric] = columns[rows], statistic
                result[metric] = {"value": None}  # keeps its place
        if not parts:
            return result
        clusters = None if self.clusters is None else [c for c, kept in zip(self.clusters, rows, strict=True) if kept]
        sums = cluster_sums(np.concatenate([columns for columns, _ in parts.values()], axis=1), clusters)
        draws = bootstrap_sums(sums, replicates)
        start = 0
        for metric, (columns, statistic) in parts.items():
            part = slice(start, start := start + columns.shape[1])
            known = ~np.isnan(self.per_sample[metric][rows])
            count = int(known.sum())
            units = count if clusters is None else len({c for c, k in zip(clusters, known, strict=True) if k})
            interval = percentile_interval(statistic(sums[:, part].sum(axis=0)), statistic(draws[:, part]), units)
            if interval.low is None or interval.high is None or interval.high - interval.low < 1e-9:
                interval = constant_interval(interval.value, units)
            result[metric] = interval.measured(count)
        return result

    def value(self, metric: str) -> float | None:
        """The number alone, without its interval; None where it could not be computed."""
        if metric not in self.per_sample:
            return None
        columns, statistic = self.columns(metric)
        value = float(statistic(columns.sum(axis=0)))
        return None if math.isnan(value) else value

    def summarise(self, replicates: int = REPLICATES) -> Metrics:
        """Every metric of METRICS with its 95 % bootstrap interval."""
        return self.measure(list(METRICS), replicates=replicates)

    def break_down(self, replicates: int = REPLICATES) -> Breakdown:
        """The metrics per kind of assertion, most frequent first, and per length of the reference."""
        kinds = np.array(self.kinds)
        names, counts = np.unique(kinds, return_counts=True)
        by_kind = {str(names[i]): kinds == names[i] for i in np.lexsort((names, -counts))}
        bounds = [0, *(bound for bound, _ in LENGTHS)]
        by_length = {
            label: (self.lengths > low) & (self.lengths <= high)
            for low, (high, label) in zip(bounds, LENGTHS, strict=False)
        }
        return {
            group: {
                label: self.measure([metric for metric in METRICS if metric in self.per_sample], rows, replicates)
                for label, rows in masks.items()
                if rows.any()
            }
            for group, masks in (("kind", by_kind), ("length", by_length))
        }

    def subtract(self, other: Evaluation, metric: str, replicates: int = REPLICATES) -> Difference | None:
        """This minus ``other`` on the tasks both have a value for; None where there are none."""
        if metric not in self.per_sample or metric not in other.per_sample:
            return None
        known = ~np.isnan(self.per_sample[metric]) & ~np.isnan(other.per_sample[metric])
        if not known.any():
            return None
        clusters = None if self.clusters is None else [c for c, k in zip(self.clusters, known, strict=True) if k]
        mine, statistic = self.columns(metric)
        theirs, _ = other.columns(metric)
        return paired_difference(
            cluster_sums(mine[known], clusters), cluster_sums(theirs[known], clusters), statistic, replicates
        )


def _score_chunk(tasks: list[TextTask]) -> list[TextScores]:
    return [score_task(*task) for task in tasks]


def score_texts(tasks: list[TextTask], workers: int) -> list[TextScores]:
    """The scores of every task, computed in ``workers`` processes (0: in this one)."""
    if workers <= 1:
        return _score_chunk(tasks)
    size = max(1, math.ceil(len(tasks) / (4 * workers)))
    chunks = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    # Not forked: the caller may hold a model whose threads and locks would not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [scores for chunk in pool.map(_score_chunk, chunks) for scores in chunk]


def semantic_similarity(predictions: Sequence[str], references: Sequence[str], encoder: TextEncoder) -> np.ndarray:
    """[n] cosine of the two texts' embeddings, at least 0; 0 for an empty prediction. Equal texts are embedded once."""
    texts = sorted({*predictions, *references} - {""})
    place = {text: index for index, text in enumerate(texts)}
    vectors = np.asarray(encoder.encode(texts), dtype=np.float64) if texts else np.zeros((0, 1))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.array(
        [
            min(1.0, max(0.0, float(vectors[place[p]] @ vectors[place[r]]))) if p and r else 0.0
            for p, r in zip(predictions, references, strict=True)
        ]
    )


def code_quality(per_sample: Mapping[str, np.ndarray]) -> np.ndarray:
    """[n] Code Quality Score: the weighted sum of QUALITY_WEIGHTS."""
    return np.sum([weight * per_sample[name] for name, weight in QUALITY_WEIGHTS.items()], axis=0)


def evaluate_predictions(
    predictions: Sequence[str],
    references: Sequence[tuple[str, ...]],
    *,
    samples: Sequence[Sample] | None = None,
    encoder: TextEncoder | None = None,
    workers: int = 0,
    measured: Mapping[str, np.ndarray] | None = None,
    reasons: Mapping[str, str] | None = None,
    clusters: Sequence[Hashable] | None = None,
) -> Evaluation:
    """Score ``predictions`` [n] against ``references`` [n], which hold all assertions that a task wants.

    ``samples`` [n] give the surrounding tests (CodeBLEU's context), framework and kind, ``encoder`` the semantic
    similarity, and ``measured`` the values per task [n] that do not come from text (FORCED_METRICS,
    EXECUTION_METRICS), NaN where a task has none. ``reasons`` say why others are missing. A metric without its source
    has no value, nor has a score that is built on it.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    tasks = [TextTask(prediction, wanted) for prediction, wanted in zip(predictions, references, strict=True)]
    if samples is not None:
        tasks = [
            TextTask(*task[:2], sample.test, sample.source.get("framework"), sample.source.get("assertion_kind"))
            for task, sample in zip(tasks, samples, strict=True)
        ]
    scores = score_texts(tasks, workers)

    names = list(scores[0].values) if scores else []
    per_sample = {name: np.array([score.values[name] for score in scores]) for name in names}
    missing = {**NOT_MEASURED, **(reasons or {})}
    if encoder is not None:
        per_sample["semantic_similarity"] = semantic_similarity(
            [score.aligned_prediction for score in scores], [score.aligned_reference for score in scores], encoder
        )
    for name, values in (measured or {}).items():
        per_sample[name] = np.asarray(values, dtype=np.float64)
    absent = [name for name in QUALITY_WEIGHTS if name not in per_sample]
    if absent:
        missing["code_quality_score"] = "; ".join(f"{name}: {missing.get(name, 'no tasks')}" for name in absent)
    else:
        per_sample["code_quality_score"] = code_quality(per_sample)
    return Evaluation(
        per_sample=per_sample,
        bleu_counts=np.array([score.bleu_counts for score in scores], dtype=np.float64).reshape(len(scores), 10),
        kinds=[score.kind for score in scores],
        lengths=np.array([score.length for score in scores]),
        aligned=[(score.aligned_prediction, score.aligned_reference) for score in scores],
        reasons={name: reason for name, reason in missing.items() if name not in per_sample},
        clusters=clusters,
    )


def knowledge_retention(
    student: Evaluation, teacher: Evaluation, agreement: np.ndarray, replicates: int = REPLICATES
) -> Measured:
    """Knowledge Retention Score, ``0.6 · mean(agreement) + 0.4 · min(1, CQS student / CQS teacher)``, with interval.

    Computed over the tasks on which all three have a value. ``agreement`` [n]: token F1 of the student's text against
    the teacher's. Range 0 to 1. Trap: it rewards copying the teacher's mistakes; a student that is better than its
    teacher cannot score above one that copies it.
    """
    for who, evaluation in (("student", student), ("teacher", teacher)):
        if "code_quality_score" not in evaluation.per_sample:
            return {"value": None, "reason": f"{who}'s code_quality_score: {evaluation.reasons['code_quality_score']}"}
    parts = (agreement, student.per_sample["code_quality_score"], teacher.per_sample["code_quality_score"])
    columns = np.stack([*parts, np.ones(len(agreement))], axis=1)
    both = ~np.isnan(columns).any(axis=1)
    if not both.any():
        return {"value": None, "reason": "no task with a value of both"}
    columns = columns[both]

    def statistic(sums: np.ndarray) -> np.ndarray:
        ratio = np.divide(sums[..., 1], sums[..., 2], out=np.ones_like(sums[..., 1]), where=sums[..., 2] > 0)
        return 0.6 * sums[..., 0] / sums[..., 3] + 0.4 * np.minimum(1.0, ratio)

    clusters = student.clusters and [student.clusters[i] for i in np.flatnonzero(both).tolist()]
    sums = cluster_sums(columns, clusters)
    return bootstrap_interval(sums, statistic, replicates).measured(len(columns))
