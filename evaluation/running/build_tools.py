"""Build tools by their files, and what a user would type to have one make what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BuildTool:
    """A build tool; ``files`` tell that a folder is one of its projects.

    ``build``: the command that compiles the tests. ``fetch``: how to get the jars of the test class path.
    """

    name: str
    files: tuple[str, ...]
    build: str
    fetch: str


MAVEN = BuildTool("Maven", ("pom.xml",), "mvn test-compile", "run `mvn dependency:go-offline` once with a network")
GRADLE = BuildTool(
    "Gradle",
    ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"),
    "./gradlew testClasses",
    "`./gradlew dependencies --configuration testRuntimeClasspath` lists the jars",
)
ANT = BuildTool("Ant", ("build.xml",), "ant compile-tests", "they are mostly in lib/")
PLAIN = BuildTool("javac", (), "javac -d", "joined like $CLASSPATH")
TOOLS = (MAVEN, GRADLE, ANT)
BUILD_FILES = tuple(name for tool in TOOLS for name in tool.files)


def find_build_tool(project: Path) -> BuildTool:
    """The tool of a project, by the files in its folder; PLAIN where there is none."""
    return next((tool for tool in TOOLS if any((project / name).is_file() for name in tool.files)), PLAIN)


def advise(project: Path) -> str:
    """What to do where jars or classes are missing, as the end of a sentence."""
    tool = find_build_tool(project)
    first = "" if tool is PLAIN else f"build it first (`{tool.build}`), or "
    return f"{first}{advise_jars(project)}"


def advise_jars(project: Path) -> str:
    """The same where only jars are missing."""
    return f"give the jars it needs with --class_path; {find_build_tool(project).fetch}"
