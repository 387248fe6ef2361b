"""Java as bytes and as a syntax tree. All positions are byte offsets into the original file."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

import tree_sitter_java
from tree_sitter import Language, Node, Parser

SUBSTITUTE = "\x1a"  # stands for each byte that is not UTF-8, so that positions stay those of the file
TYPE_DECLARATIONS = frozenset({"class_declaration", "interface_declaration", "enum_declaration", "record_declaration"})

codecs.register_error("java_substitute", lambda error: (SUBSTITUTE * (error.end - error.start), error.end))  # type: ignore[attr-defined,arg-type,return-value]


class UnreadableFile(Exception):
    """A source file that cannot be used; the message is a short reason."""


@lru_cache(maxsize=128)
def read_java(path: Path, max_bytes: int) -> bytes:
    """The file's bytes, length kept: a byte-order mark becomes blanks, a byte that is not UTF-8 ``SUBSTITUTE``."""
    if path.stat().st_size > max_bytes:
        raise UnreadableFile("file too large")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise UnreadableFile("file is not text")
    if raw.startswith(codecs.BOM_UTF8):
        raw = b"   " + raw[3:]
    return raw.decode("utf-8", "java_substitute").encode()


@lru_cache(maxsize=1)
def _get_parser() -> Parser:
    return Parser(Language(tree_sitter_java.language()))


def parse(source: bytes) -> Node:
    """The root of the syntax tree of a whole Java file."""
    return _get_parser().parse(source).root_node


def text_of(node: Node, source: bytes) -> str:
    return source[node.start_byte : node.end_byte].decode()


def field_text(node: Node, field: str, source: bytes) -> str:
    """The text of a named child, or the empty string."""
    child = node.child_by_field_name(field)
    return text_of(child, source) if child is not None else ""


def lines_of(node: Node) -> tuple[int, int]:
    """First and last line, counted from 1."""
    return node.start_point[0] + 1, node.end_point[0] + 1


def walk(node: Node, skip: Collection[str] = ()) -> Iterator[Node]:
    """Named nodes in source order, without nodes of the types in ``skip`` and what is inside of them."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        children = current.named_children[::-1]
        stack += [child for child in children if child.type not in skip] if skip else children


@lru_cache(maxsize=2)
def list_nodes(node: Node) -> tuple[Node, ...]:
    """All named nodes in source order. Those of the last nodes asked for are remembered: several readers of one test
    share a walk."""
    return tuple(walk(node))


def read_modifiers(node: Node, source: bytes) -> tuple[set[str], dict[str, str]]:
    """Keywords (``static``, ...) and annotations of a declaration: name as written -> whole text."""
    words: set[str] = set()
    annotations: dict[str, str] = {}
    for child in node.children:
        if child.type == "modifiers":
            for item in child.children:
                if item.type in ("annotation", "marker_annotation"):
                    annotations[field_text(item, "name", source)] = text_of(item, source)
                else:
                    words.add(item.type)
    return words, annotations


def type_name(node: Node | None, source: bytes) -> str:
    """A type without its arguments and annotations: ``Map.Entry<K, V>[]`` -> ``Map.Entry[]``."""
    if node is None:
        return ""
    if node.type == "generic_type":
        return type_name(node.named_children[0], source)
    if node.type == "array_type":
        element = type_name(node.child_by_field_name("element"), source)
        return element + "[]" * field_text(node, "dimensions", source).count("[")
    if node.type == "annotated_type":
        return type_name(node.named_children[-1], source)
    if node.type == "scoped_type_identifier":
        parts = (child for child in node.named_children if "annotation" not in child.type)
        return ".".join(type_name(part, source) for part in parts)
    return text_of(node, source)
