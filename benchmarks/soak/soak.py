#!/usr/bin/env python
"""Cause every fault of tests/helpers/faults.py as often as planned, and write the table of docs/reliability.md.

    python benchmarks/soak/soak.py                  # all; if it was killed or stopped, it continues
    python benchmarks/soak/soak.py --minutes 8      # for eight minutes
    python benchmarks/soak/soak.py --table          # only write the table from the stored counts

The counts are kept in benchmarks/results/soak.json after each trial.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from utils.atomic_io import atomic_writer, write_json

RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"


def load() -> dict[str, dict[str, Any]]:
    """Fault -> trials, tried, lost, failures and commits so far."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def commit() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def soak(only: list[str], minutes: float, folder: Path) -> int:
    """Run the missing trials, of the least tried fault first. Returns how many faults lost something."""
    from tests.helpers.faults import FAULTS, make_lab

    chosen = {name: fault for name, fault in FAULTS.items() if not only or any(word in name for word in only)}
    results = load()
    lab = make_lab(folder)
    version, ends = commit(), time.monotonic() + 60 * minutes
    while time.monotonic() < ends:
        missing = [n for n, fault in chosen.items() if results.get(n, {}).get("trials", 0) < fault.soak]
        if not missing:
            break
        name = min(missing, key=lambda n: results.get(n, {}).get("trials", 0) / chosen[n].soak)
        row = results.setdefault(name, {"trials": 0, "tried": 0, "lost": 0, "failures": [], "commits": []})
        seed = 1000 + row["trials"]
        try:
            tried, problem = chosen[name].trial(lab, seed), ""
        except Exception as error:
            tried, problem = 1, f"{type(error).__name__}: {error}"[-2000:]
        row |= {"trials": row["trials"] + 1, "asked": chosen[name].soak, "tried": row["tried"] + tried}
        if version not in row["commits"]:
            row["commits"].append(version)
        if problem:
            row["lost"] += 1
            row["failures"].append({"seed": seed, "commit": version, "what": problem})
        write_json(RESULTS, results)
        print(f"{name}: trial {row['trials']} of {row['asked']}, {'LOST ' + problem if problem else 'ok'}", flush=True)
    return sum(row["lost"] > 0 for row in load().values())


def table() -> str:
    """The counts as Markdown."""
    from tests.helpers.faults import FAULTS

    results = load()
    lines = ["| fault | trials (of) | tried | lost |", "|---|---|---|---|"]
    for name, fault in FAULTS.items():
        row = results.get(name, {"trials": 0, "tried": 0, "lost": 0})
        lines.append(f"| {name} | {row['trials']} ({fault.soak}) | {row['tried']} | {row['lost']} |")
    rows = [row for name, row in results.items() if name in FAULTS]
    lines.append(
        f"| **all** | {sum(row['trials'] for row in rows)} ({sum(fault.soak for fault in FAULTS.values())}) |"
        f" {sum(row['tried'] for row in rows)} | {sum(row['lost'] for row in rows)} |"
    )
    return "\n".join(lines)


def write_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    block = f"{BEGIN}\n{table()}\n{END}"
    with atomic_writer(PAGE) as handle:
        handle.write(re.sub(f"{BEGIN}.*{END}", lambda _: block, text, flags=re.DOTALL))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], help="faults whose name holds one of these words")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no trial after N minutes")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "soak", help="where the runs take place")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    lost = 0 if args.table else soak(args.only, args.minutes, args.folder.resolve())
    write_table()
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
