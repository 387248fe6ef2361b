#!/usr/bin/env python
"""Fit what the features of a candidate are worth (WEIGHTS of evaluation/suggesting/ranking.py).

    python benchmarks/pool_weights.py --data raw_validation.jsonl --student MODEL --more raw_training.jsonl \
        --output pool_weights.json

Pools are made for a sample of tasks of --data, at most --per_project of each project, and without the student for
--more_limit tasks of --more: most features need no student, and these pools cost little. The weights are those of a
conditional logit (McFadden, Conditional logit analysis of qualitative choice behavior, 1973): of a pool's candidates a
person chose the exact one; where there is none, those of the highest F1 share a smaller choice. Five folds of test
classes of --data tell how often the first candidate is exact, and its F1, beside the order of the siblings alone.
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
from evaluation.suggesting.ranking import WEIGHTS, Place
from evaluation.suggesting.student import Student
from evaluation.tasks import find_clusters, read_samples
from models.decoding.generate import GenerationOptions
from models.exported.loading import open_model
from utils.arguments import ArgumentParser
from utils.atomic_io import write_json
from utils.errors import run_main

FOLDS = 5
PULL = 2.0  # of all weights to 0, for features of variance 1
INEXACT = 0.3  # of a choice, where no candidate is exact: what is nearest tells less
NEAR = 0.05  # of F1: one that is so much worse gets e times less of it


def choose_tasks(path: str, flag: str, per_project: int, seed: int) -> list[Sample]:
    """Tasks of ``flag``'s file in random order, at most ``per_project`` of each project."""
    samples = read_samples(path, flag, 0.0).samples
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
    place, framework = Place(sample), sample.source.get("framework")
    reference = normalise(sample.target, framework)
    features = np.array([list(place.describe(draft).values()) for draft in pool])
    overlap = np.array([agreement(draft.text, sample.target) for draft in pool])
    exact = np.array([float(normalise(draft.text, framework) == reference) for draft in pool])
    return features.reshape(len(pool), len(WEIGHTS)), overlap, exact


def fit(tables: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """The weights [WEIGHTS]: most likely to choose as a person did, with a small pull to 0."""
    from scipy.optimize import minimize

    tables = [table for table in tables if len(table[0])]
    spread = np.concatenate([features for features, _, _ in tables]).std(0) + 1e-6
    scaled = [features / spread for features, _, _ in tables]
    choices = [_share_choice(overlap, exact) for _, overlap, exact in tables]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = weights @ weights * PULL / 2, PULL * weights
        for features, choice in zip(scaled, choices, strict=True):
            scores = features @ weights
            logs = scores - np.logaddexp.reduce(scores)
            value -= choice @ logs
            slope -= features.T @ (choice - choice.sum() * np.exp(logs))
        return value, slope

    return minimize(loss, np.zeros(len(WEIGHTS)), jac=True, method="L-BFGS-B").x / spread


def _share_choice(overlap: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """How much of a choice each candidate gets [pool]; one in all where a candidate is exact, else INEXACT."""
    if exact.any():
        return exact / exact.sum()
    near = np.exp((overlap - overlap.max()) / NEAR)
    return INEXACT * near / near.sum()


def judge_and_fit(samples: list[Sample], pools: list[list[Draft]], more: list[Sample]) -> dict[str, object]:
    """How often the first candidate is exact, its F1, and the weights fitted on all."""
    from sklearn.model_selection import GroupKFold

    nearest = [sorted(pool, key=lambda draft: dict(draft.origins).get("sibling", 99)) for pool in pools]
    tables = [tabulate(sample, pool) for sample, pool in zip(samples, nearest, strict=True)]
    others = [tabulate(sample, pool) for sample, pool in zip(more, fill_pools(more, None), strict=True)]
    first = {name: np.zeros(2) for name in ("nearest first", "ranked", "best possible")}
    for train, test in GroupKFold(FOLDS).split(tables, groups=find_clusters(samples)):
        weights = fit([*others, *(tables[i] for i in train)])
        for features, overlap, exact in (tables[i] for i in test):
            if len(exact):
                best = int((features @ weights).argmax())
                first["nearest first"] += exact[0], overlap[0]
                first["ranked"] += exact[best], overlap[best]
                first["best possible"] += exact.max(), overlap.max()
    weights = fit([*others, *tables])
    return {
        "tasks": len(samples),
        "more_tasks": len(more),
        "candidates": sum(map(len, pools)) / len(samples),
        "exact_match": {name: float(found[0]) / len(samples) for name, found in first.items()},
        "f1": {name: float(found[1]) / len(samples) for name, found in first.items()},
        "weights": {name: round(float(value), 3) for name, value in zip(WEIGHTS, weights, strict=True)},
    }


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--data", required=True, help="raw rows with context, none of them used for training")
    parser.add_argument("--student", required=True, help="folder of the model")
    parser.add_argument("--more", required=True, help="raw rows with context of other test classes")
    parser.add_argument("--more_limit", type=int, default=6000)
    parser.add_argument("--more_per_project", type=int, default=400)
    parser.add_argument("--output", required=True, help="JSON file of the weights")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--per_project", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    samples = choose_tasks(args.data, "--data", args.per_project, args.seed)[: args.limit]
    more = choose_tasks(args.more, "--more", args.more_per_project, args.seed)[: args.more_limit]
    options = GenerationOptions(num_beams=5, num_return_sequences=5, batch_size=8, decoding="names")
    opened = open_model(args.student, "--student", "cpu", (options.max_input_len, options.max_output_len))
    pools = fill_pools(samples, Student(opened.writer, options))
    result = {
        "student": Path(args.student).name,
        "parameters": opened.parameters,
        **judge_and_fit(samples, pools, more),
    }
    write_json(args.output, result)
    print(result)
    return 0


if __name__ == "__main__":
    run_main(main)
