"""The JVMs that judge one project side by side, each with its scratch folder and cell."""

from __future__ import annotations

import queue
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.java.source_tree import walk_folders
from evaluation.execution_settings import ExecutionSettings
from evaluation.running.cell import build_cell
from evaluation.running.class_path import ClassPath
from evaluation.running.java_service import FIRST_GROUND, OTHER_GROUND, Ground, JavaService
from evaluation.running.jdk import Jdk, compile_service

MAX_COPIED_BYTES = 64 << 20


@dataclass(frozen=True)
class Worker:
    """Two JVMs: the second repeats on other ground what the first has found."""

    first: JavaService
    second: JavaService

    def close(self) -> None:
        _end(self.first)
        _end(self.second)


def _end(service: JavaService) -> None:
    service.end()
    service.cell.remove()


def _copy_other_files(project: Path, target: Path) -> None:
    """Copy test data and the like: all files that are not Java, in a hidden folder, build output or huge."""
    for folder, names in walk_folders(project):
        for name in names:
            path = folder / name
            if name.endswith((".java", ".class")) or path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size <= MAX_COPIED_BYTES:
                copy = target / path.relative_to(project)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)


class Workers:
    """As many workers as the settings say; ``take`` lends one at a time to each thread. ``close`` ends them."""

    def __init__(self, project: Path, class_path: ClassPath, jdk: Jdk, settings: ExecutionSettings) -> None:
        self.project, self.class_path, self.jdk, self.settings = project, class_path, jdk, settings
        self._scratch = tempfile.TemporaryDirectory(prefix="execution-", ignore_cleanup_errors=True)
        self._adapters: dict[str, list[bytes] | None] = {}
        self._all: list[Worker] = []
        self._free: queue.Queue[Worker] = queue.Queue()
        try:
            self._start(Path(self._scratch.name))
        except BaseException:
            self.close()
            raise

    def _start(self, root: Path) -> None:
        pristine = root / "project"
        (pristine / "tmp").mkdir(parents=True)
        _copy_other_files(self.project, pristine)
        held = sum(path.stat().st_size for path in pristine.rglob("*") if path.is_file())
        for number in range(self.settings.workers):
            first = self._make_service(root / f"first{number}", pristine, held >> 20, FIRST_GROUND)
            try:
                second = self._make_service(root / f"second{number}", pristine, held >> 20, OTHER_GROUND)
            except BaseException:
                _end(first)
                raise
            self._all.append(Worker(first, second))
            self._free.put(self._all[-1])

    def _make_service(self, work: Path, pristine: Path, held_mb: int, ground: Ground) -> JavaService:
        work.mkdir()
        settings, paths = self.settings, self.class_path
        readable = (self.jdk.home, compile_service(self.jdk), self.project, pristine, *paths.folders, *paths.jars)
        cell = build_cell(settings.sandbox, work, readable, settings.memory_mb, settings.scratch_mb + held_mb)
        return JavaService(
            self.jdk,
            paths.folders,
            paths.jars,
            work,
            pristine,
            cell,
            release=paths.release,
            memory_mb=settings.memory_mb,
            jvm_args=settings.jvm_args,
            ground=ground,
            adapters=self._adapters,
        )

    def close(self) -> None:
        """End all JVMs and remove what they wrote."""
        for worker in self._all:
            worker.close()
        self._scratch.cleanup()

    @contextmanager
    def take(self) -> Iterator[Worker]:
        """A worker that nobody else has."""
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)

    def find_missing_layers(self) -> dict[str, str]:
        """As in ProjectExecutor."""
        found: dict[str, str] = {}
        for worker in self._all:
            for service in (worker.first, worker.second):
                found |= service.cell.missing | service.missing
        return found
