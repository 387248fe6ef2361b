"""A JVM that compiles and runs Java tests on request. When a test kills it, the next request starts another."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.atomic_io import atomic_directory
from utils.cache import cache_dir
from utils.errors import UserError

SOURCES = Path(__file__).with_name("java")
MINIMUM_JDK = 11
LAST_JDK_WITH_GUARD = 23
START_SECONDS = 60.0
COMPILE_SECONDS = 60.0
GRACE_SECONDS = 5.0  # what the JVM may take beyond a test's own limit before it is killed
MAX_REPLY_BYTES = 1 << 28
_COMPILING = threading.Lock()
# On Linux the JVM runs in a mount namespace of its own, where everything but its scratch folder is read-only.
READ_ONLY = (
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-ec",
    'mount --bind "$1" "$1"; mount --bind "$2" "$2"; mount -o remount,bind,ro "$2"; mount -o remount,bind,ro /; '
    'cd "$1"; shift 2; exec "$@"',
    "sh",
)

Classes = Mapping[str, bytes]


@dataclass(frozen=True)
class Jdk:
    """A Java development kit: its folder and its major version."""

    home: Path
    version: int

    def tool(self, name: str) -> str:
        return str(self.home / "bin" / name)


def find_jdk(jdk_home: str | Path | None = None) -> Jdk:
    """The JDK at ``jdk_home``, else at $JAVA_HOME, else of the javac on the PATH.

    Raises UserError where there is none, or it is older than MINIMUM_JDK.
    """
    named = jdk_home or os.environ.get("JAVA_HOME")
    if named:
        home = Path(named)
        origin = f"--jdk_home {home}" if jdk_home else f"JAVA_HOME={home}"
    else:
        javac = shutil.which("javac")
        if javac is None:
            raise UserError(
                f"no JDK: javac is not on the PATH; install JDK >= {MINIMUM_JDK}, or set JAVA_HOME or --jdk_home"
            )
        home = Path(javac).resolve().parents[1]
        origin = str(home)
    try:
        done = subprocess.run(
            [str(home / "bin" / "javac"), "-version"], capture_output=True, text=True, timeout=START_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        raise UserError(
            f"no JDK at {origin}: its bin/javac cannot be run; give the folder of a JDK >= {MINIMUM_JDK}"
        ) from None
    match = re.search(r"javac (?:1\.)?(\d+)", done.stdout + done.stderr)  # Java 8 and older print it to stderr
    if match is None:
        raise UserError(f"no JDK at {origin}: `javac -version` gives no version")
    if int(match.group(1)) < MINIMUM_JDK:
        raise UserError(
            f"{origin} is JDK {match.group(1)}; execution needs JDK >= {MINIMUM_JDK}, set JAVA_HOME or --jdk_home"
        )
    return Jdk(home, int(match.group(1)))


def compile_service(jdk: Jdk) -> Path:
    """The folder of the compiled service. It is compiled at first use, and when its source or the JDK changes."""
    files = sorted(SOURCES.glob("*.java"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    folder = cache_dir("java_service") / f"{digest}-jdk{jdk.version}"
    with _COMPILING:
        if not folder.is_dir():
            with atomic_directory(folder) as target:
                command = [jdk.tool("javac"), "-nowarn", "-Xlint:none", "-encoding", "UTF-8", "-d", str(target)]
                done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
                if done.returncode:
                    reason = done.stderr.partition("\n")[0]
                    raise UserError(f"the Java service does not compile with JDK {jdk.version}: {reason}")
    return folder


@dataclass(frozen=True)
class Compiled:
    """What javac made of the sources: the classes by binary name; or None and an error."""

    classes: Classes | None
    error: str = ""


@dataclass(frozen=True)
class TestRun:
    """How a test went. ``status``: passed, failed, skipped, missing (no such test), timeout or died (the JVM ended).

    ``lines``: the lines of the test class's file in the error's stack trace, from 1. ``seconds``: measured by the JVM.
    """

    status: str
    reason: str = ""
    lines: frozenset[int] = frozenset()
    seconds: float = 0.0


TestRun.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test class


def make_read_only_prefix(work: Path, project: Path) -> list[str]:
    """The words before a command that make everything but ``work`` read-only for it, ``project`` included.

    Empty where the system does not let a user do that.
    """
    prefix = [*READ_ONLY, str(work), str(project)]
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True, timeout=START_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        allowed = False
    return prefix if allowed else []


class _Died(Exception):
    """The JVM ended, by itself or because we killed it; the message says how."""


class _NoAnswer(_Died):
    """The JVM was killed because it did not answer in time."""


class JavaService:
    """One JVM for one class path, started when it is needed and not running. Use it from one thread at a time.

    ``folders`` hold the project's classes, which every run loads again; ``jars`` are loaded once. Sources are compiled
    for the Java ``release`` (None: the JDK's own). ``work`` is the JVM's working directory, temporary folder and home;
    it cannot write anywhere else, given Linux or a JDK up to 23.
    """

    def __init__(
        self,
        jdk: Jdk,
        folders: Sequence[Path],
        jars: Sequence[Path],
        work: Path,
        project: Path,
        *,
        release: int | None = None,
        memory_mb: int = 512,
        jvm_args: Sequence[str] = (),
    ) -> None:
        self.jdk = jdk
        self.folders = folders
        self.jars = jars
        self.work = work
        self.release = str(release or "").encode()
        self.memory_mb, self.jvm_args = memory_mb, tuple(jvm_args)
        self.starts = 0
        self.prefix = make_read_only_prefix(work, project)
        self.guarded = False
        self._adapters: dict[str, list[bytes] | None] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._stderr: deque[str] = deque(maxlen=20)

    # -- requests ------------------------------------------------------------------------------------------------

    def compile(self, sources: Mapping[str, str]) -> Compiled:
        """Compile sources, given by file name (``Foo.java``), against the class path."""
        fields = [b"compile", self.release]
        for name, text in sources.items():
            fields += [name.encode(), text.encode("utf-8", "replace")]
        try:
            status, *reply = self._request(fields, COMPILE_SECONDS)
        except _Died as reason:
            return Compiled(None, f"the compiler {reason}")
        if status != b"ok":
            return Compiled(None, reply[0].decode())
        return Compiled({name.decode(): code for name, code in zip(reply[::2], reply[1::2], strict=True)})

    def run(self, adapter: str, test_class: str, test_name: str, classes: Classes, timeout_s: float) -> TestRun:
        """Run one test method, with ``classes`` before those of the project."""
        fields = [
            b"run",
            adapter.encode(),
            test_class.encode(),
            test_name.encode(),
            str(int(timeout_s * 1000)).encode(),
        ]
        for name, code in classes.items():
            fields += [name.encode(), code]
        start = time.monotonic()
        fresh = self._process is None
        try:
            status, reason, lines, dirty, nanos = self._request(fields, timeout_s + GRACE_SECONDS)
        except _Died as error:
            timeout = isinstance(error, _NoAnswer)
            if not fresh and not timeout:  # what an earlier test left behind may have killed it
                return self.run(adapter, test_class, test_name, classes, timeout_s)
            return TestRun("timeout" if timeout else "died", f"the JVM {error}", seconds=time.monotonic() - start)
        if dirty == b"true":
            self.close()
        return TestRun(status.decode(), reason.decode(), frozenset(map(int, lines.split())), int(nanos) / 1e9)

    def can_run(self, adapter: str) -> bool:
        """Whether the class path holds the JUnit that an adapter is for."""
        self.start()
        return self._adapters.get(adapter) is not None

    def start(self) -> None:
        """Start the JVM if it is not running."""
        if self._process is None:
            self._start()

    def close(self) -> None:
        """Kill the JVM and all processes that it started."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._socket = self._process = None

    # -- the JVM -------------------------------------------------------------------------------------------------

    def _command(self, port: int, token: str) -> list[str]:
        arguments = [
            f"-Xmx{self.memory_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-Xshare:auto",
            "-Dfile.encoding=UTF-8",
            "-Duser.language=en",
            "-Duser.country=US",
            "-Djava.awt.headless=true",
            f"-Djava.io.tmpdir={self.work / 'tmp'}",
            f"-Duser.home={self.work}",
            f"-XX:ErrorFile={self.work}/hs_err.log",
        ]
        if 12 <= self.jdk.version <= LAST_JDK_WITH_GUARD:
            arguments.append("-Djava.security.manager=allow")
        class_path = str(compile_service(self.jdk))
        main = ["-cp", class_path, "ExecutionService", str(port), token, str(self.work)]
        return [*self.prefix, self.jdk.tool("java"), *arguments, *self.jvm_args, *main]

    def _start(self) -> None:
        token = secrets.token_hex(16)
        environment = {
            k: v for k, v in os.environ.items() if k not in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
        }
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.2)
            self._process = subprocess.Popen(
                self._command(server.getsockname()[1], token),
                cwd=self.work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self.starts += 1
            self._stderr.clear()
            threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()
            deadline = time.monotonic() + START_SECONDS
            while self._socket is None:
                try:
                    self._socket, _ = server.accept()
                except TimeoutError:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        self.close()
                        raise UserError(f"the JVM of {self.jdk.home} does not start: {self._last_words()}") from None
        self._socket.settimeout(START_SECONDS)
        try:
            (length,) = struct.unpack(">H", self._read(2))
            if self._read(length) != token.encode():
                raise UserError("something other than the JVM connected to the execution port; run again")
            setup = ["\n".join(map(str, self.folders)), "\n".join(map(str, self.jars))]
            (guarded,) = self._exchange([item.encode() for item in setup])
            self.guarded = guarded == b"true"
            for path in sorted((SOURCES / "adapters").glob("*.java")):
                self._send_adapter(path)
        except (OSError, struct.error):
            self.close()
            raise UserError(f"the JVM of {self.jdk.home} does not start: {self._last_words()}") from None

    def _send_adapter(self, path: Path) -> None:
        """Compile the class that runs one kind of JUnit; without that JUnit on the class path it does not compile."""
        if path.stem not in self._adapters:
            status, *reply = self._exchange([b"compile", b"", path.name.encode(), path.read_bytes()])
            self._adapters[path.stem] = reply if status == b"ok" else None
        classes = self._adapters[path.stem]
        if classes is not None:
            self._exchange([b"adapter", path.stem.encode(), *classes])

    def _drain(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        while chunk := process.stderr.readline(4096):
            line = chunk.decode(errors="replace").strip()
            if line and not line.startswith("WARNING:"):
                self._stderr.append(line)

    def _last_words(self) -> str:
        return self._stderr[0] if self._stderr else "no message"

    # -- messages ------------------------------------------------------------------------------------------------

    def _request(self, fields: Sequence[bytes], seconds: float) -> list[bytes]:
        self.start()
        assert self._socket is not None and self._process is not None
        self._socket.settimeout(seconds)
        try:
            return self._exchange(fields)
        except TimeoutError:
            self.close()
            raise _NoAnswer(f"gave no answer within {seconds:.0f} s") from None
        except OSError:
            try:
                code: int | None = self._process.wait(1)
            except subprocess.TimeoutExpired:
                code = None
            self.close()
            raise _Died(f"ended (exit code {code})") from None

    def _exchange(self, fields: Sequence[bytes]) -> list[bytes]:
        assert self._socket is not None
        parts = [struct.pack(">i", len(fields))]
        for field in fields:
            parts += [struct.pack(">i", len(field)), field]
        self._socket.sendall(b"".join(parts))
        (count,) = struct.unpack(">i", self._read(4))
        return [self._read(struct.unpack(">i", self._read(4))[0]) for _ in range(count)]

    def _read(self, length: int) -> bytes:
        assert self._socket is not None
        if not 0 <= length <= MAX_REPLY_BYTES:
            raise ConnectionError(f"a field of {length} bytes")
        received = bytearray()
        while len(received) < length:
            chunk = self._socket.recv(min(length - len(received), 1 << 16))
            if not chunk:
                raise ConnectionError("closed")
            received += chunk
        return bytes(received)
