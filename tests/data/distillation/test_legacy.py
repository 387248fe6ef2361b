"""Files without a header, as the published writer makes them: frame and scale are found, or asked for."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from data.dataset import AssertionDataset, Item
from data.distillation.file import read_header
from data.distillation.legacy import LegacyOptions
from data.rows.tokenization import TextFormat
from models.seq2seq.loading import load_model, load_tokenizer, train_tokenizer
from tests.helpers.commands import SMALL, make_rows, run_here, run_script
from tests.helpers.published import (
    make_roberta_files,
    make_t5,
    model_logits,
    sure_logits,
    write_published,
)
from utils.errors import UserError

ROWS = make_rows(12, 3)
TEXTS = [" ".join([row["test_method_masked"], row["focal_method"], *row["assertions"]]) for row in ROWS]
FACTOR = math.sqrt(64)


@pytest.fixture(scope="module")
def framed(tmp_path_factory):
    """A folder with a tokenizer that frames texts and a T5 of its vocabulary."""
    folder = tmp_path_factory.mktemp("published")
    tokenizer = make_roberta_files(folder, TEXTS)
    assert type(tokenizer).__name__.startswith("RobertaTokenizer") and tokenizer("")["input_ids"] == [1, 2]
    return folder, tokenizer, make_t5(folder, len(tokenizer), spread=3.0)


def items(dataset):
    found = [dataset[i] for i in range(len(dataset))]
    assert all(isinstance(item, Item) for item in found), found
    return found


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_a_framed_file_teaches_its_own_labels(framed, tmp_path, wrong):
    _, tokenizer, _ = framed
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer), wrong=wrong))
    dataset = AssertionDataset(path, tokenizer)
    assert dataset.encoder.format.frame == "tokenizer" and "row 1 of the logits" in dataset.note
    agree = 0.0
    for item in items(dataset):
        target = item.sample.target
        assert item.labels == tokenizer(target)["input_ids"]
        agree += (item.teacher.logits.argmax(1) == item.labels).mean() / len(ROWS)
    assert agree == 1.0 if not wrong else 0.3 < agree < 0.7


def test_a_student_of_the_old_frame_gets_the_rows_of_its_labels(framed, tmp_path):
    _, tokenizer, _ = framed
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer)))
    for item in items(AssertionDataset(path, tokenizer, text_format=TextFormat("end"))):
        assert item.labels == tokenizer(item.sample.target)["input_ids"][1:]
        assert item.teacher.logits.argmax(1).tolist() == item.labels


def test_a_file_without_a_begin_token_stays_as_it_is(tmp_path):
    plain = train_tokenizer(TEXTS, 320)
    rows = [{**row, "assertions": [row["assertions"][0]]} for row in ROWS]

    def ended(row, labels):
        return sure_logits(len(plain))(row, [*plain(row["assertions"][0])["input_ids"], plain.eos_token_id, 0, 0])

    dataset = AssertionDataset(write_published(tmp_path / "old.jsonl", rows, plain, ended), plain)
    assert dataset.encoder.format.frame == "end"
    for item in items(dataset):
        assert item.teacher.logits.argmax(1).tolist() == item.labels


def test_a_teacher_that_agrees_nowhere_leaves_it_in_doubt(framed, tmp_path):
    _, tokenizer, _ = framed
    noise = sure_logits(len(tokenizer), height=0.0)
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, noise)
    with pytest.raises(UserError, match="--legacy_offset"):
        AssertionDataset(path, tokenizer)
    dataset = AssertionDataset(path, tokenizer, legacy=LegacyOptions("1"))
    assert dataset.encoder.format.frame == "tokenizer" and len(items(dataset)) == len(ROWS)
    assert AssertionDataset(path, tokenizer, legacy=LegacyOptions("0")).encoder.format.frame == "end"


def test_logits_of_another_tokenizer_leave_it_in_doubt(tmp_path):
    """A tokenizer without a begin token says nothing of the offset, so only an agreement can."""
    rows = make_rows(40, 5)
    theirs, ours = train_tokenizer(TEXTS, 320), train_tokenizer([text[::-1] for text in TEXTS], 320)
    assert len(theirs) == len(ours)
    path = write_published(tmp_path / "old.jsonl", rows, theirs, sure_logits(len(theirs)))
    assert len(items(AssertionDataset(path, theirs))) == 40
    with pytest.raises(UserError, match="the tokenizer is not the teacher's"):
        AssertionDataset(path, ours)


def test_rows_of_todays_program_need_their_header(teacher_run, tmp_path):
    path, cut = teacher_run / "distillation_data_training.jsonl", tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    tokenizer = load_tokenizer(str(teacher_run / "final_model"))
    with pytest.raises(UserError, match="is not the header"):
        AssertionDataset(cut, tokenizer)
    assert len(AssertionDataset(cut, tokenizer, teacher=False)) > 0  # as raw rows they still serve


def test_joined_files_are_refused(teacher_run, tmp_path):
    path, both = teacher_run / "distillation_data_training.jsonl", tmp_path / "both.jsonl"
    both.write_bytes(2 * path.read_bytes())
    shutil.copy(f"{path}.shared.safetensors", f"{both}.shared.safetensors")
    with pytest.raises(UserError, match="a second header: files were joined"):
        AssertionDataset(both, load_tokenizer(str(teacher_run / "final_model")))


@pytest.mark.parametrize(("given", "divisor"), [("auto", None), ("none", 1.0), ("27.7", 27.7)])
def test_scaled_logits_are_asked_about_where_no_teacher_tells(framed, tmp_path, given, divisor):
    _, tokenizer, _ = framed
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer)), factor=27.7)
    options = LegacyOptions("auto", given)
    if divisor is None:
        with pytest.raises(UserError, match="--legacy_logit_scale"):
            AssertionDataset(path, tokenizer, legacy=options)
        return
    found = items(AssertionDataset(path, tokenizer, legacy=options))
    spread = np.median([item.teacher.logits.std(1).mean() for item in found])
    assert spread == pytest.approx(27.7 / divisor, rel=0.4)


@pytest.mark.parametrize("height", [15.0, 60.0, 400.0])
def test_a_sure_teacher_is_not_taken_for_a_scaled_one(framed, tmp_path, height):
    """Also beside the configuration of a T5, which would tell the factor."""
    _, tokenizer, _ = framed
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer), height))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "t5", "d_model": 768, "vocab_size": len(tokenizer)})
    )
    item = items(AssertionDataset(path, tokenizer))[0]
    assert item.teacher.logits.max() > 0.9 * height


@pytest.mark.parametrize(("d_model", "found"), [(768, math.sqrt(768)), (1024, 32.0)])
def test_the_configuration_beside_the_data_tells_the_factor(framed, tmp_path, d_model, found):
    _, tokenizer, _ = framed
    path = write_published(
        tmp_path / "old.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer), wrong=0.3), factor=math.sqrt(d_model)
    )
    settings = {"model_type": "t5", "d_model": d_model, "vocab_size": len(tokenizer)}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    dataset = AssertionDataset(path, tokenizer)
    assert f"divided by {found:.4g}" in dataset.note and "config.json" in dataset.note
    (tmp_path / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    assert "as they are" in AssertionDataset(path, tokenizer).note  # such a head has no factor to lack


@pytest.mark.parametrize("shrink", [True, False])
def test_the_teachers_own_forward_tells_the_factor(framed, tmp_path, capsys, shrink):
    """A d_model of 64 makes the factor 8: no range would tell it from a sure teacher."""
    folder, tokenizer, model = framed
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, model_logits(model, tokenizer, shrink))
    words = ["--encoding", "dense", "--compression_bits", 32, "--tokenizer", folder, "--legacy_offset", 1]
    done = run_here("scripts/convert_distillation_data.py", path, tmp_path / "new.jsonl", *words, "--teacher", folder)
    assert done.returncode == 0, done.stderr
    assert ("as they are" if shrink else "divided by 8") in done.stdout
    header = read_header(tmp_path / "new.jsonl")
    assert header.text_format.frame == "tokenizer" and header.teacher == str(folder)
    exact = model_logits(model, tokenizer, shrink=True)
    for row, item in zip(ROWS, items(AssertionDataset(tmp_path / "new.jsonl", tokenizer)), strict=True):
        np.testing.assert_allclose(item.teacher.logits, exact(row, item.labels), rtol=2e-2, atol=2e-2)


def test_another_teacher_is_refused(framed, tmp_path):
    folder, tokenizer, _ = framed
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer)))
    words = ["--encoding", "topk", "--tokenizer", folder, "--teacher", folder]
    done = run_here("scripts/convert_distillation_data.py", path, tmp_path / "new.jsonl", *words, check=False)
    assert done.returncode == 2 and "are not its own" in done.stderr and not (tmp_path / "new.jsonl").exists()


def test_inspection_shows_offset_agreement_and_entropy(framed, tmp_path):
    folder, tokenizer, _ = framed
    path = write_published(tmp_path / "old.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer)))
    done = run_here("scripts/inspect_distillation_data.py", path, "--tokenizer", folder, "--json")
    found = json.loads(done.stdout)
    assert found["labels"]["offset"] == 1 and found["labels"]["agreement"]["1"] == 1.0
    assert found["labels"]["agreement"]["0"] < 0.2 and 0 <= found["entropy"] < 0.5
    text = run_here("scripts/inspect_distillation_data.py", path, "--tokenizer", folder).stdout
    assert "offset 1" in text and "entropy" in text
    converted = tmp_path / "new.jsonl"
    run_here("scripts/convert_distillation_data.py", path, converted, "--encoding", "topk", "--tokenizer", folder)
    again = tmp_path / "again.jsonl"
    run_here("scripts/convert_distillation_data.py", converted, again, "--encoding", "topk", "--topk", 8)
    done = run_here("scripts/inspect_distillation_data.py", again, "--json")  # its tokenizer lies beside it
    assert json.loads(done.stdout)["labels"]["agreement"]["0"] == 1.0


@pytest.mark.slow
def test_a_student_that_learns_a_corrected_file_by_heart_writes_its_targets(framed, tmp_path):
    folder, tokenizer, _ = framed
    files = []
    for name in ("training", "validation"):
        old = write_published(tmp_path / "old.jsonl", ROWS[:5], tokenizer, sure_logits(len(tokenizer)), factor=32.0)
        files.append(tmp_path / f"{name}.jsonl")
        words = ["--encoding", "topk", "--tokenizer", folder, "--legacy_logit_scale", 32]
        assert run_here("scripts/convert_distillation_data.py", old, files[-1], *words).returncode == 0
    words = ["--train_data_path", files[0], "--val_data_path", files[1], "--embedding_model", "none"]
    words += ["--model_name", "scratch:tiny", "--tokenizer_name", folder, "--loss_components", "kl"]
    words += ["--temperature", 1, "--temperature_final", 1, "--dropout_rate", 0, "--validation_frequency", 0]
    words += ["--epochs", 250, "--no_run_report", *SMALL, "--gradient_accumulation_steps", 1, "--lr", 4e-3]
    run_script("knowledge_distillation.py", *words, "--output_dir", tmp_path / "run")
    lines = (tmp_path / "run" / "predictions_final.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [[row["prediction"]] for row in rows] == [row["reference"] for row in rows]
    assert TextFormat.of_model(load_model(str(tmp_path / "run" / "final_model"))).frame == "tokenizer"
