"""The weights of a pool's features are those by which the choices were made."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pool_weights import INEXACT, NEAR, fit
from evaluation.suggesting.ranking import WEIGHTS


def draw_pools(true, number, rng):
    """Pools of six whose exact candidate is drawn with a probability proportional to exp(features @ true)."""
    tables = []
    for _ in range(number):
        features = rng.normal(size=(6, len(true)))
        chosen = int(np.argmax(features @ true + rng.gumbel(size=6)))
        tables.append((features, rng.uniform(size=6), np.eye(6)[chosen]))
    return tables


def test_the_weights_of_the_choices_are_found():
    rng = np.random.default_rng(0)
    true = rng.normal(size=len(WEIGHTS))
    found = fit(draw_pools(true, 4000, rng))
    assert np.abs(found - true).max() < 0.15


def test_without_an_exact_candidate_what_is_nearest_counts_and_counts_less():
    features = np.zeros((2, len(WEIGHTS)))
    features[0, 0] = 1.0
    none, near = np.zeros(2), np.array([0.9, 0.9 - NEAR * np.log(3)])  # shares of 3/4 and 1/4
    weight = fit([(features, near, none)] * 20_000)[0]
    assert weight == pytest.approx(np.log(3), abs=0.01)
    mixed = [(features, near, none)] * 20_000 + [(features, near, np.array([0.0, 1.0]))] * 20_000
    share = INEXACT * 0.75 / (1 + INEXACT)
    assert fit(mixed)[0] == pytest.approx(np.log(share / (1 - share)), abs=0.01)


def test_empty_pools_teach_nothing():
    rng = np.random.default_rng(1)
    tables = draw_pools(np.ones(len(WEIGHTS)), 50, rng)
    empty = (np.zeros((0, len(WEIGHTS))), np.zeros(0), np.zeros(0))
    assert fit([*tables, empty]) == pytest.approx(fit(tables))
