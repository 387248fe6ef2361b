"""Draws rows of a raw file to be read by hand: is the focal method the one that the assertion is about?

python benchmarks/sample_rows.py mined/raw.jsonl --rows 100 --seed 22

A row's place in the draw follows from itself alone, so most of a sample stays when the miner changes.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
from pathlib import Path
from typing import Any

BEFORE = 500  # characters of the test before the assertion


def place(row: dict[str, Any], seed: int) -> str:
    source = row["source"]
    words = (seed, source["project"], source["test_file"], *source["assertion_span"])
    return hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()


def show(row: dict[str, Any]) -> str:
    source, test = row["source"], row["test_method_masked"]
    before = test.partition("<AssertPlaceHolder>")[0]
    how = ", ".join((source["focal_rule"], source["focal_call"], source["focal_confidence"]))
    return (
        f"{source['project']}: {source['test_class']}.{source['test_name']}\n"
        f"  focal:     {source['focal_class']}: {row['focal_method'].partition('{')[0].strip()} ({how})\n"
        f"  before:    {before[-BEFORE:]}\n"
        f"  assertion: {' '.join(row['assertions'])}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seed", type=int, default=22)
    args = parser.parse_args()
    with args.raw.open(encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        drawn = heapq.nsmallest(args.rows, rows, key=lambda row: place(row, args.seed))
    for number, row in enumerate(drawn, 1):
        print(f"{number}. {show(row)}")


if __name__ == "__main__":
    main()
