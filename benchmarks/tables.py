#!/usr/bin/env python
"""Write the stored results into the tables of the documents.

    python benchmarks/tables.py

A table in docs/*.md is what is between ``<!-- table: FILE | TITLE | COLUMN; COLUMN … -->`` and ``<!-- end of table
-->``: FILE.json in benchmarks/results, a title of its tables, and the columns to show (default: all). Between
``<!-- headline: GROUP -->`` and the same end are the scores of a group of tasks in headline.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ablation_statistics import Estimate, show_estimate
from benchmarks.measuring import RESULTS, table
from benchmarks.student_grid import SHOWN
from utils.atomic_io import atomic_writer
from utils.errors import UserError, run_main

BLOCK = re.compile(r"(<!-- table: ([^|>]+?) \| ([^|>]+?)(?: \| ([^>]+?))? -->\n).*?(<!-- end of table -->)", re.DOTALL)
HEADLINE = re.compile(r"(<!-- headline: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def read_table(name: str, title: str, columns: str | None) -> str:
    """One stored table as Markdown. Raises UserError where there is none of that name."""
    path = RESULTS / f"{name}.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["tables"][title]
        shown = columns.split("; ") if columns else list(rows[0])
        return table(shown, [[row[column] for column in shown] for row in rows])
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: no table {title!r} with the columns {columns or 'all'} ({error})") from None


def summarize_group(group: str) -> str:
    """The systems of a group of tasks in headline.json, each score with its 95 % interval."""
    systems = json.loads((RESULTS / "headline.json").read_text(encoding="utf-8"))[group]
    scores = [name for name in SHOWN if any(name in facts for facts in systems.values())]
    lines = []
    for facts in systems.values():
        found = [facts.get(name) for name in scores]
        size = f"{facts['parameters'] / 1e6:.2f}" if facts["parameters"] else None
        lines.append(
            [facts["name"], size, *(show_estimate(Estimate(**one, p_value=None)) if one else None for one in found)]
        )
    return table(["system", "M parameters", *scores], lines)


def fill_tables(text: str) -> str:
    """The document with its tables as the results have them."""
    text = BLOCK.sub(lambda found: f"{found[1]}{read_table(*found.group(2, 3, 4))}\n{found[5]}", text)
    return HEADLINE.sub(lambda found: f"{found[1]}{summarize_group(found[2])}\n{found[3]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := fill_tables(text)) != text:
            with atomic_writer(page) as handle:
                handle.write(new)
            print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    run_main(main)
