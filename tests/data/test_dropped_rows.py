"""--drop_answer_in_test: rows that can be answered by copying from the test itself are in no epoch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.dataset import AssertionDataset, EpochSamplingDataset
from models.seq2seq.loading import train_tokenizer
from utils.errors import UserError

TEST = "t() { %s <AssertPlaceHolder> }"


def make_row(said: str | None, repeated: bool) -> dict:
    row = {
        "focal_method": "int f() { return 1; }",
        "test_method_masked": TEST % ("assertEquals(1,  f());" if repeated else "f();"),
        "assertions": ["assertEquals(1, f());"],
    }
    return row if said is None else {**row, "source": {"answer_in_input": said}}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEST] * 3, 300)


def test_what_the_miner_says_counts_and_what_it_does_not_say_is_found_out(tmp_path: Path, tokenizer) -> None:
    rows = [
        make_row("none", False),
        make_row("test", False),  # as said, even where it is not so
        make_row("context", True),
        make_row(None, True),
        make_row(None, False),
        {"focal_method": "x"},  # a bad row stays, to be counted where it is used
    ]
    path = tmp_path / "raw.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = AssertionDataset(path, tokenizer)
    assert plain.rows_of_epoch(0).tolist() == [0, 1, 2, 3, 4, 5]
    dropped = AssertionDataset(path, tokenizer, drop_answer_in_test=True)
    assert dropped.rows_of_epoch(0).tolist() == [0, 2, 4, 5]
    assert len(dropped) == 6 and dropped[3].sample.target == "assertEquals(1, f());"  # the numbers stay
    drawn = EpochSamplingDataset(path, tokenizer, samples_per_epoch=3, sampling_seed=1, drop_answer_in_test=True)
    epochs = [drawn.rows_of_epoch(epoch).tolist() for epoch in range(9)]
    assert set().union(*epochs) == {0, 2, 4, 5} and {len(epoch) for epoch in epochs} == {3}


def test_a_file_of_nothing_else_is_refused(tmp_path: Path, tokenizer) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_text(json.dumps(make_row("test", True)) + "\n")
    with pytest.raises(UserError, match="--drop_answer_in_test: the answers of all 1 rows"):
        AssertionDataset(path, tokenizer, drop_answer_in_test=True)
