"""Which files of a project count: one walk for mining, suggestions and execution."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

BUILD_OUTPUT = frozenset({"target", "build", "out", "node_modules"})


def walk_folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders of a project and the names in each, sorted; links to folders are not followed.

    Left out: hidden folders, which hold a tool's copies (``.git``, ``.pc``), and what a build leaves.
    """
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(
            name
            for name in inner
            if not name.startswith(".") and (name not in BUILD_OUTPUT or _is_package(Path(folder, name)))
        )
        yield Path(folder), sorted(names)


def find_files(root: Path, ending: str) -> list[Path]:
    """The files of a project whose names have this ending, hidden ones left out, in the order of the walk."""
    found = (folder / name for folder, names in walk_folders(root) for name in names if name.endswith(ending))
    # Not every name is a file: an editor's lock is a dead link.
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def _is_package(folder: Path) -> bool:
    """Whether a folder called ``build`` or the like holds sources: ``src/main/java/org/example/build`` is a package."""
    return "java" in folder.parts and any(folder.glob("*.java"))
