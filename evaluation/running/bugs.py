"""Judge assertions by a real bug: does the test with the assertion tell the fixed version from the buggy one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.execution_settings import ExecutionSettings
from evaluation.running.class_path import ClassPath
from evaluation.running.execution import ProjectExecutor
from evaluation.running.java_service import Classes
from evaluation.running.outcomes import DROPPED, Outcome
from evaluation.running.splice import Task
from evaluation.running.workers import Worker

FOUND, MISSED, FALSE_ALARM, NO_COMPILE = "found", "missed", "false alarm", "does not compile"


class BugExecutor(ProjectExecutor):
    """Runs tests of the fixed version, and on it with the buggy classes in their place.

    ``buggy``: the changed sources by path. Use it as a context manager.
    """

    def __init__(
        self, fixed: Path, class_path: ClassPath, settings: ExecutionSettings, buggy: Mapping[str, str]
    ) -> None:
        super().__init__(fixed, class_path, settings)
        self.buggy = buggy
        self._classes: Classes | None = None

    def compile_bug(self) -> str:
        """javac's error where the buggy sources do not compile alone; empty where they do."""
        assert self._workers is not None
        with self._workers.take() as worker:
            compiled = worker.first.compile(dict(self.buggy))
        self._classes = compiled.classes
        return compiled.error

    def judge_bug(self, tasks: Sequence[Task], predictions: Sequence[str | None]) -> list[tuple[str, str]]:
        """For each task a verdict and its reason: FOUND, MISSED, FALSE_ALARM (it fails on the fixed version),
        NO_COMPILE, or DROPPED. None stands for the human assertion."""
        outcomes = self._map(lambda worker, i: self._judge_one(worker, tasks[i], predictions[i]), tasks, None)
        return [(outcome.status, outcome.reason) for outcome in outcomes]

    def _judge_one(self, worker: Worker, task: Task, statement: str | None) -> Outcome:
        file = self._read_test_file(task)
        on_fixed = self._judge(worker, task, statement)
        if isinstance(file, str) or on_fixed.status == DROPPED:
            return on_fixed
        if not self._passes_without(worker, task):
            return Outcome(DROPPED, "the test fails on the bug without the assertion, too")
        if not on_fixed.compiled:
            return Outcome(NO_COMPILE, on_fixed.reason)
        if not on_fixed.passed:
            return Outcome(FALSE_ALARM, on_fixed.reason)
        text = file.source[slice(*file.span)].decode() if statement is None else statement
        compiled = self._compile(worker, task, file, text)
        if isinstance(compiled, str) or not compiled.asserting:
            return Outcome(MISSED, "asserts nothing")
        compiled = self._isolate(worker, task, compiled)
        run = self._run(worker.first, task, {**(self._classes or {}), **compiled.classes})
        # An exception within the assertion shows the bug as well: without the assertion, the test passes.
        noticed = run.status == "failed" and not run.lines.isdisjoint(compiled.spliced.lines)
        return Outcome(FOUND if noticed else MISSED, run.reason)

    def _passes_without(self, worker: Worker, task: Task) -> bool:
        """Whether the bug leaves the test alone once its assertions are harmless and this one is taken out."""
        file = self._read_test_file(task)
        assert not isinstance(file, str)
        compiled = self._compile(worker, task, file, ";")
        if isinstance(compiled, str):
            return False
        compiled = self._isolate(worker, task, compiled)
        return self._run(worker.first, task, {**(self._classes or {}), **compiled.classes}).status == "passed"
