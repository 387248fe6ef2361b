"""Suggest the assertions that Java tests lack: generate candidates, run them, show a diff or write it.

A PATH is a test file, FooTest.java#method for one test whether or not it has assertions, or a folder.

Exit code: 0 if every test that lacks an assertion got one, 1 if some did not (with --check: if one lacks an assertion),
2 for an error.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.defaults import DataConfig, HardwareConfig
from evaluation.execution_settings import ExecutionSettings
from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main
from utils.signals import exit_on_signal

if TYPE_CHECKING:
    from evaluation.running.execution import ProjectExecutor
    from evaluation.suggesting.draft import Draft
    from evaluation.suggesting.open_tests import OpenTest
    from evaluation.suggesting.places import Places
    from evaluation.suggesting.report import ReportedFile
    from evaluation.suggesting.scope import ScopeService
    from evaluation.suggesting.student import Student

FORMATS = ("text", "diff", "markdown", "json", "sarif")
TESTS_AT_ONCE = 8


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags, checked before anything is loaded."""
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder or hub name of a trained model")
    add("paths", metavar="PATH", nargs="+", help="a test file, FooTest.java#method, or a folder")
    add("--project", type=Path, metavar="DIR", help="the project (default: found by its build file, or its layout)")
    add("--class_path", help="jars and class folders, joined like $CLASSPATH; default: what Maven or Gradle says")
    add("-k", "--candidates", type=int, default=5, metavar="K", help="beams that are used (default %(default)d)")
    add("--num_beams", type=int, help="beams of the search (default: K, at least 4)")
    add(
        "--decoding",
        choices=("free", "java", "names", "types"),
        help="what the model may write (docs/suggestions.md); default: types, and names with --no_execution",
    )
    add("--no_pool", action="store_true", help="only what the model writes: no copies of other tests, no templates")
    add(
        "--repair", action="store_true", help="where nothing passes, offer what the run observed: holds today, check it"
    )
    add("--format", choices=FORMATS, default="text", help="what is printed (default %(default)s)")
    add("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    add("--apply", action="store_true", help="write the suggestions into the files")
    add("--check", action="store_true", help="exit code 1 if a test lacks an assertion, found or not")
    add("--explain", action="store_true", help="also print exactly the text that the model saw for each test")
    add("--max_minutes", type=float, help="stop after this time; what was found until then is shown and applied")
    add(
        "--no_execution",
        action="store_true",
        help="do not run the candidates: no JDK and no class path needed, but with --decoding types",
    )
    add(
        "--timeout",
        type=float,
        default=ExecutionSettings.timeout_s,
        metavar="SECONDS",
        help="limit of one run of one test (default %(default)g)",
    )
    add("--jdk_home", help="JDK >= 11 (default: $JAVA_HOME, else that of javac on the PATH)")
    add("--max_input_len", type=int, default=DataConfig.max_input_len)
    add("--max_output_len", type=int, default=DataConfig.max_output_len)
    add("--device", default=HardwareConfig.device, help="auto, cpu, cuda, cuda:N, mps (default %(default)s)")
    args = parser.parse_args(argv)
    for flag in ("candidates", "timeout", "max_input_len", "max_output_len", "max_minutes"):
        value = getattr(args, flag)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{flag} {value}: must be a number above 0")
    if args.decoding is None:
        args.decoding = "names" if args.no_execution else "types"
    if args.repair and args.no_execution:
        raise UserError("--repair offers what running the candidates showed; leave --no_execution out")
    if args.num_beams is None:
        args.num_beams = max(4, args.candidates)
    if args.num_beams < args.candidates:
        raise UserError(f"--num_beams {args.num_beams}: must be at least the number of candidates, {args.candidates}")
    return args


@dataclass
class _Work:
    """A test file that is looked at: its tests without an assertion, those left out and why, and its bytes."""

    project: Path
    file: Path
    before: bytes
    tests: list[OpenTest]
    left_out: dict[str, str]
    executor: ProjectExecutor | None = None
    scopes: ScopeService | None = None

    @property
    def name(self) -> str:
        return self.file.relative_to(self.project).as_posix()


def find_work(args: argparse.Namespace) -> list[_Work]:
    """The files with tests that lack an assertion, and what runs each project's tests or asks javac.

    Raises UserError where something is missing for that: before a model is loaded.
    """
    from evaluation.suggesting.open_tests import OpenTests
    from evaluation.suggesting.targets import find_targets

    found: list[_Work] = []
    for target in find_targets(args.paths, args.project):
        reader = OpenTests(target.project)
        named = dict.fromkeys(target.files)
        for folder in target.folders:
            below = [file for file in reader.list_test_files() if folder in file.parents]
            if not below:
                raise UserError(f"{folder}: holds no JUnit or TestNG tests")
            named |= dict.fromkeys((file, "") for file in below if (file, "") not in named)
        works = []
        for file, method in named:
            before = file.read_bytes()  # what is found counts in these bytes, and they are what may be replaced
            try:
                works.append(_Work(target.project, file, before, *reader.find(file, method, before)))
            except UserError as error:  # a tool that hands over all changed files cannot know which hold tests
                if method or len(args.paths) == 1:
                    raise
                print(f"passed over: {error}", file=sys.stderr)
        works = [work for work in works if work.tests or work.left_out or (work.file, "") in target.files]
        frameworks = [test.source["framework"] for work in works for test in work.tests]
        executor, scopes = make_tools(args, target.project, frameworks) if frameworks else (None, None)
        tool = executor or scopes
        for work in works:
            work.executor, work.scopes = executor, scopes
            if tool is not None and work.name in tool.class_path.left_out:
                why = f"its file does not compile: {tool.class_path.left_out[work.name]}"
                work.left_out |= dict.fromkeys((test.name for test in work.tests), why)
                work.tests.clear()
        found += works
    return found


def make_tools(
    args: argparse.Namespace, project: Path, frameworks: Sequence[str]
) -> tuple[ProjectExecutor | None, ScopeService | None]:
    """What runs the tests of a project, and what asks javac about them, as far as each is wanted.

    ``frameworks``: of each test that is asked for.
    Raises UserError where there is no JDK, no class path, or no JUnit in it.
    """
    from evaluation.running.class_path import resolve_class_path
    from evaluation.running.execution import ProjectExecutor
    from evaluation.running.jdk import find_jdk
    from evaluation.suggesting.preflight import check_frameworks
    from evaluation.suggesting.scope import ScopeService

    if args.no_execution and args.decoding != "types":
        return None, None
    executor = None
    if args.no_execution:
        jdk = find_jdk(args.jdk_home)
        class_path = resolve_class_path(project, args.class_path, jdk)
    else:
        workers = min(2, os.cpu_count() or 1, len(frameworks))  # for one test, two more JVMs take longer than they save
        settings = ExecutionSettings(workers=workers, timeout_s=args.timeout, jdk_home=args.jdk_home)
        executor = ProjectExecutor(project, args.class_path, settings)
        jdk, class_path = executor.jdk, executor.class_path
    check_frameworks(project, class_path, frameworks, run=executor is not None)
    return executor, ScopeService(jdk, class_path)


def load_student(args: argparse.Namespace) -> Student:
    """The model, once for all projects."""
    from transformers.utils import logging

    from evaluation.suggesting.student import Student
    from models.decoding.generate import GenerationOptions
    from models.exported.loading import open_model
    from utils.device import resolve_device

    logging.disable_progress_bar()
    options = GenerationOptions(
        max_input_len=args.max_input_len,
        max_output_len=args.max_output_len,
        batch_size=TESTS_AT_ONCE,
        num_beams=args.num_beams,
        num_return_sequences=args.candidates,
        fewest=1 if args.no_pool else 0,  # the pool has others, and a mended text is an unlikely one
        decoding=args.decoding,
    )
    lengths = args.max_input_len, args.max_output_len
    return Student(open_model(args.model, "MODEL", str(resolve_device(args.device)), lengths).writer, options)


def find_places(work: _Work, tests: Sequence[OpenTest], args: argparse.Namespace) -> Places | None:
    """What asks javac about the places of some tests of a file, where it is to be asked."""
    from evaluation.suggesting.places import Places

    asked = work.scopes if args.decoding == "types" else None
    return Places(asked, work.file.name, work.before, tests) if asked is not None else None


def warm_up(work: _Work, args: argparse.Namespace, beside: Executor) -> list[Future[object]]:
    """What can be done for the first tests while the model is loaded: start the JVMs, run the tests as they are."""
    tests = work.tests[:TESTS_AT_ONCE]
    started: list[Future[object]] = []
    if work.executor is not None:
        started.append(beside.submit(work.executor.run_controls, [test.source for test in tests]))
    if places := find_places(work, tests, args):
        started.append(beside.submit(places.look))
    return started


def suggest(work: _Work, student: Student, args: argparse.Namespace) -> ReportedFile:
    """The suggestions for one file, which is written where that is wanted."""
    from evaluation.running.splice import as_utf8
    from evaluation.suggesting.apply import insert_suggestions, make_diff, write_back
    from evaluation.suggesting.pool import fill_pools
    from evaluation.suggesting.report import describe_tests
    from evaluation.suggesting.together import choose_together
    from evaluation.suggesting.verdicts import Candidate, choose, judge, judge_rest, leave_unjudged, mend

    executor = work.executor
    drafts: list[list[Draft]] = []
    found: list[list[Candidate]] = []
    for start in range(0, len(work.tests), TESTS_AT_ONCE):
        tests = work.tests[start : start + TESTS_AT_ONCE]
        places = find_places(work, tests, args)
        looked = places.look() if places is not None else []
        for test, scope in zip(tests, looked, strict=False):
            if isinstance(scope, str):
                print(f"{work.name}: {test.name}: decoding with names, not with types: {scope}", file=sys.stderr)
        scopes = [None if isinstance(scope, str) else scope for scope in looked]
        check = places.check if places is not None and executor is None else None  # what is run is compiled anyway
        pools = fill_pools([test.sample for test in tests], student, scopes, not args.no_pool, check)
        for test, refused in zip(tests, places.refused if places is not None else [], strict=False):
            if refused:
                print(f"{work.name}: {test.name}: javac takes none of the candidates: {refused}", file=sys.stderr)
        drafts += pools
        if executor is not None:
            judged = judge(executor, tests, pools)
            found += mend(executor, tests, judged) if args.repair else judged
        else:
            java = as_utf8(work.before)[0]
            found += [leave_unjudged(test, pool, java) for test, pool in zip(tests, pools, strict=True)]

    def find_more(at: int) -> list[Candidate]:
        return judge_rest(executor, work.tests[at], drafts[at], found[at]) if executor is not None else []

    if work.scopes is not None:
        chosen = choose_together(work.scopes, work.file.name, work.before, work.tests, found, find_more)
    else:
        chosen = [choose(items) for items in found]
    picks = [
        (test, items[number])
        for test, items, number in zip(work.tests, found, chosen, strict=True)
        if number is not None
    ]
    after = insert_suggestions(work.before, picks)
    if args.apply and after != work.before:
        write_back(work.file, work.before, after)
    return {
        "file": work.name,
        "project": str(work.project),
        "tests": describe_tests(
            work.tests, found, chosen, [student.show(test.sample) for test in work.tests] if args.explain else ()
        ),
        "left_out": work.left_out,
        "diff": make_diff(work.before, after, work.name),
        "applied": args.apply and after != work.before,
    }


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    exit_on_signal("run it again")
    end = time.monotonic() + 60 * args.max_minutes if args.max_minutes else float("inf")
    works = find_work(args)
    from evaluation.progress import show_progress
    from evaluation.suggesting.report import FORMATS as RENDERED
    from evaluation.suggesting.report import Report, count_lacking, count_unanswered

    report: Report = {
        "model": args.model,
        "executed": not args.no_execution,
        "decoding": args.decoding,
        "complete": True,
        "files": [],
    }
    to_ask = [work for work in works if work.tests]
    failed: list[UserError] = []
    with ExitStack() as running, show_progress("suggesting", sum(len(work.tests) for work in works)) as count:
        for started in dict.fromkeys(item for work in works for item in (work.executor, work.scopes)):
            if started is not None:
                running.enter_context(started)
        beside = running.enter_context(ThreadPoolExecutor())  # the last: it is waited for before the JVMs are closed
        warming = [future for work in to_ask[:1] for future in warm_up(work, args, beside)]
        student = load_student(args) if to_ask else None
        for future in warming:
            future.result()
        for work in works:
            if time.monotonic() > end and work.tests:
                report["complete"] = False
                work.left_out |= dict.fromkeys((test.name for test in work.tests), "not reached before --max_minutes")
                work.tests.clear()
            try:
                report["files"].append(suggest(work, student, args))  # type: ignore[arg-type]  # unused without tests
            except UserError as error:  # this file changed meanwhile: what the others got is kept
                failed.append(error)
            count(len(work.tests))
    if text := RENDERED[args.format](report):
        print(text)
    if failed:
        raise failed[0]
    return int((count_lacking if args.check else count_unanswered)(report) > 0)


if __name__ == "__main__":
    run_main(main)
