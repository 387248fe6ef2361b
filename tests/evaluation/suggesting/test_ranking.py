"""What the ranking looks at, told by hand for small tasks."""

from __future__ import annotations

import pytest

from data.rows.readers import Sample
from evaluation.suggesting.draft import Draft
from evaluation.suggesting.pool import make_pool
from evaluation.suggesting.ranking import Place, rank

TEST = "void testAddNot() { Cart cart = new Cart(); cart.add(3); <AssertPlaceHolder> assertNull(cart.owner()); }"
SIBLINGS = [
    {
        "test_name": "testAddTwice",
        "focal_name": "add",
        "assertion": "assertEquals(2, empty.size());",
        "locals": ["Cart empty"],
    },
    {"test_name": "testDrop", "focal_name": "drop", "assertion": "assertTrue(cart.drop(3));"},
    {"test_name": "testOther", "focal_name": "drop", "assertion": "assertTrue(cart.drop(3));"},
]
SAMPLE = Sample(
    TEST,
    "boolean add(int x) { return list.add(x); }",
    (),
    {"framework": "junit4", "focal_name": "add", "test_name": "testAddNot"},
    context={"locals": ["Cart cart"], "siblings": SIBLINGS},
)


def look(text: str, origins=()) -> dict[str, float]:
    return Place(SAMPLE).describe(Draft(text, origins))


def test_a_copy_is_known_by_its_sibling_also_behind_an_edited_one():
    pool = {draft.text: draft for draft in make_pool(SAMPLE)}
    renamed = Place(SAMPLE).describe(pool["assertEquals(2, cart.size());"])
    assert (renamed["nearest sibling"], renamed["edited"], renamed["sibling's method the same"]) == (1, 1, 1)
    assert renamed["sibling's name alike"] == pytest.approx(2 / 4)  # test, add; twice, not
    plain = Place(SAMPLE).describe(pool["assertTrue(cart.drop(3));"])
    assert (plain["nearest sibling"], plain["edited"], plain["sibling's method the same"]) == (0, 0, 0)
    assert plain["log votes of siblings"] > renamed["log votes of siblings"]
    about_this = Place(SAMPLE).describe(pool["assertTrue(cart.add(3));"])
    assert (about_this["edited"], about_this["calls the method"]) == (1, 1)


def test_what_a_text_names_is_looked_up_around_its_place():
    found = look("assertEquals(3, other.add(7));")
    assert (found["unknown names"], found["calls the method"], found["literals in the test"]) == (1, 1, 0.5)
    assert found["calls the method, as the last statement does"] == 1
    assert look("assertNull(cart.owner());")["stands behind the place"] == 1
    assert look("assertNull(cart.buyer());")["stands behind the place"] == 0


def test_the_name_of_a_test_tells_of_denial_and_failure():
    assert look("assertFalse(cart.isEmpty());")["denies, as the test's name does"] == 1
    assert look("assertTrue(cart.isEmpty());")["denies, as the test's name does"] == 0
    throwing = look("assertThrows(IllegalStateException.class, () -> cart.add(1));")
    assert (throwing["throws"], throwing["throws, as the test's name says"]) == (1, 0)


def test_a_candidate_that_the_test_asserts_already_comes_later():
    drafts = [
        Draft("assertNull(cart.owner());", (("sibling", 1),)),
        Draft("assertNull(cart.buyer());", (("sibling", 1),)),
    ]
    assert [draft.text for draft in rank(SAMPLE, drafts)][-1] == "assertNull(cart.owner());"


def test_a_task_without_context_is_ranked():
    bare = Sample("void t() { <AssertPlaceHolder> }", "", (), {})
    drafts = [Draft("assertTrue(y);", (("model", 2),), -90.0), Draft("assertTrue(x);", (("model", 3),), -0.5)]
    assert [draft.text for draft in rank(bare, drafts)] == ["assertTrue(x);", "assertTrue(y);"]


def test_a_row_may_hold_anything_as_its_origin():
    odd = Sample(TEST, "", (), {"test_name": None, "focal_name": 5}, context={"siblings": [{"assertion": "fail();"}]})
    assert Place(odd).describe(Draft("fail();", (("sibling", 1),)))["sibling's method the same"] == 0
