"""Which methods are tests, by the facts of ``data/java/frameworks.py``: JUnit 3, 4 and 5, and TestNG."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tree_sitter import Node

from data.java.frameworks import DISABLING_ANNOTATIONS, FRAMEWORKS
from data.java.syntax import field_text, read_modifiers, type_name
from data.mining.projects import Imports, JavaClass, Project, list_members, walk_types

SWITCHED_OFF = re.compile(r"\benabled\s*=\s*false\b")


@dataclass(frozen=True)
class TestMethod:
    """A test and its class; ``problem`` is the reason why it cannot be used, or empty."""

    node: Node
    name: str
    owner: JavaClass
    framework: str
    problem: str


TestMethod.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test class


def _annotation_framework(annotations: dict[str, str], imports: Imports) -> str:
    """The framework of a method's (or a TestNG class's) test annotation, or the empty string."""
    for written in annotations:
        simple = written.rpartition(".")[2]
        for framework, facts in FRAMEWORKS.items():
            if simple in facts.other_annotations:
                return framework
        if simple != "Test":
            continue
        names = [written, imports.single.get(simple, "")] + [f"{package}.Test" for package in imports.star]
        for name in names:
            for framework, facts in FRAMEWORKS.items():
                known = facts.test_annotation
                if known and (name.startswith(known) if known.endswith(".") else name == known):
                    return framework
        return "unknown"
    return ""


def _disabled(annotations: Mapping[str, str]) -> bool:
    """By ``@Ignore`` and ``@Disabled``, or by TestNG's ``@Test(enabled = false)``."""
    return any(
        simple in DISABLING_ANNOTATIONS or (simple == "Test" and SWITCHED_OFF.search(text))
        for simple, text in ((name.rpartition(".")[2], text) for name, text in annotations.items())
    )


def _is_junit3(project: Project, owner: JavaClass) -> bool:
    """``junit.framework.TestCase`` is outside of the project; so may be the base class between, known by its name."""
    return any(name.endswith("TestCase") for name in project.ancestors(owner)[1])


def find_test_methods(root: Node, source: bytes, project: Project, file: str, package: str) -> Iterator[TestMethod]:
    """The tests of a compilation unit in source order, nested classes (JUnit 5 ``@Nested``) included."""
    disabled: list[str] = []  # classes; what is nested in one is disabled with it
    for node, qualified, _ in walk_types(root, source, package):
        owner = project.find(qualified, file)
        if owner is None:
            continue
        _, class_annotations = read_modifiers(node, source)
        class_framework = _annotation_framework(class_annotations, owner.imports)
        if _disabled(class_annotations):
            disabled.append(qualified)
        disabled_class = any(qualified == name or qualified.startswith(f"{name}.") for name in disabled)
        junit3 = _is_junit3(project, owner)
        for method in list_members(node):
            if method.type != "method_declaration":
                continue
            words, annotations = read_modifiers(method, source)
            name = field_text(method, "name", source)
            framework = _annotation_framework(annotations, owner.imports)
            public_void = "public" in words and type_name(method.child_by_field_name("type"), source) == "void"
            if not framework and public_void and "static" not in words:
                if class_framework == "testng" and not any("Before" in item or "After" in item for item in annotations):
                    framework = "testng"
                elif junit3 and name.startswith("test") and field_text(method, "parameters", source) == "()":
                    framework = "junit3"
            if not framework:
                continue
            problem = ""
            if framework == "unknown":
                problem = "@Test of an unknown framework"
            elif disabled_class or _disabled(annotations):
                problem = "test is disabled"
            elif method.child_by_field_name("body") is None:
                problem = "test has no body"
            elif method.has_error:
                problem = "test does not parse"
            yield TestMethod(method, name, owner, framework, problem)
