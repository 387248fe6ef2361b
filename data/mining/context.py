"""What stands around a test, for the miner and for suggestions: variables, signatures, documentation, style.

The assertions of other tests are added by ``data/mining/siblings.py``, once all tests are known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice

from tree_sitter import Node

from data.java.frameworks import ASSERTION_CLASSES
from data.java.syntax import UnreadableFile, text_of
from data.mining.find_tests import TestMethod
from data.mining.focal import FocalFinder
from data.mining.projects import JavaClass, Method, Project
from data.mining.variables import Field, find_locals, locals_at
from data.rows.context import Context

MAX_LOCALS, MAX_FIELDS, MAX_MEMBERS, MAX_MEMBERS_OF_TYPE, MAX_STYLE = 12, 12, 16, 6, 4
MAX_SENTENCE_WORDS = 30
WORD = re.compile(r"[A-Za-z_$][\w$]*")
WORD_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
# Any object has them, so they tell nothing.
OF_ANY_OBJECT = frozenset({"hashCode", "equals", "toString", "clone", "compareTo", "finalize"})
STYLE_CLASSES = ASSERTION_CLASSES | {"Mockito", "BDDMockito", "BDDAssertions", "EasyMock", "AssertJUnit"}
STYLE_CLASS = re.compile(r"Assert|Matcher|Mockito|EasyMock|Truth|TestCase$")
TAG_LINE = re.compile(r"^@(\w+)\s*", re.MULTILINE)
INLINE_TAG = re.compile(r"\{@\w+\s*([^{}]*)\}")
MARKUP = re.compile(r"<[^<>]{1,60}>")
SENTENCE = re.compile(r"(?<=[.!?])\s")

ReadFile = Callable[
    [str], bytes
]  # the bytes of a file of the project; OSError or UnreadableFile where it cannot be read


class ContextBuilder:
    """Describes the surroundings of tests of one project. It remembers what it found, so keep it for many tests."""

    def __init__(self, project: Project, read: ReadFile) -> None:
        self.project = project
        self.read = read
        self._fields: dict[tuple[str, str], list[tuple[Field, JavaClass]]] = {}
        self._style: dict[tuple[str, str], list[str]] = {}
        self._callable: dict[tuple[str, str, bool], list[Method]] = {}
        self._documentation: dict[tuple[str, tuple[int, int]], str] = {}
        self._resolved: dict[tuple[str, str, str], JavaClass | None] = {}
        self._last: _LastTest | None = None  # which may hold many tasks

    def describe(
        self, finder: FocalFinder, test: TestMethod, source: bytes, place: tuple[int, int], method: Method
    ) -> Context:
        """The parts that need no other test, at the bytes ``place`` of the test's file, for the focal ``method``.

        What stands in ``place`` (the answer of a task) has no influence. Empty parts are left out. The order follows
        from the sources alone.
        """
        if self._last is None or self._last.test is not test:
            self._last = _LastTest(test, source)
        mentioned = self._last.list_words_without(source[slice(*place)])
        variables = locals_at(self._last.variables, place[0], partial(_name_type, finder))
        owner, holder = test.owner, self.project.find(method.owner, method.file)
        fields = [found for found in self._visible_fields(owner) if found[0].name not in variables]
        fields.sort(key=lambda found: found[0].name not in mentioned)
        written = [(text, owner) for text in variables.values()]
        if holder is not None:
            written.append((f"{holder.name} {method.returns}", holder))
        written += [(field.text.partition("=")[0], scope) for field, scope in fields if field.name in mentioned]
        context: Context = {
            "fields": [field.text for field, _ in fields[:MAX_FIELDS]],
            "locals": list(variables.values())[:MAX_LOCALS],
            "members": self._describe_members(owner, written, mentioned, self._last),
            "doc": self._describe_method(method),
            "style": self._find_style(owner),
        }
        return {part: content for part, content in context.items() if content}  # type: ignore[return-value]

    def _visible_fields(self, owner: JavaClass) -> list[tuple[Field, JavaClass]]:
        """The fields that code of ``owner`` can name, and whose they are: its own, inherited ones, then those of the
        classes around it."""
        key = owner.qualified, owner.file
        if key not in self._fields:
            found: dict[str, tuple[Field, JavaClass]] = {}
            for scope in self.project.enclosing(owner):
                for holder in self.project.ancestors(scope)[0]:
                    for field in holder.field_texts:
                        if holder is scope or not field.private:
                            found.setdefault(field.name, (field, holder))
            self._fields[key] = list(found.values())
        return self._fields[key]

    def _list_callable(self, item: JavaClass, own: bool) -> list[Method]:
        """The methods of a class that an assertion can use, inherited ones included; ``own``: private ones, too."""
        key = item.qualified, item.file, own
        if key not in self._callable:
            found = {
                (method.name, method.parameters): method
                for holder in reversed(self.project.ancestors(item)[0])  # what overrides replaces what is overridden
                for method in holder.methods
                if not method.constructor
                and method.returns != "void"
                and method.name not in OF_ANY_OBJECT
                and (own or not method.private)
            }
            self._callable[key] = list(found.values())
        return self._callable[key]

    def _resolve(self, name: str, scope: JavaClass) -> JavaClass | None:
        key = name, scope.qualified, scope.file
        if key not in self._resolved:
            self._resolved[key] = self.project.resolve(name, scope)
        return self._resolved[key]

    def _describe_members(
        self, owner: JavaClass, written: list[tuple[str, JavaClass]], mentioned: Set[str], last: _LastTest
    ) -> list[str]:
        """Signatures of what an assertion may call: methods of the types in play, and the test class's own helpers.

        ``written``: texts that name the types, with the class in whose scope they stand. Within a type those that the
        test mentions come first, then those that share most words with its name, then those of few parameters.
        """
        types: dict[str, JavaClass] = {}
        for text, scope in written:
            for name in WORD.findall(text):
                if name[0].isupper() and (found := self._resolve(name, scope)) is not None:
                    types.setdefault(found.qualified, found)
        texts: dict[str, None] = {}
        for item in [*types.values(), owner]:
            key = item.qualified, item.file, item is owner
            if key not in last.ranked:
                last.ranked[key] = last.rank(self._list_callable(item, item is owner))
            methods = last.ranked[key]
            first = [method for method in methods if method.name in mentioned][:MAX_MEMBERS_OF_TYPE]
            others = (method for method in methods if method.name not in mentioned)
            for method in (*first, *islice(others, MAX_MEMBERS_OF_TYPE - len(first))):
                texts[_show_method(method, "" if item is owner else f"{item.name}.")] = None
        return list(texts)[:MAX_MEMBERS]

    def _find_style(self, owner: JavaClass) -> list[str]:
        """Whose assertions are imported, by the class's file, else by that of the nearest base class."""
        key = owner.qualified, owner.file
        if key not in self._style:
            found = (_read_style(item.imports.lines) for item in self.project.ancestors(owner)[0])
            self._style[key] = next(filter(None, found), [])
        return self._style[key]

    def _describe_method(self, method: Method) -> str:
        """First sentence, ``@return`` and ``@throws`` of the Javadoc of a method, else of what it overrides."""
        key = method.file, method.span
        if key not in self._documentation:
            found = (self._read_javadoc(item) for item in self._list_declarations(method))
            self._documentation[key] = next(filter(None, found), "")
        return self._documentation[key]

    def _list_declarations(self, method: Method) -> Iterator[Method]:
        """The method, then what it overrides, nearest first."""
        yield method
        owner = self.project.find(method.owner, method.file)
        for holder in self.project.ancestors(owner)[0][1:] if owner is not None else ():
            same = [m for m in holder.methods if (m.name, len(m.parameters)) == (method.name, len(method.parameters))]
            yield from [m for m in same if m.parameters == method.parameters] or same[:1]

    def _read_javadoc(self, method: Method) -> str:
        with suppress(OSError, UnreadableFile):
            before = self.read(method.file)[: method.span[0]].rstrip()
            start = before.rfind(b"/**")
            if before.endswith(b"*/") and start >= 0 and b"*/" not in before[start:-2]:
                return _shorten_javadoc(before[start + 3 : -2].decode())
        return ""


class _LastTest:
    """What the tasks of one test share."""

    def __init__(self, test: TestMethod, source: bytes) -> None:
        self.test = test
        self.variables = find_locals(test.node, source)
        self.ranked: dict[tuple[str, str, bool], list[Method]] = {}
        self._words = Counter(WORD.findall(text_of(test.node, source)))
        self._name = _split_words(test.name)

    def list_words_without(self, part: bytes) -> Set[str]:
        """The words of the test that stand elsewhere than in this part of it."""
        inside = Counter(WORD.findall(part.decode()))
        return self._words.keys() - {word for word, times in inside.items() if times == self._words[word]}

    def rank(self, methods: Sequence[Method]) -> list[Method]:
        """Those that share most words with the test's name first, then those of few parameters."""
        keys = [(-len(self._name & _split_words(method.name)), len(method.parameters)) for method in methods]
        return [methods[i] for i in sorted(range(len(methods)), key=keys.__getitem__)]


def _name_type(finder: FocalFinder, node: Node) -> str:
    found = finder.type_of(node)
    return found.name if found is not None and WORD.match(found.name) else ""


@lru_cache(1 << 14)
def _split_words(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in WORD_PART.findall(name))


def _show_method(method: Method, holder: str) -> str:
    parameters = ", ".join(method.parameters) + ("..." if method.varargs else "")
    return f"{'static ' if method.static else ''}{method.returns} {holder}{method.name}({parameters})"


def _read_style(lines: Iterable[str]) -> list[str]:
    """``static org.junit.Assert`` where methods of it are imported, ``org.junit.Assert`` where it is itself."""
    found: dict[str, None] = {}
    for line in lines:
        name = line.removeprefix("static ").removesuffix(".*")
        if line == name:
            if name.rpartition(".")[2] in STYLE_CLASSES:
                found[name] = None
        elif line.startswith("static "):
            holder = name if line.endswith(".*") else name.rpartition(".")[0]
            if STYLE_CLASS.search(holder):
                found[f"static {holder}"] = None
    return list(found)[:MAX_STYLE]


def _shorten_javadoc(text: str) -> str:
    lines = (line.strip().lstrip("*").strip() for line in text.splitlines())
    head, *tagged = TAG_LINE.split(MARKUP.sub(" ", INLINE_TAG.sub(r"\1", "\n".join(lines))))
    parts = [_first_sentence(head)]
    for tag, content in zip(tagged[::2], tagged[1::2], strict=True):
        if tag in ("return", "throws", "exception") and (sentence := _first_sentence(content)):
            parts.append(f"@{'throws' if tag == 'exception' else tag} {sentence}")
    return " ".join(part for part in parts if part)


def _first_sentence(text: str) -> str:
    words = SENTENCE.split(" ".join(text.split()))[0].split()
    return " ".join(words[:MAX_SENTENCE_WORDS])
