"""A JVM that compiles and runs Java tests on request. When a test kills it, the next request starts another."""

from __future__ import annotations

import contextlib
import os
import secrets
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

from evaluation.running.cell import Cell, find_libfaketime, java_environment
from evaluation.running.jdk import SOURCES, START_SECONDS, Jdk, compile_service
from utils.errors import UserError

LAST_JDK_WITH_GUARD = 23
COMPILE_SECONDS = 60.0
GRACE_SECONDS = 5.0  # what the JVM may take beyond a test's own limit before it is killed
MAX_REPLY_BYTES = 1 << 28
CLOCK_OFFSET = "+400d5h17m"

Classes = Mapping[str, bytes]


@dataclass(frozen=True)
class Ground:
    """What a test may come to depend on without meaning to: time zone, order of ``Set.of``, and the clock."""

    zone: str = "UTC"
    hash_seed: int = 0x2545F491
    shifted: bool = False


FIRST_GROUND = Ground()
OTHER_GROUND = Ground("Australia/Adelaide", ~0x2545F491 & 0xFFFFFFFF, shifted=True)


@dataclass(frozen=True)
class Compiled:
    """What javac made of the sources: the classes by binary name; or None and an error."""

    classes: Classes | None
    error: str = ""


@dataclass(frozen=True)
class TestRun:
    """How a test went. ``status``: passed, failed, skipped, broken (it could not be set up), timeout or died (the JVM
    ended); missing is a test that the framework does not find.

    ``lines``: the lines of the test class's file in the error's stack trace, from 1; ``asserted``: those of them in the
    stack of an AssertionError. ``raiser``: the first class in its stack that is the project's. ``error``: the simple
    name of the error's class. ``places``: numbers of the places that were reached. ``resource``: the last resource that
    was looked for and not found. ``seconds``: measured by the JVM.
    """

    status: str
    reason: str = ""
    lines: frozenset[int] = frozenset()
    asserted: frozenset[int] = frozenset()
    raiser: str = ""
    error: str = ""
    places: frozenset[int] = frozenset()
    resource: str = ""
    seconds: float = 0.0


TestRun.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test class


class _Died(Exception):
    """The JVM ended, by itself or because we killed it; the message says how."""


class _NoAnswer(_Died):
    """The JVM was killed because it did not answer in time."""


class JavaService:
    """One JVM for one class path, started when it is needed and not running. Use it from one thread at a time.

    ``folders`` hold the project's classes, which every run loads again; ``jars`` are loaded once. Sources are compiled
    for the Java ``release`` (None: the JDK's own). ``work`` is the JVM's working directory, temporary folder and home;
    before each run it holds what ``origin`` holds. ``adapters``: those that were compiled before, shared by services of
    one class path.
    """

    def __init__(
        self,
        jdk: Jdk,
        folders: Sequence[Path],
        jars: Sequence[Path],
        work: Path,
        origin: Path,
        cell: Cell,
        *,
        release: int | None = None,
        memory_mb: int = 512,
        jvm_args: Sequence[str] = (),
        ground: Ground = FIRST_GROUND,
        adapters: dict[str, list[bytes] | None] | None = None,
    ) -> None:
        self.jdk = jdk
        self.folders = folders
        self.jars = jars
        self.work = work
        self.origin = origin
        self.cell = cell
        self.release = str(release or "").encode()
        self.memory_mb, self.jvm_args = memory_mb, tuple(jvm_args)
        self.ground = ground
        self.starts = 0
        self.ended = False
        self.missing: dict[str, str] = {}
        self._adapters = {} if adapters is None else adapters
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._stderr: deque[str] = deque(maxlen=20)

    # -- requests ------------------------------------------------------------------------------------------------

    def compile(self, sources: Mapping[str, str]) -> Compiled:
        """Compile sources, given by file name (``Foo.java``), against the class path."""
        fields = [b"compile", self.release]
        for name, text in sources.items():
            fields += [name.encode(), text.encode("utf-8", "replace")]
        fresh = self._process is None
        try:
            status, *reply = self._request(fields, COMPILE_SECONDS)
        except _Died as reason:
            return Compiled(None, f"the compiler {reason}") if fresh else self.compile(sources)
        if status != b"ok":
            return Compiled(None, reply[0].decode())
        return Compiled({name.decode(): code for name, code in zip(reply[::2], reply[1::2], strict=True)})

    def run(
        self, adapter: str, test_class: str, test_name: str, classes: Classes, timeout_s: float, alone: bool = False
    ) -> TestRun:
        """Run one test method, with ``classes`` before those of the project; ``alone``: the JVM is closed after it."""
        fields = [b"run", *(text.encode() for text in (adapter, test_class, test_name, str(int(timeout_s * 1000))))]
        for name, code in classes.items():
            fields += [name.encode(), code]
        start = time.monotonic()
        fresh = self._process is None
        try:
            reply = self._request(fields, timeout_s + GRACE_SECONDS)
            status, reason, lines, asserted, raiser, error, places, resource, dirty, nanos = map(bytes.decode, reply)
        except (_Died, ValueError) as failure:
            self.close()
            timeout = isinstance(failure, _NoAnswer)
            if not fresh and not timeout:  # what an earlier test left behind may have killed it
                return self.run(adapter, test_class, test_name, classes, timeout_s, alone)
            said = failure if isinstance(failure, _Died) else "sent an answer that is none"
            return TestRun("timeout" if timeout else "died", f"the JVM {said}", seconds=time.monotonic() - start)
        if dirty == "true" or alone:
            self.close()
        return TestRun(
            status,
            reason,
            frozenset(map(int, lines.split())),
            frozenset(map(int, asserted.split())),
            raiser,
            error,
            frozenset(map(int, places.split())),
            resource,
            int(nanos) / 1e9,
        )

    def can_run(self, adapter: str) -> bool:
        """Whether the class path holds the JUnit that an adapter is for."""
        self.start()
        return self._adapters.get(adapter) is not None

    def start(self) -> None:
        """Start the JVM if it is not running. Raises RuntimeError after ``end``."""
        if self.ended:
            raise RuntimeError("the service has ended")
        if self._process is None:
            self._start()

    def end(self) -> None:
        """Close it for good. From another thread: the request that is running there fails, and no new JVM starts."""
        self.ended = True
        self.close()

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

    def _command(self) -> list[str]:
        arguments = [
            f"-Xmx{self.memory_mb}m",
            "-Xss1m",
            "-XX:CompressedClassSpaceSize=128m",
            "-XX:ReservedCodeCacheSize=64m",
            "-XX:MaxDirectMemorySize=64m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+DisableAttachMechanism",
            "-XX:+DisplayVMOutputToStderr",
            "-Xshare:auto",
            "-Dfile.encoding=UTF-8",
            "-Duser.language=en",
            "-Duser.country=US",
            f"-Duser.timezone={self.ground.zone}",
            "-Djava.awt.headless=true",
            f"-Djava.io.tmpdir={self.work / 'tmp'}",
            f"-Duser.home={self.work}",
            f"-XX:ErrorFile={self.work}/hs_err.log",
        ]
        if 12 <= self.jdk.version <= LAST_JDK_WITH_GUARD:
            arguments.append("-Djava.security.manager=allow")
        if self.jdk.version >= 24:
            arguments.append("--sun-misc-unsafe-memory-access=allow")
        words = [self.jdk.tool("java"), *arguments, *self.jvm_args, "-cp", str(compile_service(self.jdk))]
        words += ["ExecutionService", str(self.work), str(self.origin), str(self.ground.hash_seed)]
        library = find_libfaketime() if self.ground.shifted else None
        if library is None:
            return words
        settings = (f"FAKETIME={CLOCK_OFFSET}", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_FORCE_MONOTONIC_FIX=0")
        return ["env", f"LD_PRELOAD={library}", *settings, *words]

    def _start(self) -> None:
        self.work.mkdir(exist_ok=True)  # a test may have removed it
        mine, theirs = socket.socketpair()
        with theirs:
            self._process = self.cell.start(
                self._command(),
                cwd=self.work,
                env=java_environment(self.work),
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self._socket = mine
        self.starts += 1
        self._stderr.clear()
        threading.Thread(target=self._drain, args=(self._process,), daemon=True).start()
        self._socket.settimeout(START_SECONDS)
        try:
            setup = ["\n".join(map(str, self.folders)), "\n".join(map(str, self.jars))]
            guarded, seeded, on_time = (item == b"true" for item in self._exchange([item.encode() for item in setup]))
            for path in sorted((SOURCES / "adapters").glob("*.java")):
                self._send_adapter(path)
        except (OSError, ValueError, struct.error):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)  # for its last words
            self.close()
            raise UserError(f"the JVM of {self.jdk.home} does not start: {self._last_words()}") from None
        self.missing = {} if guarded else {"security manager": f"JDK {self.jdk.version} has none"}
        if not seeded:
            self.missing["order of Set.of"] = f"its seed cannot be set in JDK {self.jdk.version}"
        if self.ground.shifted and find_libfaketime() is None:
            self.missing["other clock"] = "libfaketime is not installed (Debian: faketime)"
        elif self.ground.shifted and not on_time:
            self.missing["other clock"] = "libfaketime breaks timed waits here"

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
        with process.stderr as lines:
            while chunk := lines.readline(4096):
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
            return self._exchange(fields, time.monotonic() + seconds)
        except TimeoutError:
            self.close()
            raise _NoAnswer(f"gave no answer within {seconds:.0f} s") from None
        except OSError as error:
            try:
                code = f"exit code {self._process.wait(1)}"
            except subprocess.TimeoutExpired:
                code = str(error)
            self.close()
            raise _Died(f"ended ({code})") from None

    def _exchange(self, fields: Sequence[bytes], deadline: float | None = None) -> list[bytes]:
        """Send a message and read the answer, which must begin with the message's own secret.

        A prediction can write where the JVM writes its answers, but it does not know the secret.
        """
        assert self._socket is not None
        secret = secrets.token_bytes(16)
        parts = [struct.pack(">i", len(fields) + 1)]
        for field in (secret, *fields):
            parts += [struct.pack(">i", len(field)), field]
        self._socket.sendall(b"".join(parts))
        (count,) = struct.unpack(">i", self._read(4, deadline))
        if not 1 <= count <= 1 << 20 or self._read(struct.unpack(">i", self._read(4, deadline))[0], deadline) != secret:
            raise ConnectionError("an answer that is not the service's")
        return [self._read(struct.unpack(">i", self._read(4, deadline))[0], deadline) for _ in range(count - 1)]

    def _read(self, length: int, deadline: float | None) -> bytes:
        assert self._socket is not None
        if not 0 <= length <= MAX_REPLY_BYTES:
            raise ConnectionError(f"a field of {length} bytes")
        received = bytearray()
        while len(received) < length:
            if deadline is not None:  # or a drop now and then would keep us here for ever
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = self._socket.recv(min(length - len(received), 1 << 16))
            if not chunk:
                raise ConnectionError("closed")
            received += chunk
        return bytes(received)
