"""How texts become token ids, and that files and models remember it."""

from __future__ import annotations

import json

import pytest

from data.distillation.file import Header, read_header
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder, TextFormat
from models.seq2seq.loading import build_scratch, load_model, save_model, train_tokenizer
from utils.errors import UserError

TEST = "@Test void adds() { list.add(1); <AssertPlaceHolder> }"
FOCAL = "int size() { return size; }"
OTHER = TextFormat("tokenizer", ("siblings",), 64)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEST, FOCAL] * 4, 300)


def test_ids_of_the_frame_end(tokenizer):
    encoder = TaskEncoder(tokenizer, TextFormat())
    end = tokenizer.eos_token_id

    def ids(text):
        return tokenizer(text)["input_ids"]

    before, after = TEST.split("<AssertPlaceHolder>")
    source = encoder.source(Sample(TEST, FOCAL, ()), 512)
    assert source == [*ids(before), *ids("<AssertPlaceHolder>"), *ids(after), end, *ids(FOCAL), end]
    assert encoder.target("size();", 512) == [*ids("size();"), end]
    assert encoder.target("size();", 3) == ids("size();")[:3]
    assert len(encoder.source(Sample(TEST, FOCAL, ()), 16)) == 16


def test_a_header_remembers_the_format_and_an_old_one_has_the_default(tmp_path):
    header = Header("t", "f", 5, "dense", None, 16, 8, "", 0, text_format=OTHER)
    path = tmp_path / "file.jsonl"
    path.write_text(header.line())
    assert read_header(path) == header
    old = json.loads(header.line())
    del old["distillation_header"]["text_format"]
    path.write_text(json.dumps(old))
    assert read_header(path).text_format == TextFormat()
    old["distillation_header"]["text_format"] = {"frame": "of next year"}
    path.write_text(json.dumps(old))
    with pytest.raises(UserError, match="of next year"):
        read_header(path)


def test_a_model_folder_remembers_the_format(tokenizer, tmp_path):
    model = build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="sdpa", seed=0)
    assert TextFormat.of_model(model) == TextFormat()
    OTHER.store_in(model)
    save_model(model, tokenizer, tmp_path / "model")
    assert TextFormat.of_model(load_model(str(tmp_path / "model"))) == OTHER
