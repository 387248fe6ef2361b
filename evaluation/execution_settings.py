"""How the tests of a Java project are run. Light to import: command lines take their defaults from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Sandbox = Literal["auto", "require", "off"]


@dataclass(frozen=True)
class ExecutionSettings:
    """``workers`` JVMs with ``memory_mb`` of heap each; a run of one test may take ``timeout_s`` seconds.

    ``sandbox``: auto takes the tightest cell that the system allows, require refuses one that lacks a layer, off none.
    A test may write ``scratch_mb``. ``jdk_home``: None takes $JAVA_HOME, else the javac on the PATH. ``nontrivial``:
    also run the tests on at most ``max_mutants`` broken versions of the focal method.
    """

    workers: int = 2
    timeout_s: float = 10.0
    jdk_home: str | Path | None = None
    nontrivial: bool = True
    max_mutants: int = 12
    memory_mb: int = 512
    scratch_mb: int = 256
    sandbox: Sandbox = "auto"
    jvm_args: tuple[str, ...] = ()
