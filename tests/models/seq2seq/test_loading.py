"""Models: built here, cut from another, loaded from folders; clear words where they are missing."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from data.rows.readers import PLACEHOLDER
from models.seq2seq.folders import weight_files
from models.seq2seq.inputs import shift_right
from models.seq2seq.loading import (
    build_scratch,
    copy_layers,
    count_parameters,
    load_model,
    load_tokenizer,
    save_model,
    space_evenly,
    train_tokenizer,
)
from models.text_encoder.encoders import resolve_encoder
from tests.helpers.model_families import FAMILIES, make_family
from utils.errors import UserError

TEXTS = ["assertEquals(10, counter.getCount());", "public int getCount() { return count; }"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 400)


def make(tokenizer, size="small", seed=1):
    return build_scratch(size, tokenizer, dropout_rate=0.1, attention="sdpa", seed=seed).eval()


def forward(model, tokenizer):
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        return model(input_ids=ids, decoder_input_ids=shift_right(model, ids)).logits


def test_tokenizer_round_trips_java_and_knows_the_placeholder(tokenizer):
    text = 'assertEquals("ü\\n\t", x[12].foo());'
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer(PLACEHOLDER)["input_ids"]) == 1


def test_saved_model_loads_with_plain_transformers(tokenizer, tmp_path):
    model = make(tokenizer)
    save_model(model, tokenizer, tmp_path / "m")
    assert list((tmp_path / "m").glob("*.safetensors")) and not list((tmp_path / "m").glob("*.bin"))
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "m").eval()
    assert torch.equal(forward(again, AutoTokenizer.from_pretrained(tmp_path / "m")), forward(model, tokenizer))


def test_scratch_weights_depend_on_the_seed_alone(tokenizer):
    torch.manual_seed(99)
    one = make(tokenizer, seed=3)
    two = make(tokenizer, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.shared.weight, make(tokenizer, seed=4).shared.weight)


@pytest.mark.parametrize(
    ("kept", "total", "expected"),
    [(1, 6, [0]), (2, 6, [0, 5]), (3, 6, [0, 2, 5]), (4, 12, [0, 4, 7, 11]), (6, 6, list(range(6)))],
)
def test_layers_are_evenly_spaced_with_first_and_last(kept, total, expected):
    assert space_evenly(kept, total) == expected


def test_copied_student_holds_the_teachers_layers(tokenizer, tmp_path):
    teacher = make(tokenizer, "base")
    student = copy_layers(teacher, 3, 2)
    assert (len(student.encoder.block), len(student.decoder.block)) == (3, 2)
    assert student.config.layer_mapping == {"encoder": [0, 2, 5], "decoder": [0, 5]}
    for new, old in enumerate([0, 2, 5]):
        for a, b in zip(student.encoder.block[new].parameters(), teacher.encoder.block[old].parameters(), strict=True):
            assert torch.equal(a, b)
    save_model(student, tokenizer, tmp_path / "s")
    assert json.loads((tmp_path / "s" / "config.json").read_text())["layer_mapping"]["decoder"] == [0, 5]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_is_what_the_loaded_model_is(family, tmp_path):
    folder = make_family(family, tmp_path / "m")
    tokenizer, model = load_tokenizer(str(folder)), load_model(str(folder)).eval()
    own_head = model.get_output_embeddings().weight is not model.get_decoder().get_input_embeddings().weight
    assert own_head == (family in ("t5_v1.1", "mt5", "umt5", "longt5"))
    whole = copy_layers(model, None, None).eval()
    assert torch.equal(forward(whole, tokenizer), forward(model, tokenizer))
    small = copy_layers(model, 2, 1).eval()
    assert count_parameters(small) < count_parameters(model)
    for number, copied in enumerate((whole, small)):
        save_model(copied, tokenizer, tmp_path / f"copy{number}")
        again = load_model(str(tmp_path / f"copy{number}")).eval()
        assert torch.equal(forward(again, tokenizer), forward(copied, tokenizer))
        assert count_parameters(again) == count_parameters(copied)
    with torch.no_grad():
        next(small.parameters()).zero_()
    assert next(model.parameters()).any()  # the copy shares nothing with its origin


def test_bin_weights_are_read_where_they_are(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    model = make(tokenizer)
    save_model(model, tokenizer, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    assert torch.equal(forward(load_model(str(tmp_path / "old")).eval(), tokenizer), forward(model, tokenizer))
    assert not (tmp_path / "cache").exists()
    assert load_tokenizer(str(tmp_path / "old")).get_vocab() == tokenizer.get_vocab()


def test_a_text_encoder_of_bin_weights_is_the_same_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    packaged = resolve_encoder("embedded:minilm")
    folder = tmp_path / "old"
    packaged.model.config.save_pretrained(folder)
    packaged.tokenizer.save_pretrained(folder)
    torch.save(packaged.model.state_dict(), folder / "pytorch_model.bin")
    (folder / "modules.json").write_text(
        '[{"type": "models.Transformer", "path": ""}, {"type": "models.Pooling", "path": "1_Pooling"}]'
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    found = resolve_encoder(str(folder))
    assert found.pooling == "cls"
    texts = ["assertEquals(1, size);", "assertNull(name);"]
    ids = packaged.tokenizer(texts, return_tensors="pt", padding=True)
    first = torch.nn.functional.normalize(packaged.model(**ids).last_hidden_state[:, 0], dim=-1)
    np.testing.assert_allclose(found.encode(texts), first.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON file"),
        (
            lambda folder: drop_weights(folder / "model.safetensors", "decoder.block"),
            "weights are missing, for instance decoder.block",
        ),
    ],
)
def test_damaged_models_are_told_in_a_line(tokenizer, tmp_path, spoil, message):
    save_model(make(tokenizer, "tiny"), tokenizer, tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(UserError, match=message) as caught:
        load_model(str(tmp_path / "m"))
    assert "\n" not in str(caught.value)


def drop_weights(path, part):
    save_file({key: value for key, value in load_file(path).items() if part not in key}, path, {"format": "pt"})


def test_an_encoder_decoder_is_no_text_encoder(tokenizer, tmp_path):
    save_model(make(tokenizer, "tiny"), tokenizer, tmp_path / "m")
    with pytest.raises(UserError, match="is an encoder-decoder model, not a text encoder"):
        resolve_encoder(str(tmp_path / "m"))


def test_a_bin_that_would_run_code_is_refused(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    save_model(make(tokenizer), tokenizer, tmp_path / "bad")
    (tmp_path / "bad" / "model.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, tmp_path / "bad" / "pytorch_model.bin")
    with pytest.raises(UserError, match="Weights only load failed"):
        load_model(str(tmp_path / "bad"))
    assert not (tmp_path / "ran").exists()


def test_a_model_says_where_its_decoder_starts_and_generation_ends(tmp_path):
    """PLBART's files do not say it, and fine-tuned folders often hold no generation settings."""
    model = load_model(str(make_family("plbart", tmp_path / "m")))
    assert model.config.decoder_start_token_id == model.generation_config.decoder_start_token_id == 0
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (2, 1)


def test_a_kernel_that_a_family_lacks_is_replaced_in_a_line(tmp_path, capsys):
    folder = str(make_family("t5gemma", tmp_path / "m"))
    assert load_model(folder).config._attn_implementation == "eager"
    assert f"{folder}: has no sdpa attention" in capsys.readouterr().err
    load_model(folder, attention="eager")
    assert not capsys.readouterr().err


def leave_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 294364\n")


@pytest.mark.parametrize("name", ["vocab.json", "pytorch_model.bin", "config.json"])
@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_clone_without_its_large_files_is_told(load, name, tmp_path):
    folder = make_family("codet5", tmp_path / "m")
    leave_pointer(folder / name)
    with pytest.raises(UserError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        load(str(folder))


def test_quantised_weights_are_refused(tokenizer, tmp_path):
    save_model(make(tokenizer, "tiny"), tokenizer, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))
    with pytest.raises(UserError, match="quantised"):
        load_model(str(tmp_path / "m"))


def test_the_folder_of_a_run_names_its_model(tokenizer, tmp_path):
    save_model(make(tokenizer, "tiny"), tokenizer, tmp_path / "run" / "final_model")
    for load in (load_model, load_tokenizer):
        with pytest.raises(UserError, match=r"the folder of a run; its model is .*/run/final_model"):
            load(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("./nowhere", "no such folder"), ("a b", "not a hub name"), ("owner/model", "cannot be reached")],
)
def test_missing_models_say_what_to_do(name, message, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=message) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(122, "Disk quota exceeded", "/home/u/.cache/blob"), "/home/u/.cache/blob: Disk quota exceeded"),
        (PermissionError(13, "Permission denied", "/cache"), "/cache: Permission denied"),
        (OSError(30, "Read-only file system", "/cache"), "/cache: Read-only file system"),
        (OSError(28, "No space left on device"), "the cache: No space left on device"),
        (OSError(101, "Network is unreachable"), "the hub cannot be reached"),
        (PermissionError(13, "Permission denied"), "the hub cannot be reached"),  # a socket that a firewall forbids
    ],
)
def test_a_download_that_cannot_be_written_is_not_blamed_on_the_hub(error, message, monkeypatch):
    def fail(*words, **options):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(UserError, match=message) as caught:
        load_model("owner/model")
    assert ("HF_HOME" in str(caught.value)) is ("hub" not in message)


def test_what_a_trainer_stores_beside_the_weights_is_no_weight(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    model = make(tokenizer)
    save_model(model, tokenizer, tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    for name in ("optimizer.bin", "scheduler.bin", "scaler.bin", "training_args.bin"):
        torch.save({"param_groups": [{"lr": 1}], "state": {}}, tmp_path / "old" / name)
    assert [file.name for file in weight_files(tmp_path / "old")] == ["pytorch_model.bin"]
    loaded = load_model(str(tmp_path / "old"))
    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_asking_for_more_layers_than_there_are(tokenizer):
    with pytest.raises(UserError, match="--student_decoder_layers 9: the model has 2"):
        copy_layers(make(tokenizer), 1, 9)
