"""The index of a project: classes, their methods, fields, inheritance and imports, and how a name is resolved."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from tree_sitter import Node

from data.java.frameworks import FRAMEWORKS
from data.java.syntax import TYPE_DECLARATIONS, field_text, lines_of, parse, read_modifiers, text_of, type_name, walk
from data.mining.variables import Field, read_fields

TEST_FOLDERS = frozenset({"test", "tests", "it", "testing", "androidTest", "testFixtures", "test-src"})
_SIMPLE_NAMES = {"Test"}.union(*(framework.other_annotations for framework in FRAMEWORKS.values()))
TEST_ANNOTATION = re.compile(rf"@(?:[\w.]+\.)?(?:{'|'.join(sorted(_SIMPLE_NAMES))})\b".encode())


@dataclass(frozen=True)
class Imports:
    """A compilation unit's package and imports; ``lines`` as written, without ``import`` and ``;``."""

    package: str
    single: dict[str, str]
    star: tuple[str, ...]
    static_single: dict[str, tuple[str, ...]]
    static_star: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """A method or constructor; ``span`` in bytes of ``file``, ``parameters`` are type names without arguments."""

    name: str
    owner: str
    file: str
    parameters: tuple[str, ...]
    varargs: bool
    returns: str
    has_body: bool
    constructor: bool
    span: tuple[int, int]
    lines: tuple[int, int]
    static: bool = False
    private: bool = False


@dataclass(frozen=True)
class JavaClass:
    """A class, interface, enum or record of the project; ``qualified`` joins package and nesting with dots."""

    name: str
    qualified: str
    file: str
    outer: str
    supertypes: tuple[str, ...]
    fields: dict[str, str]
    methods: tuple[Method, ...]
    abstract: bool
    in_tests: bool
    imports: Imports
    field_texts: tuple[Field, ...] = ()

    @property
    def nesting(self) -> list[str]:
        """Simple names from the outermost type to this one."""
        package = self.imports.package
        return self.qualified[len(package) + 1 if package else 0 :].split(".")

    def _in_package(self, name: str) -> str:
        return f"{self.imports.package}.{name}" if self.imports.package else name

    @property
    def outermost(self) -> str:
        return self._in_package(self.nesting[0])

    @property
    def binary_name(self) -> str:
        """The name that the JVM loads it by: ``org.example.FooTest$WhenEmpty``."""
        return self._in_package("$".join(self.nesting))


@dataclass(frozen=True)
class FileIndex:
    """What the first pass learns of a file."""

    file: str
    classes: tuple[JavaClass, ...]
    may_hold_tests: bool


def package_of(root: Node, source: bytes) -> str:
    """The package of a compilation unit, or the empty string."""
    declared = (node for node in root.named_children if node.type == "package_declaration")
    return next((text_of(node.named_children[-1], source) for node in declared), "")


def _read_imports(root: Node, source: bytes) -> Imports:
    single: dict[str, str] = {}
    star: list[str] = []
    static_single: dict[str, tuple[str, ...]] = {}
    static_star: list[str] = []
    lines: list[str] = []
    for node in root.named_children:
        if node.type == "import_declaration":
            names = [child for child in node.named_children if child.type in ("scoped_identifier", "identifier")]
            if not names:
                continue
            name = "".join(text_of(names[0], source).split())
            starred = any(child.type == "asterisk" for child in node.children)
            static = any(child.type == "static" for child in node.children)
            owner, _, last = name.rpartition(".")
            lines.append(("static " if static else "") + name + (".*" if starred else ""))
            if static and starred:
                static_star.append(name)
            elif static:
                static_single[last] = (*static_single.get(last, ()), owner)
            elif starred:
                star.append(name)
            else:
                single[last] = name
    return Imports(package_of(root, source), single, tuple(star), static_single, tuple(static_star), tuple(lines))


def _read_parameters(node: Node, source: bytes) -> tuple[tuple[str, ...], bool]:
    names, varargs = [], False
    parameters = node.child_by_field_name("parameters")
    for child in parameters.named_children if parameters is not None else ():
        if child.type == "formal_parameter":
            names.append(type_name(child.child_by_field_name("type"), source))
        elif child.type == "spread_parameter":
            types = [item for item in child.named_children if item.type not in ("modifiers", "variable_declarator")]
            names.append(type_name(types[0], source) if types else "")
            varargs = True
    return tuple(names), varargs


def _read_supertypes(node: Node, source: bytes) -> tuple[str, ...]:
    names = []
    for child in node.children:
        if child.type == "superclass":
            names.append(type_name(child.named_children[-1], source))
        elif child.type in ("super_interfaces", "extends_interfaces"):
            names += [type_name(item, source) for listed in child.named_children for item in listed.named_children]
    return tuple(names)


def _count_shared_folders(left: str, right: str) -> int:
    pairs = zip(left.split("/"), right.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def list_members(node: Node) -> Iterator[Node]:
    """The declarations in the body of a type."""
    body = node.child_by_field_name("body")
    for child in body.named_children if body is not None else ():
        if child.type == "enum_body_declarations":
            yield from child.named_children
        else:
            yield child


def walk_types(root: Node, source: bytes, package: str) -> Iterator[tuple[Node, str, str]]:
    """(node, qualified name, qualified name of the enclosing type or "") of the top-level and nested types."""
    pending = [(node, package, "") for node in root.named_children if node.type in TYPE_DECLARATIONS]
    while pending:
        node, prefix, outer = pending.pop(0)
        name = field_text(node, "name", source)
        qualified = f"{prefix}.{name}" if prefix else name
        yield node, qualified, outer
        pending += [(child, qualified, qualified) for child in list_members(node) if child.type in TYPE_DECLARATIONS]


def _read_method(node: Node, source: bytes, owner: str, file: str) -> Method:
    parameters, varargs = _read_parameters(node, source)
    constructor = node.type != "method_declaration"
    words, _ = read_modifiers(node, source)
    return Method(
        name=field_text(node, "name", source),
        owner=owner,
        file=file,
        parameters=parameters,
        varargs=varargs,
        returns=owner if constructor else type_name(node.child_by_field_name("type"), source),
        has_body=node.child_by_field_name("body") is not None and not node.has_error,
        constructor=constructor,
        span=(node.start_byte, node.end_byte),
        lines=lines_of(node),
        static="static" in words,
        private="private" in words,
    )


def index_file(file: str, source: bytes) -> FileIndex:
    """First pass over one file; ``file`` is relative to the project's root."""
    root = parse(source)
    imports = _read_imports(root, source)
    folders = PurePosixPath(file).parts[:-1]
    package_depth = len(imports.package.split(".")) if imports.package else 0
    # The search through the text is cheap; the walk through the tree knows what stands in a comment.
    annotated = TEST_ANNOTATION.search(source) is not None and any(
        node.type.endswith("annotation") and TEST_ANNOTATION.match(source, node.start_byte) for node in walk(root)
    )
    in_tests = annotated or bool(TEST_FOLDERS.intersection(folders[: len(folders) - package_depth]))
    classes, junit3 = [], False
    for node, qualified, outer in walk_types(root, source, imports.package):
        fields, methods = {}, []
        members = list(list_members(node))
        for child in members:
            if child.type in ("field_declaration", "constant_declaration"):
                name = type_name(child.child_by_field_name("type"), source)
                for declarator in child.children_by_field_name("declarator"):
                    fields[field_text(declarator, "name", source)] = name
            elif child.type in ("method_declaration", "constructor_declaration"):
                methods.append(_read_method(child, source, qualified, file))
        words, _ = read_modifiers(node, source)
        supertypes = _read_supertypes(node, source)
        junit3 |= bool(supertypes) and any(method.name.startswith("test") for method in methods)
        classes.append(
            JavaClass(
                name=field_text(node, "name", source),
                qualified=qualified,
                file=file,
                outer=outer,
                supertypes=supertypes,
                fields=fields,
                methods=tuple(methods),
                abstract="abstract" in words or node.type == "interface_declaration",
                in_tests=in_tests,
                imports=imports,
                field_texts=read_fields(members, source),
            )
        )
    return FileIndex(file, tuple(classes), annotated or junit3)


class Project:
    """Answers questions over the index of one project; a name that leads outside of it resolves to None."""

    def __init__(self, name: str, files: Iterable[FileIndex]) -> None:
        self.name = name
        self._classes: dict[str, list[JavaClass]] = defaultdict(list)
        self._simple: dict[str, list[JavaClass]] = defaultdict(list)
        for index in files:
            for item in index.classes:
                self._classes[item.qualified].append(item)
                self._simple[item.name].append(item)
        self._ancestors: dict[tuple[str, str], tuple[tuple[JavaClass, ...], frozenset[str]]] = {}

    @staticmethod
    def _nearest(found: list[JavaClass], near: str) -> JavaClass:
        """Several source trees may hold a class of the same name: the one that shares most of the path."""
        return max(found, key=lambda item: _count_shared_folders(item.file, near))

    def find(self, qualified: str, near: str) -> JavaClass | None:
        """The class of that qualified name, the one closest to the file ``near`` where there are several."""
        found = self._classes.get(qualified)
        return self._nearest(found, near) if found else None

    def named(self, simple: str, near: JavaClass) -> JavaClass | None:
        """A class by simple name, as a test's name refers to it: same package, then imported, then the only one."""
        found = [item for item in self._simple.get(simple, ()) if not item.in_tests]
        package = near.imports.package
        same = [item for item in found if item.imports.package == package]
        imported = [item for item in found if item.qualified == near.imports.single.get(simple)]
        if same or imported:
            return self._nearest(same or imported, near.file)
        return found[0] if len({item.qualified for item in found}) == 1 else None

    def resolve(self, name: str, scope: JavaClass) -> JavaClass | None:
        """The class that a type name, as written inside ``scope``, stands for."""
        head, _, rest = name.partition(".")
        found = self._resolve_head(head, scope)
        if found is None:
            return self.find(name, scope.file) if rest else None
        return self.find(f"{found.qualified}.{rest}", scope.file) if rest else found

    def _resolve_head(self, head: str, scope: JavaClass) -> JavaClass | None:
        enclosing: JavaClass | None = scope
        while enclosing is not None:
            if enclosing.name == head:
                return enclosing
            if (nested := self.find(f"{enclosing.qualified}.{head}", scope.file)) is not None:
                return nested
            enclosing = self.find(enclosing.outer, scope.file) if enclosing.outer else None
        imports = scope.imports
        if head in imports.single:
            return self.find(imports.single[head], scope.file)
        for package in (imports.package, *imports.star):
            if (found := self.find(f"{package}.{head}" if package else head, scope.file)) is not None:
                return found
        return None

    def ancestors(self, item: JavaClass) -> tuple[tuple[JavaClass, ...], frozenset[str]]:
        """``item`` and its supertypes in the project, nearest first, and the names that lead outside of it."""
        key = (item.qualified, item.file)
        if key not in self._ancestors:
            found: list[JavaClass] = []
            outside: set[str] = set()
            pending = [item]
            seen = {item.qualified}
            while pending:
                current = pending.pop(0)
                found.append(current)
                for name in current.supertypes:
                    # A class is not in scope of its own header: `class Foo extends other.Foo` means the other.
                    parent = self.resolve(name, current)
                    if parent is None:
                        outside.add(name.rpartition(".")[2])
                    elif parent.qualified not in seen:
                        seen.add(parent.qualified)
                        pending.append(parent)
            self._ancestors[key] = tuple(found), frozenset(outside)
        return self._ancestors[key]

    def enclosing(self, item: JavaClass) -> Iterator[JavaClass]:
        """``item`` and the types around it, innermost first."""
        current: JavaClass | None = item
        while current is not None:
            yield current
            current = self.find(current.outer, current.file) if current.outer else None

    def extends(self, item: JavaClass, other: JavaClass) -> bool:
        return any(ancestor.qualified == other.qualified for ancestor in self.ancestors(item)[0])
