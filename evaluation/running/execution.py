"""Judge assertions by compiling and running them in the tests that they belong to.

A prediction can pass three gates: it *compiles* in its test, it *passes* on the code as it is, and it is *non-trivial*,
that is, it fails once the method under test is broken. docs/execution.md explains the rules, and what a test can and
cannot do to the machine.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, TypeVar

from data.java.statements import is_valid_java
from evaluation.execution_settings import ExecutionSettings
from evaluation.running.class_path import ClassPath, resolve_class_path
from evaluation.running.evidence import (
    asks_for_chance,
    forbids_its_place,
    hides_code,
    names_in,
    reaches_jdk,
    read_as_javac,
    set_apart_assertions,
)
from evaluation.running.java_service import Classes, Compiled, JavaService, TestRun
from evaluation.running.jdk import Jdk, find_jdk
from evaluation.running.mutation import make_mutants
from evaluation.running.outcomes import (
    ALWAYS_PASSES,
    DROPPED,
    FAILS_BEFORE,
    FLAKY,
    NO_MUTANT,
    NOT_AN_ASSERTION,
    NOT_REACHED,
    Outcome,
)
from evaluation.running.source_files import ADAPTERS, TestFile, find_in_project, read_test_file
from evaluation.running.splice import (
    PLACES_SOURCE,
    Spliced,
    Task,
    as_utf8,
    find_missing_imports,
    mark_places,
    silence_other_assertions,
    splice,
    with_semicolon,
)
from evaluation.running.workers import Worker, Workers

MIN_MUTANT_SECONDS = 1.0
MUTANT_SLOWNESS = 10
WARM_UP_SECONDS = 5.0
# How often a prediction must pass on the code and fail on the mutant again, in turn, in a second JVM.
ROUNDS = 1
ROUNDS_OF_CHANCE = 8

T = TypeVar("T")
Progress = Callable[[], object]
Span = tuple[int, int]
# Test file, test class and test name: what a control belongs to.
TestKey = tuple[str, str, str]
# Focal file, focal name, and the first and last line of the focal method.
FocalKey = tuple[str, str, int, int]


@dataclass(frozen=True)
class _Compiled:
    """A statement that compiles in its test file, with the ``imports`` that it needed.

    ``asserting``: which of its lines, from 0, assert something. ``alone``: each run needs a JVM of its own. ``rounds``:
    how often it must repeat what it did.
    """

    file: TestFile
    statement: str
    imports: tuple[str, ...]
    spliced: Spliced
    classes: Classes
    asserting: frozenset[int]
    alone: bool = False
    rounds: int = ROUNDS


@dataclass(frozen=True)
class _Control:
    """What the test as it is in the project shows. ``problem``: why it cannot tell right from wrong (empty: it can).

    ``names``: what its classes call and mention. ``seconds``: how long a run takes.
    """

    problem: str
    seconds: float = 0.0
    names: frozenset[str] = frozenset()


def _key(task: Task) -> TestKey:
    return task["test_file"], task["test_class"], task["test_name"]


def _span(task: Task) -> Span:
    start, end = task["assertion_span"]
    return start, end


class ProjectExecutor:
    """Runs the tests of one project. It keeps controls and mutants, so judging a second system costs little.

    Use it as a context manager. It writes nothing into the project. Raises UserError where there is no JDK or the
    project does not compile.
    """

    def __init__(
        self,
        project_dir: str | Path,
        class_path: ClassPath | str | Sequence[str | Path] | None = None,
        settings: ExecutionSettings | None = None,
    ) -> None:
        """``class_path``: as in ``resolve_class_path``, or what that returned."""
        self.settings = settings or ExecutionSettings()
        self.jdk: Jdk = find_jdk(self.settings.jdk_home)
        self.project = Path(project_dir).resolve()
        if not isinstance(class_path, ClassPath):
            class_path = resolve_class_path(self.project, class_path, self.jdk)
        self.class_path = class_path
        self._workers: Workers | None = None
        self._controls: dict[TestKey, _Control] = {}
        self._originals: dict[str, Compiled] = {}
        self._spans: dict[TestKey, set[Span]] = {}
        self._reached: dict[tuple[TestKey, Span], bool] = {}
        self._mutants: dict[FocalKey, list[tuple[str, str]]] = {}
        self._compiled_mutants: dict[tuple[FocalKey, int], Classes | None] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._workers = Workers(self.project, self.class_path, self.jdk, self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        if self._workers is not None:
            self._workers.close()

    def find_missing_layers(self) -> dict[str, str]:
        """What does not hold here, and why: layers of the cell, and the ground that two runs should not share."""
        return self._workers.find_missing_layers() if self._workers is not None else {}

    # -- for callers ---------------------------------------------------------------------------------------------

    def execute(
        self, tasks: Sequence[Task], predictions: Sequence[str], progress: Progress | None = None
    ) -> list[Outcome]:
        """Judge one prediction per task. ``progress`` is called after each, in the thread that finished it."""
        if len(tasks) != len(predictions):
            raise ValueError(f"{len(tasks)} tasks for {len(predictions)} predictions")
        return self._map(lambda worker, i: self._judge(worker, tasks[i], predictions[i]), tasks, progress)

    def execute_human(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[Outcome]:
        """Judge the assertion that the file holds, like a prediction: with mutants, after the two control runs."""
        return self._map(lambda worker, i: self._judge(worker, tasks[i], None), tasks, progress)

    def execute_without(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[Outcome]:
        """Judge the tests without their assertion."""
        return self._map(lambda worker, i: self._judge(worker, tasks[i], "", empty=True), tasks, progress)

    def run_controls(self, tasks: Sequence[Task]) -> None:
        """Run the tests as they are, so that judging begins with JVMs that have started and controls that are known."""
        known = [task for task in tasks if not isinstance(self._read_test_file(task), str)]
        self._map(lambda worker, i: self._check_control(worker, known[i]), known, None)

    def find_kills(
        self, tasks: Sequence[Task], predictions: Sequence[str], among: Collection[str] | None = None
    ) -> list[frozenset[str]]:
        """For each prediction all mutants, by their descriptions, on which it fails itself; none if it does not pass.

        ``among``: only these mutants are tried (None: all). Unlike ``execute`` it goes on after the first, and does not
        repeat what it saw in a second JVM.
        """
        return self._map(lambda worker, i: self._find_kills(worker, tasks[i], predictions[i], among), tasks, None)

    def _map(self, job: Callable[[Worker, int], T], tasks: Sequence[Task], progress: Progress | None) -> list[T]:
        workers = self._workers
        if workers is None:
            raise RuntimeError("use ProjectExecutor as a context manager")
        for task in tasks:
            if {"test_file", "test_class", "test_name", "assertion_span"} <= set(task):
                self._spans.setdefault(_key(task), set()).add(_span(task))

        def one(index: int) -> T:
            try:
                with workers.take() as worker:
                    return job(worker, index)
            finally:
                if progress is not None:
                    progress()

        with ThreadPoolExecutor(self.settings.workers) as pool:
            try:
                return list(pool.map(one, range(len(tasks))))
            except BaseException:  # such as a signal: what is running would keep us waiting
                workers.close()
                raise

    # -- one task ------------------------------------------------------------------------------------------------

    def _judge(self, worker: Worker, task: Task, statement: str | None, empty: bool = False) -> Outcome:
        file = self._read_test_file(task)
        if isinstance(file, str):
            return Outcome(DROPPED, file)
        control = self._check_control(worker, task)
        if control.problem:
            return Outcome(DROPPED, control.problem)
        if statement is None:
            statement = file.source[slice(*file.span)].decode()
        statement = read_as_javac(statement)
        no = False if self.settings.nontrivial else None
        if not empty and (hides_code(statement) or not is_valid_java(statement)):
            return Outcome("compile error", "not a Java statement", False, False, no)
        compiled = self._compile(worker, task, file, statement)
        if isinstance(compiled, str):
            return Outcome("compile error", compiled, False, False, no)
        added = names_in(compiled.classes) - control.names
        compiled = replace(
            compiled,
            alone=reaches_jdk(statement, added),
            rounds=ROUNDS_OF_CHANCE if asks_for_chance(statement, added) else ROUNDS,
        )
        run = self._run(worker.first, task, compiled.classes, alone=compiled.alone)
        outcome = Outcome(run.status, run.reason, True, run.status == "passed", no, run.seconds, compiled.imports)
        if not outcome.passed:
            elsewhere = run.status == "failed" and run.lines.isdisjoint(compiled.spliced.lines)
            status = "failed" if run.status in ("broken", "missing") else run.status
            return replace(outcome, status=status, elsewhere=elsewhere)
        if not self.settings.nontrivial:
            return outcome
        if empty:  # there is nothing that could fail
            return replace(outcome, trivial=NOT_AN_ASSERTION)
        outcome = replace(outcome, reached=self._is_reached(worker, task, file))
        if not outcome.reached and not forbids_its_place(statement):
            return replace(outcome, trivial=NOT_REACHED)
        limit = self._limit_mutant(max(control.seconds, run.seconds))
        return replace(outcome, **self._try_mutants(worker, task, compiled, limit))

    def _read_test_file(self, task: Task) -> TestFile | str:
        return read_test_file(self.project, self.class_path.left_out, task)

    def _check_control(self, worker: Worker, task: Task) -> _Control:
        """The file is compiled in the same way as with predictions, and the test must pass three times."""
        key = _key(task)
        with self._lock:
            known = self._controls.get(key)
        if known is not None:
            return known
        control = self._run_control(worker, task)
        with self._lock:
            return self._controls.setdefault(key, control)

    def _run_control(self, worker: Worker, task: Task) -> _Control:
        if not worker.first.can_run(ADAPTERS[task["framework"]]):
            return _Control(f"no {task['framework']} on the class path")
        compiled = self._compile_original(worker, task)
        if compiled.classes is None:
            return _Control("test file does not compile")
        runs: list[TestRun] = []
        for service in (worker.first, worker.first, worker.second):
            limit = self.settings.timeout_s + WARM_UP_SECONDS  # it may be the first of its JVM
            runs.append(self._run(service, task, compiled.classes, limit))
            if runs[-1].status != "passed":
                break
        if runs[-1].status == "passed":
            return _Control("", max(run.seconds for run in runs), frozenset(names_in(compiled.classes)))
        if len(runs) > 1:
            return _Control("human assertion flaky")
        run = runs[0]
        reason = {
            "missing": "test not found by the framework",
            "skipped": "test skips itself",
            "timeout": "test exceeds the time limit",
            "died": "test ends the JVM",
            "failed": "human assertion fails" if run.asserted else f"test fails: {run.reason}",
        }.get(run.status, run.reason)
        lost = f" (not found: {run.resource})" if run.resource and run.error and not run.asserted else ""
        return _Control(reason + lost)

    def _compile_original(self, worker: Worker, task: Task) -> Compiled:
        with self._lock:
            known = self._originals.get(task["test_file"])
        if known is None:
            path = self.project / task["test_file"]
            known = worker.first.compile({path.name: as_utf8(path.read_bytes())[0].decode()})
            with self._lock:
                self._originals[task["test_file"]] = known
        return known

    def _is_reached(self, worker: Worker, task: Task, file: TestFile) -> bool:
        """Whether the test as it is comes to the place of the assertion.

        All places of the test that are asked for are marked at once. One that cannot be marked counts as reached.
        """
        key = _key(task)
        with self._lock:
            known = self._reached.get((key, _span(task)))
            unknown = sorted(span for span in self._spans[key] if (key, span) not in self._reached)
        if known is not None:
            return known
        raw = (self.project / task["test_file"]).read_bytes()
        moved = {span: as_utf8(raw, *span)[1] for span in unknown}
        apart = all(a[1] <= b[0] for a, b in pairwise(unknown))
        found: dict[Span, bool] = {}
        for group in [unknown] * apart + [[span] for span in unknown]:
            if not set(group) <= set(found):
                marked = mark_places(file.source, {moved[span]: number for number, span in enumerate(group)})  # type: ignore[index,misc]
                compiled = worker.first.compile({file.name: marked, "Place.java": PLACES_SOURCE})
                if compiled.classes is not None:
                    run = self._run(worker.first, task, compiled.classes)
                    if run.status == "passed":
                        found |= {span: number in run.places for number, span in enumerate(group)}
        with self._lock:
            for span in unknown:
                self._reached[key, span] = found.get(span, True)
            return self._reached[key, _span(task)]

    def _run(
        self, service: JavaService, task: Task, classes: Classes, limit: float | None = None, alone: bool = False
    ) -> TestRun:
        """One run of the test, in a folder without the files of earlier runs."""
        return service.run(
            ADAPTERS[task["framework"]],
            task["test_class"],
            task["test_name"],
            classes,
            limit or self.settings.timeout_s,
            alone,
        )

    def _compile(self, worker: Worker, task: Task, file: TestFile, statement: str) -> _Compiled | str:
        """Compile as it is, else with the framework's own assertion methods imported; or javac's error."""
        statement, asserting = set_apart_assertions(with_semicolon(statement))
        spliced = splice(file.source, file.span, statement)
        compiled = worker.first.compile({file.name: spliced.text})
        if compiled.classes is not None:
            return _Compiled(file, statement, (), spliced, compiled.classes, asserting)
        if imports := tuple(find_missing_imports(file.source, task["framework"], statement)):
            spliced = splice(file.source, file.span, statement, imports)
            again = worker.first.compile({file.name: spliced.text})
            if again.classes is not None:
                return _Compiled(file, statement, imports, spliced, again.classes, asserting)
            return again.error  # that the imports are missing is not what is wrong
        return compiled.error

    # -- mutants -------------------------------------------------------------------------------------------------

    def _try_mutants(self, worker: Worker, task: Task, compiled: _Compiled, limit: float) -> dict[str, Any]:
        """The fields of the outcome that tell whether the statement itself fails on a mutant, and does so again.

        First the other assertions of the test are made harmless, or they would fail before this one is reached.
        """
        compiled = self._isolate(worker, task, compiled)
        tried = 0
        before = False
        for mutated, description in self._compile_mutants(worker, task):
            broken = {**mutated, **compiled.classes}
            run = self._run(worker.first, task, broken, limit, compiled.alone)
            tried += 1
            if self._is_noticed(run, compiled.spliced.lines, compiled.asserting):
                stable = self._fails_and_passes_again(worker.second, task, compiled, broken)
                return {
                    "nontrivial": stable,
                    "mutants_tried": tried,
                    "killed": description if stable else "",
                    "trivial": "" if stable else FLAKY,
                }
            before |= run.status == "failed" and run.lines.isdisjoint(compiled.spliced.lines)
        if not compiled.asserting:
            reason = NOT_AN_ASSERTION
        elif tried == 0:
            reason = NO_MUTANT
        else:
            reason = FAILS_BEFORE if before else ALWAYS_PASSES
        return {"nontrivial": False if tried else None, "mutants_tried": tried, "trivial": reason}

    def _limit_mutant(self, seconds: float) -> float:
        """How long a test may take on a mutant if it takes so many ``seconds`` on the code as it is."""
        return min(max(MIN_MUTANT_SECONDS, MUTANT_SLOWNESS * seconds), self.settings.timeout_s)

    def _find_kills(self, worker: Worker, task: Task, statement: str, among: Collection[str] | None) -> frozenset[str]:
        file, statement = self._read_test_file(task), read_as_javac(statement)
        if isinstance(file, str) or hides_code(statement) or not is_valid_java(statement):
            return frozenset()
        control = self._check_control(worker, task)
        compiled = self._compile(worker, task, file, statement) if not control.problem else control.problem
        if isinstance(compiled, str) or self._run(worker.first, task, compiled.classes).status != "passed":
            return frozenset()
        compiled = self._isolate(worker, task, compiled)
        limit = self._limit_mutant(control.seconds)
        return frozenset(
            description
            for mutated, description in self._compile_mutants(worker, task)
            if (among is None or description in among)
            and self._is_noticed(
                self._run(worker.first, task, {**mutated, **compiled.classes}, limit),
                compiled.spliced.lines,
                compiled.asserting,
            )
        )

    def _isolate(self, worker: Worker, task: Task, compiled: _Compiled) -> _Compiled:
        """With the test's other assertions made harmless, where it then still compiles and passes."""
        file = compiled.file
        if file.test_span is None:
            return compiled
        source, span = silence_other_assertions(file.source, file.span, file.test_span)
        alone = splice(source, span, compiled.statement, compiled.imports)
        if alone.text == compiled.spliced.text:
            return compiled
        harmless = worker.first.compile({file.name: alone.text})
        if harmless.classes is None:
            return compiled
        passes = self._run(worker.first, task, harmless.classes, alone=compiled.alone).status == "passed"
        return replace(compiled, spliced=alone, classes=harmless.classes) if passes else compiled

    def _is_noticed(self, run: TestRun, lines: range, asserting: frozenset[int]) -> bool:
        """Whether an assertion of the statement on these ``lines`` failed, by an exception in its arguments or because
        it does not hold. ``asserting``: those of the lines, from 0, that assert something.

        An assertion that is not known as one shows itself by its error, if the code under test did not raise that.
        """
        if run.status != "failed" or run.lines.isdisjoint(lines):
            return False
        if not run.lines.isdisjoint(lines[0] + line for line in asserting):
            return True
        if run.asserted.isdisjoint(lines):
            return False
        outermost = run.raiser.partition("$")[0].replace(".", "/")
        return not (self.class_path.folders[1] / f"{outermost}.class").is_file()

    def _fails_and_passes_again(self, service: JavaService, task: Task, compiled: _Compiled, broken: Classes) -> bool:
        """In another JVM and an order that nobody foresees: chance, a clock, or what runs leave behind would not repeat
        that for long."""
        order = [True, False] * compiled.rounds
        random.Random(compiled.statement).shuffle(order)
        for good in order:
            run = self._run(service, task, compiled.classes if good else broken, alone=compiled.alone)
            if good and run.status != "passed":
                return False
            if not good and not self._is_noticed(run, compiled.spliced.lines, compiled.asserting):
                return False
        return True

    def _compile_mutants(self, worker: Worker, task: Task) -> Iterator[tuple[Classes, str]]:
        """The classes of each mutant of the focal method that compiles, and what was changed."""
        first, last = map(int, task["focal_lines"])
        key: FocalKey = (task["focal_file"], task["focal_name"], first, last)
        path = find_in_project(self.project, task["focal_file"])
        if path is None or not path.is_file():
            return
        with self._lock:
            made = self._mutants.get(key)
        if made is None:
            source, _ = as_utf8(path.read_bytes())
            found = make_mutants(source, task["focal_name"], (first, last), self.settings.max_mutants)
            made = [(mutant.source.decode(), mutant.description) for mutant in found]
            with self._lock:
                self._mutants[key] = made
        for number, (text, description) in enumerate(made):
            with self._lock:
                known = (key, number) in self._compiled_mutants
            if not known:
                compiled = worker.first.compile({path.name: text})
                with self._lock:
                    self._compiled_mutants[key, number] = compiled.classes
            classes = self._compiled_mutants[key, number]
            if classes is not None:
                yield classes, description
