"""Means of an ablation's scores over seeds and tasks, their differences, intervals and p-values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.grid import Measured, Run
from evaluation.scores.significance import (
    Interval,
    adjust_holm,
    bootstrap_interval,
    bootstrap_sums,
    cluster_sums,
    constant_interval,
    mean_columns,
    mean_statistic,
)

Name = TypeVar("Name", bound=Hashable)


def get_scores(runs: Sequence[Measured], metric: str) -> np.ndarray | None:
    """Scores of each task [runs, tasks], NaN where there is none; None if a run did not measure it."""
    if any(metric not in run["per_task"] for run in runs):
        return None
    return np.array([run["per_task"][metric] for run in runs], dtype=float)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and tasks, its 95 % interval, and the two-sided p-value of a mean of 0.

    Without a p-value the spread between seeds is unknown, and the interval leaves it out.
    """

    value: float
    low: float
    high: float
    p_value: float | None


@dataclass(frozen=True)
class SeedSpread:
    """Variance of a contender's mean score between its seeds, pooled over contenders, and its degrees of freedom."""

    variance: float = 0.0
    degrees: int = 0


def pool_seed_spread(runs: Mapping[str, list[Run]], metric: str) -> SeedSpread:
    """A contender has too few seeds to show its own spread, so all of a table are assumed to have the same."""
    measured = [
        scores for found in runs.values() if (scores := get_scores(found, metric)) is not None and len(found) > 1
    ]
    degrees = sum(len(scores) - 1 for scores in measured)
    squares = sum((len(scores) - 1) * float(np.var(np.nanmean(scores, axis=1), ddof=1)) for scores in measured)
    return SeedSpread(squares / degrees, degrees) if degrees else SeedSpread()


def count_effective_clusters(clusters: list[str]) -> float:
    """How many clusters of equal size would tell as much as these (Kish, 1965)."""
    sizes = np.array(list(Counter(clusters).values()), dtype=float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def estimate_mean(values: np.ndarray, clusters: list[str], spread: SeedSpread, sides: int = 1) -> Estimate:
    """Mean of ``values`` [seeds, tasks] without NaN, with a Student's t interval.

    Clusters of tasks and seeds both count as random choices. The variance from the clusters is that of the bootstrap;
    the degrees of freedom follow Satterthwaite (1946), with the effective number of clusters. ``sides``: 2 if the
    values are differences between two contenders, whose seeds both vary.
    """
    from scipy.stats import t

    pooled = np.sum([cluster_sums(mean_columns(row), clusters) for row in values], axis=0)
    value = float(mean_statistic(pooled.sum(0)))
    freedom = max(1.0, count_effective_clusters(clusters) - 1)
    parts = [(float(np.var(mean_statistic(bootstrap_sums(pooled)), ddof=1)), freedom)]
    if spread.degrees:
        parts.append((sides * spread.variance / len(values), spread.degrees))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Estimate(value, value, value, float(value == 0) if spread.degrees else None)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = variance**0.5
    reach = error * float(t.ppf(0.975, freedom))
    p_value = float(2 * t.sf(abs(value) / error, freedom)) if spread.degrees else None
    return Estimate(value, value - reach, value + reach, p_value)


def mean_score(runs: Sequence[Measured], metric: str) -> float | None:
    scores = get_scores(runs, metric)
    return None if scores is None else float(np.nanmean(scores))


def pair_seeds(first: list[Run], second: list[Run]) -> list[tuple[Run, Run]]:
    """The runs of two contenders that have the same seed."""
    return [(one, other) for one in first for other in second if one["seed"] == other["seed"]]


def compare(
    first: list[Run], second: list[Run], metric: str, clusters: list[str], spread: SeedSpread
) -> Estimate | None:
    """First minus second, task by task, over the seeds that both have; None without such seeds or such a score."""
    pairs = pair_seeds(first, second)
    ours, theirs = (get_scores([pair[side] for pair in pairs], metric) for side in (0, 1))
    if not pairs or ours is None or theirs is None:
        return None
    return estimate_mean(ours - theirs, clusters, spread, sides=2)


def adjust_p_values(found: Mapping[Name, Estimate]) -> dict[Name, float | None]:
    """The p-values, adjusted by Holm for as many comparisons as have one."""
    known = {name: one.p_value for name, one in found.items() if one.p_value is not None}
    return dict.fromkeys(found) | dict(zip(known, adjust_holm(list(known.values())), strict=True))


def share_of_teacher(found: list[Run], teacher: Measured, metric: str, clusters: list[str]) -> Interval | None:
    """A contender's score over the teacher's, with its bootstrap interval over clusters; None where either lacks it."""
    ours, theirs = get_scores(found, metric), get_scores([teacher], metric)
    if ours is None or theirs is None or not np.nansum(theirs):
        return None
    columns = np.concatenate([np.sum([mean_columns(row) for row in ours], axis=0), mean_columns(theirs[0])], axis=1)

    def divide(drawn: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean_statistic(drawn[..., :2]) / mean_statistic(drawn[..., 2:])

    return bootstrap_interval(cluster_sums(columns, clusters), divide)


def show_estimate(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def show_score(values: np.ndarray, clusters: list[str], spread: SeedSpread) -> str:
    """A score between 0 and 1 with its interval, cut off there; where all tasks agree, Wilson's over the clusters."""
    found = estimate_mean(values, clusters, spread)
    if found.low == found.high:
        wilson = constant_interval(found.value, int(count_effective_clusters(clusters)))
        low, high = (found.value if end is None else end for end in (wilson.low, wilson.high))
    else:
        low, high = max(0.0, found.low), min(1.0, found.high)
    return show_estimate(Estimate(found.value, low, high, None))
