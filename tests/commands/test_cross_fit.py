"""--cross_fit: no row's logits come from a teacher that saw it, and an interruption changes no byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from data.batches.collate import Collator
from data.dataset import AssertionDataset
from data.distillation.file import load_shared, read_header
from models.seq2seq.loading import load_model, load_tokenizer
from models.teacher.forward import TeacherPass
from tests.helpers import forked
from tests.helpers.commands import SMALL, make_rows, write_rows
from utils.errors import UserError

TEACHER = "train_codet5_assertions.py"
FILE = "distillation_data_training.jsonl"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("rows")
    return write_rows(folder / "train.jsonl", make_rows(30, 1)), write_rows(folder / "val.jsonl", make_rows(6, 2))


def words(files: tuple[Path, Path], output: Path, *more: object) -> list[str]:
    fixed = ["--model_name", "scratch:tiny", "--scratch_vocab_size", 400, "--epochs", 4, "--topk", 8]
    fixed += ["--compression_workers", 0, "--no_run_report", *SMALL, "--cross_fit", 2]
    return [
        *map(str, ["--train_data_path", files[0], "--val_data_path", files[1], "--output_dir", output, *fixed, *more])
    ]


@pytest.fixture(scope="module")
def run(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a Slurm array does it: the teacher of all rows, fold 2 alone, then the rest and the joining."""
    output = tmp_path_factory.mktemp("cross") / "run"
    refused = forked.run(TEACHER, *words(files, output, "--fold", 2), code=2)
    assert "--fold 0 writes it" in refused and "Traceback" not in refused
    forked.run(TEACHER, *words(files, output, "--fold", 0))
    assert not (output / FILE).exists() and (output / "distillation_data_validation.jsonl").is_file()
    forked.run(TEACHER, *words(files, output, "--fold", 2))
    assert not (output / "folds/1_of_2").exists()
    forked.run(TEACHER, *words(files, output, "--resume", "auto"))
    return output


def test_each_row_has_the_logits_of_a_teacher_that_did_not_see_it(run: Path, files: tuple[Path, Path]) -> None:
    raw = [json.loads(line) for line in files[0].read_text().splitlines()]
    header = read_header(run / FILE)
    rows = [json.loads(line) for line in (run / FILE).read_text().splitlines()[1:]]
    assert [row["test_method_masked"] for row in rows] == [row["test_method_masked"] for row in raw]
    assert header.fold_teachers == [str(run / f"folds/{number}_of_2/final_model") for number in (1, 2)]
    assert header.teacher == str(run / "final_model") and {row["fold"] for row in rows} == {1, 2}
    assert not any("place" in key for key in rows[0])

    tokenizer = load_tokenizer(str(run / "final_model"))
    dataset = AssertionDataset(run / FILE, tokenizer, max_input_len=96, max_output_len=32)
    items = [dataset[row] for row in range(len(rows))]
    for number in (1, 2):
        seen = (run / f"folds/{number}_of_2/other_folds.jsonl").read_text()
        assert not any(row["focal_method"] in seen for row in rows if row["fold"] == number)
        forward = TeacherPass(load_model(header.fold_teachers[number - 1], say=lambda _: None).eval())
        for item, row in zip(items, rows, strict=True):
            logits, _ = forward(Collator(tokenizer.pad_token_id, {})([item]))
            stored = torch.from_numpy(item.teacher.logits.astype("float32"))
            again = logits.reshape(-1, logits.shape[-1])[: len(stored)].topk(8).values.float()
            same = torch.allclose(again - again[:, :1], stored - stored[:, :1], atol=0.02)
            assert same == (row["fold"] == number)


def test_shared_mean_logits_are_weighted_by_rows(run: Path) -> None:
    parts = [run / f"folds/{number}_of_2" / FILE for number in (1, 2)]
    counts = [len(part.read_text().splitlines()) - 1 for part in parts]
    means = [load_shared(part, read_header(part))["mean_logits"].double() for part in parts]
    expected = (counts[0] * means[0] + counts[1] * means[1]) / sum(counts)
    found = load_shared(run / FILE, read_header(run / FILE))["mean_logits"].double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_interrupted_run_ends_with_the_same_bytes(run: Path, files: tuple[Path, Path]) -> None:
    before = (run / FILE).read_bytes()
    finished = (run / "folds/1_of_2" / FILE).stat().st_mtime_ns
    shutil.rmtree(run / "folds/2_of_2")
    (run / FILE).unlink()
    forked.run(TEACHER, *words(files, run, "--resume", "auto"))
    assert (run / FILE).read_bytes() == before
    assert (run / "folds/1_of_2" / FILE).stat().st_mtime_ns == finished


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--cross_fit", 1], "--cross_fit 1 is too small; allowed: at least 2"),
        (["--teacher_encoding", "hidden"], "--cross_fit: hidden stores one output head"),
        (["--fold", 3], "--fold 3: must be from 0 to --cross_fit 2"),
        (["--fold", 1, "--overwrite"], "leave --overwrite out"),
    ],
)
def test_refusals(more: list, said: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    from config.command_line import parse_config
    from config.defaults import TeacherConfig

    with pytest.raises(UserError) as caught:
        parse_config(TeacherConfig, words(files, tmp_path, *more))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_groups_are_refused(files: tuple[Path, Path]) -> None:
    from models.teacher.folds import deal_out

    with pytest.raises(UserError, match=r"--cross_fit 6: .* has only 5 groups"):
        deal_out(files[0], 6)
