"""Hostile predictions: each gets its verdict, and afterwards judge and machine are as before."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import psutil
import pytest

from evaluation.execution_settings import ExecutionSettings
from evaluation.running.execution import ProjectExecutor
from tests.helpers.hostile import HOSTILE, QUICK, Hostile
from tests.helpers.java_project import fingerprint, junit_jars, need_jdk, task, write_project

pytestmark = pytest.mark.jdk
HUMAN = "assertEquals(7, cart.total());"
MAX_RESIDENT = 1 << 30
CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    need_jdk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("SECRET", "a SECRET of the user")
        yield write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def executor(project):
    """Its end is the last test: no process, control group or scratch folder is left."""
    settings = ExecutionSettings(workers=1, timeout_s=8, memory_mb=128, scratch_mb=64)
    with ProjectExecutor(project, junit_jars(), settings) as running:
        assert executor_control(running, project)
        yield running
        scratch = Path(running._workers._scratch.name)
    assert not scratch.exists() and not list(CGROUPS.glob(f"*/assertion-cell-{os.getpid()}-*"))
    assert not [child for child in psutil.Process().children(recursive=True) if child.name() == "java"]


def executor_control(executor: ProjectExecutor, project: Path) -> bool:
    of_total = task(project, "CartTest.java", "testTotal", HUMAN)
    data = 'assertEquals("3 4", text.trim());'
    right, wrong, file = executor.execute(
        [of_total, of_total, task(project, "CartTest.java", "testData", data)],
        [HUMAN, "assertEquals(8, cart.total());", data],
    )
    return right.nontrivial is True and wrong.status == "failed" and file.status == "passed"


def ids(hostile: Hostile) -> str:
    return f"{hostile.kind}: {hostile.name}"


def check(executor: ProjectExecutor, project: Path, hostile: Hostile, victim: Path) -> None:
    code = hostile.code.replace("PROJECT", str(project))
    code = code.replace("/dev/shm/VICTIM", f"/dev/shm/{victim.name}").replace("VICTIM", str(victim))
    before = fingerprint(project)
    (outcome,) = executor.execute([task(project, "CartTest.java", "testTotal", HUMAN)], [code])
    guarded = "security manager" not in executor.find_missing_layers()
    allowed = hostile.statuses if guarded or not hostile.unguarded else hostile.unguarded
    assert outcome.status in allowed.split("|"), outcome
    assert outcome.nontrivial is False
    assert len(outcome.reason) < 1000 and "\n" not in outcome.reason
    assert executor_control(executor, project), "the next ones are judged as if nothing had been"
    assert not victim.exists() and not Path("/dev/shm", victim.name).exists() and fingerprint(project) == before
    children = psutil.Process().children(recursive=True)
    assert sum(child.name() == "java" for child in children) <= 2, children
    assert sum(child.name() in ("sh", "sleep", "touch") for child in children) == 0, children
    assert sum(child.memory_info().rss for child in children) < MAX_RESIDENT


def test_there_are_enough_of_every_kind():
    assert len(HOSTILE) >= 80 and len({(one.kind, one.name) for one in HOSTILE}) == len(HOSTILE)
    kinds = (
        "exit kill fork threads memory disk network environment files reflection unsafe time output syntax race fooling"
    )
    assert set(kinds.split()) | {"jdk state"} == {one.kind for one in HOSTILE}
    assert {one.name for one in HOSTILE} >= set(QUICK)


@pytest.mark.parametrize("hostile", [one for one in HOSTILE if one.name in QUICK], ids=ids)
def test_hostile(executor, project, hostile, tmp_path):
    check(executor, project, hostile, tmp_path / "written-by-a-prediction")


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [one for one in HOSTILE if one.name not in QUICK], ids=ids)
def test_all_that_is_hostile(executor, project, hostile, tmp_path):
    check(executor, project, hostile, tmp_path / "written-by-a-prediction")


# -- fuzz ------------------------------------------------------------------------------------------------------------

SEEDS = [
    HUMAN,
    'assertEquals("cart of a", cart.label("a"));',
    "assertTrue(cart.isEmpty() || cart.total() >= 3);",
    "try { cart.label(null); fail(); } catch (IllegalArgumentException e) { assertNotNull(e.getMessage()); }",
    "assertArrayEquals(new int[] {3, 4}, new int[] {cart.total() - 4, 4});",
    "for (int i = 0; i < 3; i++) { cart.add(i); assertEquals(7 + i, cart.total(), 0.5); }",
    "java.util.Arrays.asList(1, 2).forEach(x -> assertNotNull(x));",
]
PIECES = re.compile(r'"[^"]*"|\w+|\s+|.')
NOISE = ["{", "}", "(", ")", ";", '"', "'", "\\u007b", "/*", "//", "0x", "null", "this", "return", "while (true)", "\n"]
NOISE += ["class", "->", "::", "<", "int", "throw", "@", "é", "\0", "9" * 40, "switch", "assert", "new", "...", "yield"]


def mutate(chance: random.Random) -> str:
    pieces = PIECES.findall(chance.choice(SEEDS))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        place = chance.randrange(len(pieces))
        other = chance.choice(NOISE) if chance.random() < 0.5 else chance.choice(PIECES.findall(chance.choice(SEEDS)))
        pieces[place : place + chance.choice((0, 1, 1, 2))] = [other] * chance.choice((0, 1, 1, 1, 2))
        pieces = pieces or [";"]
    return "".join(pieces)


def fuzz(executor: ProjectExecutor, project: Path, count: int) -> None:
    chance = random.Random(20)
    texts = [mutate(chance) for _ in range(count)]
    before = fingerprint(project)
    outcomes = executor.execute([task(project, "CartTest.java", "testTotal", HUMAN)] * count, texts)
    statuses = {outcome.status for outcome in outcomes}
    assert statuses <= {"passed", "failed", "timeout", "died", "compile error"} and "passed" in statuses
    for text, outcome in zip(texts, outcomes, strict=True):
        assert not (outcome.nontrivial and "cart" not in text), (text, outcome)
    assert executor_control(executor, project) and fingerprint(project) == before


def test_mutated_assertions_crash_nothing(executor, project):
    fuzz(executor, project, 60)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_mutated_assertions_crash_nothing(executor, project):
    fuzz(executor, project, 2000)
