"""The scripts of the repository as a user runs them, and small data to run them on."""

from __future__ import annotations

import io
import json
import os
import random
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make_rows(count: int, seed: int) -> list[dict]:
    """Tasks whose assertion follows from test and focal method: a getter and the value that was set."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        name = draw.choice(["Count", "Size", "Age", "Price", "Level"])
        value = draw.randrange(100)
        var = draw.choice(["box", "item", "thing"])
        rows.append(
            {
                "focal_method": f"public int get{name}() {{ return {name.lower()}; }}",
                "test_method_masked": (
                    f"@Test public void test{name}() {{ {var}.set{name}({value}); <AssertPlaceHolder> }}"
                ),
                "assertions": [f"assertEquals({value}, {var}.get{name}());"],
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run_script(*words: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository as a user would."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "42", **environment},
    )
    if check and done.returncode:
        raise AssertionError(f"{words} exited {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def run_here(name: str, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The script as the user runs it, but in this process: torch is imported once."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [name, *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / name), run_name="__main__")
    finally:
        sys.argv = before
    code = int(ended.value.code or 0)
    assert not (check and code), err.getvalue()
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


SMALL = [
    "--max_input_len",
    "96",
    "--max_output_len",
    "32",
    "--batch_size",
    "8",
    "--gradient_accumulation_steps",
    "2",
    "--num_workers",
    "0",
    "--no_tensorboard",
    "--device",
    "cpu",
    "--lr",
    "2e-3",
]


def student_words(teacher_run: Path, folder: Path, *more: object) -> list[str]:
    """The command line of a short student run."""
    return [
        "knowledge_distillation.py",
        "--train_data_path",
        str(teacher_run / "distillation_data_training.jsonl"),
        "--val_data_path",
        str(teacher_run / "distillation_data_validation.jsonl"),
        "--model_name",
        "scratch:tiny",
        "--output_dir",
        str(folder),
        "--epochs",
        "3",
        "--loss_components",
        "focal",
        "jsd",
        "--no_final_evaluation",
        "--no_run_report",
        *SMALL,
        *map(str, more),
    ]
