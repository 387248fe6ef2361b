"""The context in a model's input: where it stands, what is left out first, and which context is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from config.defaults import CONTEXT_PARTS
from data.rows.context import Context
from data.rows.context_choice import ContextChoice
from data.rows.readers import PLACEHOLDER, Sample
from data.rows.tokenization import TaskEncoder, TextFormat
from models.seq2seq.loading import train_tokenizer
from utils.errors import UserError

TEST = f"@Test void adds() {{ list.add(1); {PLACEHOLDER} }}"
FOCAL = "int size() { return size; }"
ANSWER = "assertEquals(1, list.size());"
CONTEXT: Context = {
    "siblings": [{"assertion": f"assertEquals({i}, list.get({i}));", "test_name": f"gets{i}"} for i in range(4)],
    "fields": ["List<String> list = new ArrayList<>()"],
    "locals": ["int one"],
    "members": ["int List.size()"],
    "doc": "How many. @return a number",
    "style": ["static org.junit.Assert"],
    "retrieved": [{"assertion": "assertNull(x);"}],
}
EVERYTHING = TextFormat(context=CONTEXT_PARTS, max_context_tokens=512)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEST, FOCAL, ANSWER, "\n"] * 4, 400)


def make_sample(context: Context = CONTEXT, test: str = TEST, focal: str = FOCAL) -> Sample:
    return Sample(test, focal, (ANSWER,), context=context)


def test_the_context_follows_test_and_method_one_item_a_line(tokenizer) -> None:
    encoder = TaskEncoder(tokenizer, EVERYTHING)
    assert encoder.show(encoder.source(make_sample(), 1024)) == (
        f"{TEST}</s>{FOCAL}</s>static org.junit.Assert\nassertEquals(0, list.get(0)); // gets0\nint one\n"
        "List<String> list = new ArrayList<>()\nassertEquals(1, list.get(1)); // gets1\n"
        "assertEquals(2, list.get(2)); // gets2\nassertEquals(3, list.get(3)); // gets3\nint List.size()\n"
        "How many. @return a number\nassertNull(x);</s>"
    )


def test_the_nearest_assertion_stands_apart_at_the_end_like_a_target(tokenizer) -> None:
    encoder = TaskEncoder(tokenizer, replace(EVERYTHING, nearest_apart=True))
    text = encoder.show(encoder.source(make_sample(), 1024))
    assert text.startswith(f"{TEST}</s>{FOCAL}</s>static org.junit.Assert\nint one\n")
    assert text.endswith("How many. @return a number\nassertNull(x);</s></s></s>assertEquals(0, list.get(0));</s>")
    alone = encoder.show(encoder.source(make_sample({"siblings": CONTEXT["siblings"][:1]}), 1024))
    assert alone == f"{TEST}</s>{FOCAL}</s></s></s>assertEquals(0, list.get(0));</s>"
    without = encoder.show(encoder.source(make_sample({"doc": "How many."}), 1024))
    assert without == f"{TEST}</s>{FOCAL}</s>How many.</s>"
    for tokens in range(4, 200):  # what is too long is passed over
        small = TaskEncoder(tokenizer, replace(EVERYTHING, nearest_apart=True, max_context_tokens=tokens))
        layout = small.lay_out(make_sample(), 2048)
        assert len(layout.ids) - len(small.lay_out(make_sample({}), 2048).ids) <= tokens
        shown = [item.text for item in layout.shown]
        apart = small.show(layout.ids).endswith("</s></s></s>assertEquals(0, list.get(0));</s>")
        assert apart == (shown[:1] == ["assertEquals(0, list.get(0));"])
        items = encoder.lay_out(make_sample(), 2048).shown
        assert shown or all(len(tokenizer(item.text)["input_ids"]) >= tokens for item in items)


@pytest.mark.parametrize("form", [EVERYTHING, replace(EVERYTHING, nearest_apart=True)])
def test_an_assertion_has_the_ids_that_it_has_as_a_target(tokenizer, form) -> None:
    encoder = TaskEncoder(tokenizer, form)
    ids = encoder.source(make_sample(), 1024)
    for sibling in CONTEXT["siblings"]:
        target = encoder.target(sibling["assertion"], 128)[:-1]
        assert any(ids[i : i + len(target)] == target for i in range(len(ids)))


def test_without_context_nothing_changes(tokenizer) -> None:
    plain = TaskEncoder(tokenizer, TextFormat())
    for sample, format_ in ((make_sample(), TextFormat()), (make_sample({}), EVERYTHING)):
        for length in (16, 40, 1024):
            expected = plain.source(Sample(TEST, FOCAL, ()), length)
            assert TaskEncoder(tokenizer, format_).source(sample, length) == expected


def test_what_does_not_fit_is_left_out_whole_from_the_end(tokenizer) -> None:
    whole = TaskEncoder(tokenizer, EVERYTHING).lay_out(make_sample(), 2048)
    assert not whole.cut and len(whole.shown) == 10
    for tokens in range(8, 200, 3):
        encoder = TaskEncoder(tokenizer, TextFormat(context=CONTEXT_PARTS, max_context_tokens=tokens))
        layout = encoder.lay_out(make_sample(), 2048)
        lines = encoder.show(layout.ids).removesuffix("</s>").split("</s>")[2:]
        assert len(layout.ids) - len(encoder.lay_out(make_sample({}), 2048).ids) <= tokens
        assert lines == (["\n".join(item.text for item in layout.shown)] if layout.shown else [])
        assert Counter(item.part for item in whole.shown) - Counter(item.part for item in layout.shown) == layout.cut
        fits = [item for item in whole.shown if len(tokenizer(item.text)["input_ids"]) < tokens]
        assert layout.shown == fits[: len(layout.shown)]


def test_one_item_longer_than_everything_costs_that_item_alone(tokenizer) -> None:
    giant: Context = {**CONTEXT, "siblings": [{"assertion": "assertTrue(" + "x + " * 3000 + "y);"}], "style": ["a"]}
    encoder = TaskEncoder(tokenizer, TextFormat(context=CONTEXT_PARTS))
    layout = encoder.lay_out(make_sample(giant), 512)
    assert layout.cut["siblings"] == 1 and "locals" in [item.part for item in layout.shown]
    many: Context = {"siblings": [{"assertion": f"assertEquals({i}, x);"} for i in range(10_000)]}
    assert 0 < len(encoder.lay_out(make_sample(many), 512).shown) < 192


@pytest.mark.parametrize("length", [16, 64, 128, 256])
def test_placeholder_and_signature_keep_their_room(tokenizer, length: int) -> None:
    """A context of any size leaves test and method five eighths of the input."""
    test = f"@Test void adds() {{ {'list.add(1); ' * 60} {PLACEHOLDER} {'list.clear(); ' * 60} }}"
    focal = "int size() { " + "count(); " * 200 + "}"
    encoder = TaskEncoder(tokenizer, TextFormat(context=CONTEXT_PARTS, max_context_tokens=4096))
    layout = encoder.lay_out(make_sample(test=test, focal=focal), length)
    assert len(layout.ids) == length and layout.cut["test"] and layout.cut["focal method"]
    context = sum(len(tokenizer(item.text)["input_ids"]) + 1 for item in layout.shown)
    assert context <= 3 * (length - 2) // 8
    text = encoder.show(layout.ids)
    assert PLACEHOLDER in text
    if length >= 64:
        assert f"list.add(1);  {PLACEHOLDER}" in text and "</s>int size() {" in text


def test_where_the_answer_stands_follows_what_is_shown(tokenizer) -> None:
    context: Context = {"siblings": [{"assertion": "assertNull(x);"}, {"assertion": "assertEquals(1,  list.size());"}]}
    sample = make_sample(context)
    for tokens, place in ((256, "context"), (16, "none")):
        encoder = TaskEncoder(tokenizer, TextFormat(context=("siblings",), max_context_tokens=tokens))
        assert encoder.place_answer(sample, encoder.lay_out(sample, 512)) == place
    repeated = make_sample(context, test=f"@Test void t() {{ {ANSWER} {'list.add(1); ' * 50} {PLACEHOLDER} }}")
    encoder = TaskEncoder(tokenizer, TextFormat())
    for length, place in ((1024, "test"), (64, "none")):  # cut off with the far end of the test
        assert encoder.place_answer(repeated, encoder.lay_out(repeated, length)) == place


# -- which context ---------------------------------------------------------------------------------------------------

SOME = TextFormat(context=("siblings",), max_context_tokens=64)


@pytest.mark.parametrize(
    ("choice", "seen", "rows", "context", "tokens"),
    [
        (ContextChoice(), None, True, CONTEXT_PARTS, 192),
        (ContextChoice(), None, False, (), 192),
        (ContextChoice(["none"]), None, True, (), 192),
        (ContextChoice(["fields", "siblings"], 50), None, True, ("siblings", "fields"), 50),
        (ContextChoice(), SOME, True, ("siblings",), 64),
        (ContextChoice(["siblings"], 64), SOME, True, ("siblings",), 64),
        (ContextChoice(), TextFormat(), True, (), 192),  # made before there was a context
        (ContextChoice(["all"], None, True), SOME, True, CONTEXT_PARTS, 64),
        (ContextChoice(["none"], None, True), SOME, False, (), 64),
    ],
)
def test_the_context_that_is_chosen(choice, seen, rows, context, tokens) -> None:
    chosen = choice.choose(seen, "the teacher", rows, "a.jsonl")
    assert (chosen.context, chosen.max_context_tokens) == (context, tokens)
    # A new model sees the nearest assertion apart, one that saw a context sees it as before.
    assert chosen.nearest_apart == (bool(context) and seen in (None, TextFormat()))


@pytest.mark.parametrize(
    ("choice", "seen", "rows", "words"),
    [
        (ContextChoice(["all"]), SOME, True, ["all in 64 tokens", "the teacher saw siblings in 64 tokens"]),
        (ContextChoice(None, 32), SOME, True, ["siblings in 32 tokens", "siblings in 64 tokens"]),
        (ContextChoice(["none"]), SOME, True, ["no context", "the teacher saw siblings in 64 tokens"]),
        (ContextChoice(["doc"]), TextFormat(), True, ["doc in 192 tokens", "the teacher saw no context"]),
        (ContextChoice(["doc"]), None, False, ["--context doc", "a.jsonl", "hold no context"]),
        (ContextChoice(), SOME, False, ["the teacher saw siblings", "a.jsonl", "hold no context"]),
    ],
)
def test_another_context_is_refused_by_name(choice, seen, rows, words) -> None:
    with pytest.raises(UserError) as caught:
        choice.choose(seen, "the teacher", rows, "a.jsonl")
    assert all(word in str(caught.value) for word in (*words, "--allow_other_context"))
