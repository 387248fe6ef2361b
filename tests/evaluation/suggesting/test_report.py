"""The forms of a report, each read by something else than this program."""

from __future__ import annotations

import json

import pytest

from evaluation.suggesting.report import FORMATS, count_unanswered


def make_report(**changes):
    candidate = {
        "assertion": 'assertEquals("a|b<c>", x.y());',
        "verdict": "passes; fails when broken (line 3: a || b -> c)",
    }
    test = {
        "test": "testY",
        "class": "a.XTest",
        "line": 7,
        "focal_method": "X.y",
        "focal_as_in": "",
        "chosen": 0,
        "candidates": [candidate],
    }
    file = {
        "file": "src/test/java/a b/XTest.java",
        "project": "/p",
        "tests": [test, {**test, "test": "testZ", "chosen": None, "candidates": []}],
        "left_out": {"testNone": "no focal method"},
        "diff": "--- a/X\n+++ b/X\n@@ -1 +1 @@\n-a\n+b\n",
        "applied": False,
    }
    return {"model": "m", "executed": True, "decoding": "names", "complete": True, "files": [file], **changes}


def test_sarif_follows_its_schema():
    """The classes of pydantic-sarif are generated from the schema of SARIF 2.1.0."""
    model = pytest.importorskip("pydantic_sarif.model")
    log = json.loads(FORMATS["sarif"](make_report()))
    (run,) = log["runs"]
    parsed = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(log)
    assert len(parsed.runs[0].results) == 3
    assert run["results"][0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "src/test/java/a%20b/XTest.java"},
        "region": {"startLine": 7},
    }
    assert all(result["ruleId"] == run["tool"]["driver"]["rules"][0]["id"] for result in run["results"])
    with pytest.raises(ValueError, match="level"):
        run["results"][0]["level"] = "grave"
        model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(log)


def test_people_are_told_which_other_test_told_the_method():
    report = make_report()
    report["files"][0]["tests"][0]["focal_as_in"] = "testOther"
    assert "testY (line 7), method under test: X.y (as in testOther)" in FORMATS["text"](report)
    assert "| X.y (as in testOther) |" in FORMATS["markdown"](report)


def test_markdown_keeps_code_in_its_cells():
    lines = FORMATS["markdown"](make_report()).split("\n")
    rows = [line for line in lines if line.startswith("| test")]
    assert all(line.count("|") == 5 for line in rows) and len(rows) == 4
    assert '<code>assertEquals("a&#124;b&lt;c&gt;", x.y());</code>' in rows[1]
    assert "````diff\n--- a/X" in "\n".join(lines)


def test_the_diff_alone_can_be_piped_on():
    assert FORMATS["diff"](make_report()) == "--- a/X\n+++ b/X\n@@ -1 +1 @@\n-a\n+b"


def test_text_counts_what_got_an_assertion():
    text = FORMATS["text"](make_report(complete=False))
    assert text.endswith(
        "1 of 3 tests that lack an assertion got one; stopped at --max_minutes, run again for the rest"
    )
    assert FORMATS["text"](make_report(files=[])) == "no test lacks an assertion"
    assert count_unanswered(make_report()) == 2


def test_json_is_the_report():
    assert json.loads(FORMATS["json"](make_report())) == make_report()
