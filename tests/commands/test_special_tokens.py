"""Texts that spell control tokens, on the road of a teacher whose tokenizer has these (CodeT5's RobertaTokenizer)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from data.dataset import AssertionDataset, Item
from tests.helpers.commands import SMALL, write_rows
from tests.helpers.forked import run
from tests.helpers.published import make_roberta_files, make_t5

WRITTEN = ["<s>a</s>", "<mask>3", "<pad>", "<unk>", "plain"]
ROWS = [
    {
        "focal_method": f'public String show() {{ return "{text}"; }}',
        "test_method_masked": f"@Test public void t{number}() {{ <AssertPlaceHolder> }}",
        "assertions": [f'assertEquals("{text}", x.show());'],
    }
    for number, text in enumerate(WRITTEN)
]


def words(folder: Path, *more: object) -> list[object]:
    texts = [" ".join([row["focal_method"], row["test_method_masked"], *row["assertions"]]) for row in ROWS]
    make_t5(folder / "model", len(make_roberta_files(folder / "model", texts)))
    train, val = (write_rows(folder / f"{name}.jsonl", ROWS) for name in ("train", "val"))
    data = ["--train_data_path", train, "--val_data_path", val, "--model_name", folder / "model"]
    return ["train_codet5_assertions.py", *data, "--output_dir", folder / "run", "--no_run_report",
            "--dropout_rate", 0, *SMALL, *more]  # fmt: skip


def test_no_text_becomes_a_control_token(tmp_path: Path) -> None:
    output = run(*words(tmp_path, "--epochs", 1, "--compression_workers", 0))
    assert "cannot be written" not in output and "unknown to the tokenizer" not in output
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "final_model")
    dataset = AssertionDataset(tmp_path / "run" / "distillation_data_training.jsonl", tokenizer)
    for number, row in enumerate(ROWS):
        item = dataset[number]
        assert isinstance(item, Item) and dataset.encoder.format.frame == "tokenizer"
        for ids, text in ((item.labels, row["assertions"][0]), (item.input_ids, row["focal_method"])):
            inner = ids[1:-1]
            control = [index for index in inner if index in tokenizer.all_special_ids]
            assert control == ([] if ids is item.labels else [tokenizer.sep_token_id])  # between test and method
            assert text in tokenizer.decode(inner, clean_up_tokenization_spaces=False)
    lines = (tmp_path / "run" / "sample_predictions.jsonl").read_text().splitlines()
    assert {str(json.loads(line)["reference"]) for line in lines} <= {str(row["assertions"]) for row in ROWS} | {
        row["assertions"][0] for row in ROWS
    }


@pytest.mark.slow
def test_a_model_that_learns_them_by_heart_writes_them(tmp_path: Path) -> None:
    run(*words(tmp_path, "--epochs", 200, "--validation_frequency", 0, "--lr", 4e-3, "--compression_workers", 0,
               "--gradient_accumulation_steps", 1))  # fmt: skip
    lines = (tmp_path / "run" / "distillation_data_validation.jsonl").read_text().splitlines()[1:]
    assert [json.loads(line)["teacher_prediction"] for line in lines] == [row["assertions"][0] for row in ROWS]
