"""The jars of a project: named by the user, in its folders, or told by Maven or Gradle."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from evaluation.running.jars import (
    ask_gradle,
    ask_maven,
    complete_junit5,
    expand_class_path,
    find_gradle,
    find_jars,
    read_maven_log,
)
from evaluation.running.jdk import Jdk, find_jdk
from tests.helpers.java_project import need_jdk, need_tool
from utils.errors import UserError


def test_class_path_entries(tmp_path):
    for name in ("b.jar", "a.jar", "note.txt"):
        (tmp_path / name).touch()
    found = expand_class_path(f"{tmp_path}/*{os.pathsep}{tmp_path}/a.jar{os.pathsep}")
    assert [path.name for path in found] == ["a.jar", "b.jar"]
    with pytest.raises(UserError, match=r"--class_path: .*gone.jar does not exist"):
        expand_class_path([tmp_path / "gone.jar"])


def test_launcher_and_engine_of_the_same_release_are_found(tmp_path):
    def put(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    api = put("jupiter/junit-jupiter-api/5.9.2/junit-jupiter-api-5.9.2.jar")
    commons = put("platform/junit-platform-commons/1.9.2/junit-platform-commons-1.9.2.jar")
    added = {
        put("jupiter/junit-jupiter-engine/5.9.2/junit-jupiter-engine-5.9.2.jar"),
        put("platform/junit-platform-engine/1.9.2/junit-platform-engine-1.9.2.jar"),
        put("platform/junit-platform-launcher/1.9.2/junit-platform-launcher-1.9.2.jar"),
    }
    put("platform/junit-platform-launcher/1.10.0/junit-platform-launcher-1.10.0.jar")
    assert set(complete_junit5([api, commons])) == {api, commons, *added}
    junit4 = put("junit-4.13.2.jar")
    assert complete_junit5([junit4]) == (junit4,)
    cached = put("org.junit.jupiter/junit-jupiter-api/5.9.0/1a/junit-jupiter-api-5.9.0.jar")
    engine = put("org.junit.jupiter/junit-jupiter-engine/5.9.0/2b/junit-jupiter-engine-5.9.0.jar")
    assert complete_junit5([cached]) == (cached, engine)  # as Gradle keeps them


def fake_tool(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_what_maven_makes_of_the_modules_is_left_out(tmp_path, monkeypatch):
    """Other jars inside the project are not, whatever their folders are called."""
    project = tmp_path / "project"
    entries = {
        "core/target/classes/A.class": False,
        "core/target/core-1.jar": False,
        "repository/org/target/x/1/x-1.jar": True,
        "core/libs/y.jar": True,
    }
    for name in (*entries, "core/pom.xml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    named = [project / name.removesuffix("/A.class") for name in entries]
    fake_tool(tmp_path / "mvn", f"echo '[INFO] Dependencies classpath:'\necho {os.pathsep.join(map(str, named))}")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert ask_maven(project, Jdk(tmp_path, 17)) == tuple(project / name for name, kept in entries.items() if kept)


def test_maven_answers_for_each_module(tmp_path, monkeypatch):
    jars = [tmp_path / name for name in ("a.jar", "b.jar")]
    for jar in jars:
        jar.touch()
    fake_tool(
        tmp_path / "mvn",
        f"echo '[INFO] Dependencies classpath:'\necho {jars[0]}:{tmp_path}/gone.jar\n"
        f"echo '[INFO] Dependencies classpath:'\necho {jars[0]}:{jars[1]}",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    project = tmp_path / "project"
    project.mkdir()
    assert ask_maven(project, Jdk(tmp_path, 17)) == tuple(jars)
    fake_tool(tmp_path / "mvn", "echo '[ERROR] cannot resolve x:y:1 offline'\nexit 1")
    with pytest.raises(UserError, match=r"mvn -o gives no class path \(cannot resolve x:y:1 offline\); .*--class_path"):
        ask_maven(project, Jdk(tmp_path, 17))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"mvn is not on the PATH; .*--class_path"):
        ask_maven(project, Jdk(tmp_path, 17))


MAVEN_LOG = """[DEBUG] Using local repository at /repo
[INFO] ------------------------< org.example:shop >------------------------
[DEBUG] org.example:shop:jar:1.0
[DEBUG]    org.junit.jupiter:junit-jupiter-api:jar:5.11.4:test
[DEBUG]       org.opentest4j:opentest4j:jar:1.3.0:test
[DEBUG]    io.netty:netty:jar:linux-x86_64:4.1:runtime (version managed from 4.0)
[DEBUG]    org.example:core:jar:1.0:compile
[INFO] ------------------------< org.example:core >------------------------
[DEBUG] org.apache.maven.plugins:maven-surefire-plugin:jar:2.12.4
[DEBUG]    org.apache.maven:maven-plugin-api:jar:2.0.9:compile
"""


def test_maven_without_its_dependency_plugin_tells_what_it_resolved():
    """Lines as Maven 3.8.7 prints them; modules of the project and plugins are not among the jars."""
    assert [str(path) for path in read_maven_log(MAVEN_LOG)] == [
        "/repo/org/junit/jupiter/junit-jupiter-api/5.11.4/junit-jupiter-api-5.11.4.jar",
        "/repo/org/opentest4j/opentest4j/1.3.0/opentest4j-1.3.0.jar",
        "/repo/io/netty/netty/4.1/netty-4.1-linux-x86_64.jar",
    ]
    assert read_maven_log("[ERROR] no such project") == []


CORE = """apply plugin: 'java'
repositories {{ maven {{ url 'file:{repository}' }} }}
dependencies {{
    testImplementation 'junit:junit:{version}'
    testCompileOnly files('libs/compile-only.jar')
    compileOnly files('libs/\u00fcber.jar')
    testRuntimeOnly files('libs/at-runtime.jar')
}}
System.out.print('a script may print without a line end')
println('and read: ' + System.in.read())
"""
OTHER = "apply plugin: 'java'\ndependencies { testCompile project(':core') }\n"
REPOSITORY = Path("/usr/share/maven-repo")  # Debian's
OWN_JARS = ("at-runtime.jar", "compile-only.jar", "\u00fcber.jar")


def write_modules(root: Path, version: str) -> Path:
    """Three modules, of which two have Java; one needs the other and keeps jars."""
    for name in ("core/libs", "docs", "other"):
        (root / name).mkdir(parents=True)
    (root / "settings.gradle").write_text("include 'core', 'docs', 'other'\n")
    (root / "core/build.gradle").write_text(CORE.format(repository=REPOSITORY, version=version), encoding="utf-8")
    (root / "other/build.gradle").write_text(OTHER + f"repositories {{ maven {{ url 'file:{REPOSITORY}' }} }}")
    (root / "gradle.properties").write_text("org.gradle.parallel=true\n")
    for name in OWN_JARS:
        (root / "core/libs" / name).touch()
    return root


@pytest.mark.jdk
def test_gradle_tells_its_test_class_path_and_writes_nothing(tmp_path, capsys):
    need_jdk()
    need_tool("gradle")
    junit = min(path.name for path in (REPOSITORY / "junit/junit").glob("4.*.*"))
    root = write_modules(tmp_path / "project", junit)
    before = sorted(root.rglob("*"))
    found = find_jars(root, find_jdk())
    own = [root / "core/libs" / name for name in OWN_JARS]  # what tests run with comes before what they compile with
    assert [path for path in found if root in path.parents] == own and len(set(found)) == len(found)
    others = [path.name for path in found if path not in own]
    assert len(others) == 2 and f"junit-{junit}.jar" in others and any("hamcrest" in name for name in others)
    assert sorted(root.rglob("*")) == before and capsys.readouterr().err == ""

    (root / "core/libs/at-runtime.jar").unlink()
    assert ask_gradle(root, find_jdk()) == tuple(path for path in found if path.name != "at-runtime.jar")
    told = capsys.readouterr().err
    assert told.startswith("warning: ") and told.endswith("libs/at-runtime.jar, which is not there\n")
    (root / "core/build.gradle").write_text(CORE.format(repository=REPOSITORY, version="0.1"), encoding="utf-8")
    with pytest.raises(UserError, match=r"gives no class path \(.*junit:junit:0.1.*\); .*--class_path"):
        ask_gradle(root, find_jdk())
    assert {path.name for path in find_jars(root, find_jdk())} == {*OWN_JARS} - {"at-runtime.jar"}
    told = capsys.readouterr().err
    assert told.startswith("warning: ") and told.endswith("; the jars in its folders are taken instead\n")
    (root / "core/build.gradle").write_text("throw new IllegalStateException('no licence')")
    with pytest.raises(UserError, match=r"gives no class path \(.*no licence.*\)"):
        ask_gradle(root, find_jdk())
    (root / "core/build.gradle").write_text("")
    (root / "other/build.gradle").write_text("")
    with pytest.raises(UserError, match=r"gives no class path \(it names no jar: no module has a plugin for Java\)"):
        ask_gradle(root, find_jdk())


def test_a_wrapper_is_used_if_what_it_starts_is_there(tmp_path, monkeypatch):
    root, home = tmp_path / "project", tmp_path / "home"
    (root / "gradle/wrapper").mkdir(parents=True)
    (root / "build.gradle").touch()
    monkeypatch.setenv("GRADLE_USER_HOME", str(home))
    shell = Path(shutil.which("sh") or "")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").symlink_to(shell)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match=r"is a Gradle project; gradle is not on the PATH; give the jars"):
        find_jars(root, Jdk(tmp_path, 17))
    (root / "gradle/wrapper/gradle-wrapper.jar").touch()
    (root / "gradle/wrapper/gradle-wrapper.properties").write_text(
        "distributionUrl=https\\://services.gradle.org/distributions/gradle-8.5-bin.zip\n"
    )
    (root / "gradlew").touch()
    with pytest.raises(
        UserError, match=r"not on the PATH, and what its wrapper starts \(gradle-8.5-bin\) has not been"
    ):
        find_jars(root, Jdk(tmp_path, 17))
    fake_tool(tmp_path / "bin/gradle", "")
    assert find_gradle(root) == [str(tmp_path / "bin/gradle")]  # the wrapper would fetch its Gradle
    fake_tool(home / "wrapper/dists/gradle-8.5-bin/5t9h/gradle-8.5/bin/gradle", "")
    assert find_gradle(root) == ["sh", str(root / "gradlew")]
    fake_tool(root / "gradlew", "echo 'A problem occurred' >&2\nexit 1")
    assert find_gradle(root) == [str(root / "gradlew")]
    with pytest.raises(UserError, match=r"gives no class path \(A problem occurred\)"):
        find_jars(root, Jdk(tmp_path, 17))
    fake_tool(root / "gradlew", "/usr/bin/sleep 9")
    monkeypatch.setattr("evaluation.running.jars.SECONDS", 0.2)
    with pytest.raises(UserError, match=r"gradlew gave no class path within 0.2 s; give the jars"):
        find_jars(root, Jdk(tmp_path, 17))
