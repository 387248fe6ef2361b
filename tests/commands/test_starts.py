"""The start of a run as the user meets it: a failed one is no hindrance, and what differs from the flags is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.commands import SMALL, make_rows, run_script, write_rows

TEACHER = "train_codet5_assertions.py"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that was first started with a wrong flag, then right: its folder and what it said."""
    folder = tmp_path_factory.mktemp("started")
    rows = make_rows(60, 7)
    for number, row in enumerate(rows):  # three classes, so no split has a fifth of the rows
        row["source"] = {"project": "p", "test_class": f"p.T{number % 3}", "focal_class": f"p.F{number % 3}"}
        row["focal_method"] += f" // {number % 3}"
    data = write_rows(folder / "all.jsonl", rows)
    words = [TEACHER, "--data_path", data, "--validation_split", "0.2", "--output_dir", folder / "run", "--seed", "5"]
    words += ["--enable_epoch_sampling", "--max_train_samples", "1000", "--scratch_vocab_size", "400", "--epochs", "1"]
    words += ["--no_create_distillation_dataset", *SMALL]
    (folder / "empty").mkdir()
    failed = run_script(*words, "--model_name", "scratch:tiny", "--tokenizer_name", folder / "empty", check=False)
    assert failed.returncode == 2 and (folder / "run/run_config.json").exists()
    done = run_script(*words, "--model_name", "scratch:tiny")
    return folder / "run", done.stdout + done.stderr


def test_after_a_failed_start_the_corrected_command_runs_and_is_recorded(started: tuple[Path, str]) -> None:
    folder, _ = started
    assert json.loads((folder / "run_config.json").read_text())["config"]["tokenizer_name"] is None
    again = run_script(TEACHER, "--data_path", folder.parent / "all.jsonl", "--output_dir", folder, check=False)
    assert again.returncode == 2 and "holds a run already" in again.stderr  # now it does


def test_a_split_that_misses_its_share_is_told(started: tuple[Path, str]) -> None:
    folder, output = started
    rows = len((folder / "split_validation.jsonl").read_text().splitlines())
    assert rows == 20
    assert f"--validation_split 0.2: {rows / 60:.1%} of the rows validate" in output


def test_sampling_that_draws_everything_is_told_and_coverage_logged(started: tuple[Path, str]) -> None:
    _, output = started
    assert "--enable_epoch_sampling has no effect" in output and "lower --max_train_samples 1000" in output
    assert "epoch 1: 100.0% of the training file used so far" in output


def test_both_models_have_a_card_that_counts_the_rows(started: tuple[Path, str]) -> None:
    folder, _ = started
    rows = len((folder / "split_training.jsonl").read_text().splitlines())
    for name in ("final_model", "best_model"):
        assert f"`all.jsonl`, {rows} samples, drawn again each epoch" in (folder / name / "README.md").read_text()
