"""Checks the focal methods that mining finds: against the methods that javac resolves the calls of the tests to, and
against what would be suggested in the same test without the assertion.

python benchmarks/focal_methods.py --projects corpus/commons-io --output benchmarks/results/focal_methods.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.java_projects import LIMITS, ask_javac, list_tests, read_project
from data.mining.focal import NAME
from data.mining.projects import JavaClass, Project
from data.mining.sources import find_projects
from data.mining.tasks import mine_file
from data.mining.types import get_types
from data.rows.readers import Source

Call = tuple[int, str, str, int, str, int]  # line, class, name, parameters, file and line of the declaration


def resolve_calls(root: Path, files: list[str], class_path: str) -> dict[str, list[Call]]:
    """The calls of each file, as javac resolves them."""
    found: dict[str, list[Call]] = defaultdict(list)
    for file, number, owner, name, count, declared, line in ask_javac("ResolveCalls.java", root, files, class_path):
        found[file].append((int(number), owner, name, int(count), declared, int(line or 0)))
    return found


def judge(root: Path, project: Project, classes: list[JavaClass], source: Source, calls: list[Call]) -> str:
    """What the test's calls say of a focal method: it is called, it implements what is called, or it is not."""
    name = (
        "<init>"
        if source["focal_name"] == source["focal_class"].split("$")[-1].split(".")[-1]
        else source["focal_name"]
    )
    first, last = source["test_lines"]
    named = [call for call in calls if first <= call[0] <= last and call[2] == name]
    place = (str(root / source["focal_file"]), source["focal_lines"][0])
    if any(call[4:] == place for call in named):
        return "very overload"
    types = get_types(project)
    focal_class = source["focal_class"].replace("$", ".")
    for call in named:
        owner = call[1].removeprefix("<anonymous ").removesuffix(">")
        for item in classes:  # one that inherits the method and is what the call is made on
            known = {parent.qualified for parent in types.lineage(types.of(item))[0]}
            if {focal_class, owner} <= known:
                return "implementation"
    return "wrong overload" if named else "unrelated"


def compare_choices(project: Project, root: Path, file: str) -> Counter[str]:
    """What would be suggested for each assertion, had it not been written, beside what was mined."""
    counts: Counter[str] = Counter()
    for finder, assertions in list_tests(project, root, file):
        for item in assertions:
            place, others = item.node.start_byte, [other for other in assertions if other is not item]
            mined, suggested = finder.find([item.node], place, assertions), finder.find([], place, others)
            if isinstance(mined, str):
                continue
            group = "named by the test" if mined.rule == NAME else f"{mined.position} the assertion"
            if isinstance(suggested, str):
                verdict = "none"
            elif suggested.method == mined.method:
                verdict = "same"
            else:
                verdict = "overload" if suggested.method.name == mined.method.name else "other"
            counts[f"{group}: {verdict}"] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--projects", type=Path, nargs="+", required=True, help="projects, or folders of projects")
    parser.add_argument("--class_path", default="/usr/share/java/*.jar", help="jars or patterns, joined by colons")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    report = {}
    for source in find_projects(args.projects, Path(tempfile.gettempdir())):
        root = source.root.resolve()
        project, indexed = read_project(source)
        classes = [item for file in indexed for item in file.classes]
        calls = resolve_calls(root, list(source.files), args.class_path)
        counts: Counter[str] = Counter()
        choices: Counter[str] = Counter()
        for file in (item.file for item in indexed if item.may_hold_tests):
            choices += compare_choices(project, root, file)
            for test in mine_file(project, root, file, LIMITS).tests:
                for row in test.rows:
                    verdict = judge(root, project, classes, row["source"], calls[str(root / file)])
                    counts[verdict] += 1
                    if verdict not in ("very overload", "implementation"):
                        where = {key: row["source"].get(key) for key in ("test_class", "test_name", "focal_class")}
                        print(verdict, where, row["source"]["focal_name"], row["assertions"], file=sys.stderr)
        report[source.name] = {"tasks": counts.total(), **counts, "suggested": dict(sorted(choices.items()))}
        print(json.dumps({source.name: report[source.name]}), flush=True)
        args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
