"""The jars that a Java project's tests need: those that the user names, those in its folders, or what its build tool
says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.java.source_tree import find_files
from evaluation.running.build_tools import GRADLE, MAVEN, find_build_tool
from evaluation.running.jdk import Jdk
from utils.errors import UserError

SECONDS = 300  # that a build tool may take
DEBIAN_JARS = Path("/usr/share/java")
MAVEN_ENTRY = re.compile(
    r"\[DEBUG\] {3,}([^\s:]+):([^\s:]+):jar:(?:([^\s:]+):)?([^\s:]+):(?:compile|provided|runtime|test|system)\b"
)
WRAPPER_JAR = "gradle-wrapper.jar"
WRAPPED = re.compile(r"^distributionUrl=.*/(gradle-[^/]+)\.zip", re.MULTILINE)
GRADLE_ENTRIES = "test class path: "
# Prints the test class path of every module that has Java. Old and new versions of Gradle know all that it uses.
GRADLE_SCRIPT = f"""
allprojects {{
    task printTestClassPath {{
        doLast {{
            def sets = project.hasProperty('sourceSets') ? project.sourceSets : []
            sets.findAll {{ it.name == 'test' }}.each {{ println '{GRADLE_ENTRIES}' + it.runtimeClasspath.asPath }}
        }}
    }}
}}
"""


def expand_class_path(class_path: str | Sequence[str | Path]) -> tuple[Path, ...]:
    """The entries of a class path, absolute, in order and without repetition. Raises UserError for a missing one."""
    parts = class_path.split(os.pathsep) if isinstance(class_path, str) else class_path
    found: dict[Path, None] = {}
    for part in map(str, parts):
        if not part:
            continue
        path = Path(part).expanduser().absolute()
        if path.name == "*":
            found.update(dict.fromkeys(sorted(path.parent.glob("*.jar"))))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"--class_path: {part} does not exist")
    return tuple(found)


def find_jars(project: Path, jdk: Jdk) -> tuple[Path, ...]:
    """What Maven says; else the jars in the project's folders; else what Gradle says.

    Raises UserError where the build tool that is asked gives no class path.
    """
    tool = find_build_tool(project)
    if tool is MAVEN:
        return ask_maven(project, jdk)
    own = tuple(path for path in find_files(project, ".jar") if path.name != WRAPPER_JAR)
    gradle = find_gradle(project) if tool is GRADLE and not own else None
    return own if gradle is None else ask_gradle(gradle, project, jdk)


def ask_maven(project: Path, jdk: Jdk) -> tuple[Path, ...]:
    """The jars that Maven puts on the test class path, without using the network.

    Where the dependency plugin is not in the local repository, they are read from the log of what Maven itself resolves
    before it would run the tests. No test is run, and nothing is written.
    """
    maven = shutil.which("mvn")
    advice = f"give the jars with --class_path, or {MAVEN.fetch}"
    if maven is None:
        raise UserError(f"project {project} is a Maven project and mvn is not on the PATH; {advice}")

    def ask(*goal: str) -> subprocess.CompletedProcess[str]:
        command = [maven, "-o", "-B", "-f", str(project / "pom.xml"), *goal]
        environment = {**os.environ, "JAVA_HOME": str(jdk.home)}
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            raise UserError(f"project {project}: mvn gave no class path within {SECONDS} s; {advice}") from None

    done = ask("dependency:build-classpath", "-DincludeScope=test")
    lines = done.stdout.splitlines()
    if done.returncode == 0:  # one class path per module
        found = [lines[i + 1] for i, line in enumerate(lines[:-1]) if line.endswith("Dependencies classpath:")]
        jars = [Path(item) for line in found for item in line.strip().split(os.pathsep) if item]
    else:
        reason = next((line[8:] for line in lines if line.startswith("[ERROR] ")), "no message")
        jars = read_maven_log(ask("-X", "surefire:test", "-Dmaven.test.skip=true").stdout)
        missing = next((path.name for path in jars if not path.exists()), "")
        if not jars or missing:
            reason = f"{missing} is not in the local repository" if missing else reason[:200]
            raise UserError(f"project {project}: mvn -o gives no class path ({reason}); {advice}")
    return tuple(path for path in dict.fromkeys(jars) if path.exists() and project not in path.parents)


def read_maven_log(log: str) -> list[Path]:
    """The jars in the dependency trees that ``mvn -X`` prints for a project's modules, without those of plugins."""
    repository = next(iter(re.findall(r"Using local repository at (.+)", log)), "")
    modules = set(re.findall(r"-< (\S+:\S+) >-", log))
    jars, in_module = [], False
    for line in log.splitlines():
        head = re.match(r"\[DEBUG\] (\S+?:\S+?):\S+$", line)
        entry = MAVEN_ENTRY.match(line)
        if head:
            in_module = head.group(1) in modules
        elif in_module and entry and f"{entry.group(1)}:{entry.group(2)}" not in modules:
            group, artifact, classifier, version = entry.groups()
            name = f"{artifact}-{version}{'-' + classifier if classifier else ''}.jar"
            jars.append(Path(repository, *group.split("."), artifact, version, name))
    return jars


def find_gradle(project: Path) -> Path | None:
    """The project's wrapper, if what it starts has been fetched already; else the gradle on the PATH."""
    settings = project / "gradle" / "wrapper" / "gradle-wrapper.properties"
    home = Path(os.environ.get("GRADLE_USER_HOME", Path.home() / ".gradle"))
    if settings.is_file() and (project / "gradlew").is_file():
        named = WRAPPED.search(settings.read_text(encoding="utf-8", errors="replace"))
        if named and any((home / "wrapper" / "dists" / named[1]).glob("*/*/bin/gradle")):
            return project / "gradlew"
    found = shutil.which("gradle")
    return Path(found) if found else None


def ask_gradle(gradle: Path, project: Path, jdk: Jdk) -> tuple[Path, ...]:
    """The jars that Gradle puts on the test class paths of all modules with Java, without using the network.

    No task of the project is run, and nothing is written into it.
    """
    advice = f"give the jars with --class_path, or run `{GRADLE.build}` once with a network"
    with tempfile.TemporaryDirectory(prefix="gradle-") as scratch:
        script = Path(scratch, "print.gradle")
        script.write_text(GRADLE_SCRIPT, encoding="utf-8")
        command = ["sh", str(gradle)] if gradle.name == "gradlew" else [str(gradle)]
        command += ["--offline", "--no-daemon", "-q", "-p", str(project), "--project-cache-dir", scratch]
        command += ["-Dorg.gradle.configuration-cache=false"]  # which the task below could not live with
        environment = {**os.environ, "JAVA_HOME": str(jdk.home)}
        try:
            done = subprocess.run(
                [*command, "-I", str(script), "printTestClassPath"],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"project {project}: gradle gave no class path within {SECONDS} s; {advice}") from None
    if done.returncode:
        told = [line.strip(" >") for line in done.stderr.splitlines() if line.strip()]
        causes = [line for line in told if line.startswith(("No cached version", "Could not", "Unsupported"))]
        reason = (causes or told or ["no message"])[-1]
        raise UserError(f"project {project}: gradle --offline gives no class path ({reason[:200]}); {advice}")
    found = [line.removeprefix(GRADLE_ENTRIES) for line in done.stdout.splitlines() if line.startswith(GRADLE_ENTRIES)]
    jars = (Path(item) for line in found for item in line.split(os.pathsep) if item)
    return tuple(path for path in dict.fromkeys(jars) if path.exists() and project not in path.parents)


def complete_junit5(entries: Iterable[Path]) -> tuple[Path, ...]:
    """The jars and, where JUnit 5 is among them, its launcher and engine of the same release.

    Build tools add these two by themselves, so projects do not name them. They are looked for in the folder of the
    other jars, in the Maven repository that those come from, and among Debian's jars.
    """
    jars = list(entries)
    names = [path.name for path in jars]

    def have(artifact: str) -> bool:
        return any(re.match(rf"{artifact}(-\d.*)?\.jar$", name) for name in names)

    if have("junit-platform-console-standalone"):
        return tuple(jars)
    for known, artifact in (
        ("junit-jupiter-api", "junit-jupiter-engine"),
        ("junit-platform-commons", "junit-platform-engine"),
        ("junit-platform-commons", "junit-platform-launcher"),
    ):
        anchor = next((path for path in jars if re.match(rf"{known}(-\d.*)?\.jar$", path.name)), None)
        if anchor is None or have(artifact):
            continue
        version = anchor.name[len(known) : -len(".jar")]
        repository = anchor.parents[2] if len(anchor.parents) > 2 else anchor.parent
        for candidate in (
            anchor.with_name(f"{artifact}{version}.jar"),
            repository / artifact / version.lstrip("-") / f"{artifact}{version}.jar",
            *_in_gradle_cache(anchor, artifact, version),
            DEBIAN_JARS / f"{artifact}{version}.jar",
        ):
            if candidate.is_file():
                jars.append(candidate)
                break
    return tuple(jars)


def _in_gradle_cache(anchor: Path, artifact: str, version: str) -> list[Path]:
    """A jar of the same group and release where Gradle keeps ``group/artifact/release/hash/name.jar``."""
    if len(anchor.parents) < 4:
        return []
    return sorted(anchor.parents[3].glob(f"{artifact}/{version.lstrip('-')}/*/{artifact}{version}.jar"))
