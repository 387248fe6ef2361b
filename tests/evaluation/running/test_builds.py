"""Builds that Maven and Gradle left, in one module or several, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
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


@pytest.mark.parametrize(("release", "built_for"), [(8, 8), (None, None)])
def test_the_release_of_a_finished_build_is_that_of_its_classes(tmp_path, release, built_for):
    if find_jdk().version < 12:
        pytest.skip("JDK 11 cannot compile for another release in memory")
    root = tmp_path / "project"
    write(root, "src/main/java/A.java", "src/test/java/ATest.java", text="class A { }", age=9)
    options = ["--release", str(release)] if release else []
    for folder in ("target/classes", "target/test-classes"):
        command = [find_jdk().tool("javac"), *options, "-d", str(root / folder), str(root / "src/main/java/A.java")]
        subprocess.run(command, check=True)
    newer = root / "target/classes/META-INF/versions/21/A.class"  # of a multi-release jar
    newer.parent.mkdir(parents=True)
    newer.write_bytes((root / "target/classes/A.class").read_bytes()[:6] + b"\x00\x41")
    found = resolve_class_path(root, "", find_jdk())
    assert (found.release, found.built_for) == (None, built_for)


@pytest.mark.parametrize(
    ("pom", "built_for"),
    [
        ("<maven.compiler.release>8</maven.compiler.release>", 8),
        ("<maven.compiler.release>8</maven.compiler.release><testRelease>11</testRelease>", 11),
        ("<v>11</v><maven.compiler.source>1.8</maven.compiler.source><testTarget>${v}</testTarget>", 11),
        ("<profile><maven.compiler.target>1.7</maven.compiler.target></profile><release>99</release>", None),
        ("<!-- <release>99</release> --><source>8</source>", 8),
        ("", None),
    ],
)
def test_the_release_of_a_project_that_is_compiled_here_is_the_newest_that_its_pom_names(tmp_path, pom, built_for):
    if find_jdk().version < 12:
        pytest.skip("JDK 11 cannot compile for another release in memory")
    root = tmp_path / "project"
    write(root, "src/main/java/A.java", text="class A { }")
    write(root, "pom.xml", text=f"<project>{pom}</project>")
    assert resolve_class_path(root, "", find_jdk()).built_for == built_for


@pytest.mark.parametrize(
    ("name", "text", "built_for"),
    [
        ("build.gradle", "sourceCompatibility = 1.8", 8),
        ("build.gradle", "sourceCompatibility '1.7'\ntargetCompatibility = JavaVersion.VERSION_1_8", 8),
        ("build.gradle.kts", "java { sourceCompatibility = JavaVersion.VERSION_11 }", 11),
        ("build.gradle.kts", "tasks.withType<JavaCompile> { options.release.set(9) }", 9),
        ("core/build.gradle", "compileJava { options.release = 9 }", 9),
        ("build.gradle", "toolchain { languageVersion = JavaLanguageVersion.of(99) }\noptions.release = 8", None),
        ("build.gradle", "version = '1.8'", None),
    ],
)
def test_the_release_of_a_gradle_project_that_is_compiled_here(tmp_path, name, text, built_for):
    if find_jdk().version < 12:
        pytest.skip("JDK 11 cannot compile for another release in memory")
    root = tmp_path / "project"
    write(root, "src/main/java/A.java", text="class A { }")
    write(root, "settings.gradle", text="")
    assert resolve_class_path(root, "", find_jdk()).built_for is None  # and this is kept for as long as it holds
    write(root, name, text=text)
    assert resolve_class_path(root, "", find_jdk()).built_for == built_for


def test_the_sources_of_a_gradle_build_itself_are_not_the_project_s(tmp_path):
    root = tmp_path / "project"
    write(root, "buildSrc/src/main/groovy/Q.groovy", "buildSrc/build/classes/java/main/P.class", text="no class")
    write(root, "build.gradle", "src/main/java/A.java", "src/test/java/ATest.java", text="class A { }")
    (root / "src/test/java/ATest.java").write_text("class ATest { }")
    write(root, "buildSrc/src/main/java/P.java", "build-logic/src/test/java/PTest.java")
    assert list_classes(root) == [["ATest.class"], ["A.class"]]
    left_out = resolve_class_path(root, "", find_jdk()).left_out
    assert left_out == dict.fromkeys(
        ("build-logic/src/test/java/PTest.java", "buildSrc/src/main/java/P.java"), "it belongs to the build itself"
    )


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
