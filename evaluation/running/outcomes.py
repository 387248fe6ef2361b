"""What became of predictions that were run, and the numbers made of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.summary import EXECUTION_RULES, ExecutionSummary, Measured
from utils.metrics import EXECUTION_METRICS

DROPPED = "dropped"
# Why a prediction that passes is not shown to be non-trivial.
NOT_AN_ASSERTION = "not an assertion"
NOT_REACHED = "place not reached"
FLAKY = "flaky"
ALWAYS_PASSES = "passes whatever the code does"
FAILS_BEFORE = "fails with the mutant only before the assertion"
NO_MUTANT = "no mutant compiles"


@dataclass(frozen=True)
class Outcome:
    """What became of one prediction.

    ``status``: passed, failed, skipped (by an assumption), timeout, died (the JVM ended), compile error, or dropped.
    A task is dropped where the control shows that its test cannot tell right from wrong; ``compiled``, ``passed`` and
    ``nontrivial`` are None then. ``nontrivial`` is also None where mutants were not asked for or no mutant of the focal
    method compiles; it is False where the prediction does not pass. ``trivial`` says why one that passes is not
    non-trivial. ``imports``: assertion methods of the framework that were imported for the prediction. ``seconds``: how
    long the run on unchanged code took. ``killed``: the mutant that it noticed. ``reached``: whether the control
    comes to the assertion's place. ``elsewhere``: the test fails, but not in the prediction.
    """

    status: str
    reason: str = ""
    compiled: bool | None = None
    passed: bool | None = None
    nontrivial: bool | None = None
    seconds: float = 0.0
    imports: tuple[str, ...] = ()
    mutants_tried: int = 0
    killed: str = ""
    trivial: str = ""
    reached: bool = True
    elsewhere: bool = False


def compute_rates(outcomes: Sequence[Outcome]) -> dict[str, np.ndarray]:
    """Each of EXECUTION_METRICS as 1 or 0 per task [n]; NaN where the control dropped the task.

    A prediction that passes where no mutant compiles has not been shown to be non-trivial, so it counts as 0.
    """

    def column(name: str) -> np.ndarray:
        return np.array([math.nan if o.status == DROPPED else float(bool(getattr(o, name))) for o in outcomes])

    return dict(zip(EXECUTION_METRICS, map(column, ("compiled", "passed", "nontrivial")), strict=True))


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927); it keeps its width at 0 and at 1."""
    centre, spread = successes + z * z / 2, z * math.sqrt(successes * (n - successes) / n + z * z / 4)
    return max(0.0, (centre - spread) / (n + z * z)), min(1.0, (centre + spread) / (n + z * z))


def summarise(outcomes: Sequence[Outcome]) -> ExecutionSummary:
    """Rates over the control-stable tasks with Wilson intervals, what was dropped and why, and how the rest went."""
    stable = [outcome for outcome in outcomes if outcome.status != DROPPED]

    def rate(values: np.ndarray) -> Measured:
        if not stable:
            return {"value": None, "reason": "no control-stable task"}
        low, high = wilson(int(values.sum()), len(values))
        return {"value": float(values.mean()), "low": low, "high": high, "n": len(values)}

    columns = compute_rates(stable)
    compiled, passed, nontrivial = map(rate, columns.values())
    false_positive = rate(columns["compile_rate"] - columns["pass_rate"])
    return {
        "rules": EXECUTION_RULES,
        "tasks": len(outcomes),
        "control_stable": len(stable),
        "compile_rate": compiled,
        "pass_rate": passed,
        "nontrivial_rate": nontrivial,
        "false_positive_rate": false_positive,
        "status": dict(Counter(outcome.status for outcome in stable).most_common()),
        "dropped": dict(Counter(o.reason for o in outcomes if o.status == DROPPED).most_common()),
        "reasons": dict(Counter(outcome.trivial for outcome in stable if outcome.trivial).most_common()),
        "no_mutants": sum(outcome.passed is True and outcome.nontrivial is None for outcome in stable),
        "unreached": sum(outcome.nontrivial is True and not outcome.reached for outcome in stable),
        "imports_added": sum(bool(outcome.imports) for outcome in stable),
    }
