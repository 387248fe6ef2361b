"""From the paths that a user names to projects and the test files in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.java.source_tree import BUILD_OUTPUT
from evaluation.running.build_tools import BUILD_FILES, GRADLE, MAVEN
from utils.errors import UserError

SOURCE_FOLDERS = ("src", "test", "tests", "javatests")  # the project is the folder that holds one of them


@dataclass
class Target:
    """What is asked for in one project: ``files``, each with the name of one of its tests, or an empty one for all;
    ``folders``: every test file below them."""

    project: Path
    files: list[tuple[Path, str]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


def find_targets(paths: Sequence[str], project: Path | None) -> list[Target]:
    """What is asked for, by project. ``paths``: files, ``file#test``, or folders; ``project``: where the user says so.

    Raises UserError for a path that does not exist, is not a Java file, or lies outside ``project``.
    """
    found: dict[Path, Target] = {}
    for written in paths:
        name, _, method = written.partition("#")
        path = Path(name).resolve()
        if not path.exists():
            raise UserError(f"{name}: no such file or folder")
        if path.is_file() and path.suffix != ".java":
            raise UserError(f"{name}: not a Java file; name a test file, or a folder")
        if path.is_dir() and method:
            raise UserError(f"{written}: #{method} names a test of a file, and {name} is a folder")
        for root in [project.resolve()] if project is not None else find_projects(path):
            if root != path and root not in path.parents and path not in root.parents:
                raise UserError(f"--project {project}: {name} is not in it")
            target = found.setdefault(root, Target(root))
            if path.is_file():
                target.files.append((path, method))
            else:
                target.folders.append(path)
    return list(found.values())


def find_projects(path: Path) -> list[Path]:
    """The projects of a file or folder: the one around it, else those right below it, else itself."""
    around = _find_around(path)
    if around is not None:
        return [around]
    if path.is_file():
        return [path.parent]
    below = [item for item in sorted(path.iterdir()) if item.is_dir() and item.name not in BUILD_OUTPUT]
    return [item for item in below if not item.name.startswith(".") and _has_build_file(item)] or [path]


def _find_around(path: Path) -> Path | None:
    folders = [path, *path.parents] if path.is_dir() else list(path.parents)
    for number, folder in enumerate(folders):
        if _has_build_file(folder):
            return _climb_to_root(folder, folders[number + 1 :])
    # The last ``src`` may be a package or a test tree of its own: src/test/java, src + test, java + javatests.
    named = [folder for folder in folders if folder.name in SOURCE_FOLDERS]
    return next((folder.parent for folder in reversed(named) if _may_be_project(folder.parent)), None)


def _may_be_project(folder: Path) -> bool:
    return folder != folder.parent and folder != Path.home()


def _has_build_file(folder: Path) -> bool:
    return any((folder / name).is_file() for name in BUILD_FILES)


def _climb_to_root(module: Path, above: Sequence[Path]) -> Path:
    """The root of the build that a module belongs to: its classes may need those of the other modules."""
    root = module
    for folder in above:
        if any((root / name).is_file() for name in GRADLE.files if name.startswith("settings")):
            return root
        named = folder / MAVEN.files[0]
        lists_it = named.is_file() and f"<module>{root.relative_to(folder).as_posix()}</module>" in _read(named)
        settings = [folder / name for name in GRADLE.files if name.startswith("settings")]
        # `include ':app'`, `include("app")`, `include 'libs:app'`
        includes_it = any(
            file.is_file() and root.relative_to(folder).parts[-1] in _read(file).replace(":", " ") for file in settings
        )
        if lists_it or includes_it:
            root = folder
        elif _has_build_file(folder):
            break
    return root


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
