"""Decoding with what javac knows of a place: only tokens after which the text can still compile are left."""

from __future__ import annotations

import torch

from data.java.scope import JavaScope, read_names
from models.decoding.constraints.frames import UNWANTED
from models.decoding.constraints.offered import find_offered
from models.decoding.constraints.readable import ReadableConstraint

CART = ["k\tdeclared\t-1\to", "M\ttotal\t0\t0\t0\t1\t", "M\tadd\t0\t1\t0\t1\tn", "v\tname\t2"]
MEMBERS = {0: CART, 1: ["k\tprimitive\t-1\tn"], 2: ["k\tdeclared\t-1\tt", "M\tlength\t0\t0\t0\t1\t"]}
ASSERTIONS = ["M\tassertEquals\t1\t2\t0\t1\tabnto0,abnto0", "M\tassertTrue\t1\t1\t0\t1\tabnto0"]
PLACE = ["v\tcart\t0", "t\tCart\t0", "t\tString\t2", *ASSERTIONS]
TEXTS = [
    "",
    "</s>",
    "assertTrue",
    "(",
    "cart",
    "basket",
    ".",
    "total",
    "tot",
    "al",
    "sum",
    ")",
    ";",
    ", ",
    "name",
    "();",
]


def make_scope() -> JavaScope:
    return JavaScope(read_names(PLACE), lambda number: read_names(MEMBERS[number]))


def allow(*written: str, scopes=None, beams: int = 1, scores=None) -> set[str]:
    """The tokens that may follow these."""
    texts = ["" if text == "</s>" else text for text in TEXTS]
    constraint = ReadableConstraint(texts, [1], [make_scope()] if scopes is None else scopes, beams)
    constraint.wanted = len(TEXTS)
    ids = torch.tensor([[0, *(TEXTS.index(text) for text in written)]] * beams)
    scores = torch.zeros(beams, len(TEXTS)) if scores is None else scores
    left = constraint(ids, scores)[0] > -torch.inf
    return {text for text, kept in zip(TEXTS, left.tolist(), strict=True) if kept and text}


def test_only_names_in_scope_are_written():
    assert {"cart"} <= allow("assertTrue", "(") and not {"basket", "sum", "total"} & allow("assertTrue", "(")


def test_only_members_of_the_receiver_are_written():
    assert allow("assertTrue", "(", "cart", ".") == {"total", "tot", "name"}
    assert "al" in allow("assertTrue", "(", "cart", ".", "tot") and "sum" not in allow(
        "assertTrue", "(", "cart", ".", "tot"
    )


def test_a_method_is_called_and_a_field_is_not():
    assert {"(", "();"} & allow("assertTrue", "(", "cart", ".", "total") == {"("}  # "();" closes no outer bracket
    assert not {"(", "();"} & allow("assertTrue", "(", "cart", ".", "name")


def test_arguments_are_counted():
    assert ", " not in allow("assertTrue", "(", "cart")
    assert ")" not in allow("assertTrue", "(") and ")" in allow("assertTrue", "(", "cart")
    assert not {", ", ")"} & allow("assertTrue", "(", "cart", ".", "total", "(", "cart")


def test_a_text_ends_where_its_brackets_do():
    assert "</s>" in allow("assertTrue", "(", "cart", ")", ";") and "</s>" not in allow("assertTrue", "(", "cart")


def test_without_a_scope_only_the_grammar_counts():
    assert allow("assertTrue", "(", scopes=[None]) == set(TEXTS) - {"", "</s>", ")", ";", "();", ", "}


def test_what_was_refused_already_stays_refused():
    scores = torch.full((1, len(TEXTS)), -torch.inf)
    scores[0, TEXTS.index("cart")] = scores[0, TEXTS.index("basket")] = 0.0
    assert allow("assertTrue", "(", scores=scores) == {"cart"}


def test_rows_are_followed_when_finished_ones_leave():
    constraint = ReadableConstraint(TEXTS, [1], [None, make_scope()], 1)
    constraint.keep(torch.tensor([1]))
    assert constraint.rows == [1]


def test_where_a_text_cannot_be_kept_to_its_input_it_stays_java():
    """Nothing that the input shows goes on here: the grammar alone is followed, and other beams come first."""
    offered = find_offered(
        "void t() { Cart cart = new Cart(); }\nint m() { }\nstatic org.junit.Assert\nCart cart\nint Cart.add(int)"
    )
    texts = ["", "", "assertTrue(", "cart", ".", "basket", ")", ";", "]"]
    constraint = ReadableConstraint(texts, [1], [None], 1, [offered])
    scores = constraint(torch.tensor([[0, 2, 3, 4]]), torch.zeros(1, len(texts)))[0].tolist()
    assert {text for text, score in zip(texts, scores, strict=True) if score > -torch.inf} == {"basket"}
    assert scores[5] < 0


def test_a_text_that_must_end_ends_even_if_its_input_tells_that_it_will_not_compile():
    offered = find_offered("void t() { }\nint m() { }\nstatic org.junit.Assert\nCart cart")
    texts = ["", "", "assertTrue(", "cart", ");", " == "]
    constraint = ReadableConstraint(texts, [1], [None], 1, [offered])
    constraint.wanted = len(texts)
    scores, must_end = torch.zeros(1, len(texts)), torch.full((1, len(texts)), -2 * UNWANTED)
    must_end[0, 4] = 0
    ids = torch.tensor([[0, 2, 3]])
    assert constraint(ids, scores)[0, 4] == -torch.inf and constraint(ids, scores)[0, 5] == 0
    assert constraint(ids, must_end)[0].argmax() == 4
