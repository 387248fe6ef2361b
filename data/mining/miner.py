"""Mines projects from end to end: index them, mine their tests, drop duplicates, split, write."""

from __future__ import annotations

import gc
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from config.defaults import CONTEXT_PARTS
from data.java.syntax import UnreadableFile, read_java
from data.mining.deduplicate import NearDuplicates
from data.mining.projects import FileIndex, Project, index_file
from data.mining.sources import ProjectSource
from data.mining.split import assign, group_kin
from data.mining.tasks import FileResult, Limits, MinedTest, mine_file
from data.rows.context import list_items
from data.rows.readers import Json, Row
from utils.atomic_io import atomic_writer, write_json
from utils.errors import UserError

SPLIT_FILES = {"train": "training", "validation": "validation", "test": "test", "held_out": "held_out"}
SUMMARY_KEYS = ("split", "project", "framework", "assertion_kind", "focal_call", "focal_rule", "answer_in_input")
CHUNK = 8
LINE_SECONDS = 30
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SplitOptions:
    """``by``: class, project or empty; ``held_out``: projects whose rows are set aside as a split of their own."""

    by: str = ""
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 42
    held_out: tuple[str, ...] = ()


@dataclass
class Collected:
    """Everything mined before duplicates are dropped, and the counts for the summary."""

    tests: list[MinedTest] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)

    def leave_out(self, unit: str, reasons: Counter[str]) -> None:
        self.left_out.setdefault(unit, Counter()).update(reasons)


class ProgressBar(tqdm):
    """A bar on a terminal; ``as_lines``, for a log: a line each half minute."""

    def __init__(self, *, as_lines: bool, **options: Any) -> None:
        self.as_lines = as_lines
        super().__init__(
            **options, mininterval=LINE_SECONDS if as_lines else 0.1, delay=LINE_SECONDS if as_lines else 0
        )

    def display(self, *arguments: Any, **options: Any) -> None:
        if not self.as_lines:
            super().display(*arguments, **options)
        elif self.n:
            print(f"progress: {self.n} of {self.total} files, {self.postfix}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self.disable |= self.as_lines  # else the end of a short run would show, too
        super().close()


# -- the two passes over the files ---------------------------------------------------------------------------------

_project: Project | None = None  # of this worker process, set by _start_worker


# Nearly all that mining makes stays, or goes with its last reference. Looking through it every 700 new objects, as
# Python does, took a seventh of the time.
OBJECTS_UNTIL_COLLECTION = 500_000


def _start_worker(project: Project | None) -> None:
    global _project
    _project = project
    gc.set_threshold(OBJECTS_UNTIL_COLLECTION)


def _index(file: str, *, root: Path, limits: Limits) -> FileIndex | str:
    try:
        return index_file(file, read_java(root / file, limits.max_file_bytes))
    except UnreadableFile as reason:
        return str(reason)
    except OSError:
        return "file cannot be read"


def _mine(file: str, *, root: Path, limits: Limits) -> FileResult:
    assert _project is not None
    return mine_file(_project, root, file, limits)


def _map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    bar: ProgressBar,
    project: Project | None = None,
) -> Iterator[Result]:
    """The results of ``function`` over ``items``, in their order; computed by several processes if ``workers`` > 1."""
    if workers <= 1 or len(items) <= CHUNK:
        _start_worker(project)
        results: Iterable[Result] = map(function, items)
        for result in results:
            bar.update()
            yield result
        return
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(project,)) as pool:
        for result in pool.map(function, items, chunksize=CHUNK):
            bar.update()
            yield result


def mine_projects(projects: Sequence[ProjectSource], limits: Limits, workers: int, progress: bool = True) -> Collected:
    """All usable tasks of the projects, in the order of project, file and position, whatever the number of workers."""
    collected = Collected()
    collector = gc.get_threshold()  # _start_worker changes that of this process where it mines itself
    total = sum(len(project.files) for project in projects)
    with ProgressBar(total=total, desc="index and mine", unit="file", as_lines=not progress) as bar:
        for source in projects:
            bar.set_postfix_str(source.name)
            index = partial(_index, root=source.root, limits=limits)
            indexed: list[FileIndex] = []
            for outcome in _map_in_order(index, source.files, workers, bar):
                if isinstance(outcome, str):
                    collected.leave_out("file", Counter([outcome]))
                else:
                    indexed.append(outcome)
            project = Project(source.name, indexed)
            files = [item.file for item in indexed if item.may_hold_tests]
            collected.counts.update(files=len(source.files), test_files=len(files))
            bar.total += len(files)
            mine = partial(_mine, root=source.root, limits=limits)
            for result in _map_in_order(mine, files, workers, bar, project):
                collected.tests += result.tests
                collected.counts.update(result.counts)
                for unit, reasons in result.left_out.items():
                    collected.leave_out(unit, reasons)
    gc.set_threshold(*collector)
    return collected


# -- duplicates, split, files ----------------------------------------------------------------------------------------


def drop_duplicates(collected: Collected, threshold: float, held_out: Sequence[str], progress: bool = True) -> None:
    """Of two tests that are near duplicates keep that of a held-out project, else the first.

    Tests that are alike but both kept get a common link, so that they stay on one side of a split.
    """
    memory = NearDuplicates(threshold)
    exact: set[tuple[str, ...]] = set()
    kept: list[int] = []
    kin: dict[int, list[str]] = {}
    reasons: Counter[str] = Counter()
    tests = collected.tests
    order = sorted(range(len(tests)), key=lambda i: (tests[i].rows[0]["source"].get("project") not in held_out, i))
    for position in tqdm(order, desc="drop duplicates", unit="test", disable=not progress):
        test = tests[position]
        if test.tokens in exact:
            reasons["exact duplicate"] += 1
        elif (similar := memory.add(test.tokens)) is None:
            reasons["near duplicate"] += 1
        else:
            kin[position] = [f"test {kept[i]}" for i in similar] + [f"test {position}"]
            kept.append(position)
        exact.add(test.tokens)
    collected.tests = [replace(tests[i], links=(*tests[i].links, *kin[i])) for i in sorted(kept)]
    reasons["kin of a held-out project"] = _drop_kin_of_held_out(collected, held_out)
    collected.leave_out("test", +reasons)


def _drop_kin_of_held_out(collected: Collected, held_out: Sequence[str]) -> int:
    """Leave out tests like one of a held-out project, and those with a copy of its focal method; return how many."""

    def is_held_out(test: MinedTest) -> bool:
        return test.rows[0]["source"].get("project") in held_out

    theirs = {link for test in collected.tests if is_held_out(test) for link in test.links}
    alike = {link for link in theirs if link.startswith(("test ", "method ", "focal "))}
    before = len(collected.tests)
    collected.tests = [test for test in collected.tests if is_held_out(test) or alike.isdisjoint(test.links)]
    return before - len(collected.tests)


def split_tests(tests: Sequence[MinedTest], options: SplitOptions) -> list[str]:
    """The split of each test: train, validation, test or held_out; without options the one that an imported data set
    came with, or the empty string."""
    projects = [test.rows[0]["source"].get("project", "") for test in tests]
    unknown = sorted(set(options.held_out) - set(projects))
    if unknown:
        known = ", ".join(sorted(set(projects)))
        raise UserError(f"--hold_out_projects {unknown[0]}: no such project among the tasks; there are {known}")
    rest = [i for i, project in enumerate(projects) if project not in options.held_out]
    splits = [test.given_split for test in tests]
    for i in set(range(len(tests))).difference(rest):
        splits[i] = "held_out"
    if options.by:
        by_class = options.by == "class"
        groups = group_kin([tests[i].links for i in rest]) if by_class else [projects[i] for i in rest]
        sizes = [len(tests[i].rows) for i in rest]
        chosen = assign(groups, sizes, options.validation_fraction, options.test_fraction, options.seed)
        for i, name in zip(rest, chosen, strict=True):
            splits[i] = name
        for name, share in (("validation", options.validation_fraction), ("test", options.test_fraction)):
            if share and name not in chosen:
                warn(
                    f"no group of kindred tests is small enough for the {name} split; give more data or a larger share"
                )
    elif options.held_out:
        splits = [split or "train" for split in splits]
    return splits


def describe_contexts(rows: Sequence[Row]) -> Json:
    """For each part of the contexts: the share of tasks that have it, and its mean entries and characters there."""
    counted: dict[str, Counter[str]] = {part: Counter() for part in CONTEXT_PARTS}
    for row in rows:
        items = list_items(row.get("context", {}), CONTEXT_PARTS)
        for part in {item.part for item in items}:
            counted[part]["rows"] += 1
        for item in items:
            counted[item.part]["entries"] += 1
            counted[item.part]["characters"] += len(item.text)
    return {
        part: {
            "share": round(counts["rows"] / len(rows), 4),
            "entries": round(counts["entries"] / counts["rows"], 2),
            "characters": round(counts["characters"] / counts["rows"], 1),
        }
        for part, counts in counted.items()
        if counts
    }


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _write_rows(path: Path, rows: Iterable[Row]) -> list[int]:
    """Write a row to a line; return where each begins, in bytes, and where the last ends."""
    places, encode = [0], json.JSONEncoder(ensure_ascii=False).encode
    with atomic_writer(path, "wb") as handle:
        for row in rows:
            line = encode(row).encode("utf-8", "backslashreplace") + b"\n"
            handle.write(line)
            places.append(places[-1] + len(line))
    return places


def _copy_rows(source: Path, target: Path, places: Iterable[tuple[int, int]]) -> None:
    """Write the lines of another file that begin and end at these places."""
    with source.open("rb") as lines, atomic_writer(target, "wb") as handle:
        for start, end in places:
            lines.seek(start)
            handle.write(lines.read(end - start))


def split_path(output: Path, split: str) -> Path:
    """``raw.jsonl`` -> ``raw_training.jsonl`` and so on."""
    return output.with_name(f"{output.stem}_{SPLIT_FILES[split]}{output.suffix}")


def write(collected: Collected, splits: Sequence[str], output: Path, settings: Json) -> Json:
    """Write all rows to ``output``, and next to it each split (shuffled by the seed) and the summary; return that."""
    rows: list[Row] = []
    for test, split in zip(collected.tests, splits, strict=True):
        for row in test.rows:
            if split:
                row["source"]["split"] = split
            rows.append(row)
    if not rows:
        reasons = {unit: dict(counter.most_common(3)) for unit, counter in collected.left_out.items() if counter}
        raise UserError(f"--source: no usable test was found ({dict(collected.counts)}, left out: {reasons})")
    places = list(pairwise(_write_rows(output, rows)))
    used = [name for name in SPLIT_FILES if name in splits]
    if used and (alone := sum(not split for split in splits)):
        warn(f"{alone} tests came without a split: their rows are in {output} alone; --split_by splits all of them")
    for name in used:
        part = [place for row, place in zip(rows, places, strict=True) if row["source"].get("split") == name]
        # A run that takes the first N rows of a file must get rows of all projects.
        random.Random(settings.get("seed", 0)).shuffle(part)
        _copy_rows(output, split_path(output, name), part)
    for name in SPLIT_FILES.keys() - set(used):
        split_path(output, name).unlink(
            missing_ok=True
        )  # an earlier run's file would look as if it belonged to this one

    def by(key: str) -> dict[str, int]:
        return dict(Counter(str(row["source"].get(key, "")) for row in rows).most_common())

    summary = {
        "settings": settings,
        "seen": dict(collected.counts),
        "left_out": {unit: dict(counter.most_common()) for unit, counter in collected.left_out.items() if counter},
        "kept": {"tests": len(collected.tests), "tasks": len(rows)},
        "tasks_by": {key: by(key) for key in SUMMARY_KEYS if key != "split" or used},
        "context": describe_contexts(rows),
    }
    write_json(output.with_suffix(".summary.json"), summary)
    return summary
