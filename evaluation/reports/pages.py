"""The report of an evaluation, for people: a table for the terminal, Markdown, and one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.reports.results import mark_differences
from evaluation.reports.strata import make_strata_rows
from evaluation.summary import (
    STUDENT,
    TEACHER,
    Breakdown,
    Json,
    MeasuredDifference,
    Metrics,
    RunFacts,
    Summary,
    in_order,
    title_of,
)
from utils.metrics import EXECUTION_METRICS, METRICS
from utils.pages.html_page import (
    callout,
    chips,
    details,
    format_number,
    grid,
    interval,
    page,
    paragraph,
    section,
    table,
)
from utils.pages.svg_charts import bar_chart, legend
from utils.sequences import take_evenly

SAMPLES_TEMPLATE = Path(__file__).with_name("task_browser.html")
MAX_SAMPLES = 500
CONSTANT = ("trivial", "false")  # the same text for every task
FEW_CLASSES = 20
CHARTS = (
    "code_quality_score",
    "semantic_similarity",
    "exact_match",
    "f1",
    "codebleu",
    "bleu",
    "pans",
    "token_similarity",
    "ast_validity",
    "token_accuracy",
    "critical_token_accuracy",
    *EXECUTION_METRICS,
)
BREAKDOWN = ("code_quality_score", "exact_match", "codebleu", "token_similarity", "pass_rate")
NUMERIC = ("differences", "teacher-logits", "by-kind", "by-length")
TEACHER_LOGITS = {
    "top1_agreement": "same first choice as the teacher",
    "kl_t": "KL(teacher ‖ student), nats a token, T = ",
}


def _title(metric: str) -> str:
    return METRICS[metric].title


def list_systems(summary: Summary) -> dict[str, Metrics]:
    """The systems that have any value, in the order in which they are shown."""
    every = {TEACHER: summary[TEACHER], STUDENT: summary[STUDENT], **summary["baselines"]}
    return {
        name: every[name]
        for name in in_order(every)
        if any(metric.get("value") is not None for metric in every[name].values())
    }


def choose_main_system(summary: Summary) -> str:
    """The system that the report is about: the student, else the teacher, else the first there is."""
    return next(iter(list_systems(summary)), TEACHER)


def _format_p(value: float) -> str:
    return f"p = {value:.4f}" if value >= 0.001 else "p < 0.001"


def _format_difference(found: MeasuredDifference, p_value: float) -> str:
    spread = "one class: no interval" if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"
    return f"{found['value']:+.3f} ({spread}, {_format_p(p_value)})"


def _find_sign(found: MeasuredDifference) -> int:
    """1 or -1 where the whole interval is above or below 0, else 0."""
    low, high = found["low"], found["high"]
    return 0 if low is None or high is None else int(low > 0) - int(high < 0)


def _has_value(metrics: Metrics, name: str) -> bool:
    return name in metrics and metrics[name]["value"] is not None


def _choose_headline(summary: Summary) -> str:
    """The metric to judge by: the Code Quality Score where it could be computed."""
    metrics: Metrics = list_systems(summary).get(choose_main_system(summary), {})
    return next((name for name in ("code_quality_score", "codebleu") if _has_value(metrics, name)), "f1")


def state_verdicts(summary: Summary) -> Iterator[tuple[str, str]]:
    """(kind, sentence): what the numbers say, and what they cannot say. Kinds as in ``html_page.callout``."""
    systems = list_systems(summary)
    main = choose_main_system(summary)
    headline = _choose_headline(summary)
    if main not in systems:
        yield "bad", "Nothing could be judged."
        return
    score = systems[main][headline]
    yield "", f"The {title_of(main)}'s {_title(headline)} is {interval(score)} on {score['n']} tasks."
    if headline != "code_quality_score":
        yield "warn", f"No Code Quality Score: {systems[main]['code_quality_score']['reason']}."
    if (found := _get_difference(summary, TEACHER, headline))["value"] is not None:
        retained = systems[main]["knowledge_retention_score"]
        kept = f" Knowledge Retention Score {interval(retained)}." if retained["value"] is not None else ""
        yield "", f"Against the teacher: {_format_difference(found, found['p_value'])}.{kept}"
    if main == STUDENT:
        yield _judge_teacher_effect(_get_difference(summary, "no_teacher", headline))
    if (found := _get_difference(summary, "retrieval", "exact_match"))["value"] is not None:
        copied = systems["retrieval"]["exact_match"]
        yield (
            {1: "good", -1: "bad", 0: "warn"}[_find_sign(found)],
            f"Copying the assertion of the nearest training test is exactly right in {interval(copied)};"
            f" the {title_of(main)} differs from that by {_format_difference(found, found['p_value'])}.",
        )
    if (passed := systems[main]["pass_rate"])["value"] is not None:
        useful = systems[main]["nontrivial_rate"]
        yield (
            "",
            f"Run in their tests: {interval(systems[main]['compile_rate'])} compile, {interval(passed)} pass,"
            f" {interval(useful)} pass and notice a broken focal method.",
        )
    yield from _warn_about_data(summary["run"])


def _get_difference(summary: Summary, other: str, metric: str) -> MeasuredDifference:
    """The main system minus ``other``; value None where one of the two has none."""
    compared: dict[str, MeasuredDifference] = (
        summary["comparison"].get(f"{choose_main_system(summary)}_minus_{other}") or {}
    )
    return compared.get(metric, {"value": None})


def _judge_teacher_effect(found: MeasuredDifference) -> tuple[str, str]:
    """The verdict on the student minus a model that was trained without a teacher."""
    if found["value"] is None:
        return (
            "warn",
            "What the teacher added is not known: a model of the same size trained without one was not given"
            " (--baseline_model_path).",
        )
    sign = _find_sign(found) if found["p_value"] < 0.05 else 0
    kind, what = {1: ("good", "It helped"), -1: ("bad", "It did harm"), 0: ("warn", "That may be chance")}[sign]
    return kind, f"What the teacher added: {_format_difference(found, found['p_value'])}. {what}."


def _warn_about_data(run: RunFacts) -> Iterator[tuple[str, str]]:
    """What about the tasks makes the numbers worth less."""
    if seen := run.get("inputs_seen_in_training"):
        yield (
            "bad",
            f"{seen} of the tasks have the very input of a training row: the numbers are too good. Split again.",
        )
    if 0 < run.get("test_classes", 0) < FEW_CLASSES:
        yield "warn", f"The tasks come from {run['test_classes']} test classes only; the intervals are rough."
    if left_out := run.get("rows_left_out"):
        reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        yield "warn", f"{sum(left_out.values())} rows were left out ({reasons})."
    for oddity, count in run.get("rows_odd", {}).items():
        yield "warn", f"{count} rows of the file: {oddity}."


def make_metric_rows(summary: Summary) -> list[list[str]]:
    """One row per metric: its title, then value and interval of each system."""
    systems = list_systems(summary)
    return [
        [
            _title(name),
            *(interval(metrics[name]) if metrics[name]["value"] is not None else "–" for metrics in systems.values()),
        ]
        for name in METRICS
        if any(metrics[name]["value"] is not None for metrics in systems.values())
    ]


def make_missing_rows(summary: Summary) -> list[list[str]]:
    """What has no value, and why; metrics of a system with the same reason share a row."""
    grouped: dict[tuple[str, str], list[str]] = {}
    every = {TEACHER: summary[TEACHER], STUDENT: summary[STUDENT], **summary["baselines"]}
    for system, metrics in every.items():
        for name, found in metrics.items():
            if found["value"] is None:
                grouped.setdefault((title_of(system), found["reason"]), []).append(_title(name))
    return [
        [system, "all" if len(names) == len(METRICS) else ", ".join(names), reason]
        for (system, reason), names in grouped.items()
    ]


def make_difference_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: for each metric the main system minus each other one."""
    main = choose_main_system(summary)
    others = [name for name in list_systems(summary) if f"{main}_minus_{name}" in summary["comparison"]]
    columns = [summary["comparison"][f"{main}_minus_{name}"] for name in others]
    rows = [
        [
            _title(metric),
            *(
                _format_difference(c[metric], c[metric]["p_value_holm"]) if c[metric]["value"] is not None else "–"
                for c in columns
            ),
        ]
        for metric in METRICS
        if columns and any(c.get(metric, {}).get("value") is not None for c in columns)
    ]
    return ["metric", *(f"minus {title_of(name)}" for name in others)], rows


def make_cost_rows(summary: Summary) -> list[list[str]]:
    """Parameters, size, time and memory of the systems that are models."""
    rows = []
    for facts in summary["run"]["systems"].values():
        parameters = facts.get("parameters")
        if parameters is None:
            continue
        times = [
            f"{device}: {found['median_seconds'] * 1000:.0f} ms (p90 {found['p90_seconds'] * 1000:.0f} ms)"
            for device, found in facts.get("latency", {}).items()
        ]
        memory = [f"{device}: {value / 2**20:,.0f} MiB" for device, value in facts.get("memory_bytes", {}).items()]
        size = facts.get("size_bytes")
        rows.append(
            [
                facts["title"],
                f"{parameters / 1e6:,.1f} M",
                f"{size / 2**20:,.0f} MiB" if size else "–",
                "; ".join(times) or "–",
                "; ".join(memory) or "–",
                format_number(facts["loss"]) if facts.get("loss") is not None else "–",
            ]
        )
    return rows


COST_HEADERS = ("model", "parameters", "weights", "time for one assertion", "memory", "loss a token")


def make_logit_rows(summary: Summary) -> list[list[str]]:
    """Closeness to the teacher's stored logits."""
    rows = []
    for name, found in summary["comparison"].get("teacher_logits", {}).items():
        title = TEACHER_LOGITS.get(name) or TEACHER_LOGITS["kl_t"] + name.removeprefix("kl_t")
        rows.append([title, interval(found)])
    return rows


def make_breakdown_rows(summary: Summary, group: str) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the main system by ``kind`` or ``length``."""
    groups: Breakdown = summary["run"]["breakdown"].get(choose_main_system(summary), {})
    parts: dict[str, Metrics] = groups.get(group, {})
    metrics = [m for m in BREAKDOWN if any(_has_value(values, m) for values in parts.values())]
    rows = []
    for label, values in parts.items():
        n = max(found.get("n", 0) for found in values.values())
        shown = (interval(values[m]) if _has_value(values, m) else "–" for m in metrics)
        rows.append([label, f"{n}", *shown])
    return [group, "tasks", *map(_title, metrics)], rows


def make_execution_rows(summary: Summary) -> list[list[str]]:
    """The three gates for every system and for the controls, and what went wrong."""
    rows = []
    names = {"human": "human assertion (control)", "no_assertion": "no assertion (control)"}
    for name, found in summary["run"].get("execution", {}).items():
        status = ", ".join(f"{what} {count}" for what, count in found["status"].items())
        rates = map(interval, (found["compile_rate"], found["pass_rate"], found["nontrivial_rate"]))
        reasons = ", ".join(f"{what} {count}" for what, count in found.get("reasons", {}).items())
        title = names.get(name) or title_of(name)
        rows.append([title, f"{found['control_stable']} of {found['tasks']}", *rates, status, reasons])
    return rows


EXECUTION_HEADERS = ("system", "tasks that can tell", "compile", "pass", "non-trivial", "outcomes", "why trivial")


def make_meaning_rows() -> list[list[str]]:
    """What each metric means, and how it can mislead."""
    return [[metric.title, metric.formula, metric.traps] for metric in METRICS.values()]


MEANING_HEADERS = ("metric", "formula", "trap")


# -- terminal and Markdown


def _align_columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (headers, *rows)
    )


def make_text_table(summary: Summary) -> str:
    """Metrics by systems, for the terminal."""
    return _align_columns(["metric", *(title_of(name) for name in list_systems(summary))], make_metric_rows(summary))


def _make_markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(headers), "|" + "---|" * len(headers), *map(line, rows)]) + "\n"


def _make_tables(summary: Summary) -> Iterator[tuple[str, str, str, Sequence[str], list[list[str]]]]:
    """(anchor, title, note, headers, rows) of every table but the first."""
    headers, rows = make_difference_rows(summary)
    yield (
        "differences",
        "Differences",
        "In brackets: 95 % interval (paired bootstrap) and p-value of the paired permutation test, adjusted "
        "for the number of metrics (Holm).",
        headers,
        rows,
    )
    yield (
        "strata",
        "Where the answer stands",
        "In another statement of the test, only in the context (as another test's assertion), or in neither: there a"
        " copy cannot be exact.",
        *make_strata_rows(summary),
    )
    yield (
        "execution",
        "Run in their tests",
        "Rates over the tasks that can tell: those whose own assertion compiles and passes. Wilson intervals.",
        EXECUTION_HEADERS,
        make_execution_rows(summary),
    )
    yield (
        "teacher-logits",
        "Closeness to the teacher's logits",
        "At the reference's tokens.",
        ("measure", "student"),
        make_logit_rows(summary),
    )
    yield (
        "cost",
        "Cost",
        "Time: greedy or beam search as in this evaluation, one at a time.",
        COST_HEADERS,
        make_cost_rows(summary),
    )
    for group, title in (("kind", "By kind of assertion"), ("length", "By length of the reference")):
        headers, rows = make_breakdown_rows(summary, group)
        yield f"by-{group}", title, f"The {title_of(choose_main_system(summary))}.", headers, rows
    yield "missing", "Not computed", "", ("system", "metrics", "why"), make_missing_rows(summary)


def make_markdown_report(summary: Summary) -> str:
    """The text of report.md."""
    parts = [f"# Evaluation of {summary['run']['tasks']} tasks\n"]
    parts += [f"- {sentence}" for _, sentence in state_verdicts(summary)]
    parts += ["\n## Scores\n", "In brackets: 95 % bootstrap intervals.\n"]
    parts.append(
        _make_markdown_table(["metric", *(title_of(name) for name in list_systems(summary))], make_metric_rows(summary))
    )
    for _, title, note, columns, rows in _make_tables(summary):
        if rows:
            parts += [f"## {title}\n", *([note + "\n"] if note else []), _make_markdown_table(columns, rows)]
    parts += ["## What the numbers mean\n"]
    parts.append(_make_markdown_table(MEANING_HEADERS, make_meaning_rows()))
    return "\n".join(parts)


# -- HTML


def _draw_charts(summary: Summary) -> str:
    systems = list_systems(summary)
    figures = []
    for metric in CHARTS:
        known = {name: values[metric] for name, values in systems.items() if values[metric]["value"] is not None}
        if known:
            figures.append(
                bar_chart(
                    _title(metric),
                    [(title_of(name), found["value"]) for name, found in known.items()],
                    intervals=[
                        None if found["low"] is None or found["high"] is None else (found["low"], found["high"])
                        for found in known.values()
                    ],
                    colours=[list(systems).index(name) for name in known],
                    maximum=1.0,
                )
            )
    return grid(*figures)


def _make_task_browser(rows: Sequence[Json], main: str) -> str:
    data = []
    for row in take_evenly(rows, MAX_SAMPLES):
        reference = "\n".join(row["reference"])
        systems = []
        for name in in_order(row["systems"]):
            if name in CONSTANT:
                continue
            one = row["systems"][name]
            systems.append(
                {
                    "name": title_of(name),
                    "text": mark_differences(one["prediction"], reference),
                    "failure": one["failure"],
                    "run": (one.get("execution") or {}).get("status"),
                    "why": (one.get("execution") or {}).get("reason"),
                    "scores": {
                        m: one["metrics"].get(m) for m in ("token_similarity", "codebleu", "code_quality_score")
                    },
                    "others": one.get("candidates", [])[1:],
                }
            )
        data.append(
            {
                "index": row["index"],
                "kind": row["kind"],
                "reference": mark_differences(reference, row["systems"][main]["prediction"]),
                "systems": systems,
                "test": row["input"]["test"],
                "focal": row["input"]["focal"],
                "where": " ".join(
                    str(row["source"][key]) for key in ("test_class", "test_name") if key in row["source"]
                ),
            }
        )
    note = (
        f"{len(data)} of {len(rows)} tasks; all of them are in predictions_final.jsonl."
        if len(data) < len(rows)
        else ""
    )
    # "</script>" in a string would end the script; to JSON, the escape is the same text.
    payload = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return paragraph(note, soft=True) * bool(note) + SAMPLES_TEMPLATE.read_text(encoding="utf-8").replace(
        "[/*ROWS*/]", payload
    )


def make_html_report(summary: Summary, rows: Sequence[Json]) -> str:
    """The text of report.html, a single self-contained file."""
    systems = list_systems(summary)
    main = choose_main_system(summary)
    run = summary["run"]
    whole = run.get("tasks_in_file", run["tasks"])
    facts = [("tasks", format_number(run["tasks"]) + (f" of {format_number(whole)}" if whole > run["tasks"] else ""))]
    for metric in (
        "code_quality_score",
        "semantic_similarity",
        "exact_match",
        "pass_rate",
        "knowledge_retention_score",
    ):
        if _has_value(systems.get(main, {}), metric):
            facts.append((f"{title_of(main)}'s {_title(metric)}", interval(systems[main][metric])))
    body = chips(facts) + "".join(callout(sentence, kind) for kind, sentence in state_verdicts(summary))
    navigation = [("scores", "Scores")]
    colours = legend([(title_of(name), place) for place, name in enumerate(systems)])
    scores = (
        colours
        + _draw_charts(summary)
        + table(["metric", *(title_of(name) for name in systems)], make_metric_rows(summary), numeric=range(1, 6))
    )
    body += section("Scores", scores + paragraph("In brackets: 95 % bootstrap intervals.", soft=True), "scores")
    body += section("Tasks, one by one", _make_task_browser(rows, main), "tasks")
    navigation.append(("tasks", "Tasks"))
    for anchor, title, note, headers, cells in _make_tables(summary):
        if cells:
            body += section(
                title,
                (paragraph(note, soft=True) if note else "")
                + table(headers, cells, numeric=range(1, len(headers)) if anchor in NUMERIC else ()),
                anchor,
            )
            navigation.append((anchor, title))
    body += section("What the numbers mean", table(MEANING_HEADERS, make_meaning_rows()), "meaning")
    navigation.append(("meaning", "Meaning"))
    arguments = [[name, str(value)] for name, value in run.get("arguments", {}).items() if value is not None]
    body += details("How this was run", table(["argument", "value"], arguments))
    title = (
        {STUDENT: "Student and teacher", TEACHER: "The teacher"}.get(main, "Baselines")
        if TEACHER in systems
        else title_of(main)
    )
    return page(f"Evaluation: {title}", body, str(run.get("teacher_data", "")), navigation)
