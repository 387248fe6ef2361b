"""Run the predictions of every system in their project (evaluation/running/execution.py), with the controls."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from data.rows.readers import Sample
from evaluation.execution_settings import ExecutionSettings
from evaluation.progress import show_progress
from evaluation.request import EvaluationRequest
from evaluation.running.class_path import ClassPath, resolve_class_path
from evaluation.running.execution import ProjectExecutor
from evaluation.running.jdk import find_jdk
from evaluation.running.outcomes import DROPPED, Outcome, summarise
from evaluation.summary import ExecutionSummary, RunFacts, title_of
from evaluation.systems.models import System
from utils.errors import UserError


def prepare_project(request: EvaluationRequest, samples: Sequence[Sample]) -> ClassPath:
    """Compile the project of the request, before a model writes for hours.

    Raises UserError where the rows do not say where they come from, there is no JDK, or the project does not compile.
    """
    assert request.project is not None
    if not any("test_file" in sample.source for sample in samples[: request.execution_limit]):
        raise UserError(
            "--project: the rows do not say where they come from; mine them with scripts/mine_assertions.py"
        )
    class_path = [part for part in (request.class_path or "").split(os.pathsep) if part] + request.junit_jars
    return resolve_class_path(request.project, class_path or None, find_jdk(request.jdk_home))


def run_systems(
    request: EvaluationRequest, systems: Mapping[str, System], samples: Sequence[Sample], class_path: ClassPath
) -> tuple[dict[str, list[Outcome]], RunFacts]:
    """The outcomes of each system, one per task, and for the summary: all of them, the controls, and the cell's gaps.

    The controls are the human assertion and no assertion; ``--no_controls`` leaves them out. All systems share what
    was found out about a test and the mutants of its focal method. Tasks beyond ``--execution_limit`` count as
    dropped.
    """
    assert request.project is not None
    answered = max(len(system.predictions) for system in systems.values())
    tasks = [sample.source for sample in samples[:answered][: request.execution_limit]]
    settings = ExecutionSettings(
        workers=request.workers, timeout_s=request.timeout, jdk_home=request.jdk_home, sandbox=request.sandbox
    )
    outcomes: dict[str, list[Outcome]] = {}
    summaries: dict[str, ExecutionSummary] = {}
    with ProjectExecutor(request.project, class_path, settings) as executor:
        for name, system in systems.items():
            wanted = tasks[: len(system.predictions)]
            with show_progress(f"{title_of(name)}: running", len(wanted)) as count:
                found = executor.execute(wanted, system.predictions[: len(wanted)], partial(count, 1))
            summaries[name] = summarise(found)
            beyond = Outcome(DROPPED, "beyond --execution_limit")
            outcomes[name] = found + [beyond] * (len(system.predictions) - len(found))
        controls = {"human": executor.execute_human, "no_assertion": executor.execute_without}
        for name, control in controls.items() if not request.no_controls else ():
            with show_progress(f"control ({name.replace('_', ' ')}): running", len(tasks)) as count:
                summaries[name] = summarise(control(tasks, partial(count, 1)))
        missing = executor.find_missing_layers()
    for layer, reason in missing.items():
        print(f"warning: not contained or not varied: {layer} ({reason})", file=sys.stderr)
    return outcomes, {"execution": summaries, "cell_missing": missing}
