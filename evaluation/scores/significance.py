"""Intervals and tests by resampling tasks, computed as a few matrix products.

A metric is a function of sums over tasks (a mean: sum / count; corpus BLEU: its counts). Bootstrap replicates weigh
the tasks with multinomial counts, so all replicates of all metrics are ``counts @ sums``. Tasks of one cluster (for
example, the assertions of one test class) are not independent: where clusters are given, whole clusters are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.summary import Measured, MeasuredDifference

Array = np.ndarray
# Sums [..., k] over tasks -> the metric [...].
Statistic = Callable[[Array], Array]

REPLICATES = 2000
CHUNK_ELEMENTS = 4_000_000  # at most 32 MB of resampling weights at a time


def mean_statistic(sums: Array) -> Array:
    """Columns: sum of values, number of values. NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def mean_columns(values: Array) -> Array:
    """[n] values, NaN = not applicable, to the [n, 2] columns of ``mean_statistic``."""
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0.0), known.astype(float)], axis=1)


def cluster_sums(columns: Array, clusters: Sequence[Hashable] | None) -> Array:
    """The sum of the rows [n, k] of each cluster; without clusters each row is a cluster of its own."""
    if clusters is None:
        return columns
    index = np.unique(np.asarray([str(c) for c in clusters]), return_inverse=True)[1]
    sums = np.zeros((int(index.max()) + 1 if len(index) else 0, columns.shape[1]))
    np.add.at(sums, index, columns)
    return sums


@dataclass(frozen=True)
class Interval:
    """``low`` and ``high`` are None where there is a single unit, which cannot be resampled."""

    value: float
    low: float | None
    high: float | None

    def measured(self, n: int) -> Measured:
        """As in the summary: the interval of a metric over ``n`` tasks."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": n}


def bootstrap_sums(sums: Array, replicates: int = REPLICATES, seed: int = 0) -> Array:
    """Sums of ``replicates`` bootstrap draws of the rows of ``sums`` [c, k]: [replicates, k]."""
    c = len(sums)
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK_ELEMENTS // max(1, c))
    probabilities = np.full(c, 1 / c)
    parts = [
        generator.multinomial(c, probabilities, size=min(step, replicates - start)).astype(float) @ sums
        for start in range(0, replicates, step)
    ]
    return np.concatenate(parts)


def bootstrap_interval(sums: Array, statistic: Statistic, replicates: int = REPLICATES) -> Interval:
    """``percentile_interval`` of a statistic of the rows of ``sums`` [c, k]."""
    return percentile_interval(statistic(sums.sum(axis=0)), statistic(bootstrap_sums(sums, replicates)), len(sums))


def percentile_interval(value: Array, draws: Array, units: int, level: float = 0.95) -> Interval:
    """Percentile bootstrap (Efron 1979): ``value`` with the middle ``level`` of its ``draws`` [replicates].

    units: how many rows or clusters were drawn from; a single one shows no spread and gets no interval.
    Trap: with few rows the interval is too narrow, which is why every value is reported with its ``n``.
    """
    if units < 2:
        return Interval(float(value), None, None)
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def constant_interval(value: float, n: int, z: float = 1.959964) -> Interval:
    """The interval of a rate where all ``n`` units agree, so that resampling shows no spread.

    0 of 20 does not say "never": at 0 and 1 this is Wilson's score interval (1927), [0, 0.16] for 0 of 20. Another
    constant value is its own interval, unless there is a single unit: then there is none.
    """
    unseen = z * z / (n + z * z)
    none, every = abs(value) < 1e-6, abs(value - 1) < 1e-6  # rounding may keep a mean of parts from 1
    if n < 2 and not (none or every):
        return Interval(value, None, None)
    return Interval(value, value - unseen if every else value, value + unseen if none else value)


@dataclass(frozen=True)
class Difference:
    """a - b with its interval (as in ``Interval``); two-sided p-value of "it does not matter which is which"."""

    value: float
    low: float | None
    high: float | None
    p_value: float

    def measured(self, n: int) -> MeasuredDifference:
        """As in the summary: the difference over ``n`` tasks."""
        return {"value": self.value, "low": self.low, "high": self.high, "p_value": self.p_value, "n": n}


def paired_difference(
    a: Array, b: Array, statistic: Statistic = mean_statistic, replicates: int = REPLICATES, seed: int = 0
) -> Difference:
    """Difference of two systems on the same tasks: paired bootstrap interval, paired permutation test.

    ``a``, ``b`` [c, k]: sums of the same clusters. The test swaps the two systems' results within each cluster at
    random; ``p = (1 + number of |difference| at least as large) / (1 + replicates)``, so it is never 0.
    """
    draws = bootstrap_sums(np.concatenate([a, b], axis=1), replicates, seed)
    k = a.shape[1]
    differences = statistic(draws[:, :k]) - statistic(draws[:, k:])
    interval = percentile_interval(statistic(a.sum(axis=0)) - statistic(b.sum(axis=0)), differences, len(a))
    total_a, total_b = a.sum(axis=0), b.sum(axis=0)
    observed = float(statistic(total_a) - statistic(total_b))

    generator = np.random.default_rng(seed + 1)
    step = max(1, CHUNK_ELEMENTS // max(1, len(a)))
    extreme = 0
    for start in range(0, replicates, step):
        swap = generator.integers(0, 2, size=(min(step, replicates - start), len(a))).astype(float)
        moved = swap @ (b - a)
        permuted = statistic(total_a + moved) - statistic(total_b - moved)
        extreme += int(np.sum(np.abs(permuted) >= abs(observed) - 1e-12))
    return Difference(observed, interval.low, interval.high, (1 + extreme) / (1 + replicates))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of tests made, by the method of Holm (1979)."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted.tolist()


def corpus_bleu(sums: Array) -> Array:
    """BLEU-4 of summed counts [..., 10] (matches 1-4, totals 1-4, prediction and reference length), as sacrebleu.

    With brevity penalty. Orders without a match are smoothed exponentially; orders that do not occur are left out.
    """
    matches, totals = sums[..., 0:4], sums[..., 4:8]
    predicted, wanted = sums[..., 8], sums[..., 9]
    exists = totals > 0
    zero = exists & (matches == 0)
    smoothing = 2.0 ** -np.cumsum(zero, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(zero, smoothing / totals, matches / totals)
        logs = np.where(exists, np.log(precision), 0.0).sum(axis=-1) / np.maximum(1, exists.sum(axis=-1))
        brevity = np.where(predicted < wanted, np.exp(1 - wanted / predicted), 1.0)
    return np.where((predicted > 0) & (matches.sum(axis=-1) > 0), brevity * np.exp(logs), 0.0)
