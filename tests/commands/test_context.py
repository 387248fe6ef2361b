"""The context on its way through the commands: teacher, its data, a student, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.commands import SMALL, make_rows, run_script, student_words, write_rows

CONTEXT = ["--context", "siblings", "fields", "--max_context_tokens", "40"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    files = []
    for name, count in (("training", 24), ("validation", 8)):
        rows = make_rows(count, seed=count)
        for row in rows:
            near = [
                {"assertion": other["assertions"][0], "test_name": "near"} for other in rows[:3] if other is not row
            ]
            row["context"] = {"siblings": near, "fields": ["Box box"], "doc": "Never shown."}
        files += [f"--{'train' if name == 'training' else 'val'}_data_path", write_rows(folder / f"{name}.jsonl", rows)]
    words = ["--model_name", "scratch:tiny", "--scratch_vocab_size", 400, "--epochs", 1, "--output_dir", folder / "run"]
    more = ["--validation_frequency", 0, "--no_run_report", "--compression_workers", 0]
    done = run_script("train_codet5_assertions.py", *files, *words, *more, *SMALL, *CONTEXT)
    assert "context        siblings fields in 40 tokens" in done.stdout + done.stderr
    return folder / "run"


def test_header_and_model_remember_what_was_shown(teacher: Path) -> None:
    header = json.loads((teacher / "distillation_data_training.jsonl").read_text().split("\n")[0])
    config = json.loads((teacher / "final_model" / "config.json").read_text())
    for stored in (header["distillation_header"]["text_format"], config["text_format"]):
        assert (stored["context"], stored["max_context_tokens"]) == (["siblings", "fields"], 40)
        assert stored["nearest_apart"]


def test_what_was_trained_before_keeps_its_layout(teacher: Path, tmp_path: Path) -> None:
    """A model, and a run, from before the nearest assertion stood apart go on without it."""
    data = teacher.parent
    files = ["--train_data_path", data / "training.jsonl", "--val_data_path", data / "validation.jsonl"]
    files += [*SMALL, *CONTEXT, "--scratch_vocab_size", 400, "--epochs", 1, "--validation_frequency", 0, "--dry_run"]
    old = tmp_path / "run"
    shutil.copytree(teacher, old)
    for place in (old / "final_model", *old.glob("checkpoint-*")):
        config = json.loads((place / "config.json").read_text())
        del config["text_format"]["nearest_apart"]
        (place / "config.json").write_text(json.dumps(config))
    further = ["--model_name", old / "final_model", "--output_dir", tmp_path / "next"]
    resumed = ["--model_name", "scratch:tiny", "--output_dir", old, "--resume", "auto"]
    fresh = ["--model_name", "scratch:tiny", "--output_dir", tmp_path / "next"]
    for words, shown in ((further, ""), (resumed, ""), (fresh, ", the nearest assertion apart")):
        done = run_script("train_codet5_assertions.py", *files, *words)
        assert f"context        siblings fields in 40 tokens{shown}\n" in done.stdout + done.stderr


def test_a_student_sees_what_its_teacher_saw_and_nothing_else_unless_allowed(teacher: Path, tmp_path: Path) -> None:
    def start(*more: str):
        done = run_script(*student_words(teacher, tmp_path / "run", "--dry_run", *more), check=False)
        return done.returncode, done.stdout + done.stderr

    code, said = start()
    assert code == 0 and "context        siblings fields in 40 tokens" in said
    code, said = start("--context", "none")
    assert code == 2 and "error: --context: no context is to be shown, but the teacher of " in said
    assert "saw siblings fields in 40 tokens" in said and "Traceback" not in said
    code, said = start("--context", "none", "--allow_other_context")
    assert code == 0 and "context        no context" in said
