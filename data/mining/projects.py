"""The index of a project: classes, their methods, fields, inheritance and imports, and how a name is resolved."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePosixPath

from tree_sitter import Node

from data.java.frameworks import FRAMEWORKS
from data.java.syntax import TYPE_DECLARATIONS, field_text, lines_of, parse, read_modifiers, text_of, type_name, walk
from data.mining.variables import Field, read_fields

TEST_FOLDERS = frozenset({"test", "tests", "it", "testing", "androidTest", "testFixtures", "test-src"})
_SIMPLE_NAMES = {"Test"}.union(*(framework.other_annotations for framework in FRAMEWORKS.values()))
ANNOTATION = re.compile(r"@\w+(?:\.\w+)*(?:\([^()]*\))?")
ASSERTS = re.compile(rb"\b(?:assert[A-Z]\w*|fail|verify\w*)\s*\(|\bAssertionError\b|\bassert\s")
CALLED = re.compile(rb"(?<![.\w])([a-z]\w*)\s*\(")
FORWARDED = re.compile(rb"\{\s*(?:return\s+)?(?:[\w.]+\.)?(\w+)\s*\(\s*\w+(?:\s*,\s*\w+)*\s*\)\s*;\s*\}")
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
    """A method or constructor; ``span`` in bytes of ``file``, ``parameters`` are type names without arguments.

    ``generics``: the types as written, of the parameters and of what is returned, and the bound of each type variable.
    ``asserts``: of a method in the tests, whether its body asserts something; ``calls``: the names that it calls.
    """

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
    generics: tuple[tuple[str, ...], str, dict[str, str]] = ((), "", {})
    asserts: bool = False
    forwards: bool = False
    calls: frozenset[str] = frozenset()


@dataclass(frozen=True)
class JavaClass:
    """A class, interface, enum or record of the project; ``qualified`` joins package and nesting with dots.

    ``variables``: the bound of each type variable; ``parents`` and ``field_types``: types as written.
    """

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
    interface: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    field_types: dict[str, str] = field(default_factory=dict)

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


def _written_type(node: Node | None, source: bytes, dimensions: str = "") -> str:
    return " ".join(ANNOTATION.sub("", text_of(node, source)).split()) + dimensions if node is not None else ""


def read_variables(node: Node, source: bytes) -> dict[str, str]:
    """The type variables of a declaration, each with its first bound or the empty string."""
    parameters = node.child_by_field_name("type_parameters")
    found = {}
    for item in parameters.named_children if parameters is not None else ():
        if item.type == "type_parameter":
            names = [child for child in item.named_children if child.type == "type_identifier"]
            bound = item.named_children[-1]
            first = bound.named_children[0] if bound.type == "type_bound" else None
            found[text_of(names[0], source)] = _written_type(first, source) if names else ""
    return found


def _read_parameters(node: Node, source: bytes) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Names of the parameters' types, the types as written (``String...`` is ``String[]``), and if it is varargs."""
    names, written, varargs = [], [], False
    parameters = node.child_by_field_name("parameters")
    for child in parameters.named_children if parameters is not None else ():
        if child.type == "formal_parameter":
            declared, dimensions = child.child_by_field_name("type"), field_text(child, "dimensions", source)
            names.append(type_name(declared, source) + dimensions)
            written.append(_written_type(declared, source, dimensions))
        elif child.type == "spread_parameter":
            types = [item for item in child.named_children if item.type not in ("modifiers", "variable_declarator")]
            names.append(type_name(types[0], source) if types else "")
            written.append(_written_type(types[0] if types else None, source, "[]"))
            varargs = True
    return tuple(names), tuple(written), varargs


def _list_supertypes(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child.type == "superclass":
            yield child.named_children[-1]
        elif child.type in ("super_interfaces", "extends_interfaces"):
            for listed in child.named_children:
                yield from listed.named_children


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


def _read_method(node: Node, source: bytes, owner: str, file: str, in_tests: bool) -> Method:
    parameters, written, varargs = _read_parameters(node, source)
    constructor = node.type != "method_declaration"
    returned, dimensions = node.child_by_field_name("type"), field_text(node, "dimensions", source)
    words, _ = read_modifiers(node, source)
    body = node.child_by_field_name("body")
    text = source[body.start_byte : body.end_byte] if body is not None and in_tests else b""
    return Method(
        name=field_text(node, "name", source),
        owner=owner,
        file=file,
        parameters=parameters,
        varargs=varargs,
        returns=owner if constructor else type_name(returned, source) + dimensions,
        has_body=body is not None and not node.has_error,
        constructor=constructor,
        span=(node.start_byte, node.end_byte),
        lines=lines_of(node),
        static="static" in words,
        private="private" in words,
        generics=(written, _written_type(returned, source, dimensions), read_variables(node, source)),
        asserts=ASSERTS.search(text) is not None,
        forwards=_forwards(field_text(node, "name", source), text),
        calls=frozenset(name.decode() for name in CALLED.findall(text)),
    )


def _forwards(name: str, body: bytes) -> bool:
    """Whether a method only calls the assertion of its own name: ``return Assertions.assertThat(actual);``"""
    match = FORWARDED.fullmatch(body)
    return match is not None and match.group(1).decode() == name


def _list_components(node: Node, source: bytes, owner: str, file: str) -> Iterator[tuple[str, str, str, Method]]:
    """The fields of a record: name, type's name, type as written, and the accessor that need not be written down."""
    names, written, _ = _read_parameters(node, source)
    for item, name, full in zip(node.child_by_field_name("parameters").named_children, names, written, strict=False):  # type: ignore[union-attr]
        field_name = field_text(item, "name", source)
        place = (item.start_byte, item.end_byte)
        accessor = Method(
            field_name, owner, file, (), False, name, False, False, place, lines_of(item), generics=((), full, {})
        )
        yield field_name, name, full, accessor


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
        name = field_text(node, "name", source)
        fields, written, methods, accessors = {}, {}, [], []
        if node.type == "record_declaration":
            for item, of_type, full, accessor in _list_components(node, source, qualified, file):
                fields[item], written[item] = of_type, full
                accessors.append(accessor)
        members = list(list_members(node))
        for child in members:
            if child.type in ("field_declaration", "constant_declaration"):
                declared = child.child_by_field_name("type")
                for declarator in child.children_by_field_name("declarator"):
                    item = field_text(declarator, "name", source)
                    fields[item] = type_name(declared, source)
                    written[item] = _written_type(declared, source, field_text(declarator, "dimensions", source))
            elif child.type == "enum_constant":
                item = field_text(child, "name", source)
                fields[item] = written[item] = name
            elif child.type in ("method_declaration", "constructor_declaration"):
                methods.append(_read_method(child, source, qualified, file, in_tests))
        own = {method.name for method in methods if not method.parameters}
        methods += [accessor for accessor in accessors if accessor.name not in own]
        words, _ = read_modifiers(node, source)
        supertypes = tuple(type_name(item, source) for item in _list_supertypes(node))
        parents = tuple(_written_type(item, source) for item in _list_supertypes(node))
        implied = {"enum_declaration": f"java.lang.Enum<{name}>", "record_declaration": "java.lang.Record"}
        junit3 |= bool(supertypes) and any(method.name.startswith("test") for method in methods)
        classes.append(
            JavaClass(
                name=name,
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
                interface=node.type == "interface_declaration",
                variables=read_variables(node, source),
                parents=(*parents, implied[node.type]) if node.type in implied else parents,
                field_types=written,
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
        self._methods: dict[str, list[Method]] | None = None
        self._nearest_found: dict[tuple[str, str], JavaClass] = {}
        self._ancestors: dict[tuple[str, str], tuple[tuple[JavaClass, ...], frozenset[str]]] = {}

    @staticmethod
    def _nearest(found: list[JavaClass], near: str) -> JavaClass:
        """Several source trees may hold a class of the same name: the one that shares most of the path."""
        return max(found, key=lambda item: _count_shared_folders(item.file, near))

    def methods_named(self, name: str) -> tuple[Method, ...]:
        """The methods of that name in all classes that are not tests."""
        if self._methods is None:
            self._methods = defaultdict(list)
            for items in self._classes.values():
                for item in items:
                    for method in () if item.in_tests else item.methods:
                        self._methods[method.name].append(method)
        return tuple(self._methods.get(name, ()))

    def find(self, qualified: str, near: str) -> JavaClass | None:
        """The class of that qualified name, the one closest to the file ``near`` where there are several."""
        found = self._classes.get(qualified)
        if not found or len(found) == 1:
            return found[0] if found else None
        key = qualified, near
        if key not in self._nearest_found:
            self._nearest_found[key] = self._nearest(found, near)
        return self._nearest_found[key]

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
