"""What the command found, as a JSON object; and the forms that it can take: text, Markdown, SARIF, a diff."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from typing_extensions import NotRequired  # in typing from Python 3.11 on

from evaluation.suggesting.open_tests import OpenTest
from evaluation.suggesting.verdicts import Candidate

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
RULE = "missing-assertion"

ReportedTest = TypedDict(
    "ReportedTest",
    {
        "test": str,
        "class": str,
        "line": int,
        "focal_method": str,
        "focal_as_in": str,  # the test that is about the same method, where nothing in this one tells it
        "chosen": int | None,
        "candidates": list[dict[str, object]],  # the fields of Candidate, and its verdict
        "input": NotRequired[str],  # with --explain
    },
)


class ReportedFile(TypedDict):
    """One test file. ``left_out``: test -> why no assertion can be suggested for it."""

    file: str
    project: str
    tests: list[ReportedTest]
    left_out: dict[str, str]
    diff: str
    applied: bool


class Report(TypedDict):
    """What ``--format json`` prints. ``complete``: whether every file was looked at before --max_minutes."""

    model: str
    executed: bool
    decoding: str
    complete: bool
    files: list[ReportedFile]


def describe_tests(
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
            "focal_as_in": test.focal_as_in,
            "chosen": number,
            "candidates": [{**asdict(item), "verdict": item.verdict()} for item in candidates],
        }
        for test, candidates, number in zip(tests, found, chosen, strict=True)
    ]
    for test, text in zip(reported, inputs, strict=False):
        test["input"] = text
    return reported


def count_unanswered(report: Report) -> int:
    """How many tests that lack an assertion got none."""
    return sum(
        sum(test["chosen"] is None for test in file["tests"]) + len(file["left_out"]) for file in report["files"]
    )


def count_lacking(report: Report) -> int:
    """How many tests lack an assertion, with or without a suggestion."""
    return sum(len(file["tests"]) + len(file["left_out"]) for file in report["files"])


def _best(test: ReportedTest) -> dict[str, Any]:
    return test["candidates"][test["chosen"]] if test["chosen"] is not None else {}


def _show_focal(test: ReportedTest) -> str:
    return test["focal_method"] + (f" (as in {test['focal_as_in']})" if test["focal_as_in"] else "")


def summarise(report: Report) -> str:
    """One line for people: how many of the tests that lack an assertion got one."""
    lacking = count_lacking(report)
    if not lacking:
        return "no test lacks an assertion"
    rest = "" if report["complete"] else "; stopped at --max_minutes, run again for the rest"
    return f"{lacking - count_unanswered(report)} of {lacking} tests that lack an assertion got one{rest}"


# -- forms -----------------------------------------------------------------------------------------------------------


def to_json(report: Report) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False)


def to_diff(report: Report) -> str:
    return "".join(file["diff"] for file in report["files"]).rstrip("\n")


def to_text(report: Report) -> str:
    """For a terminal."""
    blocks = ["\n".join(_file_as_text(file)) for file in report["files"]]
    return "\n\n".join([*filter(None, blocks), summarise(report)])


def _file_as_text(file: ReportedFile) -> Iterator[str]:
    if file["tests"] or file["left_out"]:
        yield file["file"]
    for test in file["tests"]:
        yield f"{test['test']} (line {test['line']}), method under test: {_show_focal(test)}"
        if "input" in test:
            yield "  the model saw:"
            yield from (f"  | {line}" for line in test["input"].split("\n"))
        for number, item in enumerate(test["candidates"]):
            yield f" {'->' if number == test['chosen'] else '  '} {item['assertion']}"
            yield f"      {item['verdict']}"
        if test["chosen"] is None:
            yield "      no candidate is good enough to be written"
    for name, reason in file["left_out"].items():
        yield f"{name}: left out, {reason}"
    if file["diff"]:
        yield ""
        yield file["diff"].rstrip("\n")
    if file["applied"]:
        yield f"{file['file']}: written"


def to_markdown(report: Report) -> str:
    """For a comment on a pull request."""
    lines = ["## Suggested assertions", "", f"{summarise(report)}."]
    for file in report["files"]:
        if not file["tests"] and not file["left_out"]:
            continue
        lines += [
            "",
            f"### {file['file']}",
            "",
            "| test | method under test | suggestion | verdict |",
            "|---|---|---|---|",
        ]
        for test in file["tests"]:
            best = _best(test)
            cells = (
                test["test"],
                _show_focal(test),
                best.get("assertion", ""),
                best.get("verdict", "none is good enough"),
            )
            lines.append(f"| {_cell(cells[0])} | {_cell(cells[1])} | {_code(cells[2])} | {_cell(cells[3])} |")
        lines += [f"| {_cell(name)} | | | left out, {_cell(why)} |" for name, why in file["left_out"].items()]
        if file["diff"]:
            lines += ["", "````diff", file["diff"].rstrip("\n"), "````"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text in a table: on one line, and nothing in it is markup."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\|*_`[":
        line = line.replace(sign, f"\\{sign}" if sign != "|" else "&#124;")
    return line


def _code(text: str) -> str:
    """Code in a table; a bar would end the cell, also within backquotes."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    return f"<code>{line}</code>" if line else ""


def to_sarif(report: Report) -> str:
    """SARIF 2.1.0: one result for each test without an assertion; a suggestion is a fix that a viewer can apply."""
    results = []
    for file in report["files"]:
        for test in file["tests"]:
            best = _best(test)
            text = f"{test['test']} asserts nothing about {test['focal_method']}."
            if best:
                text += f" Suggested ({best['verdict']}): {best['assertion']}"
            results.append(_make_result(file["file"], test["line"], text, test))
        for name, reason in file["left_out"].items():
            results.append(_make_result(file["file"], 1, f"{name} asserts nothing; no suggestion: {reason}.", None))
    rule = {
        "id": RULE,
        "name": "MissingAssertion",
        "shortDescription": {"text": "A test without an assertion."},
        "fullDescription": {"text": "A test that checks nothing passes whatever the code under test does."},
        "defaultConfiguration": {"level": "warning"},
    }
    driver = {"name": "suggest_assertions", "rules": [rule]}
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _make_result(file: str, line: int, text: str, test: ReportedTest | None) -> dict[str, Any]:
    location = {"physicalLocation": {"artifactLocation": {"uri": _to_uri(file)}, "region": {"startLine": line}}}
    result: dict[str, Any] = {
        "ruleId": RULE,
        "ruleIndex": 0,
        "level": "warning",
        "message": {"text": text},
        "locations": [location],
    }
    if test is not None:
        result["partialFingerprints"] = {"test/v1": f"{test['class']}#{test['test']}"}
    return result


def _to_uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": to_text,
    "diff": to_diff,
    "markdown": to_markdown,
    "json": to_json,
    "sarif": to_sarif,
}
