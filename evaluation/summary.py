"""What metrics_summary_final.json holds: the names of the systems, and the types of its objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypedDict

from typing_extensions import Required  # in typing from Python 3.11 on

from data.rows.readers import Json

SUMMARY_FILE = "metrics_summary_final.json"
TEACHER: Final = "teacher"
STUDENT: Final = "student"
POOL: Final = "student_pool"
BASELINES = ("no_teacher", "nearest_sibling", "retrieval", "trivial", "false", "bare_call")
TITLES = {
    TEACHER: "teacher",
    STUDENT: "student",
    POOL: "first of the student's pool",
    "no_teacher": "student without a teacher",
    "nearest_sibling": "nearest test of the class",
    "retrieval": "nearest training test",
    "trivial": "assertTrue(true)",
    "false": "assertTrue(false)",
    "bare_call": "a call without an assertion",
    "coin": "the toss of a coin",
}
# 1: without the conditions on assertion, place, repetition and cause (docs/execution.md); 2: what was named like an
# assertion, as checkFoo, counted as a known one.
EXECUTION_RULES = 3


def title_of(name: str) -> str:
    """What a system is called in reports; those of ``--predictions`` by the name that they were given."""
    return TITLES.get(name, name)


def in_order(names: Iterable[str]) -> list[str]:
    """Systems in the order of the reports: those that every evaluation may have, then those of ``--predictions``."""
    given = list(names)
    known = [name for name in (STUDENT, POOL, TEACHER, *BASELINES) if name in given]
    return known + [name for name in given if name not in known]


class Measured(TypedDict, total=False):
    """A metric with its 95 % interval over ``n`` tasks; or ``value`` None and the ``reason``."""

    value: Required[float | None]
    low: float | None
    high: float | None
    n: int
    reason: str


class MeasuredDifference(Measured, total=False):
    """One system minus another, with the p-value of the paired test, also adjusted by Holm's method."""

    p_value: float
    p_value_holm: float


Metrics = dict[str, Measured]
Breakdown = dict[str, dict[str, Metrics]]  # "kind" or "length" -> label -> metrics


class ExecutionSummary(TypedDict):
    """What became of a system's predictions; the rates are over the control-stable tasks.

    ``false_positive_rate``: compiles, and fails on the code as it is. ``status``: status -> how many; ``dropped``:
    reason -> how many; ``reasons``: why predictions that pass are not non-trivial -> how many; ``no_mutants``:
    predictions that pass where no mutant compiles; ``unreached``: non-trivial ones that forbid a place that the control
    does not reach; ``rules``: EXECUTION_RULES, missing in older files.
    """

    rules: int

    tasks: int
    control_stable: int
    compile_rate: Measured
    pass_rate: Measured
    nontrivial_rate: Measured
    false_positive_rate: Measured
    status: dict[str, int]
    dropped: dict[str, int]
    reasons: dict[str, int]
    no_mutants: int
    unreached: int
    imports_added: int


class Latency(TypedDict):
    """Seconds for one assertion, over ``n`` tasks one by one; ``threads`` on the CPU only."""

    median_seconds: float
    p90_seconds: float
    n: int
    threads: int | None


class SystemFacts(TypedDict, total=False):
    """What is known of a system besides its metrics. ``loss`` is in nats per token; latency and memory: by device.

    ``context``: what it was shown. ``inputs_cut``: "test", "focal method" or a part of the context -> how many inputs
    lack some of it.
    """

    title: str
    path: str
    parameters: int | None
    size_bytes: int
    loss: float | None
    memory_bytes: dict[str, int]
    latency: dict[str, Latency]
    mean_similarity: float
    context: str
    inputs_cut: dict[str, int]


class RunFacts(TypedDict, total=False):
    """On what was evaluated, and how. ``systems``, ``breakdown`` and ``execution``: by the system's name.

    ``cell_missing``: layer of the cell that the predictions ran in -> why this machine does not have it.
    """

    teacher_data: str
    tasks: int
    tasks_in_file: int
    rows_left_out: dict[str, int]
    rows_odd: dict[str, int]
    test_classes: int
    arguments: Json
    device: str
    seconds: float
    inputs_seen_in_training: int
    execution: dict[str, ExecutionSummary]
    cell_missing: dict[str, str]
    systems: dict[str, SystemFacts]
    breakdown: dict[str, Breakdown]


class Summary(TypedDict):
    """The whole file. ``comparison``: A_minus_B -> metric -> difference, ``output_agreement``, ``teacher_logits``.

    ``strata``: "answer_in_input" -> "none", "context" or "test" -> the same objects over those tasks alone.
    """

    teacher: Metrics
    student: Metrics
    baselines: dict[str, Metrics]
    comparison: Json
    strata: Json
    run: RunFacts
