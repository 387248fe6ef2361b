"""The files of an evaluation: predictions, scores as CSV, the report as Markdown and HTML, and last the summary."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from evaluation.reports.pages import html_report, markdown_report
from evaluation.reports.results import STUDENT, TEACHER, Json
from utils.atomic_io import atomic_writer, write_json

CSV_VALUES = ("value", "low", "high", "n", "reason")


def write_csv(path: Path, summary: Json) -> None:
    """One line for each metric of each system."""
    systems = {TEACHER: summary[TEACHER], STUDENT: summary[STUDENT], **summary["baselines"]}
    with atomic_writer(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["system", "metric", *CSV_VALUES])
        for system, metrics in systems.items():
            for metric, found in metrics.items():
                writer.writerow(
                    [system, metric, *(found.get(key, "") for key in ("value", "low", "high", "n", "reason"))]
                )


def write_results(folder: Path, summary: Json, rows: Sequence[Json]) -> None:
    """predictions_final.jsonl, metrics_final.csv, report.md, report.html and, last, metrics_summary_final.json."""
    with atomic_writer(folder / "predictions_final.jsonl") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    write_csv(folder / "metrics_final.csv", summary)
    for name, text in (("report.md", markdown_report(summary)), ("report.html", html_report(summary, rows))):
        with atomic_writer(folder / name) as handle:
            handle.write(text)
    write_json(folder / "metrics_summary_final.json", summary)
