"""Tokenizer, model and texts that do not fit together are refused or told before anything is trained."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tokenizers import normalizers

from data.rows.readers import parse_sample
from data.rows.tokenization import TaskEncoder, TextFormat
from models.seq2seq.agreement import check_texts, choose_text_format, settle_special_ids
from models.seq2seq.loading import build_scratch, load_model, load_tokenizer, train_tokenizer
from tests.helpers.commands import SMALL, make_rows, run_script, write_rows
from tests.helpers.published import make_roberta_files, make_t5, make_unigram
from utils.errors import UserError

ROWS = make_rows(12, 3)
TEXTS = [" ".join([row["test_method_masked"], row["focal_method"], *row["assertions"]]) for row in ROWS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("model")
    make_t5(made, len(make_roberta_files(made, TEXTS)))
    return made


def test_one_source_of_special_ids_and_no_hidden_settings(folder, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "eos_token_id": 4}))
    (place / "generation_config.json").write_text(
        json.dumps({"no_repeat_ngram_size": 3, "min_length": 30, "eos_token_id": 4, "decoder_start_token_id": 0})
    )
    model, tokenizer = load_model(str(place)), load_tokenizer(str(place))
    told = "\n".join(settle_special_ids(model, tokenizer, "--model_name m"))
    assert "eos_token_id 4, the tokenizer 2" in told and "min_length 30" in told and "no_repeat_ngram_size 3" in told
    assert model.generation_config.eos_token_id == model.config.eos_token_id == 2
    assert model.generation_config.no_repeat_ngram_size in (None, 0) and not model.generation_config.min_length
    assert settle_special_ids(model, tokenizer, "--model_name m") == []
    ids = torch.tensor([[5, 6, 7, 2]])
    plain = load_model(str(folder))
    settle_special_ids(plain, tokenizer, "m")
    torch.testing.assert_close(model.generate(ids, max_new_tokens=8), plain.generate(ids, max_new_tokens=8))


def test_nothing_is_told_of_a_model_that_brings_no_settings():
    tokenizer = train_tokenizer(TEXTS, 300)
    model = build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="eager", seed=1)
    assert settle_special_ids(model, tokenizer, "--model_name scratch:tiny") == []


def test_a_token_that_the_embedding_lacks_is_refused(folder):
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens(["brandNew"])
    with pytest.raises(UserError, match="resize_token_embeddings"):
        settle_special_ids(load_model(str(folder)), tokenizer, "--model_name m")


def test_what_a_tokenizer_cannot_write_is_counted_or_refused(folder):
    encoder = TaskEncoder(load_tokenizer(str(folder)), TextFormat())
    samples = [parse_sample(row) for row in ROWS]
    assert check_texts(encoder, samples, "data") == []
    lower = load_tokenizer(str(folder))
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(UserError, match="do not come back"):
        check_texts(TaskEncoder(lower, TextFormat()), samples, "data")
    small = [parse_sample({**row, "assertions": ["assert x;"]}) for row in ROWS[:9]] + samples[:1]
    assert "1 of 10 targets cannot be written" in check_texts(TaskEncoder(lower, TextFormat()), small, "data")[0]


def test_a_blank_that_a_tokenizer_adds_is_counted():
    """SentencePiece writes one before each part of a text that spells a control token."""
    rows = [{**row, "assertions": ['assertEquals("<s>a</s>", out);']} for row in ROWS]
    samples = [parse_sample(row) for row in rows]
    unigram = make_unigram([f"{sample.test} {sample.focal} {sample.target}" for sample in samples])
    told = check_texts(TaskEncoder(unigram, TextFormat()), samples, "data")
    assert any(
        f"{len(rows)} of {len(rows)} targets cannot be written" in line and "comes back as" in line for line in told
    )


@pytest.mark.parametrize("kept", [[], ["vocab.json", "merges.txt"]])
def test_a_folder_without_its_tokenizer_ends_a_dry_run(folder, tmp_path, kept):
    place = tmp_path / "model"
    shutil.copytree(folder, place)
    for file in place.iterdir():
        if file.name not in ("config.json", "model.safetensors", "generation_config.json", *kept):
            file.unlink()
    files = [write_rows(tmp_path / f"{name}.jsonl", make_rows(12, seed)) for name, seed in (("train", 1), ("val", 2))]
    words = ["--train_data_path", files[0], "--val_data_path", files[1], "--model_name", place, "--dry_run"]
    words += ["--output_dir", tmp_path / "run", "--embedding_model", "none", *SMALL]
    done = run_script("train_codet5_assertions.py", *words, check=False)
    assert done.returncode == 2, done.stdout
    assert "tokenizer" in done.stderr and "Traceback" not in done.stderr


def test_new_runs_take_the_tokenizers_frame_and_old_ones_keep_theirs(folder, tmp_path):
    model, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    assert choose_text_format(model, tokenizer, str(folder), None) == TextFormat("tokenizer")
    run = tmp_path / "run"
    shutil.copytree(folder, run / "final_model")
    shutil.copytree(folder, run / "checkpoint-0000001")
    (run / "run_config.json").write_text("{}")
    assert choose_text_format(model, tokenizer, str(run / "final_model"), None) == TextFormat("end")
    assert choose_text_format(model, tokenizer, str(folder), run / "checkpoint-0000001") == TextFormat("end")
    for known in (TextFormat("tokenizer"), TextFormat(context=("siblings",), nearest_apart=True)):
        known.store_in(model)
        assert choose_text_format(model, tokenizer, str(run / "final_model"), None) == known
