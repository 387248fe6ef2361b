"""What ``--source`` may be: a project, a folder of projects, or an archive of either."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.java.source_tree import find_files
from utils.errors import UserError

BUILD_FILES = ("pom.xml", "build.gradle", "build.gradle.kts", "settings.gradle", "build.xml", "WORKSPACE", "src")
ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip", ".jar")
MAX_MEMBERS = 1_000_000
MAX_UNPACKED_BYTES = 4 << 30


@dataclass(frozen=True)
class ProjectSource:
    """A project's name and root, and its Java files (posix, relative to the root, sorted)."""

    name: str
    root: Path
    files: tuple[str, ...]


def find_java_files(root: Path) -> tuple[str, ...]:
    """The project's Java files, without links and names that are not UTF-8."""
    found = (path for path in find_files(root, ".java") if not path.is_symlink())
    names = (path.relative_to(root).as_posix() for path in found)
    return tuple(sorted(name for name in names if name.encode(errors="ignore").decode() == name))


def _resolve_target(folder: Path, name: str, archive: Path) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
        raise UserError(f"--source {archive}: the entry {name!r} points outside the archive; refused")
    return folder.joinpath(*path.parts)


def _check_size(archive: Path, members: int, declared: int) -> None:
    if members > MAX_MEMBERS or declared > MAX_UNPACKED_BYTES:
        raise UserError(
            f"--source {archive}: {members} entries of {declared} bytes, more than {MAX_MEMBERS} or "
            f"{MAX_UNPACKED_BYTES}; unpack it yourself and give the folder"
        )


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as handle:
        members = [item for item in handle.infolist() if item.filename.strip("./") and not item.is_dir()]
        _check_size(archive, len(members), sum(item.file_size for item in members))
        targets = [(item, _resolve_target(folder, item.filename, archive)) for item in members]
        for item, target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            # zipfile stops at the declared size, so a lying header cannot write more than was checked above.
            target.write_bytes(handle.read(item))


def _check_end(handle: tarfile.TarFile) -> None:
    """tarfile takes a damaged header, and the end of a file that was cut there, for the end of the archive."""
    assert handle.fileobj is not None
    handle.fileobj.seek(handle.offset)
    block = handle.fileobj.read(tarfile.BLOCKSIZE)
    if len(block) != tarfile.BLOCKSIZE or any(block):
        raise tarfile.ReadError("cut off or damaged")


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as handle:
        members = declared = 0
        targets: list[tuple[tarfile.TarInfo, Path]] = []
        for item in handle:
            members, declared = members + 1, declared + item.size
            _check_size(archive, members, declared)
            target = _resolve_target(folder, item.name, archive) if item.name.strip("./") else folder
            if item.isfile():  # links and devices are left out
                targets.append((item, target))
        for item, target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            content = handle.extractfile(item)
            assert content is not None
            target.write_bytes(content.read())
        _check_end(handle)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack into ``folder`` and return the root of the content; nothing is written where an entry is unsafe."""
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder)
        else:
            _unpack_tar(archive, folder)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:
        reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise UserError(f"--source {archive}: not a readable tar or zip archive ({reason})") from None
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and inside[0].name not in BUILD_FILES else folder


def archive_name(path: Path) -> str:
    """The file name without the ending of an archive."""
    ending = max((end for end in ARCHIVE_ENDINGS if path.name.lower().endswith(end)), key=len, default="")
    return path.name[: len(path.name) - len(ending)] or path.name


def _find_projects_in(root: Path, name: str) -> list[ProjectSource]:
    """One project where there is a build file or Java at the top, else one per sub-folder that holds Java."""
    if any((root / item).exists() for item in BUILD_FILES) or any(root.glob("*.java")):
        return [ProjectSource(name, root, find_java_files(root))]
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [ProjectSource(path.name, path, find_java_files(path)) for path in folders]
    return [project for project in found if project.files]


def find_projects(paths: Iterable[Path], scratch: Path) -> list[ProjectSource]:
    """The projects below ``paths``, archives unpacked into ``scratch``.

    Raises UserError for a path that does not exist, an archive that is broken or unsafe, a path without Java files,
    and two projects of the same name.
    """
    projects: list[ProjectSource] = []
    for number, path in enumerate(paths):
        if path.is_dir():
            found = _find_projects_in(path, path.resolve().name)
        elif path.is_file():
            found = _find_projects_in(unpack(path, scratch / str(number)), archive_name(path))
        else:
            raise UserError(f"--source {path}: does not exist; give a folder, a Maven project or a tar/zip archive")
        if not any(project.files for project in found):
            raise UserError(f"--source {path}: holds no Java files")
        projects += found
    names = [project.name for project in projects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"--source: two projects are called {twice[0]}; rename one folder, rows name the project")
    return sorted(projects, key=lambda project: project.name)
