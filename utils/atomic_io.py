"""Files and folders that are complete or do not exist, even when the process is killed while it writes them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LEFT_BEHIND = re.compile(r"\.(?P<name>.+)\.\d+\.(?P<kind>tmp|old)")


def recover(folder: Path) -> None:
    """Clean up after a killed process in ``folder``: move back what it had set aside, remove what it had half written.

    Only for a folder that no other process writes to.
    """
    for path in folder.iterdir():
        found = LEFT_BEHIND.fullmatch(path.name)
        if found is None:
            continue
        target = folder / found["name"]
        if found["kind"] == "old" and not target.exists():
            os.rename(path, target)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def fsync_directory(path: Path) -> None:
    """Make renames inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_writer(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Write ``path`` through a temporary file in its folder: on success fsync and rename it, on failure remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # A path may hold bytes that are no characters of the locale; in JSON their escape means the same path again.
    encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
    try:
        with open(temporary, mode, encoding=encoding, errors=errors) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        fsync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN raises ValueError, since JSON has none."""
    with atomic_writer(path) as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; on success fsync its files and rename it to ``path``, replacing what was there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(temporary.stat().st_mode & 0o666)  # safetensors makes files that only their owner can read
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
        shutil.rmtree(replaced, ignore_errors=True)
        if path.exists():
            os.rename(path, replaced)
        os.rename(temporary, path)
        fsync_directory(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
