"""Every family of models on the whole road: fine-tuned, stopped, resumed, distilled into a student, evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tests.helpers.commands import SMALL, make_rows, write_rows
from tests.helpers.forked import run
from tests.helpers.model_families import FAMILIES, make_family

SHORT = [*SMALL, "--no_run_report", "--use_enhanced_metrics", "false", "--dropout_rate", "0", "--warmup_ratio", "0"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("rows")
    return write_rows(folder / "train.jsonl", make_rows(32, 1)), write_rows(folder / "val.jsonl", make_rows(4, 2))


def teacher(model: Path, rows: tuple[Path, Path], folder: Path, *more: object) -> list[object]:
    data = ["--train_data_path", rows[0], "--val_data_path", rows[1]]
    return ["train_codet5_assertions.py", *data, "--model_name", model, "--output_dir", folder, "--epochs", 1,
            "--compression_workers", 0, *SHORT, *more]  # fmt: skip


def student(data: Path, model: object, folder: Path, *more: object) -> list[object]:
    words = ["--train_data_path", data / "distillation_data_training.jsonl"]
    words += ["--val_data_path", data / "distillation_data_validation.jsonl"]
    return ["knowledge_distillation.py", *words, "--model_name", model, "--output_dir", folder, "--epochs", 1,
            "--loss_components", "ce", "kl", "--embedding_model", "none", *SHORT, *more]  # fmt: skip


# These two differ most from what the other tests train; all of them run with make soak.
QUICK = ("t5_v1.1", "plbart")
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.mark.parametrize("family", ALL)
def test_a_family_is_a_teacher_and_a_student(family: str, rows: tuple[Path, Path], tmp_path: Path) -> None:
    model = make_family(family, tmp_path / "model")
    # Two steps at once, and one, a stop, and the other: the same weights.
    run(*teacher(model, rows, tmp_path / "whole", "--no_create_distillation_dataset"))
    parts = tmp_path / "parts"
    run(*teacher(model, rows, parts, "--max_steps", 1, "--no_create_distillation_dataset"))
    run(*teacher(model, rows, parts, "--max_steps", 2, "--resume", "auto"))
    whole, again = (
        load_file(folder / "checkpoint-0000002/model.safetensors") for folder in (tmp_path / "whole", parts)
    )
    assert whole.keys() == again.keys()
    assert [name for name, value in whole.items() if not torch.equal(value, again[name])] == []
    # What it wrote is a plain model of the same class, and its knowledge fits a smaller copy of itself.
    saved = AutoModelForSeq2SeqLM.from_pretrained(parts / "final_model")
    assert type(saved) is type(AutoModelForSeq2SeqLM.from_pretrained(model))
    tokenizer = AutoTokenizer.from_pretrained(parts / "final_model")
    text = "assertEquals(12, box.getCount());"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text
    cut = ["--student_encoder_layers", 2, "--student_decoder_layers", 1]
    run(*student(parts, parts / "final_model", tmp_path / "student", *cut))
    summary = json.loads((tmp_path / "student" / "metrics_summary_final.json").read_text())
    for name in ("f1", "token_accuracy"):
        assert summary["student"][name]["value"] is not None and summary["teacher"][name]["value"] is not None


def test_a_scratch_student_follows_a_padded_vocabulary(rows: tuple[Path, Path], tmp_path: Path) -> None:
    model = make_family("codet5p", tmp_path / "model")
    run(*teacher(model, rows, tmp_path / "teacher", "--max_steps", 1))
    run(*student(tmp_path / "teacher", "scratch:tiny", tmp_path / "student", "--no_final_evaluation"))
    padded, small = (
        AutoModelForSeq2SeqLM.from_pretrained(folder / "final_model").config.vocab_size
        for folder in (tmp_path / "teacher", tmp_path / "student")
    )
    assert padded == small > len(AutoTokenizer.from_pretrained(model))
    live = ["--teacher_model", tmp_path / "teacher" / "final_model", "--no_final_evaluation"]
    run(*student(tmp_path / "teacher", "scratch:tiny", tmp_path / "live", *live))


def test_longer_texts_than_a_model_has_positions_for_are_refused(rows: tuple[Path, Path], tmp_path: Path) -> None:
    """Without a word until the first long row, which ended the run (on a GPU all that followed as well)."""
    model = make_family("bart", tmp_path / "model")
    for flag in ("--max_input_len", "--max_output_len"):
        output = run(*teacher(model, rows, tmp_path / "run", flag, 161, "--dry_run"), code=2)
        assert f"error: {flag} 161: --model_name {model} has positions for 160 tokens; give at most" in output
