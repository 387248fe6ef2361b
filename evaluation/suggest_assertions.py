"""Suggest the assertions that a Java test file lacks: generate candidates, run them, show a diff or write it.

Exit code: 0 if every test that lacks an assertion got one, 1 if some did not, 2 for an error.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from typing_extensions import NotRequired  # in typing from Python 3.11 on

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.defaults import DataConfig, HardwareConfig
from evaluation.execution_settings import ExecutionSettings
from utils.arguments import ArgumentParser
from utils.atomic_io import atomic_writer
from utils.errors import UserError, run_main

if TYPE_CHECKING:
    from evaluation.running.execution import ProjectExecutor
    from evaluation.running.open_tests import OpenTest
    from evaluation.running.outcomes import Outcome

NOT_RUN = "not run"


@dataclass(frozen=True)
class Candidate:
    """An assertion that the model wrote; ``beam``: its place in the model's ranking, from 1; the rest as in Outcome."""

    assertion: str
    beam: int
    status: str = NOT_RUN
    reason: str = ""
    compiled: bool | None = None
    passed: bool | None = None
    nontrivial: bool | None = None
    imports: tuple[str, ...] = ()
    killed: str = ""

    @property
    def grade(self) -> int:
        """3: passes, and fails once the focal method is broken; 2: passes, no mutants; 1: compiles; 0: the rest."""
        if self.passed:
            return {True: 3, None: 2, False: 1}[self.nontrivial]
        return int(bool(self.compiled))

    @property
    def acceptable(self) -> bool:
        """Whether it may be written into the file. So may what was not run: the user asked for that."""
        return self.status == NOT_RUN or self.grade >= 2

    def verdict(self) -> str:
        """What running it showed, for people."""
        return {
            3: f"passes; fails when broken ({self.killed})",
            2: "passes; no way found to break the method",
            1: "passes, whatever the method does" if self.passed else f"{self.status}: {self.reason}",
            0: f"{self.status}: {self.reason}" if self.reason else self.status,
        }[self.grade]


ReportedTest = TypedDict(
    "ReportedTest",
    {
        "test": str,
        "class": str,
        "line": int,
        "focal_method": str,
        "chosen": int | None,
        "candidates": list[dict[str, object]],  # the fields of Candidate, and its verdict
        "input": NotRequired[str],  # with --explain
    },
)


class Report(TypedDict):
    """What ``--json`` prints. ``left_out``: test -> why no assertion can be suggested for it."""

    file: str
    project: str
    model: str
    executed: bool
    tests: list[ReportedTest]
    left_out: dict[str, str]
    diff: str
    applied: bool


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags, checked before anything is loaded."""
    parser = ArgumentParser(__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder or hub name of a trained model")
    add(
        "test",
        metavar="FooTest.java[#method]",
        help="a test file; #method names one test, whether or not it has assertions",
    )
    add("--project", type=Path, metavar="DIR", help="the project (default: the nearest folder above with a build file)")
    add("--class_path", help="jars and class folders, joined like $CLASSPATH; default for Maven: mvn -o")
    add("-k", "--candidates", type=int, default=5, metavar="K", help="candidates per test (default %(default)d)")
    add("--num_beams", type=int, help="beams of the search (default: K, at least 4)")
    add("--apply", action="store_true", help="write the suggestions into the file")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--explain", action="store_true", help="also print exactly the text that the model saw for each test")
    add("--no_execution", action="store_true", help="do not run the candidates: no JDK and no class path needed")
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
    for flag in ("candidates", "timeout", "max_input_len", "max_output_len"):
        if not 0 < getattr(args, flag) < float("inf"):
            raise UserError(f"--{flag} {getattr(args, flag)}: must be a number above 0")
    if args.num_beams is None:
        args.num_beams = max(4, args.candidates)
    if args.num_beams < args.candidates:
        raise UserError(f"--num_beams {args.num_beams}: must be at least the number of candidates, {args.candidates}")
    return args


def locate_test(test: str, project: Path | None) -> tuple[Path, Path, str]:
    """The file, its project and the method (maybe empty) of ``path/FooTest.java#method``."""
    from evaluation.running.open_tests import find_project

    name, _, method = test.partition("#")
    file = Path(name).resolve()
    if not file.is_file():
        raise UserError(f"{name}: no such file")
    if file.suffix != ".java":
        raise UserError(f"{name}: not a Java file")
    folder = project.resolve() if project is not None else find_project(file)
    if folder not in file.parents:
        raise UserError(f"--project {project}: {name} is not in it")
    return file, folder, method


def generate_assertions(args: argparse.Namespace, tests: Sequence[OpenTest]) -> tuple[list[list[str]], list[str]]:
    """For each test its candidates, best first, without empty and repeated ones; and the text that the model saw."""
    from transformers.utils import logging

    from data.java.tokens import one_line
    from data.rows.tokenization import TaskEncoder
    from evaluation.running.splice import with_semicolon
    from models.decoding.generate import GenerationOptions, generate_candidates
    from models.exported.loading import open_model
    from utils.device import resolve_device

    logging.disable_progress_bar()
    writer = open_model(
        args.model, "MODEL", resolve_device(args.device), (args.max_input_len, args.max_output_len)
    ).writer
    encoder = TaskEncoder(writer.tokenizer, writer.text_format)
    rows = [encoder.source(test.sample, args.max_input_len) for test in tests]
    options = GenerationOptions(
        max_output_len=args.max_output_len,
        batch_size=8,
        num_beams=args.num_beams,
        num_return_sequences=args.candidates,
        decoding="names",
    )
    texts = generate_candidates(writer, rows, options)
    candidates = [
        list(
            dict.fromkeys(
                "\n".join(with_semicolon(one_line(line)) for line in text.split("\n")) for text in found if text
            )
        )
        for found in texts
    ]
    return candidates, [encoder.show(ids) for ids in rows]


def judge_candidates(
    executor: ProjectExecutor | None, tests: Sequence[OpenTest], texts: Sequence[Sequence[str]], file: bytes
) -> list[list[Candidate]]:
    """The candidates of each test, best first: by what running them showed, then by the model's ranking."""
    if executor is None:
        from data.java.statements import is_valid_java
        from evaluation.running.splice import as_utf8, find_missing_imports

        java = as_utf8(file)[0]
        return [
            [
                Candidate(text, place, imports=tuple(find_missing_imports(java, test.source["framework"], text)))
                for place, text in enumerate(found, 1)
                if is_valid_java(text)
            ]
            for test, found in zip(tests, texts, strict=True)
        ]
    flat = [
        (test, place, text) for test, found in zip(tests, texts, strict=True) for place, text in enumerate(found, 1)
    ]
    with executor:
        outcomes = executor.execute([test.source for test, _, _ in flat], [text for _, _, text in flat])
    judged: dict[int, list[Candidate]] = {id(test): [] for test in tests}
    for (test, place, text), outcome in zip(flat, outcomes, strict=True):
        judged[id(test)].append(make_candidate(text, place, outcome))
    return [sorted(found, key=lambda item: (-item.grade, item.beam)) for found in judged.values()]


def make_candidate(text: str, beam: int, outcome: Outcome) -> Candidate:
    """A candidate with what running it showed."""
    return Candidate(
        text,
        beam,
        outcome.status,
        outcome.reason,
        outcome.compiled,
        outcome.passed,
        outcome.nontrivial,
        outcome.imports,
        outcome.killed,
    )


def insert_suggestions(raw: bytes, chosen: Sequence[tuple[OpenTest, Candidate]]) -> bytes:
    """The file's bytes with the chosen assertions and the imports that they need; encoding and line ends stay."""
    from evaluation.running.splice import IMPORT

    newline = b"\r\n" if b"\r\n" in raw else b"\n"
    try:
        raw.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"
    edits: list[tuple[int, bytes]] = []
    for test, item in chosen:
        body = f"{newline.decode()}{test.indent}".join(item.assertion.split("\n"))
        edits.append((test.position, f"{test.before}{body}{test.after}".encode(encoding, "replace")))
    imports = dict.fromkeys(line for _, item in chosen for line in item.imports)
    if imports:
        place = max((match.end() for match in IMPORT.finditer(raw)), default=0)
        lines = [f"import {line};".encode() for line in imports]
        edits.append((place, newline + newline.join(lines) if place else newline.join(lines) + newline))
    for position, text in sorted(edits, key=lambda edit: edit[0], reverse=True):
        raw = raw[:position] + text + raw[position:]
    return raw


def make_diff(before: bytes, after: bytes, name: str) -> str:
    """A unified diff that ``git apply`` understands; bytes that are not UTF-8 are replaced."""

    def lines(content: bytes) -> list[str]:
        text = content.decode("utf-8", "surrogateescape")
        return re.findall(r"[^\n]*\n|[^\n]+", text)  # splitlines would also split at form feeds

    pieces = difflib.unified_diff(lines(before), lines(after), f"a/{name}", f"b/{name}")
    text = "".join(piece if piece.endswith("\n") else f"{piece}\n\\ No newline at end of file\n" for piece in pieces)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_back(file: Path, before: bytes, after: bytes) -> None:
    """Replace the file in one step. Raises UserError where somebody has changed it in the meantime."""
    if file.read_bytes() != before:
        raise UserError(f"{file}: changed while the candidates ran; nothing was written, run again")
    mode = file.stat().st_mode
    with atomic_writer(file, "wb") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(after)


def format_report(report: Report) -> str:
    """The report for people."""
    lines = []
    for test in report["tests"]:
        lines.append(f"{test['test']} (line {test['line']}), method under test: {test['focal_method']}")
        if "input" in test:
            lines += ["  the model saw:", *(f"  | {line}" for line in test["input"].split("\n"))]
        for number, item in enumerate(test["candidates"]):
            mark = "->" if number == test["chosen"] else "  "
            lines += [f" {mark} {item['assertion']}", f"      {item['verdict']}"]
        if test["chosen"] is None:
            lines.append("      no candidate is good enough to be written")
    lines += [f"{name}: left out, {reason}" for name, reason in report["left_out"].items()]
    if not report["tests"] and not report["left_out"]:
        lines.append(f"{report['file']}: no test lacks an assertion")
    if report["diff"]:
        lines += ["", report["diff"].rstrip("\n")]
    if report["applied"]:
        lines += ["", f"{report['file']}: written"]
    return "\n".join(lines)


def make_report(
    tests: Sequence[OpenTest],
    found: Sequence[Sequence[Candidate]],
    chosen: Sequence[int | None],
    inputs: Sequence[str] = (),
) -> list[ReportedTest]:
    """The tests with their candidates, which of them was ``chosen``, and with ``inputs`` what the model saw."""
    reported: list[ReportedTest] = [
        {
            "test": test.name,
            "class": test.source["test_class"],
            "line": test.line,
            "focal_method": test.focal_name,
            "chosen": number,
            "candidates": [{**asdict(item), "verdict": item.verdict()} for item in candidates],
        }
        for test, candidates, number in zip(tests, found, chosen, strict=True)
    ]
    for test, text in zip(reported, inputs, strict=False):
        test["input"] = text
    return reported


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    file, project, method = locate_test(args.test, args.project)
    from evaluation.running.open_tests import find_open_tests
    from utils.signals import exit_on_signal

    exit_on_signal("run it again")
    before = file.read_bytes()
    tests, left_out = find_open_tests(project, file, method)
    executor = None
    if tests and not args.no_execution:  # first, so that a missing JDK or jar is noticed before the model writes
        from evaluation.running.execution import ProjectExecutor

        settings = ExecutionSettings(
            workers=min(2, os.cpu_count() or 1), timeout_s=args.timeout, jdk_home=args.jdk_home
        )
        executor = ProjectExecutor(project, args.class_path, settings)
    texts, inputs = generate_assertions(args, tests) if tests else ([], [])
    found = judge_candidates(executor, tests, texts, before) if tests else []
    chosen = [next((number for number, item in enumerate(items) if item.acceptable), None) for items in found]
    picks = [
        (test, items[number]) for test, items, number in zip(tests, found, chosen, strict=True) if number is not None
    ]
    after = insert_suggestions(before, picks)
    if args.apply and after != before:
        write_back(file, before, after)
    name = file.relative_to(project).as_posix()
    report: Report = {
        "file": name,
        "project": str(project),
        "model": args.model,
        "executed": not args.no_execution,
        "tests": make_report(tests, found, chosen, inputs if args.explain else ()),
        "left_out": left_out,
        "diff": make_diff(before, after, name),
        "applied": args.apply and after != before,
    }
    print(json.dumps(report, indent=2, ensure_ascii=False) if args.json else format_report(report))
    return int(len(picks) < len(tests) or bool(left_out))


if __name__ == "__main__":
    run_main(main)
