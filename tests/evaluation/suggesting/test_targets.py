"""From paths to projects: build files, modules, and layouts without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.running.build_tools import ANT, GRADLE, MAVEN, PLAIN, find_build_tool
from evaluation.suggesting.targets import find_projects, find_targets
from utils.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path, _, text = name.partition("=")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.mark.parametrize(
    ("files", "asked", "project"),
    [
        (["pom.xml", "src/test/java/a/ATest.java"], "src/test/java/a/ATest.java", "."),
        (["pom.xml=<module>core</module>", "core/pom.xml", "core/src/ATest.java"], "core/src/ATest.java", "."),
        (["pom.xml", "core/pom.xml", "core/src/test/java/ATest.java"], "core/src/test/java/ATest.java", "core"),
        (["settings.gradle=include ':app'", "app/build.gradle", "app/src/test/java/ATest.java"], "app", "."),
        (["settings.gradle.kts=include('libs:app')", "libs/app/build.gradle.kts"], "libs/app", "."),
        (["build.gradle.kts", "src/test/kotlin/B.kt", "src/test/java/ATest.java"], "src/test/java/ATest.java", "."),
        (["src/A.java", "test/ATest.java"], "test/ATest.java", "."),
        (["java/x/A.java", "javatests/x/ATest.java"], "javatests/x/ATest.java", "."),
        (["src/main/java/org/src/A.java", "src/test/java/org/src/ATest.java"], "src/test/java/org/src/ATest.java", "."),
        (["ATest.java"], "ATest.java", "."),
    ],
)  # fmt: skip
def test_the_project_of_a_path(tmp_path, files, asked, project, monkeypatch):
    root = tmp_path / "inner"
    touch(root, *files)
    assert find_projects(root / asked) == [(root / project).resolve()]


def test_a_folder_of_projects_holds_several(tmp_path):
    touch(tmp_path, "one/pom.xml", "two/build.gradle", "notes/a.txt", ".git/pom.xml", "build/pom.xml")
    assert find_projects(tmp_path) == [tmp_path / "one", tmp_path / "two"]
    targets = find_targets([str(tmp_path)], None)
    assert [(target.project, target.folders) for target in targets] == [
        (tmp_path / "one", [tmp_path]),
        (tmp_path / "two", [tmp_path]),
    ]


def test_a_project_is_read_once_for_all_its_paths(tmp_path):
    touch(tmp_path, "pom.xml", "src/test/java/ATest.java", "src/test/java/BTest.java")
    test = tmp_path / "src/test/java/ATest.java"
    (target,) = find_targets([f"{test}#testA", str(tmp_path / "src/test/java/BTest.java"), str(tmp_path / "src")], None)
    assert [method for _, method in target.files] == ["testA", ""] and target.folders == [tmp_path / "src"]


def test_a_path_outside_of_the_named_project_is_refused(tmp_path):
    touch(tmp_path, "a/ATest.java", "b/x")
    with pytest.raises(UserError, match="is not in it"):
        find_targets([str(tmp_path / "a/ATest.java")], tmp_path / "b")


@pytest.mark.parametrize(
    ("file", "tool"), [("pom.xml", MAVEN), ("settings.gradle.kts", GRADLE), ("build.xml", ANT), ("Makefile", PLAIN)]
)
def test_the_build_tool_is_known_by_its_files(tmp_path, file, tool):
    touch(tmp_path, file)
    assert find_build_tool(tmp_path) is tool
