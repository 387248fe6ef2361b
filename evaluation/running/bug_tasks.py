"""The tasks of a real bug: the assertions of the tests that show it, one masked at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

from data.java.syntax import UnreadableFile, read_java
from data.mining.projects import JavaClass, Project, index_file
from data.mining.siblings import add_siblings
from data.mining.sources import find_java_files
from data.mining.tasks import Limits, MinedTest, mine_file
from data.rows.readers import Row
from evaluation.running.defects4j import Bug
from evaluation.running.neighbours import mine_neighbours

# Nothing is trained on these rows, so that a test may be long; models see what fits.
LIMITS = Limits(max_test_tokens=5000, max_focal_tokens=5000, max_assertion_tokens=500)


def mine_triggers(bug: Bug, root: Path) -> tuple[list[Row], str]:
    """The tasks of the tests that show the bug, as the miner makes them; and, if there are none, why.

    A test that a class inherits is run in that class.
    """
    texts = _read_sources(root)
    indexed = [index_file(name, text) for name, text in texts.items()]
    project = Project(bug.project, indexed)
    test_files = [item.file for item in indexed if item.may_hold_tests]
    mined: dict[str, list[MinedTest]] = {}

    def mine(path: str) -> list[MinedTest]:
        if path not in mined:
            mined[path] = mine_file(project, root, path, LIMITS, texts.__getitem__).tests
        return mined[path]

    shown: list[tuple[str, JavaClass, str]] = []
    problems: Counter[str] = Counter()
    for runs, name in bug.triggers:
        if (declared := _find_declaring(project, runs, name)) is not None:
            shown.append((runs, declared, name))
        else:
            problems["the test is not in the fixed version"] += 1
    wanted = {(declared.binary_name, name) for _, declared, name in shown}
    for file in sorted({declared.file for _, declared, _ in shown}):
        own = mine(file)
        focal = {row["source"]["focal_class"] for test in own for row in test.rows if _identify(row) in wanted}
        if focal:
            add_siblings(mine_neighbours(file, own, focal, texts, test_files, mine))
    rows = []
    for runs, declared, name in shown:
        found = [row for test in mine(declared.file) for row in test.rows]
        mine_of = [deepcopy(row) for row in found if _identify(row) == (declared.binary_name, name)]
        for row in mine_of:
            row["source"]["test_class"], row["source"]["test_class_abstract"] = runs, False
        rows += mine_of
        if not mine_of:
            problems += _explain(project, root, texts, declared.file, name)
    return rows, "" if rows else ", ".join(f"{reason} ({count})" for reason, count in problems.most_common())


def _read_sources(root: Path) -> dict[str, bytes]:
    texts = {}
    for name in find_java_files(root):
        try:
            texts[name] = read_java(root / name, LIMITS.max_file_bytes)
        except UnreadableFile:
            continue
    return texts


def _find_declaring(project: Project, runs: str, name: str) -> JavaClass | None:
    """The class that declares the test ``name`` which ``runs``, a binary name, has or inherits."""
    item = project.find(runs.replace("$", "."), "")
    ancestors = project.ancestors(item)[0] if item is not None else ()
    return next((one for one in ancestors if any(method.name == name for method in one.methods)), None)


def _identify(row: Row) -> tuple[str, str]:
    return row["source"]["test_class"], row["source"]["test_name"]


def _explain(project: Project, root: Path, texts: Mapping[str, bytes], file: str, name: str) -> Counter[str]:
    """Why the miner takes no assertion of a test."""
    left_out = mine_file(project, root, file, LIMITS, texts.__getitem__, {name}).left_out
    reasons = left_out["assertion"] or left_out["test"]
    return reasons or Counter(["no test that the miner knows"])
