"""A small Java project for the tests of execution, and tasks on it found by plain text search."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest

FOLDERS = (Path("/usr/share/java"), Path.home() / ".m2" / "repository")
JUNIT = (
    "junit4",
    "hamcrest",
    "junit-jupiter-api",
    "junit-jupiter-engine",
    "junit-jupiter-params",
    "junit-platform-commons",
    "junit-platform-engine",
    "junit-platform-launcher",
    "opentest4j",
    "apiguardian-api",
)

CART = """package shop;

public class Cart {
    private int total;

    public Cart() {
        total = 0;
    }

    public void add(int price) {
        total += price;
    }

    public int total() {
        return total;
    }

    public boolean isEmpty() {
        return total == 0;
    }

    public String label(String name) {
        if (name == null) {
            throw new IllegalArgumentException("name");
        }
        return "cart of " + name;
    }
}
"""

CART_TEST = """package shop;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.fail;

import java.nio.file.Files;
import java.nio.file.Paths;
import org.junit.Assume;
import org.junit.Ignore;
import org.junit.Test;

public class CartTest {
    static int runs;

    @Test
    public void testTotal() {
        Cart cart = new Cart();
        cart.add(3);
        assertEquals(3, cart.total());
        cart.add(4);
        assertEquals(7, cart.total());
    }

    @Test
    public void testAppends() throws Exception {
        Cart cart = new Cart();
        java.nio.file.Path log = Paths.get("log.txt");
        Files.write(log, new byte[1], java.nio.file.StandardOpenOption.CREATE, java.nio.file.StandardOpenOption.APPEND);
        assertEquals(1, Files.size(log));
    }

    @Test
    public void testEmpty() {
        Cart cart = new Cart();
        assertEquals(true, cart.isEmpty());
    }

    @Test
    public void testNoName() {
        try {
            new Cart().label(null);
            fail("no name");
        } catch (IllegalArgumentException expected) {
        }
    }

    @Test
    public void testStaticState() {
        runs++;
        assertEquals(1, runs);
    }

    @Test
    public void testData() throws Exception {
        String text = new String(Files.readAllBytes(Paths.get("data/prices.txt")));
        assertEquals("3 4", text.trim());
    }

    @Test
    public void testFails() {
        assertEquals(8, new Cart().total());
    }

    @Test
    public void testFlaky() {
        assertEquals("UTC", java.util.TimeZone.getDefault().getID());
    }

    @Test
    public void testUnreached() {
        Cart cart = new Cart();
        if (java.io.File.separatorChar == '\\\\') {
            assertEquals(0, cart.total());
        }
    }

    @Test
    public void testBroken() {
        assertEquals(0, Settings.price);
    }

    static class Settings {
        static final int price = read();

        static int read() {
            if (Settings.class.getResource("/prices.csv") == null) {
                throw new IllegalStateException("no prices");
            }
            return 0;
        }
    }

    @Test
    public void testSkips() {
        Assume.assumeTrue(false);
        assertEquals(0, new Cart().total());
    }

    @Ignore
    @Test
    public void testIgnored() {
        assertEquals(0, new Cart().total());
    }

    @Test
    public void testLoops() {
        while (runs == 0) { }
        assertEquals(0, new Cart().total() + 0);
    }
}
"""

JUNIT3_TEST = """package shop;

import junit.framework.TestCase;

public class OldCartTest extends TestCase {
    public void testOld() {
        Cart cart = new Cart();
        cart.add(5);
        assertEquals(5, cart.total());
    }
}
"""

JUPITER_TEST = """package shop;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class JupiterCartTest {
    Cart cart;

    @BeforeEach
    void open() {
        cart = new Cart();
    }

    @Test
    void totals() {
        cart.add(2);
        assertEquals(2, cart.total());
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void totalsOf(int price) {
        cart.add(price);
        assertEquals(price, cart.total());
    }

    @Nested
    class WhenFilled {
        @BeforeEach
        void fill() {
            cart.add(9);
        }

        @Test
        void totals() {
            assertEquals(9, cart.total());
        }
    }
}
"""

MAIN, TESTS = "src/main/java/shop/", "src/test/java/shop/"


def write_project(root: Path) -> Path:
    for name, text in {
        MAIN + "Cart.java": CART,
        TESTS + "CartTest.java": CART_TEST,
        TESTS + "OldCartTest.java": JUNIT3_TEST,
        TESTS + "JupiterCartTest.java": JUPITER_TEST,
        "data/prices.txt": "3 4\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def jar(name: str) -> Path | None:
    """A jar by artifact name: Debian's, else the newest of the Maven repository."""
    debian = FOLDERS[0] / f"{name}.jar"
    if debian.is_file():
        return debian
    artifact = {"junit4": "junit"}.get(name, name)
    found = sorted(FOLDERS[1].glob(f"**/{artifact}/*/{artifact}-*[0-9].jar"))
    return found[-1] if found else None


def unavailable(reason: str) -> NoReturn:
    """Skip, but fail in CI, where scripts/install_test_packages.sh must have installed it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def junit_jars() -> list[Path]:
    found = {name: jar(name) for name in JUNIT}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        unavailable(f"no {', '.join(missing)}.jar; apt-get install junit4 junit5 libhamcrest-java")
    return [path for path in found.values() if path is not None]


def need_jdk() -> None:
    if shutil.which("javac") is None:
        unavailable("no JDK; apt-get install default-jdk-headless")


def need_tool(name: str) -> None:
    """A program of the Debian package of that name."""
    if shutil.which(name) is None:
        unavailable(f"no {name}; apt-get install {name}")


def fake_javac(folder: Path, says: str) -> Path:
    """A JDK's folder whose compiler tells its version and nothing else."""
    javac = folder / "bin" / "javac"
    javac.parent.mkdir(parents=True)
    javac.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    javac.chmod(javac.stat().st_mode | stat.S_IXUSR)
    return folder


def task(root: Path, file: str, name: str, assertion: str, focal: str = "total", **changes: Any) -> dict[str, Any]:
    """The ``source`` of a row, as the miner writes it: the ``assertion`` of the test ``name`` (the last of such)."""
    source = (root / TESTS / file).read_bytes()
    test_start = source.index(f"void {name}(".encode())
    test_end = source.index(b"\n    }\n", test_start) if b"\n    }\n" in source[test_start:] else len(source)
    start = source.rindex(assertion.encode(), test_start, test_end + 1)
    main = (root / MAIN / "Cart.java").read_bytes()
    focal_start = main.index(f" {focal}(".encode())
    first = main.count(b"\n", 0, focal_start) + 1
    last = main.count(b"\n", 0, main.index(b"\n    }\n", focal_start)) + 2
    return {
        "test_file": TESTS + file,
        "focal_file": MAIN + "Cart.java",
        "test_class": f"shop.{file.removesuffix('.java')}",
        "test_name": name,
        "test_span": [test_start, test_end + 6],
        "assertion_span": [start, start + len(assertion.encode())],
        "assertion_kind": assertion.partition("(")[0],
        "framework": {"O": "junit3", "C": "junit4", "J": "junit5"}[file[0]],
        "focal_name": focal,
        "focal_lines": [first, last],
        **changes,
    }


def fingerprint(root: Path) -> str:
    """A hash over the names, contents and times of all that is below a folder."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path}\0{path.stat().st_mtime_ns}\0".encode() + content)
    return digest.hexdigest()
