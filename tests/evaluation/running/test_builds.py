"""Builds that Maven and Gradle left, in one module or several, and what is said where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evaluation.running.class_path import resolve_class_path
from evaluation.running.jdk import find_jdk
from tests.helpers.java_project import need_jdk
from utils.errors import UserError

pytestmark = pytest.mark.jdk


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))


def write(root: Path, *names: str, text: str = "class A { Missing x; }", age: int = 0) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))


def list_classes(root: Path) -> list[list[str]]:
    found = resolve_class_path(root, "", find_jdk())
    return [sorted(path.name for path in folder.rglob("*.class")) for folder in found.folders]


@pytest.mark.parametrize(
    "classes",
    [
        ("target/classes", "target/test-classes"),
        ("build/classes/java/main", "build/classes/java/test"),
        ("build/classes/kotlin/main", "build/classes/java/test"),
    ],
)
def test_the_builds_of_all_modules_are_taken(tmp_path, classes):
    root = tmp_path / "project"
    for module in ("core", "app"):
        write(root, f"{module}/src/main/java/{module}.java", f"{module}/src/test/java/{module}Test.java", age=9)
        write(root, f"{module}/{classes[0]}/{module}.class", f"{module}/{classes[1]}/{module}Test.class")
    assert list_classes(root) == [["appTest.class", "coreTest.class"], ["app.class", "core.class"]]


def test_one_module_that_is_older_than_its_sources_is_no_build(tmp_path):
    root = tmp_path / "project"
    for module, age in (("core", 9), ("app", -9)):
        write(root, f"{module}/src/main/java/{module}.java", age=age)
        write(root, f"{module}/target/classes/{module}.class", f"{module}/target/test-classes/T.class")
    with pytest.raises(UserError, match="does not compile"):
        list_classes(root)


def test_the_message_names_symbol_language_and_build_command(tmp_path):
    root = tmp_path / "project"
    write(root, "build.gradle.kts", "src/main/kotlin/B.kt", "src/main/java/A.java")
    with pytest.raises(UserError) as error:
        list_classes(root)
    message = str(error.value)
    assert "A.java:1: cannot find symbol; symbol: class Missing; location: class A" in message
    assert "it has Kotlin sources, which javac does not compile" in message
    assert "build it first (`./gradlew testClasses`)" in message and "\n" not in message
