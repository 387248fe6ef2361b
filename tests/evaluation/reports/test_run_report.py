"""run_report.html and training_curves.png: complete, self-contained, and their conclusions right on known runs."""

from __future__ import annotations

import html.parser
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.reports.outlook import judge_outlook
from evaluation.reports.run_data import load_run
from evaluation.reports.run_report import render_report, try_write_report, write_report
from tests.helpers.synthetic_run import BALANCED, write_run
from utils.errors import UserError
from utils.pages.html_page import format_number, format_seconds, page, paragraph, table
from utils.pages.svg_charts import Series, bar_chart, choose_ticks, downsample, label_ticks, line_chart

ROOT = Path(__file__).resolve().parents[3]


class Checker(html.parser.HTMLParser):
    """Collects text, ids and links, and insists that every element is closed."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.ids, self.links, self.figures = "", set(), [], []
        self.feed(document)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        for name in ("src", "href", "xlink:href", "data"):
            if name in values:
                self.links.append(values[name])
        if tag == "svg":
            self.figures.append(values["aria-label"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        """An SVG element that closes itself."""

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def report(folder: Path, **run) -> Checker:
    return Checker(render_report(load_run(write_run(folder, **run))))


def test_report_is_complete_and_loads_nothing(tmp_path):
    weights = {"focal": (0.3, 0.3), "jsd": (0.7, 0.35), "semantic": (0.0, 0.35)}
    write_report(write_run(tmp_path, weights=weights))
    document = (tmp_path / "run_report.html").read_text(encoding="utf-8")
    shown = Checker(document)
    for caption in (
        "Components, raw",
        "Components, weighted",
        "Weights",
        "Temperature",
        "Learning rate",
        "Gradient norm",
        "Gradient norm per component, unweighted",
        "Memory",
        "code quality score",
        "exact match",
    ):
        assert caption in shown.figures, caption
    assert "Alpha" not in shown.figures  # the mode without alpha has none to show
    for name in weights:
        assert name in shown.text
    assert "assertTrue(map.<String>isEmpty());" in shown.text  # escaped and back
    assert all(link.startswith(("#", "data:")) for link in shown.links)
    assert {link[1:] for link in shown.links if link.startswith("#")} <= shown.ids
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", document)
    assert "prefers-color-scheme: dark" in document and "width=device-width" in document
    assert (tmp_path / "training_curves.png").read_bytes().startswith(b"\x89PNG")


def test_values_in_the_charts_are_those_of_the_run(tmp_path):
    document = render_report(load_run(write_run(tmp_path, steps=60)))
    found = [
        json.loads(data)
        for data in re.findall(r'data-chart="([^"]*)"', document.replace("&quot;", "\0"))
        for data in [data.replace("\0", '"')]
    ]
    temperature = next(c for c in found if c["series"][0]["name"] == "temperature")["series"][0]
    assert temperature["x"] == list(range(1, 61))
    assert [float(v) for v in temperature["y"]] == pytest.approx(
        [4 * (1.5 / 4) ** (s / 60) for s in range(1, 61)], rel=1e-3
    )


def test_report_says_who_drove_and_names_the_fault(tmp_path):
    shown = report(tmp_path, gradients={**BALANCED, "jsd": lambda p: 40.0})
    assert re.search(r"What drove the student\?jsd: on average over the run it held 9\d% of the gradient", shown.text)
    assert "jsd is dominant" in shown.text and "focal is dominated" in shown.text


def test_a_teacher_is_called_so(tmp_path):
    write_run(tmp_path, gradients={"ce": lambda p: 1.0}, steps=40)
    record = json.loads((tmp_path / "run_config.json").read_text()) | {"script": "train_codet5_assertions.py"}
    (tmp_path / "run_config.json").write_text(json.dumps(record))
    assert "What drove the teacher?ce alone" in Checker(render_report(load_run(tmp_path))).text


def test_the_first_two_sentences_by_hand(tmp_path):
    """Gradients 1, 2, 6 at weights 0.5, 0.25, 0.1 pull with 0.5, 0.5, 0.6 of 1.6; the score rises by 0.01 a validation:
    12 validations in 300 steps are 75 steps, three validations, for 0.03 in a quarter more steps."""
    shown = report(
        tmp_path,
        gradients={"focal": lambda p: 1.0, "jsd": lambda p: 2.0, "semantic": lambda p: 6.0},
        weights={"focal": (0.5, 0.5), "jsd": (0.25, 0.25), "semantic": (0.1, 0.1)},
        noise=0.0,
        validations=12,
        validation=lambda p: 0.5 + 0.12 * p,
    ).text
    top = shown[shown.index("What drove the student?") :]
    assert top.startswith(
        "What drove the student?semantic: on average over the run it held 38% of the gradient (focal 31%, jsd 31%); in "
        "the last third semantic led with 38%."
    )
    assert top.index("Worth training longer?") < top.index("optimiser steps")
    assert (
        "Worth training longer?Yes: over the last 6 of 12 evaluations the Code Quality Score was still improving; a "
        "quarter more steps should raise it by about 0.0300, less if the curve flattens."
    ) in top


def test_two_components_that_share_the_lead_are_both_named(tmp_path):
    equal = {"focal": lambda p: 1.0, "jsd": lambda p: 1.05}
    assert "jsd and focal about equally" in report(tmp_path, gradients=equal, noise=0.0).text


def test_a_broken_line_of_samples_is_named(tmp_path):
    write_run(tmp_path, steps=40)
    with open(tmp_path / "sample_predictions.jsonl", "a") as handle:
        handle.write("{broken\n")
    with pytest.raises(UserError, match="line 17 is not valid JSON"):
        load_run(tmp_path)


def test_report_warns_of_a_student_that_learns_by_heart(tmp_path):
    shown = report(tmp_path, validation=lambda p: 0.6 - abs(p - 0.3) * 0.5)
    assert "by heart" in shown.text and "got worse" in shown.text


def test_log_warnings_are_shown_once(tmp_path):
    write_run(tmp_path)
    with open(tmp_path / "distillation_log.txt", "a") as log:
        log.write("2026-01-01 00:00:00 WARNING 31% of the inputs are cut\n" * 2)
    shown = Checker(render_report(load_run(tmp_path)))
    assert shown.text.count("31% of the inputs are cut") == 1 and "Warnings in the log: 1" in shown.text


@pytest.mark.parametrize(
    "run",
    [
        {"validations": 0},
        {"grad_norm_steps": 0},
        {"steps": 1},
        {"gradients": {"ce": lambda p: 1.0}},
        {"validations": 2},
        {"gradients": {**BALANCED, "jsd": lambda p: math.inf}},
    ],
)
def test_unusual_runs_get_a_report(tmp_path, run):
    write_report(write_run(tmp_path, **run))
    assert "What drove the student" in Checker((tmp_path / "run_report.html").read_text()).text


@pytest.mark.parametrize(
    "missing",
    [
        "step_metrics.csv",
        "training_metrics.csv",
        "run_config.json",
        "metrics_summary_final.json",
        "sample_predictions.jsonl",
        "distillation_log.txt",
    ],
)
def test_a_missing_file_leaves_a_gap_not_an_error(tmp_path, missing):
    write_run(tmp_path, steps=50)
    (tmp_path / missing).unlink()
    Checker(render_report(load_run(tmp_path)))


def test_a_running_run_with_half_a_last_line_gets_a_report(tmp_path):
    write_run(tmp_path, steps=50)
    for name in ("step_metrics.csv", "training_metrics.csv", "sample_predictions.jsonl"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-7])
    assert "optimiser steps49" in Checker(render_report(load_run(tmp_path))).text


def test_a_report_that_fails_does_not_fail_the_run(tmp_path):
    write_run(tmp_path, steps=20)
    (tmp_path / "metrics_summary_final.json").write_text("{broken")
    told: list[str] = []
    try_write_report(tmp_path, told.append)
    assert len(told) == 1 and "metrics_summary_final.json" in told[0]


def test_without_matplotlib_a_report_has_no_figure_and_nothing_is_warned_of(tmp_path, monkeypatch):
    write_run(tmp_path, steps=20)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = []
    try_write_report(tmp_path, told.append)
    assert told == [] and (tmp_path / "run_report.html").exists() and not (tmp_path / "training_curves.png").exists()
    assert write_report(tmp_path) == [tmp_path / "run_report.html"]


def test_script_makes_the_report_again_and_refuses_a_folder_without_a_run(tmp_path):
    write_run(tmp_path / "run", steps=30)
    (tmp_path / "empty").mkdir()
    script = [sys.executable, str(ROOT / "scripts" / "make_run_report.py")]
    done = subprocess.run([*script, tmp_path / "run"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and (tmp_path / "run" / "run_report.html").exists()
    for wrong in (tmp_path / "empty", tmp_path / "nowhere"):
        done = subprocess.run([*script, wrong], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    with pytest.raises(UserError):
        write_report(tmp_path / "empty")


# -------------------------------------------------------------------------------------------------------------- outlook


def series(values: list[float], metric: str = "code_quality_score") -> dict[str, np.ndarray]:
    return {"step": np.arange(1, len(values) + 1) * 100.0, metric: np.array(values)}


def test_slope_by_hand():
    """Last 4 of 8 points on the line 0.5 + 0.01 per 100 steps: 200 steps more bring 0.02; no scatter, no interval."""
    view = judge_outlook(series([0.1, 0.2, 0.3, 0.4, 0.50, 0.51, 0.52, 0.53]))
    assert view.verdict == "worth it"
    assert (view.gain, view.low, view.high) == pytest.approx((0.02, 0.02, 0.02))
    assert view.best_step == 800 and view.best_value == 0.53


def test_interval_by_hand():
    """Points 0, 1, 0, 1 (x 0.01) at x = 0..3: slope 0.2, residual variance 0.4, t(0.95, 2) = 2.920."""
    view = judge_outlook(series([0.01 * y for y in (0, 1, 0, 1)]))
    slope, error = 0.2e-2, math.sqrt(0.8 / 2 / 5) * 1e-2
    assert (view.gain, view.low, view.high) == pytest.approx(
        (slope, slope - 2.91999 * error, slope + 2.91999 * error), rel=1e-4
    )


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.3, 0.5, 0.6, 0.61, 0.6101, 0.6102, 0.6101, 0.6102], "converged"),
        ([0.6, 0.6, 0.6, 0.6], "converged"),
        ([0.3, 0.5, 0.6, 0.62, 0.60, 0.57, 0.55, 0.52], "getting worse"),
        ([0.3, 0.5, 0.4, 0.62, 0.5, 0.62, 0.48, 0.6], "undecided"),
        ([0.3, 0.5], "unknown"),
        ([math.nan] * 8, "unknown"),
    ],
)
def test_verdicts(values, verdict):
    assert judge_outlook(series(values)).verdict == verdict


def test_a_falling_loss_is_an_improvement():
    view = judge_outlook(series([2.0, 1.8, 1.6, 1.4, 1.2], "val_loss"))
    assert view.verdict == "worth it" and view.gain == pytest.approx(0.25) and view.best_step == 500


def test_the_metric_of_early_stopping_is_the_one_judged():
    both = {**series([0.5, 0.4, 0.3, 0.2]), "val_loss": np.array([4.0, 3.0, 2.0, 1.0])}
    assert judge_outlook(both).verdict == "getting worse"
    assert judge_outlook(both, "loss").verdict == "worth it" and judge_outlook(both, "loss").metric == "val_loss"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.5], "Unknown: there was one evaluation"),
        ([0.3, 0.5], "Probably: the Code Quality Score went from 0.3000 to 0.5000 over 2 evaluations"),
        ([0.3, 0.5, 0.4], "Unclear: the Code Quality Score went from 0.3000 to 0.4000 over 3 evaluations"),
    ],
)
def test_the_verdict_on_few_validations_is_cautious(values, words):
    assert judge_outlook(series(values)).advice.startswith(words)


def test_no_validation_is_said():
    assert "--validation_frequency" in judge_outlook({}).advice


# ------------------------------------------------------------------------------------------------------ page and charts


def test_texts_are_escaped():
    attack = '<script>alert("x")</script>'
    document = page(
        attack,
        paragraph(attack)
        + table([attack], [[attack]])
        + line_chart(attack, [Series(attack, [1, 2], [1, 2])])
        + bar_chart(attack, [(attack, 0.5)]),
        attack,
    )
    assert "<script>alert" not in document and document.count("<script>") == 1
    Checker(document)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 2000, [0, 500, 1000, 1500, 2000]),
        (3, 3, [3]),
        (-1e-5, 1e-5, [-1e-5, -5e-6, 0, 5e-6, 1e-5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert choose_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(0, 2e-4), (0, 2e-5), (0, 2e6), (0.93, 0.93001), (1e-14, 5e-14), (0, 9e4)])
def test_tick_labels_say_what_the_ticks_are(low, high):
    values = choose_ticks(low, high)
    labels = label_ticks(values)
    assert len(values) > 3
    assert [float(label.replace("k", "e3")) for label in labels] == pytest.approx(values, rel=1e-9, abs=0)


def test_validations_at_one_step_have_no_slope():
    rows = {"step": np.array([10.0, 20, 30, 40, 40, 40, 40]), "val_loss": np.array([1, 0.9, 0.8, 0.5, 0.6, 0.6, 0.7])}
    view = judge_outlook(rows, "loss")
    assert "nan" not in view.advice + view.evidence and view.gain == pytest.approx(0.1)


def test_downsampling_keeps_means_and_extremes():
    values = [float(v) for v in range(1000)]
    thin = downsample(Series("s", values, values), 100)
    assert len(thin.x) == 100 and thin.y[0] == 4.5 and thin.low[0] == 0 and thin.high[0] == 9
    assert np.mean(thin.y) == np.mean(values)


def test_values_that_are_not_finite_are_counted_not_drawn():
    chart = line_chart("loss", [Series("a", [1, 2, 3, 4], [1.0, math.nan, math.inf, 2.0])])
    assert "2 values not finite" in chart and "nan" not in chart and "inf" not in chart.replace("infinite", "")
    assert "No values" in line_chart("loss", [Series("a", [1], [math.nan])])


def test_number_and_time_formats():
    assert [format_number(v) for v in (None, 5, 5.0, 12345.6, 0.123456, 1e-7, math.nan)] == [
        "–",
        "5",
        "5",
        "12,346",
        "0.1235",
        "1e-07",
        "not finite",
    ]
    assert [format_seconds(v) for v in (0.25, 9.96, 42, 200, 3600, 7500)] == [
        "0.25 s",
        "10 s",
        "42 s",
        "3 min 20 s",
        "1 h",
        "2 h 5 min",
    ]


def test_the_report_leaves_out_files_that_a_run_lacks(tmp_path):
    folder = write_run(tmp_path / "run")
    lines = [line.split(",") for line in (folder / "step_metrics.csv").read_text().splitlines()]
    gone = {lines[0].index(name) for name in ("grad_norm_total", "grad_norm_focal")}
    kept = [",".join(cell for i, cell in enumerate(line) if i not in gone) for line in lines]
    (folder / "step_metrics.csv").write_text("\n".join(kept) + "\n")
    (folder / "metrics_summary_final.json").write_text('{"student": null, "run": null}')
    run = json.loads((folder / "run_config.json").read_text())
    (folder / "run_config.json").write_text(json.dumps(run | {"git": None}))
    assert "<html" in render_report(load_run(folder))
    (folder / "sample_predictions.jsonl").write_text("[1]\n")
    with pytest.raises(UserError, match="line 1 is not a JSON object"):
        load_run(folder)
    (folder / "sample_predictions.jsonl").unlink()
    (folder / "training_metrics.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(UserError, match="has no column kind"):
        load_run(folder)
