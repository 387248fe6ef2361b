"""A scratch model copies before it is trained: what followed the same tokens in its input comes next."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from models.seq2seq.copying import start_copying

VOCABULARY = 500


def make(width: int, heads: int, size: int, copying: bool = True) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=width,
        d_ff=2 * width,
        d_kv=size,
        num_heads=heads,
        num_layers=2,
        num_decoder_layers=2,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = T5ForConditionalGeneration(config).eval()
    if copying:
        start_copying(model, 1)
    return model


def share_copied(model: T5ForConditionalGeneration) -> float:
    """How often the token that followed in the input is among the first ten of 500 choices."""
    generator = torch.Generator().manual_seed(2)
    source = torch.stack([torch.randperm(VOCABULARY - 2, generator=generator)[:150] + 2 for _ in range(8)])
    phrase = source[:, 60:76]
    given = torch.cat([torch.zeros(8, 1, dtype=torch.long), phrase[:, :-1]], 1)
    with torch.no_grad():
        first = model(input_ids=source, decoder_input_ids=given).logits.topk(10).indices
    return float((first == phrase[..., None]).any(-1)[:, 3:].float().mean())


@pytest.mark.parametrize(("width", "heads", "size"), [(96, 3, 32), (128, 4, 32), (192, 3, 64), (512, 8, 64)])
def test_a_model_copies_before_it_is_trained(width, heads, size):
    assert share_copied(make(width, heads, size, copying=False)) < 0.05
    assert share_copied(make(width, heads, size)) > 0.15


def test_among_two_places_it_follows_the_longer_agreement():
    """a b c X and d b c Y: after "a b c" comes X, where a model that looks at one token alone cannot know."""
    model, generator = make(128, 4, 32), torch.Generator().manual_seed(3)
    right = 0
    for _ in range(40):
        a, b, c, d, x, y, *rest = (torch.randperm(VOCABULARY - 2, generator=generator)[:80] + 2).tolist()
        source = [*rest[:30], d, b, c, y, *rest[30:50], a, b, c, x, *rest[50:]]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[0, a, b, c]])).logits[
                0, -1
            ]
        right += bool(logits[x] > logits[y])
    assert right >= 28


def test_a_model_with_one_head_is_left_as_it_is():
    plain, told = make(32, 1, 32, copying=False), make(32, 1, 32)
    for (name, one), (_, other) in zip(plain.named_parameters(), told.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_one_seed_gives_one_model_and_leaves_torchs_generator_alone():
    one = make(96, 3, 32)
    state = torch.get_rng_state()
    start_copying(two := make(96, 3, 32, copying=False), 1)
    torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    start_copying(make(96, 3, 32, copying=False), 2)
    assert state.shape == torch.get_rng_state().shape
