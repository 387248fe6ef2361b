#!/usr/bin/env python
"""Write run_report.html and training_curves.png of a run from its CSV files, also while it is still running.

python scripts/make_run_report.py results/run [results/other_run ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import ArgumentParser
from utils.errors import run_main


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("run", nargs="+", type=Path, help="folder of a run")
    args = parser.parse_args()

    from evaluation.reports.run_report import write_report

    for folder in args.run:
        for path in write_report(folder):
            print(path)
    return 0


if __name__ == "__main__":
    run_main(main)
