"""The Java development kit that compiles and runs the tests, and the Java service compiled with it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from evaluation.running.cell import tool_environment
from utils.cache import cache_dir
from utils.errors import UserError

SOURCES = Path(__file__).with_name("java")
MINIMUM_JDK = 11
START_SECONDS = 60.0
_COMPILING = threading.Lock()


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
            [str(home / "bin" / "javac"), "-version"],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            env=tool_environment(),
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
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                target = Path(scratch, "classes")
                command = [jdk.tool("javac"), "-nowarn", "-Xlint:none", "-encoding", "UTF-8", "-d", str(target)]
                done = subprocess.run(
                    [*command, *map(str, files)], capture_output=True, text=True, env=tool_environment()
                )
                if done.returncode:
                    reason = done.stderr.partition("\n")[0]
                    raise UserError(f"the Java service does not compile with JDK {jdk.version}: {reason}")
                # Another process may have been faster, and its JVMs read from there: then this does nothing.
                with contextlib.suppress(OSError):
                    target.rename(folder)
    return folder
