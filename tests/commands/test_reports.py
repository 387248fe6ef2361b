"""Troubles that users of like programs have reported in public (docs/decisions.md lists them), run against this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.training.checkpoint import checkpoints
from tests.helpers.commands import ROOT, SMALL, make_rows, run_script, student_words, write_rows
from utils.errors import run_main

TEACHER = "train_codet5_assertions.py"


def dry_run(*words: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_script(TEACHER, "--model_name", "scratch:tiny", "--dry_run", *words, *SMALL, check=check, **environment)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    folder = tmp_path_factory.mktemp("data")
    rows = make_rows(40, 1)
    rows[3]["assertions"] = ['assertEquals("naïve → 日本", x);']
    train, val = write_rows(folder / "train ü.jsonl", rows), write_rows(folder / "val.jsonl", make_rows(20, 2))
    return ["--train_data_path", train, "--val_data_path", val]


def test_a_tilde_is_the_home_folder_wherever_it_stands(files: list[str | Path], tmp_path: Path) -> None:
    """The shell leaves --flag=~/x and a ~ in a JSON file alone; elsewhere that has made folders named "~"."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run_config.json").write_text("{}")
    (tmp_path / "run/final_model").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"output_dir": "~/run"}))
    for words in (["--output_dir=~/run"], ["--output_dir", "~/run"], ["--config=~/config.json"]):
        refused = run_script(TEACHER, *files, *words, check=False, HOME=str(tmp_path))
        assert f"--output_dir {tmp_path}/run: holds a run already" in refused.stderr
    evaluation = ["evaluation/evaluate_assertions.py", "--teacher_data=~/none.jsonl"]
    assert f"{tmp_path}/none.jsonl does not exist" in run_script(*evaluation, check=False, HOME=str(tmp_path)).stderr
    assert not (ROOT / "~").exists()


def test_a_byte_order_mark_is_no_part_of_a_file(files: list[str | Path], tmp_path: Path) -> None:
    marked = tmp_path / "train.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + Path(files[1]).read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "config.json").write_text('\ufeff{"epochs": 7}', encoding="utf-8")
    output = dry_run("--train_data_path", marked, *files[2:], "--config", tmp_path / "config.json").stdout
    assert "40 to train on" in output and "in 7 epochs" in output


def test_a_terminal_without_unicode_stops_nothing(files: list[str | Path], tmp_path: Path) -> None:
    plain = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    train = shutil.copy(files[1], tmp_path / "train.jsonl")
    words = ["--train_data_path", train, *files[2:], "--output_dir", tmp_path / "run", "--model_name", "scratch:tiny"]
    words += ["--epochs", 1, "--max_steps", 2]
    run_script(TEACHER, *words, "--no_create_distillation_dataset", *SMALL, **plain)
    assert "→" in (tmp_path / "run/distillation_log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"data": [{"focal_method": "a"}]}\n', "has other fields (data)"),
        (json.dumps(make_rows(1, 1)[0]) * 2 + "\n", "(1 x not valid JSON)"),
    ],
)
def test_nested_and_glued_objects_are_named(line: str, message: str, files: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text(line)
    assert message in dry_run("--train_data_path", tmp_path / "odd.jsonl", *files[2:], check=False).stderr


def test_windows_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: 0)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: this program runs on Linux and macOS; on Windows, run it in WSL\n"


def test_a_damaged_newest_checkpoint_is_named_and_an_earlier_one_works(teacher_run: Path, tmp_path: Path) -> None:
    words = student_words(teacher_run, tmp_path / "run", "--save_steps", 3, "--max_steps", 6)
    run_script(*words)
    earlier, newest = checkpoints(tmp_path / "run")
    (newest / "training_state.pt").write_bytes((newest / "training_state.pt").read_bytes()[:1000])
    refused = run_script(*words, "--resume", "auto", check=False)
    assert refused.returncode == 2 and f"--resume {newest}: not a usable checkpoint" in refused.stderr
    assert f"resumed from {earlier} at step 3" in run_script(*words, "--resume", earlier).stdout


def test_a_disk_that_fills_up_keeps_the_last_good_checkpoint(teacher_run: Path, tmp_path: Path) -> None:
    """Here the largest file is limited, which fails the same way."""
    words = student_words(teacher_run, tmp_path / "run", "--save_steps", 2, "--max_steps", 2)
    run_script(*words)
    (last,) = checkpoints(tmp_path / "run")
    size = max(file.stat().st_size for file in last.iterdir())
    shell = f"ulimit -f {size // 2048} && exec {sys.executable} {' '.join(words)} --resume auto --max_steps 4"
    fixed = os.environ | {"PYTHONHASHSEED": "42"}
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, env=fixed)
    assert "checkpoint at step 4 was not written" in done.stderr and "the last good one stands" in done.stderr
    assert checkpoints(tmp_path / "run") == [last] and torch.load(last / "training_state.pt", weights_only=True)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
