"""What stands around a test, for the miner and for suggestions: variables, signatures, documentation, style.

The assertions of other tests are added by ``data/mining/siblings.py``, once all tests are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from tree_sitter import Node

from data.java.frameworks import ASSERTION_CLASSES
from data.java.syntax import UnreadableFile
from data.mining.find_tests import TestMethod
from data.mining.focal import FocalFinder
from data.mining.projects import JavaClass, Method, Project
from data.mining.variables import Field, list_locals
from data.rows.context import Context

MAX_LOCALS, MAX_FIELDS, MAX_MEMBERS, MAX_MEMBERS_OF_TYPE, MAX_STYLE = 12, 12, 16, 6, 4
MAX_SENTENCE_WORDS = 30
WORD = re.compile(r"[A-Za-z_$][\w$]*")
WORD_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
# Any object has them, so they tell nothing.
OF_ANY_OBJECT = frozenset({"hashCode", "equals", "toString", "clone", "compareTo", "finalize"})
STYLE_CLASSES = ASSERTION_CLASSES | {"Mockito", "BDDMockito", "BDDAssertions", "EasyMock", "AssertJUnit"}
STYLE_CLASS = re.compile(r"Assert|Matcher|Mockito|EasyMock|Truth|TestCase$|\.Is$|StandardCharsets$")
JAVADOC = re.compile(rb"/\*\*((?:[^*]|\*(?!/))*)\*/\s*\Z")
TAG_LINE = re.compile(r"^@(\w+)\s*", re.MULTILINE)
INLINE_TAG = re.compile(r"\{@\w+\s*([^{}]*)\}")
MARKUP = re.compile(r"<[^<>]{1,60}>")
SENTENCE = re.compile(r"(?<=[.!?])\s")

ReadFile = Callable[
    [str], bytes
]  # the bytes of a file of the project; OSError or UnreadableFile where it cannot be read


def describe_surroundings(
    finder: FocalFinder, test: TestMethod, source: bytes, place: tuple[int, int], method: Method, read: ReadFile
) -> Context:
    """The parts that need no other test, at the bytes ``place`` of the test's file, for the focal ``method``.

    What stands in ``place`` (the answer of a task) has no influence. Empty parts are left out. The order follows from
    the sources alone.
    """
    project, owner = finder.project, test.owner
    position, end = place
    around = source[test.node.start_byte : position] + b" " + source[end : test.node.end_byte]
    mentioned = frozenset(WORD.findall(around.decode()))
    variables = list_locals(test.node, source, position, lambda node: _name_type(finder, node))
    hidden = {name for name, _ in variables}
    fields = [(field, holder) for field, holder in _visible_fields(project, owner) if field.name not in hidden]
    fields.sort(key=lambda found: found[0].name not in mentioned)
    written = [(text, owner) for _, text in variables]
    written.append(
        (f"{method.owner.rpartition('.')[2]} {method.returns}", project.find(method.owner, method.file) or owner)
    )
    written += [(field.text.partition("=")[0], holder) for field, holder in fields if field.name in mentioned]
    context: Context = {
        "fields": [field.text for field, _ in fields[:MAX_FIELDS]],
        "locals": [text for _, text in variables[:MAX_LOCALS]],
        "members": _describe_members(project, owner, written, mentioned, test.name),
        "doc": _describe_method(project, method, read),
        "style": _find_style(project, owner),
    }
    return {part: content for part, content in context.items() if content}  # type: ignore[return-value]


def _name_type(finder: FocalFinder, node: Node) -> str:
    found = finder.type_of(node)
    return found.name if found is not None and WORD.match(found.name) else ""


def _visible_fields(project: Project, owner: JavaClass) -> Iterator[tuple[Field, JavaClass]]:
    """The fields that code of ``owner`` can name, and their class: its own, inherited ones, those of classes around."""
    seen = set()
    for scope in project.enclosing(owner):
        for holder in project.ancestors(scope)[0]:
            for field in holder.field_texts:
                if field.name not in seen and (holder is scope or not field.private):
                    seen.add(field.name)
                    yield field, holder


def _describe_members(
    project: Project, owner: JavaClass, written: list[tuple[str, JavaClass]], mentioned: frozenset[str], test_name: str
) -> list[str]:
    """Signatures of what an assertion may call: methods of the types in play, and the test class's own helpers.

    ``written``: texts that name the types, with the class in whose scope they stand. Within a type those that the test
    mentions come first, then those that share most words with its name, then those of few parameters.
    """
    types: dict[str, JavaClass] = {}
    for text, scope in written:
        for name in WORD.findall(text):
            if name[0].isupper() and (found := project.resolve(name, scope)) is not None:
                types.setdefault(found.qualified, found)
    words = set(map(str.lower, WORD_PART.findall(test_name)))

    def usefulness(method: Method) -> tuple[bool, int, int]:
        shared = words.intersection(map(str.lower, WORD_PART.findall(method.name)))
        return method.name not in mentioned, -len(shared), len(method.parameters)

    texts: list[str] = []
    for item in [*types.values(), owner]:
        methods = {
            (method.name, method.parameters): method
            for holder in reversed(project.ancestors(item)[0])  # what overrides replaces what is overridden
            for method in holder.methods
            if not method.constructor
            and method.returns != "void"
            and method.name not in OF_ANY_OBJECT
            and (item is owner or not method.private)
        }
        chosen = sorted(methods.values(), key=usefulness)[:MAX_MEMBERS_OF_TYPE]
        texts += [_show_method(method, "" if item is owner else f"{item.name}.") for method in chosen]
    return list(dict.fromkeys(texts))[:MAX_MEMBERS]


def _show_method(method: Method, holder: str) -> str:
    parameters = ", ".join(method.parameters) + ("..." if method.varargs else "")
    return f"{'static ' if method.static else ''}{method.returns} {holder}{method.name}({parameters})"


def _find_style(project: Project, owner: JavaClass) -> list[str]:
    """The imports that tell which assertions are in use: those of the class's file, else of the nearest base class."""
    for item in project.ancestors(owner)[0]:
        lines = [line for line in item.imports.lines if _tells_style(line)]
        if lines:
            return lines[:MAX_STYLE]
    return []


def _tells_style(line: str) -> bool:
    name = line.removeprefix("static ").removesuffix(".*")
    if line == name:  # a class
        return name.rpartition(".")[2] in STYLE_CLASSES
    holder = name if line.endswith(".*") else name.rpartition(".")[0]
    return line.startswith("static ") and STYLE_CLASS.search(holder) is not None


def _describe_method(project: Project, method: Method, read: ReadFile) -> str:
    """First sentence, ``@return`` and ``@throws`` of the Javadoc of a method, else of what it overrides."""
    owner = project.find(method.owner, method.file)
    for holder in project.ancestors(owner)[0] if owner is not None else ():
        same = [m for m in holder.methods if (m.name, len(m.parameters)) == (method.name, len(method.parameters))]
        for item in [m for m in same if m.parameters == method.parameters] or (same[:1] if holder is not owner else []):
            with suppress(OSError, UnreadableFile):
                if text := _read_javadoc(read(item.file)[: item.span[0]]):
                    return text
    return ""


def _read_javadoc(before: bytes) -> str:
    """The Javadoc at the end of ``before``, shortened."""
    found = JAVADOC.search(before, max(0, len(before) - 20_000))
    if found is None:
        return ""
    lines = (line.strip().lstrip("*").strip() for line in found.group(1).decode().splitlines())
    text = MARKUP.sub(" ", INLINE_TAG.sub(r"\1", "\n".join(lines)))
    head, *tagged = TAG_LINE.split(text)
    parts = [_first_sentence(head)]
    for tag, content in zip(tagged[::2], tagged[1::2], strict=True):
        if tag in ("return", "throws", "exception") and (sentence := _first_sentence(content)):
            parts.append(f"@{'throws' if tag == 'exception' else tag} {sentence}")
    return " ".join(part for part in parts if part)


def _first_sentence(text: str) -> str:
    words = SENTENCE.split(" ".join(text.split()))[0].split()
    return " ".join(words[:MAX_SENTENCE_WORDS])
