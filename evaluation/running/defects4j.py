"""Real bugs: what Defects4J records of each, and its sources from a project's own history."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from utils.atomic_io import atomic_directory, atomic_writer
from utils.errors import UserError

REPOSITORIES = {"Csv": "commons-csv", "Codec": "commons-codec", "Cli": "commons-cli", "Lang": "commons-lang"}
TRIGGER = re.compile(r"^--- ([\w.$]+)::(\w+)", re.MULTILINE)
SHARED_JAR = "framework/projects/lib/junit-4.12-hamcrest-1.3.jar"  # for projects that keep an older JUnit
PATCHED = re.compile(r"^(?:--- a|\+\+\+ b)/(\S+\.java)$", re.MULTILINE)


@dataclass(frozen=True)
class Bug:
    """A bug of Defects4J: the commit that fixed it, the tests (class, name) that show it, and the patch that makes the
    fixed version buggy again."""

    project: str
    number: int
    fixed: str
    triggers: tuple[tuple[str, str], ...]
    patch: str

    @property
    def name(self) -> str:
        return f"{self.project}-{self.number}"


def _git(repository: Path, *words: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["git", "-C", str(repository), *words], input=given, capture_output=True)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"git in {repository}: {reason[0][:200] if reason else 'failed'}")
    return done.stdout


def _open_repository(folder: Path) -> Path:
    """The repository in a folder: itself, or its only child that is one."""
    for path in (folder, folder / "repo", folder / ".git"):
        if (path / "HEAD").is_file() or (path / ".git").exists():
            return path
    raise UserError(f"{folder}: holds no git repository")


def read_bugs(defects4j: Path, projects: Sequence[str], limit: int | None = None) -> list[Bug]:
    """The active bugs of some projects, the first ``limit`` of each, from a checkout or a mirror of Defects4J.

    Raises UserError for a project without a known repository, and where the folder is no Defects4J.
    """
    for project in projects:
        if project not in REPOSITORIES:
            raise UserError(f"--projects {project}: known are {', '.join(REPOSITORIES)}")
    repository = _open_repository(defects4j)

    def read(path: str) -> str:
        return _git(repository, "show", f"HEAD:framework/projects/{path}").decode(errors="replace")

    bugs = []
    for project in projects:
        for row in islice(csv.DictReader(io.StringIO(read(f"{project}/active-bugs.csv"))), limit):
            number = int(row["bug.id"])
            triggers = tuple(dict.fromkeys(TRIGGER.findall(read(f"{project}/trigger_tests/{number}"))))
            patch = read(f"{project}/patches/{number}.src.patch")
            bugs.append(Bug(project, number, row["revision.id.fixed"], triggers, patch))
    return bugs


def find_mirror(mirrors: Path, project: str) -> Path:
    """The git mirror of a project among the folders of ``mirrors``, by the name of its repository."""
    wanted = REPOSITORIES[project]
    folders = [path for path in sorted(mirrors.iterdir()) if re.search(rf"(^|\W){wanted}(\.git)?$", path.name)]
    if not folders:
        raise UserError(f"--mirrors {mirrors}: holds no mirror of {wanted}; git clone --mirror it there")
    return _open_repository(folders[0])


def check_out(bug: Bug, mirror: Path, folder: Path) -> Path:
    """The tree of the fixed version, written once; without links, and without files that the mirror lacks."""
    if not folder.is_dir():
        listed = [line.split(b"\t", 1) for line in _git(mirror, "ls-tree", "-r", "-z", bug.fixed).split(b"\0") if line]
        files = [(facts.split()[2], name.decode()) for facts, name in listed if facts.startswith(b"100")]
        answer = io.BytesIO(_git(mirror, "cat-file", "--batch", given=b"\n".join(blob for blob, _ in files) + b"\n"))
        with atomic_directory(folder) as target:
            for _, name in files:
                head = answer.readline().split()
                if head[-1] != b"missing":
                    path = target / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(answer.read(int(head[2])))
                    answer.read(1)
    return folder


def make_buggy(bug: Bug, fixed: Path) -> dict[str, str]:
    """The files that the patch changes or adds, by path, with the bug. Raises UserError where it does not fit."""
    names = dict.fromkeys(PATCHED.findall(bug.patch))
    with tempfile.TemporaryDirectory(prefix="bug-") as scratch:
        for name in names:
            copy = Path(scratch, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (fixed / name).is_file():
                copy.write_bytes((fixed / name).read_bytes())
        words = ["git", "apply", "--ignore-whitespace", "--whitespace=nowarn", "-"]
        environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "GIT_CEILING_DIRECTORIES": scratch}
        done = subprocess.run(words, input=bug.patch.encode(), capture_output=True, cwd=scratch, env=environment)
        if done.returncode:
            raise UserError(f"{bug.name}: the patch does not fit the commit")
        left = [name for name in names if Path(scratch, name).is_file()]
        return {name: Path(scratch, name).read_bytes().decode("utf-8", "replace") for name in left}


def find_jars(defects4j: Path, project: str, folder: Path) -> list[Path]:
    """The jars that Defects4J keeps for a project's tests, of each the newest release, written to ``folder`` once.

    Raises UserError where it keeps none.
    """
    repository = _open_repository(defects4j)
    places = (SHARED_JAR, f"framework/projects/{project}/lib")
    listed = _git(repository, "ls-tree", "-r", "-z", "--name-only", "HEAD", *places).decode().split("\0")
    newest: dict[str, tuple[list[int], str]] = {}
    for name in sorted((item for item in listed if item.endswith(".jar")), key=lambda item: item != SHARED_JAR):
        artifact = re.sub(r"-\d[\w.]*$", "", Path(name).stem)
        version = [int(part) for part in re.findall(r"\d+", Path(name).stem[len(artifact) :])]
        newest[artifact] = max(newest.get(artifact, (version, name)), (version, name))
    if not newest:
        raise UserError(f"{defects4j}: keeps no jars for {project}; name them with --class_path")
    jars = []
    for _, name in newest.values():
        jars.append(folder / Path(name).name)
        if not jars[-1].is_file():
            with atomic_writer(jars[-1], "wb") as handle:
                handle.write(_git(repository, "show", f"HEAD:{name}"))
    return jars
