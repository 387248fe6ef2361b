#!/usr/bin/env python
"""Compare runs: scores with intervals over seeds, time, size, cost per point, and differences in configuration.

    python scripts/compare_runs.py results/*

Runs that differ only in their seed count as one configuration. Prints Markdown; writes comparison.md, comparison.csv
and comparison.png.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("run", nargs="+", type=Path, help="folder of a run")
    parser.add_argument("--metric", help="rank by this metric (default: code_quality_score where it was computed)")
    parser.add_argument(
        "--output_dir", type=Path, default=Path("results/comparison"), help="folder to write to (default: %(default)s)"
    )
    args = parser.parse_args()

    from evaluation.reports.comparison import METRICS, build_csv_rows, compare, draw, render_markdown
    from utils.atomic_io import atomic_writer
    from utils.pages.plots import NO_FIGURE, can_draw

    if args.metric and args.metric not in METRICS:
        raise UserError(f"--metric {args.metric} is not one of {', '.join(METRICS)}")
    comparison = compare(args.run, args.metric)
    text = render_markdown(comparison)
    print(text)
    with atomic_writer(args.output_dir / "comparison.md") as handle:
        handle.write(text)
    with atomic_writer(args.output_dir / "comparison.csv") as handle:
        rows = build_csv_rows(comparison)
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if can_draw():
        draw(comparison, args.output_dir / "comparison.png")
    print(f"written: {args.output_dir}/comparison.md, comparison.csv, {'comparison.png' if can_draw() else NO_FIGURE}")
    return 0


if __name__ == "__main__":
    run_main(main)
