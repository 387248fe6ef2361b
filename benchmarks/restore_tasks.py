"""A copy of a project in which tests have lost their assertions, and the tasks that the command makes of them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.java.assertions import find_assertions
from data.java.source_tree import walk_folders
from data.java.syntax import parse, text_of
from data.java.tokens import one_line
from data.mining.find_tests import TestMethod, find_test_methods
from data.mining.focal import FocalFinder
from data.mining.helpers import TestScope
from data.mining.projects import package_of
from evaluation.running.execution import ADAPTERS
from evaluation.suggesting.draft import Draft
from evaluation.suggesting.focus import FocalPlace, locate_focal
from evaluation.suggesting.open_tests import OpenTest, OpenTests
from utils.atomic_io import write_json

MAX_REMOVED = 3  # assertions of a test
SHARE = 3  # one in so many of a class's tests
STILL_CHECKS = "the rest of the test checks something"


@dataclass
class Removed:
    """A test that lost its assertions: its file, class and name, and the assertions in order.

    ``focal``: the method that the first of them with one is about, as a task names it.
    """

    file: str
    test_class: str
    name: str
    assertions: list[str]
    focal: FocalPlace

    @property
    def key(self) -> str:
        return f"{self.test_class}#{self.name}"


@dataclass
class Task:
    """A removed test as the command sees it; ``pools``: variant -> candidates in order."""

    removed: Removed
    test: OpenTest
    pools: dict[str, list[Draft]] = field(default_factory=dict)

    @property
    def truth(self) -> Any:
        """The task with the method that the human's assertions are about, for the judge."""
        return {**self.test.source, **self.removed.focal}


def prepare(project: Path, copy: Path, limit: int, seed: int) -> list[Removed]:
    """Copy the project and take assertions out; the same for the same seed. Only of tests in which a method under test
    is found while the assertions are there: those are the tests for which a person would ask."""
    manifest = copy.parent / f"{copy.name}.removed.json"
    if manifest.is_file():
        return read_removed(manifest)
    shutil.rmtree(copy, ignore_errors=True)
    for folder, names in walk_folders(project):
        for name in names:
            target = copy / folder.relative_to(project) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (folder / name).is_file():
                shutil.copy2(folder / name, target)
    reader = OpenTests(copy)
    by_class: dict[str, list[tuple[Removed, list[tuple[int, int]]]]] = {}
    counts: dict[str, int] = {}
    for file in reader.list_test_files():
        name = file.relative_to(copy).as_posix()
        source = reader.texts[name]
        if source != file.read_bytes():  # in Latin-1, which the copy would not be
            continue
        root = parse(source)
        for test in find_test_methods(root, source, reader.project, name, package_of(root, source)):
            if test.problem or test.owner.abstract or test.framework not in ADAPTERS:
                continue
            counts[test.owner.binary_name] = counts.get(test.owner.binary_name, 0) + 1
            if removable := read_removable(reader, test, source, name):
                by_class.setdefault(test.owner.binary_name, []).append(removable)
    rng = random.Random(seed)
    chosen: list[tuple[Removed, list[tuple[int, int]]]] = []
    for owner, found in sorted(by_class.items()):
        if counts[owner] >= SHARE:
            chosen += rng.sample(found, min(len(found), counts[owner] // SHARE))
    rng.shuffle(chosen)
    chosen = chosen[:limit]
    for name in {removed.file for removed, _ in chosen}:
        spans = [span for removed, found in chosen if removed.file == name for span in found]
        source = reader.texts[name]
        for start, end in sorted(spans, reverse=True):
            source = source[:start] + source[end:]
        (copy / name).write_bytes(source)
    write_json(manifest, [asdict(item) for item, _ in chosen])
    return read_removed(manifest)


def read_removed(manifest: Path) -> list[Removed]:
    return [Removed(**row) for row in json.loads(manifest.read_text(encoding="utf-8"))]


def read_removable(
    reader: OpenTests, test: TestMethod, source: bytes, file: str
) -> tuple[Removed, list[tuple[int, int]]] | None:
    """The assertions of a test and their bytes, where all are statements of its own block that nothing else needs."""
    finder = FocalFinder(reader.project, test.owner, test.node, source)
    assertions, left_out = find_assertions(test.node, source, TestScope(finder.resolver))
    body = test.node.child_by_field_name("body")
    plain = all(item.node.parent == body and item.node.type == "expression_statement" for item in assertions)
    if left_out or not plain or not 1 <= len(assertions) <= MAX_REMOVED:
        return None
    asked = (finder.find([item.node], item.node.start_byte, assertions) for item in assertions)
    focal = next((item.method for item in asked if not isinstance(item, str)), None)
    if focal is None:
        return None
    texts = [one_line(text_of(item.node, source)) for item in assertions]
    spans = [(item.node.start_byte, item.node.end_byte) for item in assertions]
    return Removed(file, test.owner.binary_name, test.name, texts, locate_focal(reader.project, focal)), spans


def place_of(focal: Mapping[str, Any]) -> str:
    """A task's focal method by its file and first line."""
    return f"{focal['focal_file']}:{focal['focal_lines'][0]}"


def find_tasks(copy: Path, removed: Sequence[Removed]) -> tuple[list[Task], dict[str, str]]:
    """The tests that the command takes up, and why it leaves others."""
    reader = OpenTests(copy)
    wanted = {item.key: item for item in removed}
    tasks: list[Task] = []
    lost = dict.fromkeys(wanted, STILL_CHECKS)
    for file in sorted({item.file for item in removed}):
        tests, left_out = reader.find(copy / file)
        for test in tests:
            key = f"{test.source['test_class']}#{test.name}"
            if key in wanted:
                lost.pop(key, None)
                tasks.append(Task(wanted[key], test))
        mine = [key for key in lost if wanted[key].file == file and wanted[key].name in left_out]
        lost |= {key: left_out[wanted[key].name] for key in mine}
    return tasks, lost
