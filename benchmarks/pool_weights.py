#!/usr/bin/env python
"""Fit what the features of a candidate are worth (WEIGHTS of evaluation/suggesting/ranking.py).

    python benchmarks/pool_weights.py --data raw_validation.jsonl --student MODEL --output pool_weights.json

Pools are made for a sample of tasks, at most --per_project of each project. Within a pool, the difference of F1 plus
exact match from the pool's mean is regressed on the same difference of the features (ridge, no intercept). Five folds
of test classes tell how often the first candidate is exact, beside the order of the siblings alone.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.java.normal_form import normalise
from data.rows.readers import Sample
from evaluation.scores.text import agreement
from evaluation.suggesting.draft import Draft
from evaluation.suggesting.pool import fill_pools
from evaluation.suggesting.ranking import WEIGHTS, describe, list_known
from evaluation.suggesting.student import Student
from evaluation.tasks import find_clusters, read_samples
from models.decoding.generate import GenerationOptions
from models.exported.loading import open_model
from utils.arguments import ArgumentParser
from utils.atomic_io import write_json
from utils.errors import run_main

FOLDS = 5


def choose_tasks(path: str, per_project: int, seed: int) -> list[Sample]:
    """Tasks in random order, at most ``per_project`` of each project."""
    samples = read_samples(path, "--data", 0.0).samples
    random.Random(seed).shuffle(samples)
    taken: Counter[str] = Counter()
    chosen = []
    for sample in samples:
        project = sample.source.get("project", "")
        taken[project] += 1
        if taken[project] <= per_project:
            chosen.append(sample)
    return chosen


def tabulate(sample: Sample, pool: list[Draft]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [pool, WEIGHTS], F1 [pool] and exact match [pool] of the candidates of a task."""
    known, framework = list_known(sample), sample.source.get("framework")
    reference = normalise(sample.target, framework)
    features = np.array([list(describe(sample, draft, known).values()) for draft in pool])
    overlap = np.array([agreement(draft.text, sample.target) for draft in pool])
    exact = np.array([float(normalise(draft.text, framework) == reference) for draft in pool])
    return features.reshape(len(pool), len(WEIGHTS)), overlap, exact


def fit(tables: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """The weights [WEIGHTS]."""
    from sklearn.linear_model import Ridge

    inputs = np.concatenate([x - x.mean(0) for x, _, _ in tables if len(x)])
    wanted = np.concatenate([f + e - (f + e).mean() for _, f, e in tables if len(f)])
    return Ridge(1.0, fit_intercept=False).fit(inputs, wanted).coef_


def main() -> int:
    from sklearn.model_selection import GroupKFold

    parser = ArgumentParser(__doc__)
    parser.add_argument("--data", required=True, help="raw rows with context, none of them used for training")
    parser.add_argument("--student", required=True, help="folder of the model")
    parser.add_argument("--output", required=True, help="JSON file of the weights")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--per_project", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    samples = choose_tasks(args.data, args.per_project, args.seed)[: args.limit]
    options = GenerationOptions(num_beams=5, num_return_sequences=5, batch_size=8, decoding="names")
    pools = fill_pools(
        samples,
        Student(
            open_model(args.student, "--student", "cpu", (options.max_input_len, options.max_output_len)).writer,
            options,
        ),
    )
    nearest = [sorted(pool, key=lambda draft: dict(draft.origins).get("sibling", 99)) for pool in pools]
    tables = [tabulate(sample, pool) for sample, pool in zip(samples, nearest, strict=True)]
    exact = {"nearest first": 0.0, "ranked": 0.0, "best possible": 0.0}
    for train, test in GroupKFold(FOLDS).split(tables, groups=find_clusters(samples)):
        weights = fit([tables[i] for i in train])
        for features, _, right in (tables[i] for i in test):
            if len(right):
                exact["nearest first"] += right[0]
                exact["ranked"] += right[int((features @ weights).argmax())]
                exact["best possible"] += right.max()
    weights = fit(tables)
    result = {
        "student": Path(args.student).name,
        "tasks": len(samples),
        "candidates": sum(map(len, pools)) / len(samples),
        "exact_match": {name: float(value) / len(samples) for name, value in exact.items()},
        "weights": {name: round(float(value), 3) for name, value in zip(WEIGHTS, weights, strict=True)},
    }
    write_json(args.output, result)
    print(result)
    return 0


if __name__ == "__main__":
    run_main(main)
