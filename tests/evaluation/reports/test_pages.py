"""The files of an evaluation: summary, CSV, rows and the report for people."""

import csv
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from evaluation.reports.files import write_results
from evaluation.reports.pages import (
    MAX_SAMPLES,
    make_html_report,
    make_markdown_report,
    make_text_table,
    state_verdicts,
)
from evaluation.reports.results import (
    build_summary,
    compare,
    explain_absence,
    judge,
    make_task_rows,
    mark_differences,
    name_failure,
)
from evaluation.running.outcomes import Outcome
from evaluation.systems.models import System
from tests.helpers.evaluated import HOSTILE, N, evaluate, samples, system
from utils.metrics import METRICS


@pytest.fixture(scope="module")
def evaluated():
    return evaluate()


# -- the summary


def test_summary_has_its_objects_and_every_metric(evaluated):
    summary, _ = evaluated
    assert list(summary) == ["teacher", "student", "baselines", "comparison", "strata", "run"]
    systems = [summary["teacher"], summary["student"], *summary["baselines"].values()]
    for metrics in systems:
        assert set(metrics) == set(METRICS)
        for found in metrics.values():
            if found["value"] is None:
                assert found["reason"]
            else:
                assert set(found) == {"value", "low", "high", "n"}
                assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert summary["student"]["exact_match"]["value"] == pytest.approx(16 / 24)
    assert summary["student"]["pass_rate"]["value"] == pytest.approx(16 / 24)
    assert summary["teacher"]["knowledge_retention_score"]["value"] is None
    json.dumps(summary, allow_nan=False)


def test_comparison(evaluated):
    comparison = evaluated[0]["comparison"]
    found = comparison["student_minus_no_teacher"]["exact_match"]
    assert found["value"] == pytest.approx(6 / 24)
    assert found["n"] == N
    assert found["p_value"] <= found["p_value_holm"] <= 1
    assert comparison["student_minus_teacher"]["exact_match"]["value"] == pytest.approx(-4 / 24)
    # 16 tasks as the teacher, 4 both wrong alike, 4 where only the teacher is right.
    assert 20 / 24 <= comparison["output_agreement"]["value"] < 1


def test_rates_of_few_stable_tasks_count_those_alone():
    """Two of 24 could be judged: Wilson's interval and the comparison are of two."""
    tasks = samples()
    outcomes = [Outcome("dropped", "no reason")] * 22 + [Outcome("passed", "", True, True, True)] * 2
    first, second = (judge(system(name, 20), tasks, None, 0, outcomes=outcomes) for name in ("student", "teacher"))
    rate = first.evaluation.summarise()["pass_rate"]
    assert (rate["value"], rate["n"]) == (1.0, 2) and rate["low"] == pytest.approx(0.342, abs=1e-3)
    assert compare(first, second)["pass_rate"]["n"] == 2


def test_student_on_fewer_tasks_is_compared_on_those():
    tasks = samples()
    teacher = judge(system("teacher", 20), tasks, None, 0)
    student = judge(System("student", [task.target for task in tasks[:10]]), tasks, None, 0)
    found = compare(student, teacher)["exact_match"]
    assert (found["value"], found["n"]) == (0, 10)
    rows = make_task_rows(tasks, {"teacher": teacher, "student": student})
    assert len(rows) == 10


def test_clusters_are_test_classes():
    tasks = samples()
    clustered = judge(system("student", 12), tasks, None, 0).evaluation
    assert len(set(clustered.clusters)) == 12


def test_no_student_is_said(tmp_path):
    tasks = samples()
    judged = {"teacher": judge(system("teacher", 20), tasks, None, 0, reasons={"semantic_similarity": "no encoder"})}
    summary = build_summary(judged, {"student": "none was given", "no_teacher": "neither"}, {"tasks": N}, {})
    assert summary["student"] == explain_absence("none was given")
    assert summary["baselines"]["no_teacher"]["f1"]["reason"] == "neither"
    write_results(tmp_path, summary, make_task_rows(tasks, judged))
    assert "none was given" in (tmp_path / "report.md").read_text()
    assert "no encoder" in (tmp_path / "report.html").read_text()


# -- rows


def test_rows_say_input_reference_prediction_and_metrics(evaluated):
    row = evaluated[1][20]
    assert row["prediction"] == row["systems"]["student"]["prediction"] == "assertNull(other20);"
    assert row["reference"] == ["assertEquals(20, box.get20());"]
    assert row["metrics"]["exact_match"] == 0
    assert row["systems"]["student"]["failure"] == "other kind of assertion"
    assert row["systems"]["student"]["execution"]["status"] == "failed"
    assert HOSTILE in row["input"]["test"]


def test_row_without_a_value_is_null():
    tasks = samples(2)
    one = System("student", ["f();", "g();"], None, {"critical_token_accuracy": np.array([np.nan, 1.0])})
    rows = make_task_rows(tasks, {"student": judge(one, tasks, None, 0)})
    assert rows[0]["metrics"]["critical_token_accuracy"] is None
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("assertEquals(1, x);", "right"),
        ("", "empty"),
        ("// nothing", "empty"),
        ("assertEquals(1, x", "not Java"),
        ("assertEquals(1, x); assertTrue(y);", "other number of assertions"),
        ("assertTrue(x);", "other kind of assertion"),
        ("assertEquals(2, x);", "other arguments"),
    ],
)
def test_failures(prediction, expected):
    from evaluation.scores.text import score_task

    values = score_task(prediction, ["assertEquals(1, x);"]).values
    assert (
        name_failure(prediction, "assertEquals(1, x);", values["exact_match"] == 1, values["ast_validity"] == 1)
        == expected
    )


def test_marked_pieces_are_the_text_and_mark_what_differs():
    text, other = "assertEquals(1, x.get());\nassertTrue(y);", "assertEquals(2, x.get());"
    pieces = mark_differences(text, other)
    assert "".join(piece for _, piece in pieces) == text
    assert [piece for mark, piece in pieces if mark] == ["1", "assertTrue(y);"]
    assert mark_differences(text, text) == [(0, text)]
    assert mark_differences("", other) == []
    assert [mark for mark, _ in mark_differences("a b", "")] == [1]


# -- files


def test_files(tmp_path, evaluated):
    summary, rows = evaluated
    write_results(tmp_path, summary, rows)
    lines = [json.loads(line) for line in (tmp_path / "predictions_final.jsonl").read_text().splitlines()]
    assert lines == rows
    assert json.loads((tmp_path / "metrics_summary_final.json").read_text()) == summary
    with open(tmp_path / "metrics_final.csv") as handle:
        table = list(csv.DictReader(handle))
    assert len(table) == 5 * len(METRICS)
    found = {(row["system"], row["metric"]): row for row in table}
    assert float(found["student", "exact_match"]["value"]) == pytest.approx(16 / 24)
    assert found["trivial", "f1"]["reason"] == "left out"
    assert found["trivial", "f1"]["value"] == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics_final.csv",
        "metrics_summary_final.json",
        "predictions_final.jsonl",
        "report.html",
        "report.md",
    ]


def test_markdown_tables_are_whole(evaluated):
    text = make_markdown_report(evaluated[0])
    width = None
    for line in text.splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (None, cells), line
        width = cells
    for title in ("Scores", "Differences", "Run in their tests", "Cost", "By kind of assertion", "Not computed"):
        assert f"## {title}" in text


def test_terminal_table(evaluated):
    lines = make_text_table(evaluated[0]).splitlines()
    assert lines[0].split("  ")[0] == "metric"
    assert any(line.startswith("Exact match ") and "0.667" in line for line in lines)


# -- what it says


def sentences(summary):
    return " ".join(f"[{kind}] {sentence}" for kind, sentence in state_verdicts(summary))


def test_verdict_on_the_teacher_s_help():
    assert "[good] What the teacher added" in sentences(evaluate(student=22, no_teacher=6)[0])
    assert "[bad] What the teacher added" in sentences(evaluate(student=6, no_teacher=22)[0])
    assert "[warn] What the teacher added" in sentences(evaluate(student=12, no_teacher=12)[0])


def test_of_one_class_no_interval_is_drawn_and_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr("evaluation.reports.results.find_clusters", lambda samples: ["OnlyTest"] * len(samples))
    summary, rows = evaluate(student=22, no_teacher=6)
    assert "[warn] What the teacher added" in sentences(summary)
    for page in (make_markdown_report(summary), make_html_report(summary, rows), make_text_table(summary)):
        assert "None" not in page and "nan" not in page
    assert "one class: no interval" in make_markdown_report(summary)


def test_warnings():
    run = {"inputs_seen_in_training": 3, "rows_left_out": {"missing focal method": 2}}
    text = sentences(evaluate(run=run)[0])
    assert "3 of the tasks have the very input of a training row" in text
    assert "missing focal method: 2" in text
    assert "12 test classes only" in text
    calm = sentences(evaluate(run={"test_classes": 50})[0])
    assert "very input" not in calm and "left out" not in calm and "classes only" not in calm


def test_without_execution_nothing_is_said_of_it():
    summary, rows = evaluate(execution=False)
    assert "Run in their tests" not in make_markdown_report(summary)
    assert "compile" not in sentences(summary)
    assert "not run: no project" in make_html_report(summary, rows)


# -- the page


class Page(HTMLParser):
    VOID = frozenset({"meta", "link", "input", "br", "line", "rect", "path", "circle"})

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.scripts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[key] for key in ("href", "src") if key in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def test_page_is_well_formed_and_needs_nothing_else(evaluated):
    text = make_html_report(*evaluated)
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link == "data:," or (link.startswith("#") and link[1:] in page.ids)
    assert "url(" not in text and "@import" not in text
    assert "prefers-color-scheme" in text and "viewport" in text


def embedded_rows(text):
    return json.loads(re.search(r"var rows = (\[.*\]), shown", text).group(1))


def test_page_carries_the_tasks_safely(evaluated):
    summary, rows = evaluated
    text = make_html_report(summary, rows)
    assert HOSTILE not in text
    carried = embedded_rows(text)
    assert len(carried) == N
    assert HOSTILE in carried[0]["test"]
    assert [one["name"] for one in carried[0]["systems"]] == [
        "student",
        "teacher",
        "student without a teacher",
        "nearest training test",
    ]
    assert carried[20]["systems"][0]["failure"] == "other kind of assertion"


def test_many_tasks_are_thinned_out_evenly(evaluated):
    summary, rows = evaluated
    many = [{**rows[0], "index": index} for index in range(MAX_SAMPLES * 3)]
    carried = embedded_rows(make_html_report(summary, many))
    assert [row["index"] for row in carried] == list(range(0, MAX_SAMPLES * 3, 3))


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium to run the page's script")
def test_filters_work_in_a_browser(tmp_path, evaluated):
    text = make_html_report(*evaluated)
    script = """<script>
      var kind = document.getElementById('pick-kind'), failure = document.getElementById('pick-failure');
      var told = [document.getElementById('count').textContent, document.querySelectorAll('.task').length];
      kind.value = 'assertTrue'; kind.dispatchEvent(new Event('input'));
      told.push(document.getElementById('count').textContent);
      failure.value = 'right'; failure.dispatchEvent(new Event('input'));
      told.push(document.getElementById('count').textContent);
      document.body.dataset.told = JSON.stringify(told);
    </script></body>"""
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", script))
    done = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = json.loads(re.search(r'data-told="(.*?)"', done.stdout).group(1).replace("&quot;", '"'))
    assert told == ["24 of 24 tasks", 20, "12 of 24 tasks", "8 of 24 tasks"]


def test_numbers_in_rows_are_finite(evaluated):
    for row in evaluated[1]:
        assert all(value is None or math.isfinite(value) for value in row["metrics"].values())
