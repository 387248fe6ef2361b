"""A scratch model copies before it is trained: what followed the same tokens in its input comes next."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from data.rows.tokenization import NEAREST_MARK
from models.seq2seq.copying import start_copying
from models.seq2seq.loading import SCRATCH_SHAPES

VOCABULARY = 500
END = 1  # of a text, and between the parts of an input
SHAPES = [(shape[0], shape[2], shape[3]) for shape in SCRATCH_SHAPES.values()]


def make(
    width: int, heads: int, size: int, copying: bool = True, layers: int = 1, seed: int = 1
) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=width,
        d_ff=2 * width,
        d_kv=size,
        num_heads=heads,
        num_layers=layers,
        num_decoder_layers=layers,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        eos_token_id=END,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = T5ForConditionalGeneration(config).eval()
    if copying:
        start_copying(model, END, seed)
    return model


def draw(count: int, generator: torch.Generator) -> list[int]:
    """Different words."""
    return (torch.randperm(VOCABULARY - 2, generator=generator)[:count] + 2).tolist()


def write(model: T5ForConditionalGeneration, source: list[int], length: int) -> list[int]:
    ids = torch.tensor([source])
    written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False)
    return written[0, 1:].tolist()


def prefers(model: T5ForConditionalGeneration, source: list[int], written: list[int], x: int, y: int) -> bool:
    """Whether x is likelier than y after what is written."""
    given = torch.tensor([[0, *written]])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([source]), decoder_input_ids=given).logits[0, -1]
    return bool(logits[x] > logits[y])


def share_copied(model: T5ForConditionalGeneration) -> float:
    """How often greedy writing repeats the text that stands apart at the end, and ends with it.

    The other parts hold the same words in another order, as the class's other assertions do.
    """
    generator = torch.Generator().manual_seed(2)
    right = 0
    for _ in range(10):
        words = draw(60, generator)
        test, method, others = ([words[i] for i in torch.randint(60, (80,), generator=generator)] for _ in range(3))
        nearest = words[:12]
        source = [*test, END, *method, END, *others, *[END] * NEAREST_MARK, *nearest, END]
        right += write(model, source, 20) == [*nearest, END]
    return right / 10


@pytest.mark.parametrize(("width", "heads", "size"), SHAPES)
def test_a_model_repeats_the_nearest_assertion_before_it_is_trained(width, heads, size):
    assert share_copied(make(width, heads, size, copying=False)) == 0
    assert share_copied(make(width, heads, size)) >= 0.8


def test_deeper_models_copy_too():
    assert share_copied(make(128, 5, 32, layers=2)) >= 0.5


def test_among_two_places_it_follows_the_longer_agreement():
    """a b c X and d b c Y: after "a b c" comes X, where a model that looks at one token alone cannot know."""
    model, generator = make(128, 5, 32), torch.Generator().manual_seed(3)
    right = 0
    for _ in range(40):
        a, b, c, d, x, y, *rest = draw(80, generator)
        source = [*rest[:30], d, b, c, y, *rest[30:50], a, b, c, x, *rest[50:]]
        right += prefers(model, source, [a, b, c], x, y)
    assert right >= 36


def test_among_equal_places_it_follows_the_nearest_assertion():
    """a b c Y stands in the test, a b c X in the assertion that stands apart."""
    model, generator = make(128, 5, 32), torch.Generator().manual_seed(4)
    right = 0
    for _ in range(40):
        a, b, c, x, y, *rest = draw(170, generator)
        source = [*rest[:20], a, b, c, y, *rest[20:80], END, *rest[80:150], *[END] * NEAREST_MARK, a, b, c, x, END]
        right += prefers(model, source, [a, b, c], x, y)
    assert right >= 36


def test_a_model_with_two_heads_is_left_as_it_is():
    plain, told = make(32, 2, 16, copying=False), make(32, 2, 16)
    for (name, one), (_, other) in zip(plain.named_parameters(), told.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_one_seed_gives_one_model_and_leaves_torchs_generator_alone():
    one, plain = make(96, 5, 24), make(96, 5, 24, copying=False)
    state = torch.get_rng_state()
    start_copying(plain, END, 1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), plain.parameters(), strict=True))
    other = make(96, 5, 24, seed=2)
    assert not torch.equal(one.shared.weight, other.shared.weight)
