"""Judge assertions by compiling and running them in the tests that they belong to.

A prediction can pass three gates: it *compiles* in its test, it *passes* on the code as it is, and it is *non-trivial*,
that is, it fails once the method under test is broken. docs/execution.md explains the rules, and what a test can and
cannot do to the machine.
"""

from __future__ import annotations

import math
import os
import queue
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from data.java.statements import is_valid_java
from evaluation.execution_settings import ExecutionSettings
from evaluation.running.class_path import NOT_SOURCES, ClassPath, resolve_class_path
from evaluation.running.java_service import Classes, JavaService, Jdk, TestRun, find_jdk
from evaluation.running.mutation import make_mutants
from evaluation.running.splice import (
    Spliced,
    Task,
    as_utf8,
    find_missing_imports,
    find_span_problem,
    silence_other_assertions,
    splice,
)
from evaluation.summary import ExecutionSummary, Measured
from utils.metrics import EXECUTION_METRICS

ADAPTERS = {"junit3": "JUnit4Adapter", "junit4": "JUnit4Adapter", "junit5": "JUnit5Adapter"}
DROPPED = "dropped"
MIN_MUTANT_SECONDS = 1.0
MUTANT_SLOWNESS = 10
MAX_COPIED_BYTES = 64 << 20

Progress = Callable[[], object]
# Test file, test class and test name: what a control belongs to.
TestKey = tuple[str, str, str]
# Focal file, focal name, and the first and last line of the focal method.
FocalKey = tuple[str, str, int, int]


@dataclass(frozen=True)
class Outcome:
    """What became of one prediction.

    ``status``: passed, failed, skipped (by an assumption), timeout, died (the JVM ended), compile error, or dropped.
    A task is dropped where the control shows that its test cannot tell right from wrong; ``compiled``, ``passed`` and
    ``nontrivial`` are None then. ``nontrivial`` is also None where mutants were not asked for or no mutant of the focal
    method compiles; it is False where the prediction does not pass.
    ``imports``: assertion methods of the framework that were imported for the prediction. ``seconds``: how long the run
    on unchanged code took.
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


@dataclass(frozen=True)
class _TestFile:
    """A test's file as UTF-8, and the byte ranges of the assertion and of the whole test in it."""

    name: str
    source: bytes
    span: tuple[int, int]
    test_span: tuple[int, int] | None


@dataclass(frozen=True)
class _Compiled:
    """A statement that compiles in its test file, with the ``imports`` that it needed."""

    file: _TestFile
    statement: str
    imports: tuple[str, ...]
    spliced: Spliced
    classes: Classes


@dataclass
class _Worker:
    """A JVM and its scratch folder: a copy of the project's other files, restored before each run."""

    service: JavaService
    folder: Path
    origin: Path
    files: dict[str, tuple[int, int]] = field(default_factory=dict)

    def restore(self) -> None:
        """Undo what a test created, changed or deleted in the folder."""
        try:
            self._undo_changes()
        except OSError:  # the folder itself is gone, or we may not read it
            self.service.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.origin, self.folder, dirs_exist_ok=True)
            self.files = _list_files(self.folder)

    def _undo_changes(self) -> None:
        present = _list_files(self.folder)
        if present == self.files:
            return
        for name in sorted(present.keys() - self.files.keys(), reverse=True):  # what is in a folder goes before it
            path = self.folder / name
            if name.endswith("/"):
                path.rmdir()
            else:
                path.unlink()
        for name in sorted(self.files):
            if present.get(name) == self.files[name]:
                continue
            target = self.folder / name
            if name.endswith("/"):
                target.mkdir()
            else:
                target.unlink(missing_ok=True)
                shutil.copy2(self.origin / name, target)


def _list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file in ``folder`` by relative path; the names of folders end in a slash."""
    found, pending = {}, [""]
    while pending:
        inner = pending.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{inner}{entry.name}/")
                    found[pending[-1]] = (0, 0)
                else:
                    status = entry.stat(follow_symlinks=False)
                    found[f"{inner}{entry.name}"] = (status.st_size, status.st_mtime_ns)
    return found


def _copy_other_files(project: Path, target: Path) -> None:
    """Copy test data and the like: all files that are not Java, version control, build output or huge."""
    for folder, inner, names in os.walk(project):
        inner[:] = [name for name in inner if name not in NOT_SOURCES]
        for name in names:
            path = Path(folder, name)
            if name.endswith((".java", ".class")) or path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size <= MAX_COPIED_BYTES:
                copy = target / path.relative_to(project)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)


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
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._all: list[_Worker] = []
        self._free: queue.Queue[_Worker] = queue.Queue()
        self._controls: dict[TestKey, tuple[str, float]] = {}
        self._mutants: dict[FocalKey, list[tuple[str, str]]] = {}
        self._compiled_mutants: dict[tuple[FocalKey, int], Classes | None] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ProjectExecutor:
        self._scratch = tempfile.TemporaryDirectory(prefix="execution-", ignore_cleanup_errors=True)
        root = Path(self._scratch.name)
        pristine = root / "project"
        (pristine / "tmp").mkdir(parents=True)
        _copy_other_files(self.project, pristine)
        for number in range(self.settings.workers):
            folder = root / f"work{number}"
            shutil.copytree(pristine, folder)
            service = JavaService(
                self.jdk,
                self.class_path.folders,
                self.class_path.jars,
                folder,
                self.project,
                release=self.class_path.release,
                memory_mb=self.settings.memory_mb,
                jvm_args=self.settings.jvm_args,
            )
            worker = _Worker(service, folder, pristine, _list_files(folder))
            self._all.append(worker)
            self._free.put(worker)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.service.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    # -- for callers ---------------------------------------------------------------------------------------------

    def execute(
        self, tasks: Sequence[Task], predictions: Sequence[str], progress: Progress | None = None
    ) -> list[Outcome]:
        """Judge one prediction per task. ``progress`` is called after each, in the thread that finished it."""
        if len(tasks) != len(predictions):
            raise ValueError(f"{len(tasks)} tasks for {len(predictions)} predictions")
        return self._map(lambda worker, i: self._judge(worker, tasks[i], predictions[i]), len(tasks), progress)

    def execute_human(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[Outcome]:
        """Judge the assertion that the file holds, like a prediction: with mutants, after the two control runs."""
        return self._map(lambda worker, i: self._judge(worker, tasks[i], None), len(tasks), progress)

    def execute_without(self, tasks: Sequence[Task], progress: Progress | None = None) -> list[Outcome]:
        """Judge the tests without their assertion."""
        return self._map(lambda worker, i: self._judge(worker, tasks[i], "", empty=True), len(tasks), progress)

    def _map(self, job: Callable[[_Worker, int], Outcome], count: int, progress: Progress | None) -> list[Outcome]:
        if self._scratch is None:
            raise RuntimeError("use ProjectExecutor as a context manager")

        def one(index: int) -> Outcome:
            worker = self._free.get()
            try:
                return job(worker, index)
            finally:
                self._free.put(worker)
                if progress is not None:
                    progress()

        with ThreadPoolExecutor(self.settings.workers) as pool:
            return list(pool.map(one, range(count)))

    # -- one task ------------------------------------------------------------------------------------------------

    def _judge(self, worker: _Worker, task: Task, statement: str | None, empty: bool = False) -> Outcome:
        file = self._read_test_file(task)
        if isinstance(file, str):
            return Outcome(DROPPED, file)
        problem, usual_seconds = self._check_control(worker, task)
        if problem:
            return Outcome(DROPPED, problem)
        if statement is None:
            statement = file.source[slice(*file.span)].decode()
        no = False if self.settings.nontrivial else None
        if not empty and not is_valid_java(statement):
            return Outcome("compile error", "not a Java statement", False, False, no)
        compiled = self._compile(worker, task, file, statement)
        if isinstance(compiled, str):
            return Outcome("compile error", compiled, False, False, no)
        imports = compiled.imports
        run = self._run(worker, task, compiled.classes)
        if run.status != "passed":
            return Outcome(run.status, run.reason, True, False, no, run.seconds, imports)
        if not self.settings.nontrivial:
            return Outcome("passed", "", True, True, None, run.seconds, imports)
        if empty:  # there is nothing that could fail
            return Outcome("passed", "", True, True, False, run.seconds)
        limit = max(MIN_MUTANT_SECONDS, MUTANT_SLOWNESS * max(usual_seconds, run.seconds))
        tried, killed = self._kill_mutant(worker, task, compiled, min(limit, self.settings.timeout_s))
        verdict = None if tried == 0 else bool(killed)
        return Outcome("passed", "", True, True, verdict, run.seconds, imports, tried, killed)

    def _read_test_file(self, task: Task) -> _TestFile | str:
        """The test's file, or why the task cannot be judged."""
        for key in ("test_file", "test_class", "test_name", "assertion_span", "framework", "focal_file", "focal_name"):
            if key not in task:
                return f"task has no {key}"
        adapter = ADAPTERS.get(task["framework"])
        if adapter is None:
            return f"{task['framework']} is not supported"
        if task.get("test_class_abstract"):
            return "test class is abstract"
        if task["test_file"] in self.class_path.left_out:
            return "test file does not compile"
        path = self._path_in_project(task["test_file"])
        if path is None or not path.is_file():
            return "test file not found"
        raw = path.read_bytes()
        if problem := find_span_problem(raw, task):
            return problem
        span = task["assertion_span"]
        test_span = task.get("test_span") or ()
        source, (start, end, *test) = as_utf8(raw, *span, *test_span)
        return _TestFile(path.name, source, (start, end), (test[0], test[1]) if test else None)

    def _path_in_project(self, name: str) -> Path | None:
        """None for a path that leaves the project: rows are data, and may name anything."""
        relative = PurePosixPath(name)
        return None if relative.is_absolute() or ".." in relative.parts else self.project / relative

    def _check_control(self, worker: _Worker, task: Task) -> tuple[str, float]:
        """Why the test as it is in the project cannot tell right from wrong (empty: it can), and its seconds.

        The file is compiled in the same way as with predictions, and the test must pass twice.
        """
        key = (task["test_file"], task["test_class"], task["test_name"])
        with self._lock:
            known = self._controls.get(key)
        if known is not None:
            return known
        verdict = self._run_control(worker, task)
        with self._lock:
            return self._controls.setdefault(key, verdict)

    def _run_control(self, worker: _Worker, task: Task) -> tuple[str, float]:
        if not worker.service.can_run(ADAPTERS[task["framework"]]):
            return f"no {task['framework']} on the class path", 0.0
        path = self.project / task["test_file"]
        compiled = worker.service.compile({path.name: as_utf8(path.read_bytes())[0].decode()})
        if compiled.classes is None:
            return "test file does not compile", 0.0
        runs = [self._run(worker, task, compiled.classes)]
        if runs[0].status == "passed":
            runs.append(self._run(worker, task, compiled.classes))
        statuses = [run.status for run in runs]
        if statuses == ["passed", "passed"]:
            return "", max(run.seconds for run in runs)
        if len(runs) == 2:
            return "human assertion flaky", 0.0
        return {
            "failed": "human assertion fails",
            "missing": "test not found by the framework",
            "skipped": "test skips itself",
            "timeout": "test exceeds the time limit",
            "died": "test ends the JVM",
        }[statuses[0]], 0.0

    def _run(self, worker: _Worker, task: Task, classes: Classes, limit: float | None = None) -> TestRun:
        """One run of the test, in a folder without the files of earlier runs."""
        worker.restore()
        adapter = ADAPTERS[task["framework"]]
        return worker.service.run(
            adapter, task["test_class"], task["test_name"], classes, limit or self.settings.timeout_s
        )

    def _compile(self, worker: _Worker, task: Task, file: _TestFile, statement: str) -> _Compiled | str:
        """Compile as it is, else with the framework's own assertion methods imported; or javac's error."""
        spliced = splice(file.source, file.span, statement)
        compiled = worker.service.compile({file.name: spliced.text})
        if compiled.classes is not None:
            return _Compiled(file, statement, (), spliced, compiled.classes)
        if imports := tuple(find_missing_imports(file.source, task["framework"], statement)):
            spliced = splice(file.source, file.span, statement, imports)
            again = worker.service.compile({file.name: spliced.text})
            if again.classes is not None:
                return _Compiled(file, statement, imports, spliced, again.classes)
        return compiled.error

    # -- mutants -------------------------------------------------------------------------------------------------

    def _kill_mutant(self, worker: _Worker, task: Task, compiled: _Compiled, limit: float) -> tuple[int, str]:
        """How many mutants were tried, and the first on which the statement itself fails (empty: on none).

        First the other assertions of the test are made harmless, or they would fail before this one is reached.
        """
        file = compiled.file
        spliced = compiled.spliced
        classes = compiled.classes
        if file.test_span is not None:
            source, span = silence_other_assertions(file.source, file.span, file.test_span)
            alone = splice(source, span, compiled.statement, compiled.imports)
            if alone.text != spliced.text:
                harmless = worker.service.compile({file.name: alone.text})
                if harmless.classes is not None and self._run(worker, task, harmless.classes).status == "passed":
                    spliced, classes = alone, harmless.classes
        tried = 0
        for mutated, description in self._compile_mutants(worker, task):
            run = self._run(worker, task, {**mutated, **classes}, limit)
            tried += 1
            if run.status == "failed" and not run.lines.isdisjoint(spliced.lines):
                return tried, description
        return tried, ""

    def _compile_mutants(self, worker: _Worker, task: Task) -> Iterator[tuple[Classes, str]]:
        """The classes of each mutant of the focal method that compiles, and what was changed."""
        first, last = map(int, task["focal_lines"])
        key: FocalKey = (task["focal_file"], task["focal_name"], first, last)
        path = self._path_in_project(task["focal_file"])
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
                compiled = worker.service.compile({path.name: text})
                with self._lock:
                    self._compiled_mutants[key, number] = compiled.classes
            classes = self._compiled_mutants[key, number]
            if classes is not None:
                yield classes, description


# -- numbers ---------------------------------------------------------------------------------------------------------


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

    compiled, passed, nontrivial = map(rate, compute_rates(stable).values())
    return {
        "tasks": len(outcomes),
        "control_stable": len(stable),
        "compile_rate": compiled,
        "pass_rate": passed,
        "nontrivial_rate": nontrivial,
        "status": dict(Counter(outcome.status for outcome in stable).most_common()),
        "dropped": dict(Counter(o.reason for o in outcomes if o.status == DROPPED).most_common()),
        "no_mutants": sum(outcome.passed is True and outcome.nontrivial is None for outcome in stable),
        "imports_added": sum(bool(outcome.imports) for outcome in stable),
    }
