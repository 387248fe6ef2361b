"""The jars that a Java project's tests need: those that the user names, those in its folders, or what its build tool
says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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
ADVICE = f"give the jars with --class_path, or run `{GRADLE.build}` once with a network"
WRAPPER_JAR = "gradle-wrapper.jar"
WRAPPED = re.compile(r"^distributionUrl=.*/(gradle-[^/]+)\.zip", re.MULTILINE)
# Writes what Gradle runs and compiles the tests of every module with, an entry in a line. What the modules themselves
# are built to is left out: they are compiled here. Old and new versions of Gradle know all that it uses.
GRADLE_ENTRIES = "printTestClassPath.to"
GRADLE_SCRIPT = f"""
allprojects {{
    task printTestClassPath {{
        doLast {{
            def modules = rootProject.allprojects
            def folders = modules.collect {{ it.layout.buildDirectory.get().asFile.toPath() }}
            def jars = modules.collect {{ it.tasks.findByName('jar') }}.findAll {{ it != null }}
            def made = jars.collectMany {{ it.outputs.files.files }} as Set
            def isOwn = {{ file ->
                made.contains(file) || !file.isFile() && folders.any {{ file.toPath().startsWith(it) }}
            }}
            def sets = project.hasProperty('sourceSets') ? project.sourceSets : []
            def found = []
            sets.findAll {{ it.name == 'test' }}.each {{ found.addAll(it.runtimeClasspath.files) }}
            sets.findAll {{ it.name == 'test' }}.each {{ found.addAll(it.compileClasspath.files) }}
            sets.findAll {{ it.name == 'main' }}.each {{ found.addAll(it.compileClasspath.files) }}
            def to = new File(System.getProperty('{GRADLE_ENTRIES}'))
            found.findAll {{ !isOwn(it) }}.each {{ to.append(it.absolutePath + '\\n', 'UTF-8') }}
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
    """What Maven or Gradle says; without such a tool, the jars in the project's folders.

    Raises UserError where the build tool gives no class path. Where Gradle does not and the project keeps jars in its
    folders, those are taken, with a warning.
    """
    tool = find_build_tool(project)
    if tool is MAVEN:
        return ask_maven(project, jdk)
    own = tuple(path for path in find_files(project, ".jar") if path.name != WRAPPER_JAR)
    if tool is not GRADLE:
        return own
    try:
        return ask_gradle(project, jdk)
    except UserError as error:
        if not own:
            raise
        print(f"warning: {error}; the jars in its folders are taken instead", file=sys.stderr)
        return own


def ask_maven(project: Path, jdk: Jdk) -> tuple[Path, ...]:
    """The jars that Maven puts on the test class path, without using the network.

    Where the dependency plugin is not in the local repository, they are read from the log of what Maven itself resolves
    before it would run the tests. No test is run, and nothing is written.
    """
    maven = shutil.which("mvn")
    advice = f"give the jars with --class_path, or {MAVEN.fetch}"
    if maven is None:
        raise UserError(f"project {project} is a Maven project and mvn is not on the PATH; {advice}")
    command = [maven, "-o", "-B", "-f", str(project / "pom.xml")]
    done = _run_tool([*command, "dependency:build-classpath", "-DincludeScope=test"], project, jdk, advice)
    lines = done.stdout.splitlines()
    if done.returncode == 0:  # one class path per module
        found = [lines[i + 1] for i, line in enumerate(lines[:-1]) if line.endswith("Dependencies classpath:")]
        jars = [Path(item) for line in found for item in line.strip().split(os.pathsep) if item]
        return tuple(path for path in dict.fromkeys(jars) if path.exists() and not _is_made_by_maven(project, path))
    reason = next((line[8:] for line in lines if line.startswith("[ERROR] ")), "no message")
    log = _run_tool([*command, "-X", "surefire:test", "-Dmaven.test.skip=true"], project, jdk, advice).stdout
    jars = [path for path in dict.fromkeys(read_maven_log(log)) if not _is_made_by_maven(project, path)]
    missing = next((path.name for path in jars if not path.exists()), "")
    if not jars or missing:
        reason = f"{missing} is not in the local repository" if missing else reason[:200]
        raise UserError(f"project {project}: mvn -o gives no class path ({reason}); {advice}")
    return tuple(jars)


def _is_made_by_maven(project: Path, path: Path) -> bool:
    """Whether an entry is what a module of the project itself is built to: a folder, or a jar in its ``target``."""
    if project not in path.parents or "target" not in path.relative_to(project).parts:
        return False
    return not path.is_file() or (path.parent.name == "target" and (path.parent.parent / "pom.xml").is_file())


def _run_tool(command: list[str], project: Path, jdk: Jdk, advice: str) -> subprocess.CompletedProcess[str]:
    """Run a build tool with this JDK. Raises UserError where it takes too long; ``advice``: what to do then."""
    name = Path(command[0]).name
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env={**os.environ, "JAVA_HOME": str(jdk.home)},
        )
    except OSError as error:
        raise UserError(f"project {project}: {name} cannot be started ({error.strerror}); {advice}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"project {project}: {name} gave no class path within {SECONDS} s; {advice}") from None


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


def find_gradle(project: Path) -> list[str]:
    """How to start Gradle: the project's wrapper, if what it starts has been fetched already; else what is on the PATH.

    Raises UserError where there is neither.
    """
    settings = project / "gradle" / "wrapper" / "gradle-wrapper.properties"
    home = Path(os.environ.get("GRADLE_USER_HOME", Path.home() / ".gradle"))
    why = "gradle is not on the PATH"
    if settings.is_file() and (project / "gradlew").is_file():
        named = WRAPPED.search(settings.read_text(encoding="utf-8", errors="replace"))
        if named and any((home / "wrapper" / "dists" / named[1]).glob("*/*/bin/gradle")):
            wrapper = str(project / "gradlew")
            return [wrapper] if os.access(wrapper, os.X_OK) else ["sh", wrapper]
        why += f", and what its wrapper starts ({named[1] if named else 'not named'}) has not been fetched"
    found = shutil.which("gradle")
    if found is None:
        raise UserError(f"project {project} is a Gradle project; {why}; {ADVICE}")
    return [found]


def ask_gradle(project: Path, jdk: Jdk) -> tuple[Path, ...]:
    """The jars that Gradle puts on the test class paths of all modules with Java, without using the network.

    The build scripts run and ``buildSrc`` is built, as whenever Gradle is started; nothing else is, and nothing else is
    written into the project. What it names and is not there is left out, with a warning. Raises UserError where Gradle
    fails or names nothing.
    """
    start = find_gradle(project)
    with tempfile.TemporaryDirectory(prefix="gradle-") as scratch:
        script, entries = Path(scratch, "print.gradle"), Path(scratch, "entries")
        script.write_text(GRADLE_SCRIPT, encoding="utf-8")
        command = [*start, "--offline", "--no-daemon", "--no-parallel", "-q", "-p", str(project)]
        command += ["--project-cache-dir", scratch, f"-D{GRADLE_ENTRIES}={entries}"]
        command += ["-Dorg.gradle.configuration-cache=false"]  # which the task could not live with
        done = _run_tool([*command, "-I", str(script), "printTestClassPath"], project, jdk, ADVICE)
        found = entries.read_text(encoding="utf-8").splitlines() if entries.is_file() else []
    if done.returncode or not found:
        reason = _find_reason(done.stderr) if done.returncode else "it names no jar: no module has a plugin for Java"
        raise UserError(f"project {project}: gradle --offline gives no class path ({reason[:300]}); {ADVICE}")
    named = [Path(line) for line in dict.fromkeys(found)]
    for path in named:
        if not path.exists():  # Gradle and javac ignore it, too
            print(f"warning: project {project}: Gradle names {path}, which is not there", file=sys.stderr)
    return tuple(path for path in named if path.exists())


def _find_reason(log: str) -> str:
    """What Gradle says went wrong, on one line."""
    told = log.partition("* What went wrong:")[2].partition("\n* ")[0] or log
    lines = [line.strip(" >") for line in told.splitlines()]
    return " ".join(dict.fromkeys(line for line in lines if line)) or "no message"


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
