"""Reading the context of a row, and the order in which it is shown."""

from __future__ import annotations

import pytest

from data.rows.context import list_items
from data.rows.readers import PLACEHOLDER, RowError, parse_sample

ROW = {"focal_method": "int f() { return 1; }", "test_method": f"t() {{ {PLACEHOLDER} }}", "assertions": ["fail();"]}
WHOLE = {
    "siblings": [{"assertion": "fail(1);", "test_name": "a"}, {"assertion": "fail(2);"}],
    "fields": ["int x"],
    "locals": ["int y"],
    "members": ["int A.f()"],
    "doc": "Does it.",
    "style": ["org.junit.Assert"],
    "retrieved": [{"assertion": "fail(3);"}],
}


@pytest.mark.parametrize("absent", [{}, {"context": None}, {"context": {}}])
def test_a_row_without_context_has_an_empty_one(absent: dict) -> None:
    assert parse_sample({**ROW, **absent}).context == {}


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ([], "context is not an object"),
        ("text", "context is not an object"),
        ({"sibling": []}, "context: 'sibling' is not a part"),
        ({"siblings": "fail();"}, "context: siblings is not a list of objects"),
        ({"siblings": ["fail();"]}, "context: siblings is not a list of objects"),
        ({"retrieved": [{"test_name": "a"}]}, "context: retrieved has an entry without an assertion"),
        ({"siblings": [{"assertion": "fail();", "test_name": 3}]}, "context: siblings has an entry without an"),
        ({"fields": [1]}, "context: fields is not a list of texts"),
        ({"doc": ["a"]}, "context: doc is not a text"),
    ],
)
def test_a_context_of_another_form_is_a_bad_row_with_its_reason(context: object, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        parse_sample({**ROW, "context": context})


def test_the_most_useful_comes_first() -> None:
    context = parse_sample({**ROW, "context": WHOLE}).context
    every = list(WHOLE)
    assert [item[:2] for item in list_items(context, every)] == [
        ("style", "org.junit.Assert"),
        ("siblings", "fail(1); // a"),
        ("locals", "int y"),
        ("fields", "int x"),
        ("siblings", "fail(2);"),
        ("members", "int A.f()"),
        ("doc", "Does it."),
        ("retrieved", "fail(3);"),
    ]
    assert [item.assertion for item in list_items(context, ["siblings"])] == ["fail(1);", "fail(2);"]
    assert [item[:2] for item in list_items(context, ["doc", "fields"])] == [("fields", "int x"), ("doc", "Does it.")]


def test_what_stands_apart_comes_first_without_its_name() -> None:
    context = parse_sample({**ROW, "context": WHOLE}).context
    items = list_items(context, list(WHOLE), nearest_apart=True)
    assert [item[:2] for item in items[:3]] == [
        ("siblings", "fail(1);"),
        ("style", "org.junit.Assert"),
        ("locals", "int y"),
    ]
    assert [item.text for item in items[3:]] == ["int x", "fail(2);", "int A.f()", "Does it.", "fail(3);"]
    assert list_items(context, ["doc", "retrieved"], nearest_apart=True)[0].text == "fail(3);"
    assert [item.text for item in list_items(context, ["doc"], nearest_apart=True)] == ["Does it."]


def test_an_item_is_one_line() -> None:
    items = list_items({"doc": "Two\n  lines.", "fields": [" "]}, ["doc", "fields"])
    assert [item.text for item in items] == ["Two lines."]
