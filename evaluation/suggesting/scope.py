"""Asks javac what can be named at places of a Java file. One JVM serves a project; none of the code runs in it."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from typing import IO

from typing_extensions import Self  # in typing from Python 3.11 on

from data.java.frameworks import FRAMEWORKS
from data.java.scope import JavaScope, Names, read_names
from evaluation.running.cell import tool_environment
from evaluation.running.class_path import ClassPath
from evaluation.running.jdk import Jdk, compile_service

INT = struct.Struct(">i")
MEMORY = "-Xmx512m"
PLACE = "\n;\n"  # the empty statement that marks a place, which may stand behind a comment


class ScopeService:
    """Use it as a context manager. It is started when it is needed."""

    def __init__(self, jdk: Jdk, class_path: ClassPath) -> None:
        self.jdk, self.class_path = jdk, class_path
        self._process: subprocess.Popen[bytes] | None = None
        self._generation = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def look(self, name: str, source: bytes, spans: Sequence[tuple[int, int]], framework: str) -> list[JavaScope | str]:
        """The scope at each of these byte ranges of a file in UTF-8, or why javac cannot tell it.

        What stands in the ranges is ignored. They do not overlap. A scope answers questions until the next call.
        """
        order = sorted(range(len(spans)), key=lambda i: spans[i])
        pieces: list[bytes] = []
        offsets: dict[int, str] = {}
        last = length = 0
        for i in order:
            start, end = spans[i]
            before = source[last:start].decode("utf-8", "replace")
            text = PLACE
            if source[:end].rstrip().endswith(b")") and start < end:  # the expression that a lambda consists of
                text = "{ ; }"
            length += _utf16(before)
            offsets[i] = str(length + text.index(";"))
            pieces += [before.encode(), text.encode()]
            length += len(text)
            last = end
        pieces.append(source[last:].decode("utf-8", "replace").encode())
        assertions = FRAMEWORKS[framework].assertion_class if framework in FRAMEWORKS else ""
        fields = ["open", name, b"".join(pieces).decode(), assertions, *(offsets[i] for i in range(len(spans)))]
        self._generation += 1
        generation = self._generation

        def ask(type_: int) -> Names:
            if generation != self._generation:
                return Names(kind="stale")
            return read_names(self._talk(["members", str(type_)])[0].split("\n"))

        found: list[JavaScope | str] = []
        for reply in self._talk(fields):
            found.append(reply[6:] if reply.startswith("error\t") else JavaScope(read_names(reply.split("\n")), ask))
        return found

    # -- the pipe ----------------------------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        command = [self.jdk.tool("java"), MEMORY, "-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-cp", str(compile_service(self.jdk)), "ScopeService"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=tool_environment()
        )
        self._process = process
        entries = "\n".join(map(str, (*self.class_path.folders, *self.class_path.jars)))
        self._write(process, [entries, str(self.class_path.release or "")])
        return process

    def _talk(self, fields: Sequence[str]) -> list[str]:
        process = self._process or self._start()
        try:
            self._write(process, fields)
            assert process.stdout is not None
            return [_read(process.stdout, _read_int(process.stdout)).decode() for _ in range(_read_int(process.stdout))]
        except (OSError, EOFError):  # it ran out of memory, or somebody ended it: the next question starts another
            self.__exit__()
            return ["error\tthe JVM ended"] * max(1, len(fields) - 4)

    @staticmethod
    def _write(process: subprocess.Popen[bytes], fields: Sequence[str]) -> None:
        assert process.stdin is not None
        encoded = [field.encode("utf-8", "replace") for field in fields]
        parts = [INT.pack(len(encoded))]
        for field in encoded:
            parts += [INT.pack(len(field)), field]
        process.stdin.write(b"".join(parts))
        process.stdin.flush()


def _utf16(text: str) -> int:
    """How many ``char`` values Java needs for a text."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _read(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise EOFError
    return data


def _read_int(stream: IO[bytes]) -> int:
    return int(INT.unpack(_read(stream, INT.size))[0])
