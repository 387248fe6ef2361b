"""What a developer sees beside the test: other assertions of the class, variables, signatures, documentation.

``data/mining/context.py`` makes it, ``data/rows/tokenization.py`` puts it into a model's input.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple, TypedDict, cast

from config.defaults import CONTEXT_PARTS

LINE_BREAK = re.compile(r"\s*\n\s*")


class Sibling(TypedDict, total=False):
    """An assertion of another test. ``assertion`` is always there; ``locals``: the variables of its test in it."""

    test_class: str
    test_name: str
    focal_name: str
    assertion: str
    locals: list[str]


class Context(TypedDict, total=False):
    """Each part is nearest first. ``retrieved`` holds assertions of other classes, for a task without siblings."""

    siblings: list[Sibling]
    fields: list[str]
    locals: list[str]
    members: list[str]
    doc: str
    style: list[str]
    retrieved: list[Sibling]


class ContextError(ValueError):
    """A context that is not of this form; the message is a short reason."""


def _check_texts(value: object, part: str) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ContextError(f"context: {part} is not a list of texts")


def _check_siblings(value: object, part: str) -> None:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ContextError(f"context: {part} is not a list of objects")
    for item in value:
        texts = [text for key, text in item.items() if key != "locals"]
        if not isinstance(item.get("assertion"), str) or not all(isinstance(text, str) for text in texts):
            raise ContextError(f"context: {part} has an entry without an assertion, or one that is not text")
        _check_texts(item.get("locals", []), f"locals of {part}")


def read_context(value: object) -> Context:
    """The context of a row, all of it checked; an absent one is empty. Raises ContextError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ContextError("context is not an object")
    for part, content in value.items():
        if part not in CONTEXT_PARTS:
            raise ContextError(f"context: {part[:30]!r} is not a part; there are {', '.join(CONTEXT_PARTS)}")
        if part in ("siblings", "retrieved"):
            _check_siblings(content, part)
        elif part != "doc":
            _check_texts(content, part)
        elif not isinstance(content, str):
            raise ContextError("context: doc is not a text")
    return cast(Context, value)


def split_declaration(declared: str) -> tuple[str, str]:
    """``List<String> names = new ArrayList<>()`` -> (``List<String>``, ``names``). The type is empty where none is
    written."""
    written, _, name = declared.partition("=")[0].strip().rpartition(" ")
    return written, name


def _show_sibling(sibling: Sibling) -> str:
    """The assertion first, as in a target, so that it can be copied; behind it whose it is."""
    name = sibling.get("test_name")
    return f"{sibling['assertion']} // {name}" if name else sibling["assertion"]


class ContextItem(NamedTuple):
    """A line of a rendered context; ``assertion``: what another test asserts, where the line shows that."""

    part: str
    text: str
    assertion: str = ""


def list_items(context: Context, parts: Collection[str], nearest_apart: bool = False) -> list[ContextItem]:
    """The lines of the wanted parts, the most useful first: what does not fit is left out from the end.

    The nearest sibling comes before the variables, the other siblings after them. ``nearest_apart``: its assertion
    alone, or without siblings that of the nearest retrieved one, comes first.
    """
    of_parts: dict[str, list[ContextItem]] = {
        "siblings": [ContextItem("siblings", _show_sibling(s), s["assertion"]) for s in context.get("siblings", [])],
        "retrieved": [ContextItem("retrieved", _show_sibling(s), s["assertion"]) for s in context.get("retrieved", [])],
        "style": [ContextItem("style", text) for text in context.get("style", [])],
        "locals": [ContextItem("locals", text) for text in context.get("locals", [])],
        "fields": [ContextItem("fields", text) for text in context.get("fields", [])],
        "members": [ContextItem("members", text) for text in context.get("members", [])],
        "doc": [ContextItem("doc", context.get("doc", ""))],
    }
    nearest, others = of_parts["siblings"][:1], of_parts["siblings"][1:]
    order = [*of_parts["style"], *nearest, *of_parts["locals"], *of_parts["fields"], *others]
    order += [*of_parts["members"], *of_parts["doc"], *of_parts["retrieved"]]
    shown = [item for item in order if item.part in parts and item.text.strip()]
    if nearest_apart and (first := next((item for item in shown if item.assertion), None)):
        shown = [first._replace(text=first.assertion), *(item for item in shown if item is not first)]
    return [ContextItem(item.part, _on_one_line(item.text), item.assertion) for item in shown]


def _on_one_line(text: str) -> str:
    return (LINE_BREAK.sub(" ", text) if "\n" in text else text).strip()
