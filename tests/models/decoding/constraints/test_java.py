"""Decoding that keeps to Java's brackets and literals, against a parser and against plain decoding."""

import pytest
import torch
from transformers import LogitsProcessorList

from data.java.statements import is_valid_java
from models.decoding.constraints.java import JavaConstraint, State
from models.decoding.generate import GenerationOptions, generate_candidates, pad_rows
from models.decoding.search import decode
from models.decoding.torch_writer import TorchWriter
from tests.helpers.pieces import Pieces
from tests.helpers.random_models import model_without_ties

JAVA = [
    'assertEquals("a(\\"[", list.get(0)[1]);',
    "assertEquals(')', map.get('\\''));",
    "assertThrows(E.class, () -> { foo(new int[] {1, 2}); });",
    "a();\nb();",
]


@pytest.mark.parametrize("text", JAVA)
def test_java_is_followed_to_its_end_and_completed_from_anywhere(text):
    for length in range(1, len(text) + 1):
        written, state = text[:length], State().after(text[:length])
        assert state is not None, written
        if not state.ending:  # nothing to close, a literal of one character that has none yet, or an argument is owed
            assert state.complete or state.quote == "'" or state.last in ("(", ",", "."), written
            continue
        while state.ending and not state.complete:
            written += state.ending
            state = State().after(written)
            assert state is not None, written
        if state.complete and text[length - 1].isalnum() and text[length : length + 1] in (",", ")", "."):
            assert is_valid_java(written), written
    assert is_valid_java(text)


@pytest.mark.parametrize(
    "text",
    [
        "a(]",
        "a)",
        "a(b;",
        "x[0;",
        '"a\nb"',
        "a(b));",
        "{ a(; }",
        "}",
        "f('')",
        '"\\q"',
        "a[1;",
        "f(,",
        "f(a,)",
        "f(a.)",
        "f(a.,",
        "f('\n",
    ],
)
def test_text_that_cannot_become_java_any_more_is_rejected(text):
    assert not is_valid_java(text) and State().after(text) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("assertEquals(1)", False),
        ("assertEquals(f(1, 2))", False),
        ("Assert.assertEquals(1, )", False),
        ("assertEquals(1, 2)", True),
        ('assertEquals("(", 1, 2)', True),
        ("assertTrue()", False),
        ("assertTrue(f())", True),
        ("assertThrows(E.class, () -> assertTrue())", False),
        ("assertThrows(E.class, () -> f())", True),
        ("notassertTrue()", True),
        ("assertTrueOf()", True),
        ("fail()", True),
        ("assertEquals(1., 0.)", True),
        ("assertEquals(x1., 0", False),
        ("new int[] {1,}", True),
        ("assertEquals(1, 2, 3, f(4, 5))", True),
        ("assertEquals(1, 2, 3, 4,", False),
        ("assertTrue(a, b,", False),
        ("f(1, 2, 3, 4, 5, 6)", True),
    ],
)
def test_an_assertion_gets_the_arguments_that_it_needs(text, kept):
    assert (State().after(text) is not None) == kept


def test_an_end_before_the_last_needed_argument_becomes_a_comma():
    pieces = Pieces("assertEquals(", "x", ",", ");", ".", " ,")
    found = scored(pieces, ["assertEquals(", "x"], **{");": 2.0, "end": 1.0})
    assert found[");"] == found["end"] == -torch.inf
    assert found[","] == pytest.approx(float(torch.logsumexp(torch.tensor([2.0, 1.0, 0.0]), 0)))
    # Where an argument has to begin, nothing is the right ending.
    found = scored(pieces, ["assertEquals(", "x", ","], **{");": 2.0})
    assert {name for name, value in found.items() if value == -torch.inf} == {");", "end", ",", " ,"}


def test_a_character_literal_holds_one_character():
    for text in ("'a'", "'\\n'", "'\\u00e4'", "'\\''", "'\\7'"):
        assert State().after(text) == State(last="'"), text
    assert State().after("'ab") is None and State().after("'\\q") is None and State().after("'\\u0g") is None


def test_brackets_inside_a_literal_do_not_count():
    states = [State().after(text) for text in ('a(")', "a('\\'", "a('\\''", "a(')'")]
    assert [state.quote for state in states] == ['"', "'", "", ""] and all(len(state.open) == 1 for state in states)
    assert State().after('"\\').escaped and not State().after('"\\\\').escaped


def scored(pieces, written, **scores):
    """The scores after the constraint of one text, by piece; those not named are 0."""
    names = ["start", "end", *pieces.texts[2:]]
    ids = torch.tensor([[0, *(names.index(piece) for piece in written)]])
    given = torch.tensor([[scores.get(name, 0.0) for name in names]])
    constraint = JavaConstraint(pieces, len(names), (1,))
    return dict(zip(names, constraint(ids, given)[0].tolist(), strict=True))


def test_tokens_that_cannot_follow_get_no_score():
    pieces = Pieces("f(", ")", ");", "));", '"', "]", "x", ";")
    found = scored(pieces, ["f(", "x"])
    assert {name for name, value in found.items() if value == -torch.inf} == {"end", "));", "]", ";"}
    # After a whole statement what closes once more means to end.
    assert scored(pieces, ["f(", "x", ");"], **{");": 2.0})["end"] > 2.0
    assert scored(pieces, ["f(", "x", ");"])[";"] == 0.0


def test_after_a_backslash_only_an_escape_follows():
    pieces = Pieces('f("', "\\", "q", "n", '");')
    found = scored(pieces, ['f("', "\\"])
    assert {name for name, value in found.items() if value == -torch.inf} == {"end", "q", 'f("'} - {'f("'}


def test_quotes_that_would_open_a_literal_do_not_mean_to_end():
    pieces = Pieces("f(", ")", "));", '"");', ' ")";', "x")
    found = scored(pieces, ["f(", "f(", "x"], **{'"");': 3.0, ' ")";': 3.0})
    assert found['"");'] == -torch.inf and found["));"] == pytest.approx(float(torch.logsumexp(torch.zeros(2), 0)))


def test_inside_a_block_the_statement_ends_before_the_block():
    pieces = Pieces("f(", "() -> {", ")", ");", "});", "));", "x")
    assert scored(pieces, ["f(", "() -> {", "f(", "x"], **{"));": 2.0})[");"] > 2.0
    assert scored(pieces, ["f(", "() -> {", "f(", "x", ");"], **{"));": 2.0})["});"] > 2.0


def test_a_miscounted_ending_becomes_the_right_one():
    pieces = Pieces("f(", ")", ");", "));", '"', '");', "x", ")")
    scores = torch.tensor([2.0, 1.0, 0.0, 0.0])  # of "));", the end, '");' and ");": all mean to end
    named = dict(zip(("));", "end", '");', ");"), scores.tolist(), strict=True))
    once, twice = scored(pieces, ["f(", "x"], **named), scored(pieces, ["f(", "f(", "x"], **named)
    # One bracket is open: a quote may still begin, so \'");\' stays; the others' weight goes to ");".
    assert once[");"] == pytest.approx(float(torch.logsumexp(torch.tensor([2.0, 1.0, 0.0]), 0)))
    assert once["));"] == once["end"] == -torch.inf
    assert twice["));"] == pytest.approx(float(torch.logsumexp(torch.tensor([2.0, 1.0, 0.0]), 0)))
    assert scored(pieces, ["f(", '"', "x"], **named)['");'] == pytest.approx(
        float(torch.logaddexp(scores[2], scores[1]))
    )


def test_without_a_token_for_the_ending_the_other_scores_are_unchanged():
    found = scored(Pieces("f(", "));", "x"), ["f(", "x"], **{"));": 3.0, "x": 1.0})
    assert found["));"] == found["end"] == -torch.inf and found["x"] == 1.0


@pytest.mark.parametrize("longest", range(6, 24))
def test_what_would_be_cut_off_is_closed(longest):
    pieces = Pieces("f(", "a", ")", "))", ");", ";", ", ", '"')
    names = ["start", "end", *pieces.texts[2:]]
    wanted = torch.tensor([[{"f(": 3.0, "a": 2.0, '"': 1.0}.get(name, 0.0) for name in names]])  # it never closes
    constraint, ids = JavaConstraint(pieces, len(names), (1,)).until(longest), torch.tensor([[0]])
    while ids.shape[1] <= longest and ids[0, -1] != 1:
        token = constraint(ids, wanted if ids.shape[1] % 3 else wanted.flip(1)).argmax(-1, keepdim=True)
        ids = torch.cat([ids, token], 1)
    text = "".join(names[token] for token in ids[0, 1:-1])
    assert ids[0, -1] == 1 and State().after(text).complete and text.count("f(") > (longest - 5) / 4, text


@pytest.fixture(scope="module")
def tokenizer():
    from models.seq2seq.loading import train_tokenizer

    return train_tokenizer(JAVA * 4, 330)


@pytest.fixture(scope="module")
def model(tokenizer):
    opens_or_closes = [i for i in range(len(tokenizer)) if set(tokenizer.decode([i])) & set("()[]\"';")]
    often = [tokenizer.eos_token_id, *opens_or_closes]
    return model_without_ties(len(tokenizer), seed=1, end=tokenizer.eos_token_id, often=often)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_random_model_ends_no_text_inside_a_bracket(model, tokenizer, beams):
    rows = [tokenizer(text)["input_ids"][:length] for text in JAVA for length in range(2, 14)]
    inputs = pad_rows(rows, 0)
    ends = (tokenizer.eos_token_id,)
    options = {"max_new_tokens": 24, "num_beams": beams, "num_return_sequences": beams}

    def written(*constraints):
        """(state, whether it came to an end) of each text."""
        found = decode(model, inputs, (inputs != 0).long(), constraints=LogitsProcessorList(constraints), **options)
        texts = tokenizer.batch_decode(found, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [(State().after(text), ends[0] in ids) for text, ids in zip(texts, found.tolist(), strict=True)]

    kept = written(JavaConstraint(tokenizer, len(tokenizer), ends))
    assert all(state is not None and (state.complete or not ended) for state, ended in kept)
    assert any(ended for _, ended in kept)
    assert any(state is None or (ended and not state.complete) for state, ended in written())


@pytest.mark.parametrize("beams", [1, 4])
def test_a_row_gets_the_same_texts_alone_and_in_a_batch(model, tokenizer, beams):
    rows = [tokenizer(text)["input_ids"][:length] for text in JAVA for length in (3, 9, 14)]
    options = GenerationOptions(max_output_len=16, batch_size=5, num_beams=beams, num_return_sequences=beams)
    alone = [generate_candidates(TorchWriter(model, tokenizer), [row], options)[0] for row in rows]
    assert generate_candidates(TorchWriter(model, tokenizer), rows, options) == alone


def test_beams_that_parse_come_first(model, tokenizer, monkeypatch):
    texts = ["a(;", "f();", "", "g();"]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(tokenizer(text)["input_ids"] or [1]) for text in texts] * 2, True
    )
    monkeypatch.setattr("models.decoding.torch_writer.decode", lambda *_, **__: ids)
    options = {"num_beams": 4, "num_return_sequences": 3}
    best = ["f();", "g();", "a(;"]
    assert generate_candidates(TorchWriter(model, tokenizer), [[3], [4]], GenerationOptions(**options)) == [best] * 2
    free = GenerationOptions(decoding="free", **options)
    assert generate_candidates(TorchWriter(model, tokenizer), [[3], [4]], free) == [texts[:3]] * 2
