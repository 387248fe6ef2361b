"""Whole runs of the scripts without the seconds that imports take, and faults planted in them.

A fork server imports everything once; each run is a child of it that calls the script's ``main`` as the command line
would. A fault is a function of this repository's tests that the child calls first, to patch what it is about.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = [
    "knowledge_distillation",
    "train_codet5_assertions",
    "models.training.stages",
    "models.multi_component_loss",
    "evaluation.evaluate_assertions",
    "evaluation.systems.models",
    "evaluation.reports.pages",
    "evaluation.reports.results",
    "models.teacher.writer",
    "evaluation.reports.run_report",
    "evaluation.reports.model_card",
    "transformers.models.t5.modeling_t5",
]
SERVER = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "42", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
Fault = Callable[..., None]


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _child(
    script: str, argv: list[str], output: str, environment: dict[str, str], fault: tuple[Fault, tuple] | None
) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    multiprocessing.set_start_method("fork", force=True)  # as in a script; here it would be the fork server
    os.chdir(ROOT)
    os.environ.update(environment)
    sys.argv = [script, *argv]
    if fault is not None:
        fault[0](*fault[1])
    from utils.errors import run_main

    run_main(importlib.import_module(script.removesuffix(".py").replace("/", ".")).main)


@dataclass
class Ended:
    """How a run ended: exit code (negative: the signal), and what it printed."""

    code: int
    output: str


class Started:
    """A run of one or more processes that is going on."""

    def __init__(
        self,
        words: Sequence[object],
        processes: int = 1,
        fault: Fault | None = None,
        arguments: tuple = (),
        on_rank: int = 0,
        **environment: str,
    ) -> None:
        script, *argv = map(str, words)
        handle, self.output = tempfile.mkstemp(prefix="run-", suffix=".out")
        os.close(handle)
        shared = {"OMP_NUM_THREADS": "1", **environment}
        if processes > 1:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            shared |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "GLOO_SOCKET_IFNAME": "lo",
            }
        self.processes = []
        with _environment(**SERVER):
            for rank in range(processes):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
                planted = (fault, arguments) if fault is not None and rank == on_rank else None
                process = _context().Process(target=_child, args=(script, argv, self.output, shared | own, planted))
                process.start()
                self.processes.append(process)

    @property
    def pid(self) -> int:
        """Of the main process."""
        return self.processes[0].pid

    def text(self) -> str:
        return Path(self.output).read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Until the run has printed ``text``."""
        deadline = time.monotonic() + timeout
        while text not in self.text():
            assert time.monotonic() < deadline and any(p.is_alive() for p in self.processes), self.text()
            time.sleep(0.01)

    def _failed(self) -> int:
        """The exit code of what failed first, 0 where nothing did: peers of what was killed, or ended of its own error,
        crash of its end (1)."""
        failed = [process.exitcode for process in self.processes if process.exitcode]
        return min(failed, key=lambda code: (code != -signal.SIGKILL, code == 1), default=0)

    def wait(self, timeout: float = 240) -> Ended:
        """Until it has ended. Where one process of several fails, the others are killed, as torchrun does."""
        deadline = time.monotonic() + timeout
        code = 0
        while any(process.is_alive() for process in self.processes):
            if self._failed() or time.monotonic() > deadline:
                time.sleep(0.3)  # peers end in any order, but not in the same instant
                code = code or self._failed() or 124
                for process in self.processes:
                    process.kill()
            self.processes[0].join(0.02)
        code = code or self._failed()
        output = self.text()
        os.unlink(self.output)
        return Ended(code, output)


def run(*words: object, code: int = 0, **options: Any) -> str:
    """Run a script to its end, which must be exit code ``code``; what it printed."""
    ended = Started(words, **options).wait()
    command = " ".join(map(str, words))
    assert ended.code == code, f"{command} ended with {ended.code}, not {code}:\n{ended.output[-4000:]}"
    return ended.output
