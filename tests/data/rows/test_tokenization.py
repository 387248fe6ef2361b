"""How texts become token ids, and that files and models remember it."""

from __future__ import annotations

import json

import pytest

from data.distillation.file import Header, read_header
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder, TextFormat
from models.seq2seq.loading import build_scratch, load_model, save_model, train_tokenizer
from tests.helpers.published import make_roberta_files, make_unigram
from utils.errors import UserError

TEST = "@Test void adds() { list.add(1); <AssertPlaceHolder> }"
FOCAL = "int size() { return size; }"
CONTROL = ['assertEquals("<s>a</s>", out);', 'f("<mask>", " <pad>", "<unk>");', 'g("<extra_id_3>", \'<\', "< s>");']
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


@pytest.fixture(scope="module", params=["scratch", "roberta", "roberta with sentinels", "unigram"])
def any_tokenizer(request, tmp_path_factory):
    texts = [TEST, FOCAL, *CONTROL] * 4
    if request.param == "scratch":
        return train_tokenizer(texts, 320)
    if request.param == "unigram":
        return make_unigram(texts)
    found = make_roberta_files(tmp_path_factory.mktemp("roberta"), texts)
    if request.param.endswith("sentinels"):
        found.add_tokens(["<extra_id_3>"])
    return found


@pytest.mark.parametrize("text", CONTROL)
@pytest.mark.parametrize("frame", ["end", "tokenizer"])
def test_user_text_is_never_taken_for_control_tokens(any_tokenizer, text, frame):
    """Neither in targets nor in inputs; and what a model writes with these ids is the text again."""
    encoder = TaskEncoder(any_tokenizer, TextFormat(frame))
    labels = encoder.target(text, 512)
    inner = labels[len(encoder.begin) : -1]
    control = {any_tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "</s>", "<pad>", "<mask>")}
    control = {index for index in control if index is not None} - {any_tokenizer.unk_token_id}
    assert control.isdisjoint(inner) and labels[-1] == any_tokenizer.eos_token_id
    back = any_tokenizer.decode(labels, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(back.split()) == "".join(text.split())
    sample = Sample(f"void t() {{ {text} <AssertPlaceHolder> }}", text, ())
    begin, ids = encoder.begin, encoder.source(sample, 512)
    separators = 2 if frame == "end" or any_tokenizer.sep_token_id in (None, any_tokenizer.eos_token_id) else 1
    assert sum(index in control for index in ids) == len(begin) + separators


def test_the_tokenizers_own_frame(tmp_path):
    tokenizer = make_roberta_files(tmp_path, [TEST, FOCAL])
    encoder = TaskEncoder(tokenizer, TextFormat("tokenizer"))
    for text in ("size();", "x"):
        assert encoder.target(text, 512) == tokenizer(text)["input_ids"]
    source = encoder.source(Sample(TEST, FOCAL, ()), 512)
    assert source[0] == tokenizer.bos_token_id and source[-1] == tokenizer.eos_token_id
    assert source[1:] == TaskEncoder(tokenizer, TextFormat()).source(Sample(TEST, FOCAL, ()), 512)
    assert len(encoder.source(Sample(TEST, FOCAL, ()), 16)) == 16


@pytest.mark.parametrize("frame", ["end", "tokenizer"])
def test_the_nearest_assertion_ends_the_input_as_it_would_be_written(tmp_path, frame):
    encoder = TaskEncoder(
        make_roberta_files(tmp_path, [TEST, FOCAL]), TextFormat(frame, ("siblings",), nearest_apart=True)
    )
    sample = Sample(TEST, FOCAL, (), context={"siblings": [{"assertion": "size();"}]})
    target = encoder.target("size();", 512)
    source = encoder.source(sample, 512)
    assert source[-len(target) :] == target
    before, *marks = source[-len(target) - 4 : -len(target)]
    assert marks == [encoder.separator] * 3 and before != encoder.separator
