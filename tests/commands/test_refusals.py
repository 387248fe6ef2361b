"""What the command line alone shows to be wrong is said at once, before torch is loaded, and names what is right."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.helpers.commands import make_rows, run_script, write_rows

STUDENT, TEACHER = "knowledge_distillation.py", "train_codet5_assertions.py"
EVALUATION = "evaluation/evaluate_assertions.py"
FILES = ["--train_data_path", "{train}", "--val_data_path", "{val}"]
REFUSED: dict[str, tuple[list[str], str]] = {
    "device": ([STUDENT, *FILES, "--device", "gpu"], "--device gpu: unknown; allowed: auto, cpu, cuda, cuda:N, mps"),
    "size": ([STUDENT, *FILES, "--model_name", "scratch:huge"], "scratch:huge: unknown size; allowed: scratch:tiny"),
    "model folder": ([TEACHER, *FILES, "--model_name", "./none"], "--model_name ./none: no such folder"),
    "live teacher": ([STUDENT, *FILES, "--teacher_model", "/a/b"], "--teacher_model /a/b: no such folder"),
    "tokenizer": ([STUDENT, *FILES, "--tokenizer_name", "{train}"], "--tokenizer_name {train}: a file"),
    "run folder": (
        [STUDENT, *FILES, "--model_name", "{run}"],
        "--model_name {run}: the folder of a run; its model is in {run}/final_model",
    ),
    "judged run folder": (
        [EVALUATION, "--teacher_data", "{val}", "--student_model_path", "{run}"],
        "--student_model_path {run}: the folder of a run; its model is in {run}/final_model",
    ),
    "no encoder": (
        [STUDENT, *FILES, "--embedding_model", "none"],
        "--embedding_model none: the loss component semantic",
    ),
    "no contrast": (
        [STUDENT, *FILES, "--loss_components", "ce", "contrastive", "--contrastive_encoder", "none"],
        "--contrastive_encoder none: the loss component contrastive",
    ),
    "folder in use": ([TEACHER, *FILES, "--output_dir", "{run}"], "--output_dir {run}: holds a run already"),
    "no file": ([STUDENT, *FILES[:-1], "{train}x"], "--val_data_path: {train}x does not exist"),
    "gzip": ([STUDENT, *FILES[:-1], "{gzip}"], "--val_data_path: {gzip} is compressed: unpack it first"),
    "array": ([TEACHER, "--data_path", "{array}"], "--data_path: {array} is a JSON array"),
    "foreign": (
        [EVALUATION, "--teacher_data", "{foreign}"],
        "--teacher_data: {foreign} has other fields (input, label)",
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("refused")
    rows = make_rows(3, 1)
    write_rows(folder / "train", rows)
    write_rows(folder / "val", make_rows(3, 2))
    write_rows(folder / "foreign", [{"input": "a", "label": "b"}])
    (folder / "gzip").write_bytes(gzip.compress(json.dumps(rows[0]).encode()))
    (folder / "array").write_text(json.dumps(rows, indent=1))
    (folder / "run/final_model").mkdir(parents=True)
    (folder / "run/final_model/config.json").write_text("{}")
    (folder / "run/run_config.json").write_text("{}")
    stub = folder / "path"
    stub.mkdir()
    for package in ("torch", "transformers"):
        (stub / f"{package}.py").write_text(f"raise SystemExit('{package} was imported')")
    names = ("train", "val", "foreign", "gzip", "array", "run", "path")
    return {name: str(folder / name) for name in names}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_command_line_is_refused_before_torch_is_loaded(kind: str, places: dict[str, str]) -> None:
    words, message = REFUSED[kind]
    done = run_script(*(word.format(**places) for word in words), check=False, PYTHONPATH=places["path"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message.format(**places) in done.stderr
    assert done.stderr.count("\n") == 1


def test_raw_validation_data_beside_distilled_training_data_are_named(
    teacher_run: Path, raw_data: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["--train_data_path", teacher_run / "distillation_data_training.jsonl", "--val_data_path", raw_data[1]]
    words += ["--model_name", "scratch:tiny", "--embedding_model", "embedded:minilm", "--device", "cpu", "--dry_run"]
    refused = run_script(STUDENT, *words, check=False)
    assert refused.returncode == 2
    assert f"--val_data_path {raw_data[1]}: raw rows without the teacher's logits" in refused.stderr
    assert "leave jsd out of the loss" in refused.stderr


def test_a_bad_row_is_counted_from_1(raw_data: tuple[Path, Path], tmp_path: Path) -> None:
    rows = raw_data[1].read_text().splitlines(keepends=True)
    (tmp_path / "bad.jsonl").write_text("".join([*rows[:4], "{\n", *rows[4:]]))
    words = [
        "--train_data_path",
        tmp_path / "bad.jsonl",
        "--val_data_path",
        raw_data[0],
        "--model_name",
        "scratch:tiny",
    ]
    refused = run_script(TEACHER, *words, "--strict", "--dry_run", "--batch_size", 32, "--device", "cpu", check=False)
    assert refused.returncode == 2
    assert f"{tmp_path / 'bad.jsonl'} row 5: not valid JSON" in refused.stderr
