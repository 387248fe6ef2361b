"""Asks javac what can be named at places of a Java file, and which statements can stand there.

One JVM serves a project; none of the code runs in it.
"""

from __future__ import annotations

import struct
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

from typing_extensions import Self  # in typing from Python 3.11 on

from data.java.frameworks import FRAMEWORKS
from data.java.scope import JavaScope, Names, read_names
from evaluation.running.cell import tool_environment
from evaluation.running.class_path import ClassPath
from evaluation.running.jdk import Jdk, compile_service
from evaluation.running.splice import find_imports, find_missing_imports, with_semicolon
from evaluation.suggesting.draft import Checked

SECONDS = 120  # that an answer may take
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

    def look(
        self,
        name: str,
        source: bytes,
        spans: Sequence[tuple[int, int]],
        framework: str,
        release: int | None = None,
    ) -> list[JavaScope | str]:
        """The scope at each of these byte ranges of a file in UTF-8, or why javac cannot tell it.

        What stands in the ranges is ignored. They do not overlap. A scope answers questions until the next call.
        ``release``: as find_release gives it.
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
        text = b"".join(pieces).decode()
        fields = ["open", name, str(release or ""), text, assertions, *(offsets[i] for i in range(len(spans)))]
        self._generation += 1
        generation = self._generation

        def ask(type_: int) -> Names:
            if generation != self._generation:
                return Names(kind="stale")
            return read_names(self._talk(["members", str(type_)])[0].split("\n"))

        found: list[JavaScope | str] = []
        for reply in self._talk(fields, len(spans)):
            found.append(reply[6:] if reply.startswith("error\t") else JavaScope(read_names(reply.split("\n")), ask))
        return found

    def check(
        self,
        name: str,
        source: bytes,
        places: Sequence[int],
        candidates: Sequence[Sequence[str]],
        framework: str,
        release: int | None = None,
    ) -> list[list[Checked]]:
        """Whether javac takes each of the candidates at its place, a byte offset of a file in UTF-8.

        Where it does not take one as it is, it may with the imports that ``find_missing_imports`` names.
        """
        head = source[: find_imports(source).end].decode("utf-8", "replace")
        fields = ["check", name, str(release or ""), source.decode("utf-8", "replace"), str(_utf16(head))]
        imports: list[tuple[str, ...]] = []
        for place, texts in zip(places, candidates, strict=True):
            offset = str(_utf16(source[:place].decode("utf-8", "replace")))
            for text in texts:
                imports.append(tuple(find_missing_imports(source, framework, text)))
                fields += [offset, "\n".join(imports[-1]), with_semicolon(text)]
        answers = map(_read_answer, self._talk(fields, len(imports)), imports)
        return [[next(answers) for _ in texts] for texts in candidates]

    def compile(self, name: str, source: bytes, release: int | None = None) -> str:
        """The first error of a file in UTF-8; empty where it has none, or where javac fails."""
        reply = self._talk(["compile", name, str(release or ""), source.decode("utf-8", "replace")])[0]
        return "" if reply.startswith("error\t") else reply

    def find_release(self, name: str, source: bytes) -> int | None:
        """The Java release that a file is compiled for: the project's, if the file compiles for it. None: the JDK's."""
        given, wanted = self.class_path.release, self.class_path.built_for
        return given or (wanted if wanted and not self.compile(name, source, wanted) else None)

    # -- the pipe ----------------------------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        command = [self.jdk.tool("java"), MEMORY, "-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-cp", str(compile_service(self.jdk)), "ScopeService"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=tool_environment()
        )
        self._process = process
        entries = "\n".join(map(str, (*self.class_path.folders, *self.class_path.jars)))
        self._write(process, [entries])
        return process

    def _talk(self, fields: Sequence[str], answers: int = 1) -> list[str]:
        """The answers to a message, as many as are expected: one error may stand for all."""
        process = self._process or self._start()
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        try:
            self._write(process, fields)
            assert process.stdout is not None
            count = _read_int(process.stdout)
            found = [_read(process.stdout, _read_int(process.stdout)).decode() for _ in range(count)]
        except (OSError, EOFError):  # it ran out of memory, or somebody ended it: the next question starts another
            late = not limit.is_alive()
            self.__exit__()
            found = [f"error\tjavac gave no answer within {SECONDS} s" if late else "error\tthe JVM ended"]
        finally:
            limit.cancel()
        return found if len(found) == answers else found * answers

    @staticmethod
    def _write(process: subprocess.Popen[bytes], fields: Sequence[str]) -> None:
        assert process.stdin is not None
        encoded = [field.encode("utf-8", "replace") for field in fields]
        parts = [INT.pack(len(encoded))]
        for field in encoded:
            parts += [INT.pack(len(field)), field]
        process.stdin.write(b"".join(parts))
        process.stdin.flush()


def _read_answer(reply: str, imports: tuple[str, ...]) -> Checked:
    """What a reply says of statements that may need these imports."""
    kind, *words = reply.split("\t", 2)
    if kind == "refused":
        return Checked(refused=words[0])
    if kind == "taken":
        return Checked(imports=imports if words[0] == "1" else (), doubt=words[1])
    return Checked(imports=imports, doubt=words[0])


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
