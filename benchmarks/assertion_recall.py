"""Which of the plain assertions of tests, as javac sees them, the miner finds, and for which it gives rows.

python benchmarks/assertion_recall.py --projects corpus --output benchmarks/results/assertion_recall.json

An assertion is plain where its first call reaches a method of JUnit, TestNG, AssertJ, Truth, Hamcrest, Mockito or
EasyMock, as far as these are on the class path.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.java_projects import LIMITS, ask_javac, list_tests, read_project
from data.java.syntax import read_java
from data.mining.sources import ProjectSource, find_projects
from data.mining.tasks import mine_file


def measure(source: ProjectSource, class_path: str) -> dict[str, Any]:
    root = source.root.resolve()
    project, indexed = read_project(source)
    plain: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for file, start, owner, name, how in ask_javac("ListAssertions.java", root, source.files, class_path):
        plain[Path(file).relative_to(root).as_posix()].append((int(start), f"{owner}.{name} ({how})"))
    counts: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    readable = {item.file: item.may_hold_tests for item in indexed}
    for file, listed in sorted(plain.items()):
        if file not in readable:
            continue
        text = read_java(root / file, LIMITS.max_file_bytes)
        tests = list_tests(project, root, file) if readable[file] else ()
        found = {item.node.start_byte for _, assertions in tests for item in assertions}
        mined = mine_file(project, root, file, LIMITS)
        rows = {row["source"]["assertion_span"][0] for test in mined.tests for row in test.rows}
        left_out.update(mined.left_out["assertion"])
        units = text.decode().encode("utf-16-le")  # what javac counts
        for start, kind in listed:
            before = units[: 2 * start].decode("utf-16-le")
            place = len(before.encode())
            counts.update(plain=1, found=place in found, rows=place in rows)
            if place not in found:
                missed[kind] += 1
                line = before.count("\n") + 1
                print(f"missed: {root / file}:{line} {kind}", file=sys.stderr)
    report: dict[str, Any] = {what: counts[what] for what in ("plain", "found", "rows")}
    for what in ("found", "rows") if counts["plain"] else ():
        report[f"{what}_share"] = round(counts[what] / counts["plain"], 5)
    return {**report, "missed": missed, "left_out": left_out}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--projects", type=Path, nargs="+", required=True, help="projects, or folders of projects")
    parser.add_argument("--class_path", default="/usr/share/java/*.jar", help="jars or patterns, joined by colons")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    report = {}
    for source in find_projects(args.projects, Path(tempfile.gettempdir())):
        try:
            report[source.name] = measure(source, args.class_path)
        except subprocess.CalledProcessError:  # javac itself stumbles over some projects; its words are above
            report[source.name] = {"failed": "javac"}
        print(source.name, json.dumps({k: v for k, v in report[source.name].items() if k != "left_out"}), flush=True)
        args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
