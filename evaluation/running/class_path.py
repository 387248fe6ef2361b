"""What a Java project's tests need to run: its classes, compiled outside the project, and the jars it depends on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TypedDict

from data.java.source_tree import find_files, walk_folders
from evaluation.running.build_tools import GRADLE, advise, find_build_tool
from evaluation.running.jars import complete_junit5, expand_class_path, find_jars
from evaluation.running.jdk import Jdk
from utils.atomic_io import atomic_directory
from utils.cache import cache_dir
from utils.errors import UserError

# Folders that a build leaves: those of the main classes, then those of the tests. Gradle keeps resources separate.
GRADLE_PARTS = ("classes/java", "classes/kotlin", "classes/groovy", "resources")
BUILT = (
    (("target/classes",), ("target/test-classes",)),
    tuple(tuple(f"build/{kind}/{part}" for kind in GRADLE_PARTS) for part in ("main", "test")),
)
OTHER_LANGUAGES = {".kt": "Kotlin", ".groovy": "Groovy", ".scala": "Scala"}  # javac does not compile them
OLD_ROOTS = ("src/java", "src/test")  # of Ant and of Maven's first version
GRADLE_BUILD = frozenset({("buildSrc",), ("build-logic",)})  # projects of their own, which compile against Gradle
MODULE_FILES = frozenset({"module-info.java"})
MAX_ROUNDS = 10
GRADLE_RELEASE = re.compile(
    r"(?:(?:source|target)Compatibility|\.release(?:\.set)?|languageVersion)\W[^\n\d]*(?:1[._])?(\d+)"
)
KEPT_BUILDS = 3
FORMAT = 2  # of what is kept
CLASS_HEAD = struct.Struct(">4sHH")  # the first bytes of a class: CLASS_MAGIC, then minor and major version
CLASS_MAGIC = b"\xca\xfe\xba\xbe"
JAVAC_ERROR = re.compile(r"^(.+?\.java):(\d+): error: (.*)$", re.MULTILINE)
JAVAC_DETAIL = re.compile(r"^  (symbol|location): +(.*)$", re.MULTILINE)


class BuildFacts(TypedDict):
    """What build.json holds; as in ``ClassPath``."""

    left_out: dict[str, str]
    release: int | None
    built_for: int | None


@dataclass(frozen=True)
class ClassPath:
    """``folders`` hold the project's compiled tests and classes (copies, never the project's own), ``jars`` the rest.

    ``left_out``: test sources, relative to the project, that do not compile with these jars, and why. ``release``: the
    Java release that the project was compiled for; None for the JDK's own, and where a finished build was copied.
    ``built_for``: the newest release that its own build needs, by its classes or build files; None for the JDK's own.
    """

    folders: tuple[Path, ...]
    jars: tuple[Path, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    release: int | None = None
    built_for: int | None = None


def resolve_class_path(project_dir: str | Path, class_path: str | Sequence[str | Path] | None, jdk: Jdk) -> ClassPath:
    """Compile a project, or copy what its build left, and find its jars.

    ``class_path``: jars and folders, as a list or joined like $CLASSPATH (``lib/*`` means all jars of a folder).
    Without it, Maven or Gradle is asked, without the network: the project's build scripts run. Without such a tool the
    jars in the project's folders are taken. Annotation processors among the jars run when the project is compiled.

    Raises UserError where the folder has no Java, a jar is missing, the build tool gives no class path, or the project
    does not compile.
    """
    project = Path(project_dir).resolve()
    if not project.is_dir():
        raise UserError(f"project {project_dir}: no such folder")
    sources = find_files(project, ".java")
    if not sources:
        raise UserError(f"project {project_dir}: holds no Java files")
    apart = [path for path in sources if _is_apart(project, path)]
    sources = [path for path in sources if not _is_apart(project, path)]
    entries = find_jars(project, jdk) if class_path is None else expand_class_path(class_path)
    jars = complete_junit5(path for path in entries if path.is_file())
    given = tuple(path for path in entries if path.is_dir())
    folder = _make_build(project, sources, (*given, *jars), jdk)
    facts: BuildFacts = json.loads((folder / "build.json").read_text(encoding="utf-8"))
    folders = (folder / "test", folder / "main", *given)
    facts["left_out"] |= {path.relative_to(project).as_posix(): "it belongs to the build itself" for path in apart}
    return ClassPath(folders, jars, **facts)


# -- classes ---------------------------------------------------------------------------------------------------------


def _is_apart(project: Path, path: Path) -> bool:
    """Whether a path belongs to what makes a Gradle build, which is a project of its own."""
    return path.relative_to(project).parts[:1] in GRADLE_BUILD and find_build_tool(project) is GRADLE


def _find_sources(project: Path, ending: str) -> list[Path]:
    return [path for path in find_files(project, ending) if not _is_apart(project, path)]


def _module_roots(project: Path, part: str) -> list[Path]:
    """``src/main`` or ``src/test`` of the project and of its modules."""
    sources = (folder for folder, _ in walk_folders(project) if folder.name == "src")
    outer = (
        folder
        for folder in sources
        if "src" not in folder.relative_to(project).parts[:-1] and not _is_apart(project, folder)
    )
    return [path for folder in outer if (path := folder / part).is_dir()]


def _find_generated(project: Path) -> dict[str, list[tuple[Path, Path]]]:
    """For main and test: files that a build, however old, made beside the classes, and their names there."""
    found: dict[str, list[tuple[Path, Path]]] = {"main": [], "test": []}
    for names in BUILT:
        for part, folders in zip(found, names, strict=True):
            for folder in (project / name for name in folders):
                files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".class")
                found[part] += [(path, path.relative_to(folder)) for path in files]
    return found


def _find_finished_build(project: Path, sources: Sequence[Path]) -> tuple[list[Path], list[Path]] | None:
    """The class folders that Maven or Gradle left (main, test), if in no module they are older than the sources.

    ``sources``: of the project, in Java and in the languages that are compiled beside it.
    """
    roots = [root for part in ("main", "test") for root in _module_roots(project, part)]
    modules = dict.fromkeys(root.parents[1] for root in roots) or {project: None}
    for names in BUILT:
        made: tuple[list[Path], list[Path]] = ([], [])
        fresh = True
        for module in modules:
            tests = {path for path in sources if module / "src/test" in path.parents}
            mains = [path for path in sources if module in path.parents and path not in tests]
            if len(modules) > 1:
                mains = [path for path in mains if module / "src" in path.parents]
            for found, part, wanted in zip(made, names, (mains, tests), strict=True):
                folders = [module / name for name in part if (module / name).is_dir()]
                found += folders
                classes = [path for folder in folders for path in folder.rglob("*.class")]
                fresh = fresh and (not wanted or _newest(classes) >= _newest(wanted))
        if fresh and all(made):
            return made
    return None


def _newest(paths: Iterable[Path]) -> float:
    return max((path.stat().st_mtime for path in paths), default=0.0)


def _make_build(project: Path, sources: list[Path], class_path: Sequence[Path], jdk: Jdk) -> Path:
    """The cached folder with ``main`` and ``test`` classes and ``build.json``; what it depends on decides its name."""
    roots = {part: _module_roots(project, part) for part in ("main", "test")}
    found = (path for part in roots.values() for root in part for path in (root / "resources").rglob("*"))
    resources = [path for path in found if path.exists()]
    generated = _find_generated(project)
    made = [path for files in generated.values() for path, _ in files]
    digest = hashlib.sha256(f"{FORMAT} {jdk.version}".encode())
    for path in (*sources, *sorted(resources), *made, *class_path):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    others = [path for ending in OTHER_LANGUAGES for path in _find_sources(project, ending)]
    built = _find_finished_build(project, [*sources, *others])
    encoding = _find_encoding(project, sources)
    releases = find_named_release(project, jdk), _find_newest_release(project, jdk)
    digest.update(repr((built, encoding, releases)).encode())
    home = cache_dir("java_projects") / f"{project.name}-{hashlib.sha256(str(project).encode()).hexdigest()[:12]}"
    folder = home / digest.hexdigest()[:16]
    if folder.is_dir():
        os.utime(folder)
        return folder
    with atomic_directory(folder) as target:
        facts: BuildFacts = {"left_out": {}, "release": None, "built_for": None}
        if built is not None:
            for part, origins in zip(("main", "test"), built, strict=True):
                for origin in origins:
                    shutil.copytree(origin, target / part, dirs_exist_ok=True, ignore_dangling_symlinks=True)
            facts["built_for"] = _as_release(_find_class_release(target), jdk)
        else:
            facts = _compile_best(project, sources, encoding, roots, class_path, jdk, target)
            for part, files in generated.items():
                for path, name in files:
                    if not (target / part / name).exists():
                        (target / part / name).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(path, target / part / name)
        (target / "build.json").write_text(json.dumps(facts), encoding="utf-8")
    for old in sorted(home.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_BUILDS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _compile_best(
    project: Path,
    sources: list[Path],
    encoding: str,
    roots: dict[str, list[Path]],
    class_path: Sequence[Path],
    jdk: Jdk,
    target: Path,
) -> BuildFacts:
    """Compile for the JDK's own release and, where something does not compile, for the one that the project names.

    Newer Java libraries have methods that make old calls ambiguous; an older release hides what newer code calls. The
    attempt that leaves out fewer test sources is kept, the first of equals.
    """
    made: list[tuple[dict[str, str], int | None, Path]] = []
    refused: list[UserError] = []
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        for release in dict.fromkeys((None, find_named_release(project, jdk))):
            classes = Path(scratch, str(release))
            try:
                left_out = _compile(project, sources, encoding, roots, class_path, jdk, classes, release)
            except UserError as error:
                refused.append(error)
                continue
            made.append((left_out, release, classes))
            if not left_out:
                break
        if not made:
            raise refused[0]
        left_out, release, classes = min(made, key=lambda attempt: len(attempt[0]))
        for part in ("main", "test"):
            os.replace(classes / part, target / part)
    return {"left_out": left_out, "release": release, "built_for": _find_newest_release(project, jdk)}


def _find_class_release(folder: Path) -> int:
    """The newest Java release that a class below a folder needs; 0 without classes."""
    found = 0
    for path in folder.rglob("*.class"):
        with path.open("rb") as handle:
            head = handle.read(CLASS_HEAD.size)
        whole = len(head) == CLASS_HEAD.size and head.startswith(CLASS_MAGIC)
        if whole and "META-INF" not in path.parts:  # which holds those of newer releases
            found = max(found, CLASS_HEAD.unpack(head)[2] - 44)
    return found


def _as_release(release: int, jdk: Jdk) -> int | None:
    """A Java release as --release takes it: raised to the oldest that the JDK can compile for.

    None for the JDK's own or a newer one, and for a JDK before 12, which cannot compile for another release in memory.
    """
    release = max(release, 8 if jdk.version >= 20 else 7)
    return release if jdk.version >= 12 and release < jdk.version else None


def find_named_release(project: Path, jdk: Jdk) -> int | None:
    """The Java release that the project's pom.xml names, as _as_release gives it; None where it names none."""
    text = _read_pom(project)
    plugins = re.findall(r"<plugin>(?:(?!</plugin>).)*>maven-compiler-plugin<.*?</plugin>", text, flags=re.DOTALL)
    of_compiler = re.sub(r"<execution>.*?</execution>", "", "".join(plugins), flags=re.DOTALL)
    for place, prefix in ((text, r"maven\.compiler\."), (of_compiler, "")):
        for name in ("release", "target", "source"):
            for release in _read_releases(text, place, prefix + name):
                return _as_release(release, jdk)
    return None


def _find_newest_release(project: Path, jdk: Jdk) -> int | None:
    """The newest of all releases in the build files, those of tests and profiles too, as _as_release gives it."""
    text = _read_pom(project)
    names = r"(?:maven\.compiler\.)?(?:release|target|source|testRelease|testTarget|testSource)"
    found = list(_read_releases(text, text, names))
    if find_build_tool(project) is GRADLE:
        files = [path for ending in (".gradle", ".gradle.kts") for path in find_files(project, ending)]
        texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
        found = [int(release) for text in texts for release in GRADLE_RELEASE.findall(text)]
    return _as_release(max(found), jdk) if found else None


def _read_releases(pom: str, place: str, tag: str) -> Iterator[int]:
    """The releases in the tags of a place in the pom.xml; ``${...}`` stands for a property of it."""
    for value in re.findall(rf"<{tag}>\s*([^<\s]+)\s*</", place):
        if named := re.fullmatch(r"\$\{(.+)\}", value):
            value = next(iter(re.findall(rf"<{re.escape(named[1])}>\s*([^<\s]+)\s*</", pom)), "")
        if found := re.fullmatch(r"(?:1\.)?(\d+)", value):
            yield int(found[1])


def _compile(
    project: Path,
    sources: list[Path],
    encoding: str,
    roots: dict[str, list[Path]],
    class_path: Sequence[Path],
    jdk: Jdk,
    target: Path,
    release: int | None,
) -> dict[str, str]:
    """Run javac over the main and the test sources; returns the test sources that had to be left out, and why."""
    sources = [path for path in sources if path.name not in MODULE_FILES]
    groups = {
        part: [path for path in sources if any(root / "java" in path.parents for root in roots[part])]
        for part in ("main", "test")
    }
    together = not groups["main"]  # no Maven layout: it is not known which are tests
    if together:
        groups = {"main": [], "test": sources}
    for part, folders in roots.items():
        (target / part).mkdir(parents=True)
        for root in folders:
            if (root / "resources").is_dir():
                shutil.copytree(root / "resources", target / part, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    for name in OLD_ROOTS if together else ():  # where resources stand beside the sources
        if (project / name).is_dir():
            ignored = shutil.ignore_patterns("*.java")
            shutil.copytree(project / name, target / "test", dirs_exist_ok=True, ignore=ignored, symlinks=True)
    options = ["-encoding", encoding, *(["--release", str(release)] if release else [])]
    errors = _run_javac(groups["main"], target / "main", class_path, options, jdk)
    if errors:
        raise UserError(_describe_errors(project, errors))
    remaining = groups["test"]
    left_out: dict[str, str] = {}
    for _ in range(MAX_ROUNDS):  # leaving a file out may break others that need it
        errors = _run_javac(remaining, target / "test", (target / "main", *class_path), options, jdk)
        bad = {path for path, _, _ in errors}
        if not bad:
            return dict(sorted(left_out.items()))
        for path, line, message in errors:
            left_out.setdefault(Path(path).relative_to(project).as_posix(), f"line {line}: {message[:300]}")
        remaining = [path for path in remaining if str(path) not in bad]
        if not remaining:
            break
    raise UserError(_describe_errors(project, errors))


def _describe_errors(project: Path, errors: list[tuple[str, str, str]]) -> str:
    path, line, message = errors[0]
    where = f"{Path(path).relative_to(project)}:{line}: " if line else ""
    beside = [name for ending, name in OTHER_LANGUAGES.items() if _find_sources(project, ending)]
    hint = f"; it has {beside[0]} sources, which javac does not compile" if beside else ""
    return f"project {project} does not compile ({where}{message[:300]}){hint}: {advise(project)}"


def _find_encoding(project: Path, sources: Iterable[Path]) -> str:
    """The encoding that the project's pom.xml names, else UTF-8; Latin-1 if a source is not written in that one.

    javac refuses a byte that its encoding does not know. In Latin-1 all bytes are known.
    """
    match = re.search(r"sourceEncoding>\s*([\w.-]+)\s*<", _read_pom(project))
    encoding = match.group(1) if match else "UTF-8"
    try:
        for path in sources:
            path.read_bytes().decode(encoding)
    except UnicodeDecodeError:
        return "ISO-8859-1"
    except LookupError:  # javac may know it, or says that it does not
        pass
    return encoding


def _read_pom(project: Path) -> str:
    pom = project / "pom.xml"
    text = pom.read_text(encoding="utf-8", errors="replace") if pom.is_file() else ""
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def _run_javac(
    files: Sequence[Path], output: Path, class_path: Sequence[Path], options: Sequence[str], jdk: Jdk
) -> list[tuple[str, str, str]]:
    """Compile; returns the errors as (file, line, message). Raises UserError where javac fails for another reason."""
    if not files:
        return []
    words = [*options, "-d", output, "-g", "-nowarn", "-Xlint:none", "-Xmaxerrs", "10000"]
    words += ["-cp", os.pathsep.join(map(str, class_path)), *files]
    with tempfile.TemporaryDirectory(prefix="javac-") as scratch:
        arguments = Path(scratch, "arguments")
        quoted = (str(item).replace("\\", "\\\\").replace('"', '\\"') for item in words)
        arguments.write_text("\n".join(f'"{item}"' for item in quoted), encoding="utf-8")
        # One short run on what may be a busy machine: the thorough compiler of the JVM would not pay.
        quick = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")
        command = [jdk.tool("javac"), *quick, "-J-Duser.language=en", "-J-Dfile.encoding=UTF-8", f"@{arguments}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, errors="replace")
    if done.returncode == 0:
        return []
    errors = _read_errors(done.stderr)
    if not errors:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), "no message")
        raise UserError(f"javac failed: {reason[:200]}")
    return errors


def _read_errors(text: str) -> list[tuple[str, str, str]]:
    """javac's errors as (file, line, message); what cannot be found, and where, belongs to the message."""
    heads = list(JAVAC_ERROR.finditer(text))
    errors = []
    for head, following in zip_longest(heads, heads[1:]):
        details = JAVAC_DETAIL.findall(text, head.end(), following.start() if following else len(text))
        file, line, message = head.groups()
        errors.append((file, line, "; ".join([message, *(f"{kind}: {what}" for kind, what in details)])))
    return errors
