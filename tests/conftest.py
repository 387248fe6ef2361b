"""Small data and a small trained teacher, made once a session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.commands import SMALL, make_rows, run_script, write_rows


@pytest.fixture(autouse=True)
def own_precision() -> Iterator[None]:
    """Accelerate keeps one state for the whole process: the precision of one test would be that of the next."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state()


@pytest.fixture(scope="session")
def raw_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("raw")
    return write_rows(folder / "train.jsonl", make_rows(90, 1)), write_rows(folder / "val.jsonl", make_rows(20, 2))


@pytest.fixture(scope="session")
def teacher_run(raw_data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a teacher trained by the real script, with its distillation data."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    train, validation = raw_data
    run_script(
        "train_codet5_assertions.py",
        "--train_data_path",
        train,
        "--val_data_path",
        validation,
        "--model_name",
        "scratch:tiny",
        "--scratch_vocab_size",
        400,
        "--epochs",
        2,
        "--output_dir",
        folder,
        "--compression_workers",
        0,
        *SMALL,
    )
    return folder
