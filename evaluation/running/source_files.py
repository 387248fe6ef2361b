"""The source files of a project that a task names, and why it may not be judged by them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from evaluation.running.splice import Task, as_utf8, find_span_problem

ADAPTERS = {"junit3": "JUnit4Adapter", "junit4": "JUnit4Adapter", "junit5": "JUnit5Adapter"}
NEEDED = ("test_file", "test_class", "test_name", "assertion_span", "framework", "focal_file", "focal_name")


@dataclass(frozen=True)
class TestFile:
    """A test's file as UTF-8, and the byte ranges of the assertion and of the whole test in it."""

    name: str
    source: bytes
    span: tuple[int, int]
    test_span: tuple[int, int] | None


TestFile.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test class


def read_test_file(project: Path, left_out: Collection[str], task: Task) -> TestFile | str:
    """The test's file, or why the task cannot be judged. ``left_out``: files that do not compile."""
    for key in NEEDED:
        if key not in task:
            return f"task has no {key}"
    if task["framework"] not in ADAPTERS:
        return f"{task['framework']} is not supported"
    if task.get("test_class_abstract"):
        return "test class is abstract"
    if task["test_file"] in left_out:
        return "test file does not compile"
    path = find_in_project(project, task["test_file"])
    if path is None or not path.is_file():
        return "test file not found"
    raw = path.read_bytes()
    if problem := find_span_problem(raw, task):
        return problem
    source, (start, end, *test) = as_utf8(raw, *task["assertion_span"], *(task.get("test_span") or ()))
    return TestFile(path.name, source, (start, end), (test[0], test[1]) if test else None)


def find_in_project(project: Path, name: str) -> Path | None:
    """None for a path that leaves the project: rows are data, and may name anything."""
    relative = PurePosixPath(name)
    return None if relative.is_absolute() or ".." in relative.parts else project / relative
