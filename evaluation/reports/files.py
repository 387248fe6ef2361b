"""Write the files of an evaluation: predictions, scores as CSV, the report as Markdown and HTML, and the summary."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from evaluation.reports.pages import make_html_report, make_markdown_report
from evaluation.summary import STUDENT, SUMMARY_FILE, TEACHER, Json, Summary
from utils.atomic_io import atomic_writer, write_json

CSV_VALUES = ("value", "low", "high", "n", "reason")


def write_csv(path: Path, summary: Summary) -> None:
    """One line per metric and system."""
    systems = {TEACHER: summary[TEACHER], STUDENT: summary[STUDENT], **summary["baselines"]}
    with atomic_writer(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["system", "metric", *CSV_VALUES])
        for system, metrics in systems.items():
            for metric, found in metrics.items():
                writer.writerow([system, metric, *(found.get(key, "") for key in CSV_VALUES)])


def write_results(folder: Path, summary: Summary, rows: Sequence[Json]) -> None:
    """Write predictions_final.jsonl, metrics_final.csv, report.md, report.html and, last, the summary."""
    with atomic_writer(folder / "predictions_final.jsonl") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    write_csv(folder / "metrics_final.csv", summary)
    for name, text in (("report.md", make_markdown_report(summary)), ("report.html", make_html_report(summary, rows))):
        with atomic_writer(folder / name) as handle:
            handle.write(text)
    write_json(folder / SUMMARY_FILE, summary)
