"""What is missing is said with the command of the project's own build tool, before a model is loaded."""

from __future__ import annotations

import zipfile

import pytest

from evaluation.running.class_path import ClassPath
from evaluation.suggesting.preflight import check_frameworks
from utils.errors import UserError

JUNIT4 = ("junit/framework/TestCase.class", "org/junit/runner/JUnitCore.class", "org/hamcrest/SelfDescribing.class")


def jar(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


@pytest.mark.parametrize(
    ("build_file", "advice"),
    [
        ("pom.xml", "run `mvn dependency:go-offline` once"),
        ("build.gradle.kts", "`./gradlew dependencies --configuration"),
        ("build.xml", "they are mostly in lib/"),
        ("README", "give the jars it needs with --class_path"),
    ],
)
def test_a_missing_framework_is_named(tmp_path, build_file, advice):
    (tmp_path / build_file).touch()
    given = ClassPath((), (jar(tmp_path / "junit.jar", *JUNIT4),))
    check_frameworks(tmp_path, given, {"junit3", "junit4"})
    with pytest.raises(UserError) as error:
        check_frameworks(tmp_path, given, {"junit4", "junit5"})
    assert "need JUnit 5 (junit-jupiter-api), which is not on the class path" in str(error.value)
    assert advice in str(error.value) and "\n" not in str(error.value)


def test_a_part_of_a_framework_is_named(tmp_path):
    without = ClassPath((), (jar(tmp_path / "junit.jar", *JUNIT4[:2]),))
    with pytest.raises(UserError, match="need Hamcrest"):
        check_frameworks(tmp_path, without, {"junit4"})


def test_what_only_running_needs_is_not_asked_for_without_it(tmp_path):
    api = jar(tmp_path / "api.jar", "org/junit/jupiter/api/Test.class", "org/junit/runner/JUnitCore.class")
    check_frameworks(tmp_path, ClassPath((), (api,)), {"junit4", "junit5"}, run=False)
    with pytest.raises(UserError, match="need Hamcrest"):
        check_frameworks(tmp_path, ClassPath((), (api,)), {"junit4", "junit5"})


def test_class_folders_count_and_other_frameworks_are_not_run(tmp_path):
    for name in JUNIT4:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    check_frameworks(tmp_path, ClassPath((tmp_path,), ()), {"junit4", "testng", "unknown"})


def test_a_broken_jar_is_named(tmp_path):
    (tmp_path / "junit.jar").write_bytes(b"half a jar")
    with pytest.raises(UserError, match=r"junit\.jar is not a readable jar"):
        check_frameworks(tmp_path, ClassPath((), (tmp_path / "junit.jar",)), {"junit4"})
