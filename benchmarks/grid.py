"""A grid: the students that an ablation trains, and the stored results of those that are done."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from utils.atomic_io import atomic_writer, write_json
from utils.errors import UserError

MAIN = "code_quality_score"
SHOWN = ("exact_match", "f1", "semantic_similarity", "ast_validity", "token_accuracy", "critical_token_accuracy")
EXECUTED = ("compile_rate", "pass_rate", "nontrivial_rate")
METRICS = (MAIN, *SHOWN, "codebleu", "bleu", "pans", "token_similarity", *EXECUTED)
BASELINES = ("teacher", "retrieval", "trivial")

Json = dict[str, Any]
Flags = dict[str, Any]  # of a script, without the dashes; true: a flag without a value
Budget = tuple[int, int]  # training rows, and passes over them


class Outcome(TypedDict):
    """How many predictions ended in one way, and the first of them."""

    tasks: int
    example: dict[str, str | None]


class Measured(TypedDict, total=False):
    """What an evaluation says of one system. ``per_task`` has a value for each task, None where there is none."""

    parameters: int | None
    per_task: dict[str, list[float | None]]
    failures: dict[str, Outcome]
    executions: dict[str, Outcome]


class Run(Measured, total=False):
    """A stored student: what it was trained with, what that cost, and what was measured."""

    contender: str
    rows: int
    seed: int
    passes: int | None
    flags: Flags
    shared: str
    teacher: str
    steps: int
    train_seconds: float
    memory_mb: float
    data_bytes: int


class Baselines(TypedDict, total=False):
    """What is stored once for all students: the systems that they are compared with, and each task's test class."""

    teacher: Measured
    retrieval: Measured
    trivial: Measured
    clusters: list[str]
    shared: str


@dataclass(frozen=True)
class Task:
    """One student. ``passes`` over the training rows: None means those of the grid's students."""

    contender: str
    rows: int
    seed: int
    passes: int | None = None

    @property
    def name(self) -> str:
        passes = f"-{self.passes}passes" if self.passes else ""
        return f"{re.sub('[^a-z0-9.]+', '_', self.contender.lower())}-{self.rows}{passes}-seed{self.seed}"


class Store:
    """The results of a grid by name: a JSON file for each in the folder, and those packed into one archive.

    A run writes a file, so that many can run at once. ``pack`` moves the files into ``FOLDER.results.json.xz`` and
    writes its SHA-256 into the grid. A file counts before a packed result of the same name.
    """

    def __init__(self, grid: Path, sha256: str | None) -> None:
        self.grid, self.sha256 = grid, sha256
        self.folder = grid.with_suffix("")
        self.archive = grid.with_suffix(".results.json.xz")

    @cached_property
    def packed(self) -> Json:
        """The content of the archive. Raises UserError where it is not the one that the grid names."""
        if not self.sha256 and not self.archive.exists():
            return {}
        try:
            data = self.archive.read_bytes()
        except OSError as error:
            raise UserError(f"{self.archive}: {self.grid} names these results, but: {error}") from None
        if (found := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise UserError(
                f"{self.archive}: its SHA-256 is {found}, and results_sha256 in {self.grid} is {self.sha256}; restore"
                " the file that belongs to the grid"
            )
        return json.loads(lzma.decompress(data))

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def read(self, name: str) -> Any:
        """The stored result, or None."""
        if (path := self.path(name)).is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        return self.packed.get(name)

    def write(self, name: str, value: Json | Run | Baselines) -> None:
        write_json(self.path(name), value)

    def pack(self) -> int:
        """Move all files of the folder into the archive. Returns how many there were."""
        files = sorted(self.folder.glob("*.json"))
        if not files:
            return 0
        together = self.packed | {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
        text = json.dumps(dict(sorted(together.items())), ensure_ascii=False, allow_nan=False)
        data = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
        with atomic_writer(self.archive, "wb") as handle:
            handle.write(data)
        self.record(hashlib.sha256(data).hexdigest())
        self.packed = together
        for path in files:
            path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        return len(files)

    def record(self, sha256: str) -> None:
        """Write the archive's SHA-256 into the grid, and leave the rest of its text alone."""
        text, line = self.grid.read_text(encoding="utf-8"), f'"results_sha256": "{sha256}"'
        text, replaced = re.subn(r'"results_sha256": "\w*"', line, text, count=1)
        with atomic_writer(self.grid) as handle:
            handle.write(text if replaced else text.replace("{", f"{{\n  {line},", 1))
        self.sha256 = sha256

    def unpack(self) -> int:
        """Turn the archive back into files; one that is there stays as it is. Returns how many were written."""
        missing = [name for name in self.packed if not self.path(name).is_file()]
        for name in missing:
            self.write(name, self.packed[name])
        self.record("")
        self.packed = {}
        self.archive.unlink(missing_ok=True)
        return len(missing)


class Grid:
    """The grid file, and where its runs and results lie.

    Raises UserError if the file cannot be read, lacks something, or names what it does not define.
    """

    def __init__(self, path: Path, work: Path | None) -> None:
        try:
            self.settings: Json = json.loads(path.read_text(encoding="utf-8"))
            self.stages = {stage: list_tasks(plan) for stage, plan in self.settings["stages"].items()}
            self.settings["student"]["epochs"]  # the page names the passes of each student
            held_out = self.settings.get("held_out", {}).items()
            self.libraries: dict[str, Flags] = {library: {**flags} for library, flags in held_out}
            unknown = self.find_unknown_names()
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable grid ({error}); see benchmarks/ablations/") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: the grid lacks {error} or has it in another shape; see benchmarks/ablations/"
            ) from None
        if unknown:
            raise UserError(f"{path}: names contenders or scores that do not exist: {', '.join(sorted(unknown))}")
        self.path, self.work = path, work.resolve() if work else None
        self.store = Store(path, self.settings.get("results_sha256"))
        self.tasks = list(dict.fromkeys(task for tasks in self.stages.values() for task in tasks))
        if len({(task.contender, task.seed, self.get_budget(task)) for task in self.tasks}) < len(self.tasks):
            raise UserError(f"{path}: two stages ask for the same students, and one of them names their passes")
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise UserError(f"{path}: the names of two contenders differ only in punctuation; give them other names")

    def find_unknown_names(self) -> set[str]:
        """Contenders and scores that stages or questions name and nothing defines."""
        questions = self.settings.get("questions", [])
        contenders = {task.contender for tasks in self.stages.values() for task in tasks}
        contenders |= {question[side] for question in questions for side in ("contender", "against")}
        metrics = {metric for question in questions for metric in question["metrics"]}
        return (contenders - set(self.settings["contenders"])) | (metrics - set(METRICS))

    def get_flags(self, task: Task) -> Flags:
        """What the student is trained with, apart from files, seed and number of rows."""
        own = {**self.settings["student"], **self.settings["contenders"][task.contender]}
        return {**own, "epochs": task.passes} if task.passes else own

    def get_budget(self, task: Task) -> Budget:
        return task.rows, self.get_flags(task)["epochs"]

    def hash_shared(self, library: str = "") -> str:
        """Hash of the settings that decide every result, of the held-out classes or of a library."""
        deciding = {key: self.settings.get(key) for key in ("data", "pretrain", "teacher")}
        deciding["judged"] = self.libraries[library] if library else self.settings.get("judged")
        return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:16]

    def read_run(self, task: Task, library: str = "") -> Run | None:
        """What is stored of a student, or None. Raises UserError if it was made with other settings."""
        return self.read(stored_name(task.name, library), library, {"flags": self.get_flags(task)})

    def read_baselines(self, library: str = "") -> Baselines | None:
        """What is stored of the baselines; otherwise like ``read_run``."""
        return self.read(stored_name("baselines", library), library, {})

    def read(self, name: str, library: str, made_with: Json) -> Any:
        found = self.store.read(name)
        if found is None:
            return None
        # The oldest results do not name all that they were made with.
        if any(found.get(key, now) != now for key, now in {**made_with, "shared": self.hash_shared(library)}.items()):
            raise UserError(
                f"{self.store.path(name)}: made with other flags than the grid has now; remove it (if it is packed,"
                " after --unpack) to run the task again"
            )
        return found

    def list_libraries(self, task: Task) -> list[str]:
        """The libraries that judge the task's student: none if all its stages say so."""
        plans = [self.settings["stages"][stage] for stage, tasks in self.stages.items() if task in tasks]
        return list(self.libraries) if any(plan.get("held_out", True) for plan in plans) else []

    def is_done(self, task: Task) -> bool:
        return all(self.read_run(task, library) for library in ("", *self.list_libraries(task)))

    def make_words(self, flags: Flags) -> list[str]:
        return make_words(flags, self.fill_in)

    def fill_in(self, text: str) -> str:
        return text.replace("$WORK", str(self.work)).replace("$DATA", self.settings.get("data", ""))


def make_words(flags: Flags, fill_in: Callable[[str], str]) -> list[str]:
    """Flags as the words of a command line; ``fill_in`` puts folders in the place of $WORK and $DATA."""
    words: list[str] = []
    for flag, value in flags.items():
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{flag}", *(fill_in(str(one)) for one in values)]
    return words


def list_tasks(plan: Json) -> list[Task]:
    """The students of one stage."""
    return [
        Task(contender, rows, seed, passes)
        for seed in plan["seeds"]
        for rows in plan["rows"]
        for passes in plan.get("passes", [None])
        for contender in plan["contenders"]
    ]


def stored_name(name: str, library: str = "") -> str:
    return f"{name}.{library}" if library else name
