"""Run the predictions of every system in their project (evaluation/running/execution.py), with the controls."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from data.rows.readers import Sample
from evaluation.running.class_path import ClassPath, resolve_class_path
from evaluation.running.execution import DROPPED, Outcome, ProjectExecutor, summarise
from evaluation.running.java_service import find_jdk
from evaluation.systems.models import System
from utils.errors import UserError


def prepare_project(samples: Sequence[Sample], args: Namespace) -> ClassPath:
    """Compile the project, before a model writes for hours.

    Raises UserError where the rows do not say where they come from, there is no JDK, or the project does not compile.
    """
    if not any("test_file" in sample.source for sample in samples[: args.execution_limit]):
        raise UserError(
            "--project: the rows do not say where they come from; mine them with scripts/mine_assertions.py"
        )
    class_path = [part for part in (args.class_path or "").split(os.pathsep) if part] + args.junit_jars
    return resolve_class_path(args.project, class_path or None, find_jdk(args.jdk_home))


def run_systems(
    systems: Mapping[str, System],
    samples: Sequence[Sample],
    class_path: ClassPath,
    args: Namespace,
    progress: Callable[[str, int], Any],
) -> tuple[dict[str, list[Outcome]], dict[str, Any]]:
    """The outcomes of each system, one a task, and the summaries of all, of the human assertion and of none unless
    ``--no_controls`` leaves these out.

    Controls and mutants are made once for all systems, of the tasks that one of them answers. Tasks beyond
    ``--execution_limit`` count as dropped.
    """
    answered = max(len(system.predictions) for system in systems.values())
    tasks = [sample.source for sample in samples[:answered][: args.execution_limit]]
    outcomes: dict[str, list[Outcome]] = {}
    facts: dict[str, Any] = {}
    with ProjectExecutor(
        args.project, class_path, workers=args.workers, timeout_s=args.timeout, jdk_home=args.jdk_home
    ) as executor:
        for name, system in systems.items():
            wanted = tasks[: len(system.predictions)]
            with progress(f"{system.title}: running", len(wanted)) as bar:
                found = executor.execute(wanted, system.predictions[: len(wanted)], partial(bar.update, 1))
            facts[name] = summarise(found)
            beyond = Outcome(DROPPED, "beyond --execution_limit")
            outcomes[name] = found + [beyond] * (len(system.predictions) - len(found))
        if args.no_controls:
            return outcomes, facts
        for name, control in (("human", executor.execute_human), ("no_assertion", executor.execute_without)):
            with progress(f"control ({name.replace('_', ' ')}): running", len(tasks)) as bar:
                facts[name] = summarise(control(tasks, partial(bar.update, 1)))
    return outcomes, facts
