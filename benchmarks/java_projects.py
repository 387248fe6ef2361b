"""Projects and their tests as the miner sees them, and what javac says of their sources."""

from __future__ import annotations

import glob
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data.java.assertions import Assertion, find_assertions
from data.java.syntax import UnreadableFile, parse, read_java
from data.mining.find_tests import find_test_methods
from data.mining.focal import FocalFinder
from data.mining.helpers import TestScope
from data.mining.projects import FileIndex, Project, index_file, package_of
from data.mining.sources import ProjectSource
from data.mining.tasks import Limits

LIMITS = Limits()


def ask_javac(program: str, root: Path, files: Iterable[str], class_path: str) -> Iterator[list[str]]:
    """The fields of each line that a program of this folder prints of these files. ``class_path``: joined by colons;
    an entry may be a pattern."""
    jars = [jar for entry in class_path.split(":") for jar in sorted(glob.glob(entry))]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed, tempfile.TemporaryFile("w+") as printed:
        plain = [name for name in files if not name.endswith(("module-info.java", "package-info.java"))]
        listed.write("\n".join(str(root / name) for name in plain))
        listed.flush()
        command = ["java", "-Xmx6g", str(Path(__file__).with_name(program)), ":".join(jars), listed.name]
        subprocess.run(command, stdout=printed, check=True)
        printed.seek(0)
        for line in printed:
            yield line.rstrip("\n").split("\t")


def read_project(source: ProjectSource) -> tuple[Project, list[FileIndex]]:
    """The index of a project; files that cannot be read are left out."""
    indexed = []
    for name in source.files:
        try:
            indexed.append(index_file(name, read_java(source.root / name, LIMITS.max_file_bytes)))
        except UnreadableFile:
            continue
    return Project(source.name, indexed), indexed


def list_tests(project: Project, root: Path, file: str) -> Iterator[tuple[FocalFinder, list[Assertion]]]:
    """The usable tests of a file, with their assertions."""
    source = read_java(root / file, LIMITS.max_file_bytes)
    tree = parse(source)
    for test in find_test_methods(tree, source, project, file, package_of(tree, source)):
        if not test.problem:
            finder = FocalFinder(project, test.owner, test.node, source)
            yield finder, find_assertions(test.node, source, TestScope(finder.resolver))[0]
