"""The generated Java project: same seed, same bytes; enough variety; and a JDK says that its tests pass."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from data.mining.miner import drop_duplicates, mine_projects
from data.mining.sources import find_projects
from data.mining.tasks import Limits
from data.sample.templates import FAMILIES
from data.sample_corpus import write_sample_corpus
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
JAR_FOLDERS = (Path("/usr/share/java"), Path.home() / ".m2" / "repository")
JARS = (
    "junit4",
    "hamcrest",
    "junit-jupiter-api",
    "junit-jupiter-engine",
    "junit-vintage-engine",
    "junit-platform-commons",
    "junit-platform-engine",
    "junit-platform-launcher",
    "junit-platform-reporting",
    "junit-platform-console",
    "opentest4j",
    "apiguardian-api",
    "picocli",
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    first, again, other = (
        contents(write_sample_corpus(tmp_path / name, seed, 28)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first != other
    assert {"pom.xml"} < first.keys()
    assert sum(name.startswith("src/main/java/org/example/sample/") for name in first) == 28
    assert sum(name.endswith("Test.java") for name in first) == 28


def test_command_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "data/sample_corpus.py",
        "--output",
        str(tmp_path / "p"),
        "--seed",
        "1",
        "--classes",
        "28",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert contents(tmp_path / "p") == contents(write_sample_corpus(tmp_path / "q", 1, 28))


def test_the_default_size_gives_over_2500_tasks_of_many_kinds_and_hardly_a_duplicate(tmp_path: Path) -> None:
    corpus = write_sample_corpus(tmp_path / "sample")
    collected = mine_projects(find_projects([corpus], tmp_path), Limits(), workers=1, progress=False)
    tests = len(collected.tests)
    assert not any(collected.left_out.values()), "the miner left out a part of a project that is made for it"
    drop_duplicates(collected, 0.8, (), progress=False)
    assert len(collected.tests) >= 0.99 * tests
    sources = [row["source"] for test in collected.tests for row in test.rows]
    assert len(sources) >= 2500
    kinds = Counter(source["assertion_kind"] for source in sources)
    assert kinds.keys() == {
        "assertEquals",
        "assertTrue",
        "assertFalse",
        "assertNull",
        "assertNotNull",
        "assertSame",
        "assertNotSame",
        "assertArrayEquals",
        "fail",
    }
    assert max(kinds.values()) < 0.6 * len(sources)
    assert {source["framework"] for source in sources} == {"junit4", "junit5"}
    rules = {"test name", "called in the assertion", "makes what is asserted"}
    assert {source["focal_rule"] for source in sources} <= rules  # none is only the last call before


def test_bad_arguments(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(UserError, match="holds something other than a sample corpus"):
        write_sample_corpus(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    for classes in (0, 10_000):
        with pytest.raises(UserError, match="must lie between"):
            write_sample_corpus(tmp_path / "new", classes=classes)
    write_sample_corpus(tmp_path / "new", 1, 14)
    write_sample_corpus(tmp_path / "new", 2, 7)  # its own earlier work may go
    assert sum(name.endswith("Test.java") for name in contents(tmp_path / "new")) == 7


def find_jar(name: str) -> Path | None:
    for folder in JAR_FOLDERS:
        for pattern in (f"{name}.jar", f"{name.rstrip('4')}-[0-9]*.jar"):
            if found := sorted(folder.rglob(pattern) if "m2" in str(folder) else folder.glob(pattern)):
                return found[-1]
    return None


@pytest.mark.jdk
@pytest.mark.parametrize(
    "classes", [3 * len(FAMILIES), pytest.param(300, marks=pytest.mark.slow)], ids=["three_of_each_family", "default"]
)
def test_it_compiles_and_passes(tmp_path: Path, classes: int) -> None:
    if shutil.which("javac") is None:
        pytest.fail("javac was not found: install a JDK 11 or later, or leave this test out with -m 'not jdk'")
    jars = {name: find_jar(name) for name in JARS}
    missing = [name for name, path in jars.items() if path is None]
    if missing:
        where = " or ".join(map(str, JAR_FOLDERS))
        pytest.fail(f"{', '.join(missing)} not in {where}: apt-get install junit4 junit5, or -m 'not jdk'")
    corpus = write_sample_corpus(tmp_path / "sample", seed=5, classes=classes)
    sources = tmp_path / "sources.txt"
    sources.write_text("\n".join(f'"{path}"' for path in corpus.rglob("*.java")))
    path = ":".join([str(tmp_path / "classes"), *(str(jar) for jar in jars.values())])
    subprocess.run(["javac", "-d", tmp_path / "classes", "-cp", path, f"@{sources}"], check=True)
    launcher = ["java", "-cp", path, "org.junit.platform.console.ConsoleLauncher", "--scan-classpath"]
    done = subprocess.run(
        [*launcher, tmp_path / "classes", "--details=summary", "--disable-ansi-colors"], capture_output=True, text=True
    )
    summary = {
        " ".join(line.split()[2:-1]): int(line.split()[1]) for line in done.stdout.splitlines() if "tests" in line
    }
    assert done.returncode == 0, done.stdout
    assert summary["tests failed"] == 0
    assert summary["tests successful"] == summary["tests found"] > 5 * classes
