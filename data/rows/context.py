"""What a developer sees beside the test: other assertions of the class, variables, signatures, documentation.

``data/mining/context.py`` makes it, ``data/rows/tokenization.py`` puts it into a model's input.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypedDict, cast

PARTS = ("style", "siblings", "locals", "fields", "members", "doc", "retrieved")
LINE_BREAK = re.compile(r"\s*\n\s*")


class Sibling(TypedDict, total=False):
    """An assertion of another test. ``assertion`` is always there."""

    test_class: str
    test_name: str
    focal_name: str
    assertion: str


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
        if not isinstance(item.get("assertion"), str) or not all(isinstance(text, str) for text in item.values()):
            raise ContextError(f"context: {part} has an entry without an assertion, or one that is not text")


def read_context(value: object) -> Context:
    """The context of a row, all of it checked; an absent one is empty. Raises ContextError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ContextError("context is not an object")
    for part, content in value.items():
        if part not in PARTS:
            raise ContextError(f"context: {part[:30]!r} is not a part; there are {', '.join(PARTS)}")
        if part in ("siblings", "retrieved"):
            _check_siblings(content, part)
        elif part != "doc":
            _check_texts(content, part)
        elif not isinstance(content, str):
            raise ContextError("context: doc is not a text")
    return cast(Context, value)


def _show_sibling(sibling: Sibling) -> str:
    """The assertion first, as in a target, so that it can be copied; behind it whose it is."""
    name = sibling.get("test_name")
    return f"{sibling['assertion']} // {name}" if name else sibling["assertion"]


def list_items(context: Context, parts: Collection[str]) -> list[tuple[str, str]]:
    """(part, text of one line) of the wanted parts, the most useful first: what does not fit is left out from the end.

    The nearest sibling comes before the variables, the other siblings after them.
    """
    texts: dict[str, list[str]] = {
        "style": context.get("style", []),
        "siblings": [_show_sibling(item) for item in context.get("siblings", [])],
        "locals": context.get("locals", []),
        "fields": context.get("fields", []),
        "members": context.get("members", []),
        "doc": [context["doc"]] if "doc" in context else [],
        "retrieved": [_show_sibling(item) for item in context.get("retrieved", [])],
    }
    others = texts["siblings"][1:]
    texts["siblings"] = texts["siblings"][:1]
    order = [(part, text) for part in ("style", "siblings", "locals", "fields") for text in texts[part]]
    order += [("siblings", text) for text in others]
    order += [(part, text) for part in ("members", "doc", "retrieved") for text in texts[part]]
    return [(part, LINE_BREAK.sub(" ", text).strip()) for part, text in order if part in parts and text.strip()]
