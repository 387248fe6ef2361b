"""Decoding against transformers' own ``generate``."""

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from benchmarks.generation import end_at
from models.decoding.search import decode
from tests.helpers.random_models import model_without_ties

VOCAB = 40


@pytest.fixture
def model():
    torch.manual_seed(3)
    config = T5Config(
        vocab_size=VOCAB,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        initializer_factor=20.0,
        tie_word_embeddings=False,
    )
    return T5ForConditionalGeneration(config).eval()


def batch(seed: int, rows: int = 8, longest: int = 12):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows, 1), generator=generator)
    mask = (torch.arange(longest) < lengths).long()
    return torch.randint(2, VOCAB, (rows, longest), generator=generator) * mask, mask


@pytest.mark.parametrize("beams, kept", [(1, 1), (4, 3)])
def test_decode_writes_the_tokens_that_generate_writes(model, beams, kept):
    model = model if beams == 1 else model_without_ties(VOCAB, seed=3)
    end_at(model, torch.arange(13) + 3)
    ends = set()
    for seed in range(12):
        ids, mask = batch(seed)
        options = {"max_new_tokens": 20, "num_beams": beams, "num_return_sequences": kept}
        expected = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, **options)
        assert torch.equal(decode(model, ids, mask, **options), expected)
        ends |= {row.index(1) for row in expected.tolist()}
    assert len(ends) > 4


def test_a_start_token_equal_to_the_end_token_does_not_end_a_row():
    """As in BART's configurations."""
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=VOCAB,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        decoder_start_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
        bos_token_id=0,
        forced_eos_token_id=None,
        init_std=1.0,
    )
    model = BartForConditionalGeneration(config).eval()
    for seed in range(4):
        ids, mask = batch(seed)
        expected = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=9)
        assert torch.equal(decode(model, ids, mask, max_new_tokens=9, num_beams=1, num_return_sequences=1), expected)
        assert (expected[:, 1] != 1).all()


def test_rows_that_have_ended_leave_the_batch(model, monkeypatch):
    end_at(model, torch.arange(13) + 1)
    ids, mask = batch(1, rows=16)
    seen = []
    forward = model.forward

    def counted(*args, **options):
        seen.append(len(options["decoder_input_ids"]))
        return forward(*args, **options)

    monkeypatch.setattr(model, "forward", counted)
    output = decode(model, ids, mask, max_new_tokens=20, num_beams=1, num_return_sequences=1)
    lengths = (output[:, 1:] != 0).sum(1)
    assert len(seen) == lengths.max()
    assert lengths.tolist() == (mask.sum(1) + 1).tolist()
    assert sum(seen) < 1.3 * lengths.sum() < 0.85 * 16 * len(seen)


def test_settings_of_the_generation_config_are_obeyed(model, monkeypatch):
    monkeypatch.setattr(model.generation_config, "no_repeat_ngram_size", 1)
    ids, mask = batch(2)
    output = decode(model, ids, mask, max_new_tokens=20, num_beams=1, num_return_sequences=1)
    for row in output.tolist():
        written = [token for token in row[1:] if token]
        assert len(set(written)) == len(written)
