"""What is taken for the tests of a file compiles as it is written, for the release of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.running.class_path import ClassPath, resolve_class_path
from evaluation.running.jdk import find_jdk
from evaluation.suggesting.open_tests import OpenTests
from evaluation.suggesting.scope import ScopeService
from evaluation.suggesting.together import choose_together
from evaluation.suggesting.verdicts import Candidate
from tests.helpers.java_project import TESTS, junit_jars, need_jdk, write_project

pytestmark = pytest.mark.jdk
SOURCE = """package shop;

import static shop.ATest.Own.*;
import org.junit.Test;

public class ATest {
    static int size() { return 1; }
    @Test public void testA() { new Cart().total(); }
    @Test public void testB() { new Cart().total(); }
    static class Own { static void fail(int code) { } }
}
"""
JUNIT_FAIL = Candidate("fail();", 1, imports=("static org.junit.Assert.fail",))


def choose(
    tmp_path: Path, found: list[list[Candidate]], source: str = SOURCE, more: str = "", **facts: int
) -> list[int | None]:
    need_jdk()
    project = write_project(tmp_path / "project")
    file = project / TESTS / "ATest.java"
    file.write_text(source)
    tests, _ = OpenTests(project).find(file)
    assert len(tests) == source.count("@Test")
    jdk = find_jdk()
    folders = resolve_class_path(project, junit_jars(), jdk).folders
    with ScopeService(jdk, ClassPath(folders, tuple(junit_jars()), **facts)) as service:
        further = [Candidate(more, 9)] if more else []
        return choose_together(service, file.name, file.read_bytes(), tests, found, lambda place: further)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))


def test_two_that_compile_alone_need_not_do_so_together(tmp_path):
    """JUnit's fail hides the one that the file imports with a star."""
    found = [[JUNIT_FAIL], [Candidate("fail(4);", 1), Candidate("size();", 2)]]
    assert choose(tmp_path, found) == [0, 1]
    first, second = found[1]
    assert (
        first.status == "compile error"
        and "cannot be converted" in first.reason
        and not first.acceptable
        and second.acceptable
    )


def test_the_first_of_each_is_taken_where_that_compiles(tmp_path):
    found = [[Candidate("fail(3);", 1)], [Candidate("fail(4);", 1), Candidate("size();", 2)]]
    assert choose(tmp_path, found) == [0, 0]


@pytest.mark.parametrize("facts", [{"release": 8}, {"built_for": 8}, {}])
def test_what_only_a_newer_java_knows_is_not_written(tmp_path, facts):
    found = [[Candidate("java.util.List.of(1);", 1)], []]
    assert choose(tmp_path, found, **facts) == [0 if not facts else None, None]


def test_a_file_that_does_not_compile_for_the_release_is_compiled_for_the_jdk(tmp_path):
    source = SOURCE.replace("return 1;", "return java.util.List.of(1).size();")
    found = [[Candidate("java.util.List.of(1);", 1)], [Candidate("gone();", 1), Candidate("size();", 2)]]
    assert choose(tmp_path, found, source, built_for=8) == [0, 1]


def test_nothing_is_told_of_a_file_that_does_not_compile(tmp_path):
    found = [[Candidate("gone();", 1)], []]
    assert choose(tmp_path, found, SOURCE.replace("return 1;", "return;")) == [0, None]


def test_further_candidates_are_asked_for_where_none_is_left(tmp_path):
    found = [[Candidate("gone();", 1)], [Candidate("size();", 1)]]
    assert choose(tmp_path, found, more="fail(7);") == [1, 0] and found[0][1].assertion == "fail(7);"


def test_of_many_tests_those_that_do_not_compile_are_found_with_few_compilations(tmp_path, monkeypatch):
    counted = []
    compile_ = ScopeService.compile
    monkeypatch.setattr(ScopeService, "compile", lambda *words: counted.append(1) or compile_(*words))
    tests = "".join(f"@Test public void test{i}() {{ new Cart().total(); }}\n" for i in range(30))
    source = SOURCE.replace("    static class Own", tests + "    static class Own")
    found = [
        [Candidate("gone();", 1), Candidate("size();", 2)] if i in (9, 31) else [Candidate("fail(1);", 1)]
        for i in range(32)
    ]
    assert choose(tmp_path, found, source) == [int(i in (9, 31)) for i in range(32)]
    assert len(counted) < 20
