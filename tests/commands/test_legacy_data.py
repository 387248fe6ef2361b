"""Distillation files of the published writer, without a header, as the training command meets them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from data.rows.tokenization import TextFormat
from models.seq2seq.loading import load_model
from tests.helpers.commands import SMALL, make_rows
from tests.helpers.forked import run
from tests.helpers.published import make_roberta_files, make_t5, model_logits, sure_logits, write_published

ROWS = make_rows(16, 3)
TEXTS = [" ".join([row["test_method_masked"], row["focal_method"], *row["assertions"]]) for row in ROWS]
FACTOR = 27.7


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a T5 with d_model 64, whose tokenizer frames texts."""
    folder = tmp_path_factory.mktemp("teacher")
    make_t5(folder, len(make_roberta_files(folder, TEXTS)), spread=3.0)
    return folder


def words(folder: Path, teacher: Path, *more: object) -> list[object]:
    data = ["--train_data_path", folder / "train.jsonl", "--val_data_path", folder / "val.jsonl"]
    model = ["--model_name", "scratch:tiny", "--tokenizer_name", teacher, "--dropout_rate", 0]
    loss = ["--loss_components", "kl", "--embedding_model", "none", "--temperature", 4, "--temperature_final", 4]
    return ["knowledge_distillation.py", *data, *model, *loss, *SMALL, "--no_run_report", *more]


def write(folder: Path, teacher: Path, factor: float) -> Path:
    """Both files with the same sure teacher's logits, ``factor`` times too large."""
    from transformers import AutoTokenizer

    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    for name in ("train", "val"):
        write_published(folder / f"{name}.jsonl", ROWS, tokenizer, sure_logits(len(tokenizer)), factor=factor)
    return folder


def divergence(folder: Path, teacher: Path, name: str, *flags: object) -> float:
    """The first step's kl of a student of one seed."""
    short = ["--max_steps", 1, "--no_final_evaluation", "--validation_frequency", 0, "--output_dir", folder / name]
    run(*words(folder, teacher, *short, *flags))
    with open(folder / name / "step_metrics.csv", newline="") as handle:
        return float(next(csv.DictReader(handle))["kl_loss_raw"])


def test_a_scale_in_doubt_is_asked_for_and_the_answer_is_what_is_taught(teacher: Path, tmp_path: Path) -> None:
    scaled, plain = write(tmp_path / "scaled", teacher, FACTOR), write(tmp_path / "plain", teacher, 1.0)
    asked = run(*words(scaled, teacher, "--dry_run"), code=2)
    assert "error: " in asked and "--legacy_logit_scale none" in asked and "27.7 for 768" in asked
    right = divergence(plain, teacher, "run", "--legacy_logit_scale", "none")
    answered = divergence(scaled, teacher, "answered", "--legacy_logit_scale", FACTOR)
    assert answered == pytest.approx(right, rel=2e-3)
    denied = divergence(scaled, teacher, "denied", "--legacy_logit_scale", "none")
    assert denied > 1.2 * right  # a one-hot at T = 4
    assert TextFormat.of_model(load_model(str(scaled / "answered" / "final_model"))).frame == "tokenizer"
    # The rows are those of the labels; one row on, the teacher is sure of other tokens.
    shifted = divergence(scaled, teacher, "shifted", "--legacy_logit_scale", FACTOR, "--legacy_offset", 0)
    assert shifted != pytest.approx(right, rel=2e-2)
    output = run(*words(scaled, teacher, "--legacy_logit_scale", FACTOR, "--legacy_offset", 1, "--dry_run"))
    assert "row 1 of the logits predicts the first token" in output and f"divided by {FACTOR}" in output


def test_a_teacher_in_whose_folder_the_data_lie_is_asked_first(teacher: Path, tmp_path: Path) -> None:
    """A factor of 8 is too small to be told from a sure teacher by its range."""
    from transformers import AutoTokenizer

    folder = tmp_path / "run"
    shutil.copytree(teacher, folder / "final_model")
    tokenizer, model = AutoTokenizer.from_pretrained(teacher), load_model(str(teacher))
    for name in ("train", "val"):
        write_published(folder / f"{name}.jsonl", ROWS, tokenizer, model_logits(model, tokenizer, shrink=False))
    own = ["--legacy_offset", 1, "--dry_run"]
    output = run(*words(folder, teacher, *own))
    assert output.count("divided by 8") == 2 and f"times those of {folder / 'final_model'}" in output
    # Of another teacher they cannot be: the question stays, with the reason.
    make_t5(folder / "final_model", len(tokenizer), seed=5, spread=3.0)
    asked = run(*words(folder, teacher, *own), code=2)
    assert "are not its own" in asked and "--legacy_logit_scale none" in asked
