"""An exported folder that is not whole, or that this machine cannot run: one line each, and never a wrong answer."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from models.exported.convert import convert
from models.exported.loading import open_model
from models.seq2seq.loading import build_scratch, load_model, save_model, train_tokenizer
from tests.helpers.model_families import make_family
from utils.errors import UserError

LONGEST = (60, 32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole")
    tokenizer = train_tokenizer(["assertEquals(1, x);"] * 4, 300)
    save_model(build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="sdpa", seed=0), tokenizer, place / "model")
    (place / "exported").mkdir()
    convert(open_model(str(place / "model"), "MODEL", "cpu", LONGEST), "model", place / "exported", "int8", 96, 32)
    return place / "exported"


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "exported"))


def refusal(name: Path, device: str = "cpu") -> str:
    with pytest.raises(UserError) as error:
        open_model(str(name), "MODEL", device, LONGEST)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_folder_opens(folder):
    assert open_model(str(folder), "MODEL", "cpu", LONGEST).size_bytes == (folder / "model.bin").stat().st_size
    (folder / "README.md").write_text("with a remark", encoding="utf-8")  # a card may change
    open_model(str(folder), "MODEL", "cpu", LONGEST)


@pytest.mark.parametrize("file", ["export.json", "tokenizer.json", "tokenizer_config.json", "model.bin", "config.json"])
def test_a_missing_file(folder, file):
    (folder / file).unlink()
    assert f"half an export, {file} is missing" in refusal(folder)


def test_a_file_that_was_not_copied_to_its_end(folder):
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content[:-1])
    assert f"model.bin has {len(content) - 1:,} bytes instead of {len(content):,}" in refusal(folder)


@pytest.mark.parametrize("text", ["", '{"engine": "ctranslate2', "[]", '{"engine": "x", "unknown": 1}'])
def test_an_unreadable_note(folder, text):
    (folder / "export.json").write_text(text, encoding="utf-8")
    assert "export.json cannot be read" in refusal(folder)


def test_a_damaged_file_of_the_right_size(folder):
    size = (folder / "model.bin").stat().st_size
    (folder / "model.bin").write_bytes(b"\xff" * size)
    assert "the engine cannot load" in refusal(folder)


def test_a_quantisation_that_the_processor_lacks(folder, monkeypatch, tmp_path):
    import ctranslate2

    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda device: {"float32"})
    assert "quantization int8: this cpu cannot compute so; it can float32" in refusal(folder)


def test_another_device(folder):
    assert "runs on cpu or cuda" in refusal(folder, "mps")


def test_without_the_engine(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert refusal(folder) == "exported models need ctranslate2; pip install ctranslate2"


def test_training_does_not_take_an_export(folder):
    with pytest.raises(UserError, match="an exported model, which can only write; give the original"):
        load_model(str(folder))


def test_an_export_is_not_exported_again(folder, tmp_path):
    with pytest.raises(UserError, match="already an exported model"):
        convert(open_model(str(folder), "MODEL", "cpu", LONGEST), "x", tmp_path / "again", "int8", 96, 32)


@pytest.mark.parametrize("family", ["plbart", "longt5"])
def test_what_the_engine_does_not_know(family, tmp_path):
    model = open_model(str(make_family(family, tmp_path / family)), "MODEL", "cpu", LONGEST)
    (tmp_path / "target").mkdir()
    with pytest.raises(UserError, match=rf"MODEL x: CTranslate2 \S+ cannot run a {family} model") as error:
        convert(model, "x", tmp_path / "target", "int8", 96, 32)
    assert "\n" not in str(error.value)
