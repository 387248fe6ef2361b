"""The cell that a JVM with predictions runs in: what it may see, write, use up and reach.

On Linux the cell is made by bubblewrap, else by ``unshare``. Each layer is tried before it is relied on; one that the
system refuses is named in ``Cell.missing``. docs/execution.md says what each layer is worth.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from evaluation.execution_settings import Sandbox
from utils.errors import UserError

PROBE_SECONDS = 20.0
GONE_SECONDS = 30.0  # on a busy machine the kernel takes its time
STALE_SECONDS = 600.0  # a group this old whose owner is gone was left over, not about to be used
NATIVE_MB = 1024  # beside the heap: code, classes, stacks and the JVM's own memory
FILE_MB = 128
OPEN_FILES = 1024
MAX_PROCESSES = 2048  # threads count, too
CGROUPS = Path("/sys/fs/cgroup")
LIBFAKETIME = "faketime/libfaketime.so.1"
# Hidden but for what the JVM needs: sockets of services, and other people's files.
MASKED = ("/tmp", "/run", "/var/tmp", "/home", "/root", "/mnt", "/media")
JAVA_VARIABLES = frozenset(
    ("JDK_JAVA_OPTIONS", "JDK_JAVAC_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JAVA_OPTIONS", "CLASSPATH")
)
# Arguments: scratch folder, its size in bytes, command. Everything else becomes read-only, keeping its other options.
UNSHARED = (
    'while read -r _ _ _ _ point options _; do mount -o "remount,bind,$options,ro" "$point" 2>/dev/null || :; done'
    ' </proc/self/mountinfo; mount -t tmpfs -o "size=$2,nosuid,nodev" scratch "$1"; mount -t proc proc /proc;'
    " (ip link set lo up || ifconfig lo up) >/dev/null 2>&1 || :;"
    ' touch / 2>/dev/null && exit 9; cd "$1"; shift 2; exec "$@"'
)
_numbers = itertools.count()
# The kernel ends a cell with the thread that started it, so that thread must live as long as this process.
_starter = ThreadPoolExecutor(1, "cell")


@dataclass(frozen=True)
class Cell:
    """``prefix``: the words before the command. ``missing``: layer -> why this system does not have it.

    ``private``: the scratch folder is a file system of its own, which only the cell sees. ``cgroups``: folders that
    bound the cell's processes and memory, to be removed after it.
    """

    prefix: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    private: bool = False
    cgroups: tuple[Path, ...] = ()

    def start(self, command: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        """Start a command in the cell, which ends with this process at the latest."""
        words = [*self.prefix, *command]
        return _starter.submit(lambda: subprocess.Popen(words, **options)).result()  # type: ignore[call-overload,no-any-return]

    def remove(self) -> None:
        """Remove what bounded the cell, as soon as the last of its killed processes is gone."""
        deadline = time.monotonic() + GONE_SECONDS
        for folder in self.cgroups:
            while folder.is_dir() and time.monotonic() < deadline:
                try:
                    folder.rmdir()
                except OSError:
                    time.sleep(0.01)


def java_environment(work: Path) -> dict[str, str]:
    """All that a JVM with predictions gets to see of the environment."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "MALLOC_ARENA_MAX": "2",  # glibc reserves 64 MB of addresses for each
    }


def tool_environment(**more: str) -> dict[str, str]:
    """This process's environment for javac and Maven, without the variables that change what every JVM does."""
    return {name: value for name, value in os.environ.items() if name not in JAVA_VARIABLES} | more


def build_cell(sandbox: Sandbox, work: Path, readable: Iterable[Path], memory_mb: int, scratch_mb: int) -> Cell:
    """The tightest cell that this system allows around ``work``, the only folder that can be written.

    ``readable``: what the JVM reads, wherever it lies. Raises UserError with ``require`` where a layer is missing.
    """
    if sandbox == "off":
        return Cell(missing={"cell": "--sandbox off"})
    kind, missing = _find_kind()
    missing = dict(missing)
    prefix: tuple[str, ...] = ()
    if kind == "bwrap":
        prefix = _bubblewrap(work, scratch_mb << 20, readable)
    elif kind.startswith("unshare"):
        prefix = _unshare(kind, work, scratch_mb << 20)
    bounds: tuple[str, ...] = ()
    cgroups: tuple[Path, ...] = ()
    if shutil.which("prlimit") is None:
        missing["memory"] = missing["file size"] = missing["number of processes"] = "no prlimit (util-linux)"
    else:
        bounds = (
            "prlimit",
            "--core=0",
            f"--as={(memory_mb + NATIVE_MB) << 20}",
            f"--fsize={FILE_MB << 20}",
            f"--nofile={OPEN_FILES}",
            "--",
        )
        if os.geteuid() == 0:  # root is exempt from --nproc
            cgroups = _make_cgroups(memory_mb + NATIVE_MB + scratch_mb)
            if not cgroups:
                missing["number of processes"] = "root is not bounded by a limit, and no control group can be made"
    joined = "".join(f'echo $$ >"{folder}/cgroup.procs"; ' for folder in cgroups)
    enter = ("sh", "-ec", joined + 'exec "$@"', "sh") if cgroups else ()
    cell = Cell((*enter, *bounds, *prefix), missing, bool(kind), cgroups)
    if sandbox == "require" and missing:
        cell.remove()
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in missing.items())
        raise UserError(f"--sandbox require: this system lacks a layer ({reasons}); --sandbox auto goes on without it")
    return cell


def _bubblewrap(work: Path, size: int, readable: Iterable[Path]) -> tuple[str, ...]:
    words = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    masked = [Path(folder) for folder in MASKED if Path(folder).is_dir() and not Path(folder).is_symlink()]
    for folder in masked:
        words += ["--tmpfs", str(folder)]
    hidden = {path for path in map(Path.absolute, readable) if not {path, *path.parents}.isdisjoint(masked)}
    for path in sorted(path for path in hidden if path.exists() and hidden.isdisjoint(path.parents)):
        words += ["--ro-bind", str(path), str(path)]
    words += ["--size", str(size), "--tmpfs", str(work)]
    for folder in masked:
        words += ["--remount-ro", str(folder)]
    return (*words, "--chdir", str(work), "--", "prlimit", f"--nproc={MAX_PROCESSES}", "--")


def _unshare(kind: str, work: Path, size: int) -> tuple[str, ...]:
    network = () if kind.endswith("without network") else ("--net",)
    namespaces = ("--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", *network)
    bound = ("prlimit", f"--nproc={MAX_PROCESSES}", "--")
    drop = (*bound, "setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--")
    script = ("sh", "-ec", UNSHARED, "sh", str(work), str(size))
    return ("setpriv", "--pdeathsig", "KILL", "--", "unshare", *namespaces, *script, *drop)


@lru_cache(maxsize=1)
def _find_kind() -> tuple[str, dict[str, str]]:
    """What makes the cell here, and the layers that this leaves out."""
    nothing = ("own users, processes, files and network", "capabilities")
    if shutil.which("bwrap") is None and shutil.which("unshare") is None:
        return "", dict.fromkeys(nothing, "neither bubblewrap nor unshare is installed")
    reason = ""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cell-")))
        for kind in ("bwrap", "unshare", "unshare without network"):
            words = _bubblewrap(work, 1 << 20, [work]) if kind == "bwrap" else _unshare(kind, work, 1 << 20)
            if shutil.which(kind.split()[0]) is None:
                continue
            script = (
                "touch probe && ! touch /probe 2>/dev/null && grep -q 'CapEff:.*0000000000000000' /proc/self/status"
            )
            try:
                done = subprocess.run(
                    [*words, "sh", "-c", script], capture_output=True, text=True, timeout=PROBE_SECONDS
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                reason = reason or f"{kind}: {error}"
                continue
            if done.returncode == 0:
                lost = {"network": reason} if kind.endswith("network") else {}
                if kind != "bwrap":
                    lost["other people's files"] = "hidden by bubblewrap only, which is not usable here"
                return kind, lost
            reason = reason or f"{kind}: {(done.stderr.strip().splitlines() or ['refused'])[0][:200]}"
    return "", dict.fromkeys(nothing, reason)


def _remove_left_over() -> None:
    """Remove the empty control groups of processes that were killed outright. One in use cannot be removed."""
    for folder in (*CGROUPS.glob("assertion-cell-*"), *CGROUPS.glob("*/assertion-cell-*")):
        with contextlib.suppress(OSError):
            owner = Path("/proc", folder.name.split("-")[2])
            if not owner.exists() and time.time() - folder.stat().st_mtime > STALE_SECONDS:
                folder.rmdir()


def _make_cgroups(memory_mb: int) -> tuple[Path, ...]:
    """Control groups of one cell, version 1 or 2, that bound its processes and memory; empty where none can be made."""
    name = f"assertion-cell-{os.getpid()}-{next(_numbers)}"
    bytes_ = str(memory_mb << 20)
    made: list[Path] = []
    _remove_left_over()
    unified = (CGROUPS / "cgroup.controllers").is_file()
    wanted = (
        [(CGROUPS / name, {"pids.max": str(MAX_PROCESSES), "memory.max": bytes_})]
        if unified
        else [
            (CGROUPS / "pids" / name, {"pids.max": str(MAX_PROCESSES)}),
            (CGROUPS / "memory" / name, {"memory.limit_in_bytes": bytes_}),
        ]
    )
    try:
        for folder, limits in wanted:
            folder.mkdir()
            made.append(folder)
            for key, value in limits.items():
                (folder / key).write_text(value)
    except OSError:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return ()
    return tuple(made)


def find_libfaketime() -> Path | None:
    """The library that shifts a process's clock, where it is installed (Debian: faketime)."""
    for folder in (*Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib64"), Path("/usr/local/lib")):
        if (folder / LIBFAKETIME).is_file():
            return folder / LIBFAKETIME
    return None
