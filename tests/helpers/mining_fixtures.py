"""A hand-written Java project, by file; the expectations in the mining tests were written by reading it."""

from __future__ import annotations

from pathlib import Path

from data.java.syntax import read_java
from data.mining.projects import Project, index_file
from data.mining.tasks import FileResult, Limits, mine_file

STACK = """package shop;

/** A stack. */
public class Stack extends Base implements Sized {
    private int[] items = new int[9];
    private int count;

    public Stack() {
    }

    public void push(int item) {
        items[count++] = item; // grows never
    }

    public void push(String item) {
        push(Integer.parseInt(item));
    }

    public void push(int item, int times) {
        for (int i = 0; i < times; i++) {
            push(item);
        }
    }

    public void pushAll(int... many) {
        for (int one : many) {
            push(one);
        }
    }

    public int pop() {
        return items[--count];
    }

    @Override
    public int size() {
        return count;
    }

    public static Stack of(int... items) {
        Stack stack = new Stack();
        stack.pushAll(items);
        return stack;
    }

    public Cursor cursor() {
        return new Cursor();
    }

    public class Cursor {
        public int position() {
            return count;
        }
    }
}
"""
BASE = """package shop;

abstract class Base {
    public boolean isEmpty() {
        return size() == 0;
    }

    public abstract int size();
}
"""
SIZED = "package shop;\n\npublic interface Sized {\n    int size();\n}\n"
TEXTS = """package shop.util;

public final class Texts {
    public static String twice(String text) {
        return text + text;
    }
}
"""
SOURCES = {
    "src/main/java/shop/Stack.java": STACK,
    "src/main/java/shop/Base.java": BASE,
    "src/main/java/shop/Sized.java": SIZED,
    "src/main/java/shop/util/Texts.java": TEXTS,
}
JUNIT4 = "import static org.junit.Assert.*;\nimport org.junit.Test;\n"


def test_class(body: str, name: str = "StackTest", imports: str = JUNIT4, header: str = "") -> str:
    return f"package shop;\n\n{imports}\npublic class {name} {header} {{\n{body}\n}}\n"


test_class.__test__ = False  # type: ignore[attr-defined]


def write_project(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in {**SOURCES, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def mine(root: Path, files: dict[str, str | bytes], only: str = "", **limits) -> FileResult:
    """Mine one test file (``only``, or the only one) of a project that has ``files`` beside ``SOURCES``."""
    write_project(root, files)
    bounds = Limits(**limits)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.java"))
    project = Project("shop", [index_file(name, read_java(root / name, bounds.max_file_bytes)) for name in names])
    return mine_file(project, root, only or next(iter(files)), bounds)


def mine_body(root: Path, body: str, **arguments) -> FileResult:
    """Mine a JUnit 4 test class of that body."""
    return mine(root, {"src/test/java/shop/StackTest.java": test_class(body)}, **arguments)


def rows_of(result: FileResult) -> list[dict]:
    return [row for test in result.tests for row in test.rows]
