"""Projects and files as they come: every layout is run, what is missing is said in one line, and nothing is harmed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from evaluation import suggest_assertions
from evaluation.suggest_assertions import main
from tests.helpers.java_project import CART, fake_javac, fingerprint, junit_jars, need_jdk
from utils.errors import UserError

pytestmark = pytest.mark.jdk
TEST = """package shop;

import org.junit.Test;

public class OpenTest {
    @Test
    public void testTotal() {
        Cart cart = new Cart();
        cart.add(3);
        cart.total();
    }
}
"""
HEIR = CART.replace("class Cart {", "class Cart extends Base {")


class OneAnswer:
    """A student that knows the answer."""

    def write(self, samples, scopes=()):
        return [["assertEquals(3, cart.total());"] for _ in samples]


@pytest.fixture(autouse=True)
def student(monkeypatch, tmp_path_factory):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path_factory.getbasetemp() / "inputs_cache"))
    monkeypatch.setattr(suggest_assertions, "load_student", lambda args: OneAnswer())


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr(suggest_assertions, "load_student", lambda args: pytest.fail("a model was loaded"))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(root: Path, *options: str) -> int:
    jars = os.pathsep.join(map(str, junit_jars()))
    return main(["a-model", str(root), "--no_pool", "--class_path", jars, "--json", *options])


MODULES = {
    "settings.gradle.kts": 'include("core", "app")',
    "core/build.gradle.kts": "",
    "app/build.gradle.kts": "",
    "core/src/main/java/shop/Cart.java": CART,
    "app/src/test/java/shop/OpenTest.java": TEST,
}
LAYOUTS = {
    "modules of Gradle, not built": MODULES,
    "modules of Gradle, built, Kotlin beside": MODULES
    | {"core/src/main/java/shop/Cart.java": HEIR, "core/src/main/kotlin/shop/Base.kt": "package shop\nopen class Base"},
    "src and test": {"src/shop/Cart.java": CART, "test/shop/OpenTest.java": TEST},
    "java and javatests": {"java/shop/Cart.java": CART, "javatests/shop/OpenTest.java": TEST},
}


def build_as_gradle(root: Path) -> None:
    """What the Kotlin and the Java compiler would leave; Kotlin's class is made from Java here."""
    sources = write(root.parent / "made", {"Base.java": "package shop; public class Base { }"})
    jars = os.pathsep.join(map(str, junit_jars()))
    for source, target in (
        (sources / "Base.java", "core/build/classes/kotlin/main"),
        (root / "core/src/main/java/shop/Cart.java", "core/build/classes/java/main"),
        (root / "app/src/test/java/shop/OpenTest.java", "app/build/classes/java/test"),
    ):
        made = [str(root / "core/build/classes" / part / "main") for part in ("kotlin", "java")]
        words = ["javac", "-g", "-cp", os.pathsep.join([*made, jars]), "-d", str(root / target), str(source)]
        subprocess.run(words, check=True, capture_output=True)


QUICK = ("modules of Gradle, built, Kotlin beside", "java and javatests")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS]
)
def test_a_suggestion_is_run_in_every_layout(tmp_path, name, capsys):
    root = write(tmp_path / "project", LAYOUTS[name])
    if "Kotlin" in name:
        build_as_gradle(root)
    before = fingerprint(root)
    assert run(root) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    (test,) = file["tests"]
    assert test["candidates"][test["chosen"]]["nontrivial"] and test["focal_method"] == "Cart.total"
    assert fingerprint(root) == before


PLAIN = LAYOUTS["java and javatests"]
MAVEN = {"pom.xml": "", "src/main/java/shop/Cart.java": CART, "src/test/java/shop/OpenTest.java": TEST}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (MODULES, r"gradle is not on the PATH; give the jars with --class_path, or run `\./gradlew testClasses` once"),
        (
            LAYOUTS["modules of Gradle, built, Kotlin beside"],
            r"symbol: class Base\); it has Kotlin sources, which javac does not compile: build it first \(`\./gr",
        ),
        (PLAIN, r"its tests need JUnit 4, .*: give the jars it needs with --class_path; joined like \$CLASSPATH"),
        (PLAIN | {"build.xml": ""}, r"its tests need JUnit 4, .* with --class_path; they are mostly in lib/"),
        (MAVEN, "mvn is not on the PATH; give the jars with --class_path, or run `mvn dependency:go-offline` once"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_loaded(tmp_path, monkeypatch, no_model, files, message):
    given = ["--class_path", ""] if "Kotlin" in message else []
    monkeypatch.setenv("PATH", f"{Path(shutil.which('javac')).resolve().parent}")  # no mvn
    root = write(tmp_path / "project", files)
    before = fingerprint(root)
    with pytest.raises(UserError, match=message) as error:
        main(["a-model", str(root), "--apply", *given])
    assert "\n" not in str(error.value) and fingerprint(root) == before


def test_a_built_project_without_junit_gets_the_command_that_lists_jars(tmp_path, no_model):
    root = write(tmp_path / "project", LAYOUTS["modules of Gradle, built, Kotlin beside"])
    build_as_gradle(root)
    with pytest.raises(
        UserError, match=r"its tests need JUnit 4, .*: give the jars .* `\./gradlew dependencies "
    ) as error:
        main(["a-model", str(root), "--class_path", ""])
    assert "build it first" not in str(error.value)


def test_half_a_project_is_refused(tmp_path, no_model):
    root = write(tmp_path / "project", MAVEN | {"src/main/java/shop/Cart.java": HEIR})
    with pytest.raises(UserError, match=r"Cart\.java:3: cannot find symbol; symbol: +class Base.*`mvn test-compile`"):
        run(root, "--apply")
    assert (root / "src/test/java/shop/OpenTest.java").read_text() == TEST


def test_without_a_jdk_or_with_an_old_one_no_model_is_loaded(tmp_path, monkeypatch, no_model):
    root = write(tmp_path / "project", PLAIN)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"^no JDK: javac is not on the PATH; install JDK >= 11"):
        run(root, "--apply")
    monkeypatch.setenv("PATH", str(fake_javac(tmp_path / "old", "javac 1.8.0_392") / "bin"))
    with pytest.raises(UserError, match=r"is JDK 8; execution needs JDK >= 11"):
        run(root, "--apply")
    assert (root / "javatests/shop/OpenTest.java").read_text() == TEST


def test_a_model_that_cannot_be_loaded_leaves_no_process_behind(tmp_path, monkeypatch):
    root = write(tmp_path / "project", PLAIN)

    def refuse(args):
        raise UserError("MODEL a-model: no such folder")

    monkeypatch.setattr(suggest_assertions, "load_student", refuse)
    before = psutil.Process().children(recursive=True)
    with pytest.raises(UserError, match=r"^MODEL a-model: no such folder$"):
        run(root)
    assert psutil.Process().children(recursive=True) == before


def test_odd_files_are_written_as_they_are_or_named_and_left_alone(tmp_path, capsys):
    """Latin-1 with tabs, CRLF and a test on one line; code that never ends; half a file; a test that javac refuses."""
    odd = (
        "package shop;\r\nimport org.junit.Test;\r\npublic class OddTest {\r\n\t// Größe\r\n"
        "\t@Test public void testTotal() { Cart cart = new Cart(); cart.add(3); cart.total(); }\r\n}\r\n"
    )
    endless = TEST.replace("OpenTest", "EndlessTest").replace("cart.total();", "while (true) { cart.total(); }")
    bad = {
        "EndlessTest": (endless, "its last statement is a loop without end, so nothing can follow"),
        "HalfTest": (TEST.replace("OpenTest", "HalfTest")[:-30], "test does not parse"),
        "WrongTest": (
            TEST.replace("OpenTest", "WrongTest").replace("new Cart()", "null + 1"),
            "its file does not compile: line 8: bad operand types for binary operator '+'",
        ),
    }
    folder = "javatests/shop"
    texts = {f"{folder}/{name}.java": text for name, (text, _) in bad.items()}
    root = write(tmp_path / "project", {"java/shop/Cart.java": CART, **texts})
    (root / folder / "OddTest.java").write_bytes(odd.encode("latin-1"))
    assert run(root, "--apply") == 1
    files = {Path(file["file"]).stem: file for file in json.loads(capsys.readouterr().out)["files"]}
    assert {name: file["left_out"] for name, file in files.items() if name != "OddTest"} == {
        name: {"testTotal": reason} for name, (_, reason) in bad.items()
    }
    assert all((root / name).read_text() == text for name, text in texts.items())
    written = (root / folder / "OddTest.java").read_bytes()
    assert written == (
        odd.replace("Test;\r\n", "Test;\r\nimport static org.junit.Assert.assertEquals;\r\n", 1)
        .replace("cart.total(); }", "cart.total();\r\n\t\tassertEquals(3, cart.total());\r\n\t }")
        .encode("latin-1")
    )
