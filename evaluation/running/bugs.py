"""Judge assertions by a real bug: does the test with the assertion tell the fixed version from the buggy one?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from data.java.statements import is_valid_java
from evaluation.execution_settings import ExecutionSettings
from evaluation.running.class_path import ClassPath
from evaluation.running.evidence import hides_code, read_as_javac
from evaluation.running.execution import ProjectExecutor
from evaluation.running.java_service import Classes, TestRun
from evaluation.running.outcomes import DROPPED, Outcome
from evaluation.running.source_files import TestFile
from evaluation.running.splice import HARMLESS, Task, silence_other_assertions, splice
from evaluation.running.workers import Worker

FOUND, MISSED, FALSE_ALARM, NO_COMPILE = "found", "missed", "false alarm", "does not compile"
FREEZES, HOLDS = "freezes the bug", "holds with and without the bug"
NOTHING_OBSERVED = "the run on the bug shows no other value"
# statement, the error of its run, framework -> the statement with what was observed, or empty
Repair = Callable[[str, str, str], str]
# Raised where classes that were compiled against the fixed version do not fit the buggy one: no word of the bug.
LINKAGE = frozenset({"NoSuchMethodError", "NoSuchFieldError", "IncompatibleClassChangeError", "AbstractMethodError"})


class BugExecutor(ProjectExecutor):
    """Runs tests of the fixed version. The buggy version stands where others have mutants, under the same conditions.

    ``buggy``: the changed sources by path. Use it as a context manager.
    """

    def __init__(
        self, fixed: Path, class_path: ClassPath, settings: ExecutionSettings, buggy: Mapping[str, str]
    ) -> None:
        super().__init__(fixed, class_path, settings)
        self.buggy = buggy
        self._classes: Classes = {}
        self._problems: dict[tuple[str, str, int], str] = {}

    def compile_bug(self) -> str:
        """javac's error where the buggy sources do not compile; empty where they do."""
        assert self._workers is not None
        with self._workers.take() as worker:
            compiled = worker.first.compile(dict(self.buggy))
        self._classes = compiled.classes or {}
        return compiled.error

    def judge_bug(self, tasks: Sequence[Task], predictions: Sequence[str | None]) -> list[tuple[str, str]]:
        """For each task a verdict and its reason: FOUND, MISSED, FALSE_ALARM (the assertion fails on the fixed
        version), NO_COMPILE, or DROPPED. None stands for the human assertion."""
        outcomes = self._map(lambda worker, i: self._judge_one(worker, tasks[i], predictions[i]), tasks, None)
        return [(outcome.status, outcome.reason) for outcome in outcomes]

    def _judge_one(self, worker: Worker, task: Task, statement: str | None) -> Outcome:
        if problem := self._find_problem(worker, task):
            return Outcome(DROPPED, problem)
        outcome = self._judge(worker, task, statement)
        if not outcome.compiled:
            return Outcome(NO_COMPILE, outcome.reason)
        if outcome.elsewhere:
            return Outcome(MISSED, "the rest of the test needs what the human assertion calls")
        if not outcome.passed:
            return Outcome(FALSE_ALARM, outcome.reason)
        return Outcome(FOUND) if outcome.nontrivial else Outcome(MISSED, outcome.trivial)

    def judge_repairs(self, tasks: Sequence[Task], predictions: Sequence[str | None], repair: Repair) -> list[str]:
        """What would become of predictions that fail on the buggy version, where the developer is, if what they
        observe there took the place of what they expect: FREEZES (the fixed version then fails), HOLDS, or
        NOTHING_OBSERVED (also where a prediction does not fail); or DROPPED. None stands for the human assertion.
        """
        return self._map(lambda worker, i: self._judge_repair(worker, tasks[i], predictions[i], repair), tasks, None)

    def _judge_repair(self, worker: Worker, task: Task, statement: str | None, repair: Repair) -> str:
        file = self._read_test_file(task)
        if isinstance(file, str) or self._find_problem(worker, task):
            return DROPPED
        if statement is None:
            statement = file.source[slice(*file.span)].decode()
        compiled = self._compile_alone(worker, task, file, read_as_javac(statement))
        if not compiled:
            return NOTHING_OBSERVED
        seen = self._run(worker.first, task, {**compiled, **self._classes})
        text = repair(statement, seen.reason, task["framework"]) if seen.status == "failed" else ""
        repaired = self._compile_alone(worker, task, file, text) if text else {}
        if not repaired or self._run(worker.first, task, {**repaired, **self._classes}).status != "passed":
            return NOTHING_OBSERVED
        return HOLDS if self._run(worker.first, task, repaired).status == "passed" else FREEZES

    def _compile_alone(self, worker: Worker, task: Task, file: TestFile, statement: str) -> Classes:
        """The test with this statement and no other verdict, as far as that compiles; empty where nothing does."""
        if hides_code(statement) or not is_valid_java(statement):
            return {}
        compiled = self._compile(worker, task, file, statement)
        if isinstance(compiled, str):
            return {}
        if file.test_span is None:
            return compiled.classes
        source, span = silence_other_assertions(file.source, file.span, file.test_span)
        alone = worker.first.compile({file.name: splice(source, span, compiled.statement, compiled.imports).text})
        return alone.classes or compiled.classes

    def _find_problem(self, worker: Worker, task: Task) -> str:
        """Why a task cannot show the bug: without any verdict of an assertion, its test must pass on the bug."""
        file = self._read_test_file(task)
        if isinstance(file, str):
            return file
        if problem := self._check_control(worker, task).problem:
            return problem
        key = (task["test_class"], task["test_name"], task["assertion_span"][0])
        with self._lock:
            known = self._problems.get(key)
        if known is None:
            known = self._run_without_verdicts(worker, task, file)
            with self._lock:
                self._problems[key] = known
        return known

    def _run_without_verdicts(self, worker: Worker, task: Task, file: TestFile) -> str:
        human = file.source[slice(*file.span)].decode().strip().removesuffix(";")
        for statement in (f"{HARMLESS[0].decode()}{human};{HARMLESS[1].decode()}", ";"):
            compiled = self._compile(worker, task, file, statement)
            if not isinstance(compiled, str):
                compiled = self._isolate(worker, task, compiled)
                run = self._run(worker.first, task, {**compiled.classes, **self._classes})
                return "" if run.status == "passed" else f"without the assertion, the test {run.status} on the bug"
        return "the assertion cannot be taken out of its test"

    def _compile_mutants(self, worker: Worker, task: Task) -> Iterator[tuple[Classes, str]]:
        yield self._classes, "the bug"

    def _limit_mutant(self, seconds: float) -> float:
        return self.settings.timeout_s

    def _is_noticed(self, run: TestRun, lines: range, asserting: frozenset[int]) -> bool:
        return run.error not in LINKAGE and super()._is_noticed(run, lines, asserting)
