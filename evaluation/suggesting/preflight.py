"""What is missing to run a project's tests, said before a model is loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

from evaluation.running.build_tools import advise_jars
from evaluation.running.class_path import ClassPath
from utils.errors import UserError

# What must be on the class path to run a framework's tests: a class, and what it is part of. The first is enough to
# compile them.
NEEDED = {
    "junit3": {"junit/framework/TestCase.class": "JUnit 3 or 4", "org/junit/runner/JUnitCore.class": "JUnit 4"},
    "junit4": {"org/junit/runner/JUnitCore.class": "JUnit 4", "org/hamcrest/SelfDescribing.class": "Hamcrest"},
    "junit5": {
        "org/junit/jupiter/api/Test.class": "JUnit 5 (junit-jupiter-api)",
        "org/junit/jupiter/engine/JupiterTestEngine.class": "the JUnit 5 engine (junit-jupiter-engine)",
        "org/junit/platform/launcher/Launcher.class": "the JUnit 5 launcher (junit-platform-launcher)",
    },
}


def check_frameworks(project: Path, class_path: ClassPath, frameworks: Collection[str], run: bool = True) -> None:
    """Raises UserError where a framework of the tests is not on the class path, as far as they are to ``run``."""
    known = sorted(set(frameworks) & set(NEEDED))
    needed = {name: part for framework in known for name, part in list(NEEDED[framework].items())[: None if run else 1]}
    entries = _list_entries(class_path, needed)
    for name, part in needed.items():
        if name not in entries:
            raise UserError(
                f"project {project}: its tests need {part}, which is not on the class path: {advise_jars(project)}"
            )


def _list_entries(class_path: ClassPath, wanted: Collection[str]) -> set[str]:
    found = {name for folder in class_path.folders for name in wanted if (folder / name).is_file()}
    for jar in class_path.jars:
        if found >= set(wanted):
            break
        try:
            with zipfile.ZipFile(jar) as archive:
                found |= set(wanted) & set(archive.namelist())
        except (OSError, zipfile.BadZipFile):
            raise UserError(f"--class_path: {jar} is not a readable jar; build or fetch it again") from None
    return found
