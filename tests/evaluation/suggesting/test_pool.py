"""The pool of candidates: beams, copies, templates; what is the same, what comes first."""

from __future__ import annotations

from data.rows.readers import Sample
from evaluation.suggesting.pool import fill_pools, make_pool, write_around
from evaluation.suggesting.ranking import WEIGHTS, Place
from evaluation.suggesting.templates import write_templates

FOCAL = "public int total() { return total; }"
SOURCE = {"framework": "junit4", "focal_class": "shop.Cart", "focal_name": "total", "test_name": "testTotal"}


def make_sample(test="void testTotal() { Cart cart = new Cart(); cart.add(3); <AssertPlaceHolder> }", **changes):
    context = {
        "locals": ["Cart cart"],
        "siblings": [
            {"focal_name": "total", "assertion": "assertEquals(0, empty.total());", "locals": ["Cart empty"]},
            {"focal_name": "count", "assertion": "assertEquals(1, cart.count());"},
        ],
    }
    return Sample(
        test, changes.pop("focal", FOCAL), (), {**SOURCE, **changes.pop("source", {})}, context={**context, **changes}
    )


def test_beams_copies_and_templates_are_joined_without_repetition():
    pool = make_pool(make_sample(), ["assertEquals(0,  cart.total())", "assertTrue(", "assertNull(cart);"])
    assert [(draft.text, draft.origins) for draft in pool] == [
        ("assertEquals(0, cart.total());", (("model", 1), ("sibling", 1), ("template", 2))),  # the same but for a blank
        ("assertNull(cart);", (("model", 3),)),  # what is no Java is left out
        ("assertEquals(1, cart.count());", (("sibling", 2),)),
        ("assertEquals(1, cart.total());", (("sibling", 3), ("template", 3))),  # the sibling's, about this method
        ("assertEquals(3, cart.total());", (("template", 1),)),
    ]


def test_without_copies_only_the_model_is_heard():
    assert [draft.text for draft in make_pool(make_sample(), ["assertNull(cart);"], copies=False)] == [
        "assertNull(cart);"
    ]


class Likes:
    """A student that writes nothing of use and finds one text likely."""

    def __init__(self, text):
        self.text = text

    def write(self, samples, scopes=()):
        return [["assertNull(other);"] for _ in samples]

    def score(self, samples, texts):
        return [[0.0 if text == self.text else -50.0 for text in found] for found in texts]


def test_what_the_student_finds_likely_moves_up():
    liked = "assertEquals(3, cart.total());"
    (pool,) = fill_pools([make_sample()], Likes(liked))
    (without,) = fill_pools([make_sample()], Likes("nothing of these"))
    places = [[draft.text for draft in drafts].index(liked) for drafts in (pool, without)]
    assert places[0] < places[1]
    assert pool[-1].text == "assertNull(other);"  # a variable that does not exist


def test_without_a_student_the_nearest_copy_comes_first():
    (pool,) = fill_pools([make_sample()], None)
    assert pool[0].text == "assertEquals(0, cart.total());"


def test_what_cannot_compile_as_far_as_the_context_tells_comes_last():
    wrong, right = "assertTrue(cart.total());", "assertEquals(0, cart.total());"
    siblings = [{"focal_name": "total", "assertion": text} for text in (wrong, right)]
    for members, place in ((["boolean Cart.total()"], 0), (["int Cart.total()"], -1)):
        sample = make_sample(siblings=siblings, members=members)
        (nearest,) = fill_pools([sample], None)
        (ranked,) = fill_pools([sample], Likes(wrong))
        assert nearest[place].text == wrong == write_around(sample)[place]
        assert (ranked[0].text == wrong) == (place == 0)


def test_features_have_the_names_of_the_weights():
    sample = make_sample()
    draft = make_pool(sample)[0]
    assert list(Place(sample).describe(draft)) == list(WEIGHTS)


def test_templates_compare_a_getter_with_the_literals_of_the_test():
    name = 'void testName() { Cart cart = new Cart("a"); cart.rename("b"); <AssertPlaceHolder> }'
    focal = "String name() { return name; }"
    sample = make_sample(name, focal=focal, source={"focal_name": "name"})
    assert write_templates(sample) == [
        'assertEquals("b", cart.name());',
        'assertEquals("a", cart.name());',
        "assertFalse(cart.name().isEmpty());",
        "assertTrue(cart.name().isEmpty());",
        "assertNotNull(cart.name());",
        "assertNull(cart.name());",
    ]


def test_templates_take_the_variable_that_holds_the_result():
    test = "void testEmpty() { Cart cart = new Cart(); boolean empty = cart.isEmpty(2); <AssertPlaceHolder> }"
    sample = make_sample(test, focal="boolean isEmpty(int x) { return true; }", source={"focal_name": "isEmpty"})
    assert write_templates(sample) == ["assertTrue(empty);", "assertFalse(empty);"]


def test_templates_compare_the_result_with_variables_of_its_type():
    test = "void testCopy() { byte[] given = {1}; byte[] copy = cart.copy(given); <AssertPlaceHolder> }"
    sample = make_sample(
        test,
        focal="byte[] copy(byte[] x) { return x; }",
        source={"focal_name": "copy"},
        locals=["byte[] copy", "byte[] given"],
    )
    assert write_templates(sample)[:3] == [
        "assertArrayEquals(given, copy);",
        "assertTrue(copy.length > 0);",
        "assertEquals(0, copy.length);",
    ]


def test_templates_call_a_method_with_the_variables_that_fit():
    test = 'void testHas() { Cart cart = new Cart(); String name = "a"; int price = 3; <AssertPlaceHolder> }'
    has = {"focal": "boolean has(Object what) { return true; }", "source": {"focal_name": "has"}}
    found = write_templates(make_sample(test, locals=["int price", "String name", "Cart cart"], **has))
    assert found[:2] == ["assertTrue(cart.has(name));", "assertFalse(cart.has(name));"]
    found = write_templates(make_sample(test, locals=["int price", "Cart cart"], **has))
    assert not any("has(" in text for text in found)  # nothing fits


def test_templates_look_at_the_state_that_a_method_has_changed():
    changes = {
        "focal": "void clear() { }",
        "source": {"focal_name": "clear"},
        "members": ["int Cart.total()", "int Cart.priceOf(String)", "boolean Cart.isEmpty()", "int Shop.size()"],
    }
    assert write_templates(make_sample(**changes)) == [
        "assertEquals(3, cart.total());",
        "assertEquals(0, cart.total());",
        "assertEquals(1, cart.total());",
        "assertTrue(cart.isEmpty());",
        "assertFalse(cart.isEmpty());",
    ]


def test_a_method_that_throws_is_given_what_it_refuses():
    focal = "void add(String name, int price) { if (name == null) throw new NullPointerException(); }"
    sample = make_sample(focal=focal, source={"focal_name": "add", "framework": "junit5"})
    assert write_templates(sample) == ["assertThrows(NullPointerException.class, () -> cart.add(null, -1));"]
    assert write_templates(make_sample(focal=focal)) == []  # JUnit 4.12 has no assertThrows


def test_a_template_of_decimals_has_a_delta():
    sample = make_sample(
        "void testSize() { Box box = new Box(1.5); <AssertPlaceHolder> }",
        focal="double size() { return size; }",
        source={"focal_class": "Box", "focal_name": "size"},
        locals=["Box box"],
    )
    assert write_templates(sample) == ["assertEquals(1.5, box.size(), 0);"]


def test_templates_of_what_does_not_parse_are_none():
    assert write_templates(make_sample(focal="int (")) == []
