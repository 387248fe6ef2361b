"""Rows that are odd, as the user meets them: what is repaired, what is told, and what stays usable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from data.rows.tokenization import TaskEncoder, TextFormat
from models.seq2seq.loading import build_scratch, save_model, train_tokenizer
from tests.helpers.commands import SMALL, make_rows, run_here, run_script, write_rows
from utils.compress import compress_logits

ODD = {
    "the test has no placeholder: it got one in place of the answer": 4,
    "the test has no placeholder and not the answer: it got one at its end": 3,
    "the test has no placeholder: it got one in place of a statement much like the answer": 2,
    "the test has several placeholders: the first counts": 2,
    "the answer also stands elsewhere in the test": 1,
    "the target is a list written as text: it was read as that list": 5,
    "the target breaks a line within a string literal: it was read as \\n": 2,
    "the target is no Java statement": 6,
    "the target calls nothing, so it asserts nothing": 1,
}


def odd_rows() -> list[dict]:
    """30 rows, of which each kind of ODD has as many as it says."""
    rows = make_rows(30, 3)
    for row in rows:
        row["teacher_prediction"] = row["assertions"][0]
    for row in rows[:4]:
        (answer,) = row["assertions"]
        written = "Assert." + answer.replace(", ", " ,\n ")
        row["test_method_masked"] = row["test_method_masked"].replace("<AssertPlaceHolder>", written)
    for row in rows[4:7]:
        row["test_method_masked"] = row["test_method_masked"].replace("<AssertPlaceHolder>", "done();")
    for row in rows[7:9]:
        row["test_method_masked"] += " <AssertPlaceHolder>"
    rows[9]["test_method_masked"] += "// " + rows[9]["assertions"][0]
    for row in rows[10:15]:
        row["assertions"] = str(row["assertions"])
    for row in rows[15:21]:
        row["assertions"] = ["it should be three"]
    for row in rows[21:23]:
        near = row["assertions"][0].replace("(", "((long) ", 1)
        row["test_method_masked"] = row["test_method_masked"].replace("<AssertPlaceHolder>", near)
    for row in rows[23:25]:
        row["teacher_prediction"] = 'assertEquals("a\\nb", item.toString());'
        row["assertions"] = row["teacher_prediction"].replace("\\n", "\n")
    rows[25]["assertions"] = "hello world"
    return rows


def test_training_and_evaluation_tell_what_is_odd(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "odd.jsonl", odd_rows())
    other = write_rows(tmp_path / "other.jsonl", make_rows(20, 4))
    words = ["--train_data_path", data, "--val_data_path", other, "--model_name", "scratch:tiny", "--dry_run", *SMALL]
    output = run_script("train_codet5_assertions.py", *words).stderr
    for oddity, count in ODD.items():
        assert f"odd.jsonl: {count} of 30 rows looked at: {oddity}" in output
    assert "other.jsonl:" not in output

    words = ["--teacher_data", data, "--embedding_model", "none", "--output_dir", tmp_path / "e", "--workers", 1]
    output = run_script("evaluation/evaluate_assertions.py", *words).stderr
    for oddity, count in ODD.items():
        assert f"warning: {data}: {count} of 30 rows: {oddity}" in output
    summary = json.loads((tmp_path / "e/metrics_summary_final.json").read_text())
    assert summary["run"]["rows_odd"] == ODD
    assert summary["teacher"]["exact_match_strict"]["value"] == pytest.approx(23 / 30)  # a list in a text is read


def test_nan_in_a_field_that_nobody_reads_costs_nothing(tmp_path: Path) -> None:
    """As files of other writers have it: dense logits, metrics that are NaN, no header."""
    rows = make_rows(30, 5)
    tokenizer = train_tokenizer((row["assertions"][0] + row["focal_method"] for row in rows), 400)
    model = build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="sdpa", seed=1)
    save_model(model, tokenizer, tmp_path / "model")
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == model.config.vocab_size
    for row in rows:
        labels = TaskEncoder(tokenizer, TextFormat()).target(row["assertions"][0], 32)
        logits = np.zeros((len(labels), model.config.vocab_size), dtype=np.float32)
        logits[np.arange(len(labels)), labels] = 9.0
        row |= {"compressed_logits": compress_logits(logits, 8), "teacher_metrics": {"bleu": float("nan")}}
    for part in ("train", "val"):
        write_rows(tmp_path / f"{part}.jsonl", rows)
    words = ["--train_data_path", tmp_path / "train.jsonl", "--val_data_path", tmp_path / "val.jsonl", "--dry_run"]
    words += ["--model_name", tmp_path / "model", "--loss_components", "ce", "kl", "--embedding_model", "none", *SMALL]
    assert "everything fits together" in run_script("knowledge_distillation.py", *words).stdout

    inspected = run_here("scripts/inspect_distillation_data.py", tmp_path / "train.jsonl", "--json").stdout
    assert json.loads(inspected)["odd_rows"] == {}
    write_rows(tmp_path / "odd.jsonl", [row | {"assertions": ["hello world"]} for row in rows[:3]] + rows[3:])
    inspected = run_here("scripts/inspect_distillation_data.py", tmp_path / "odd.jsonl").stdout
    assert "odd rows: 3 of 30: the target calls nothing, so it asserts nothing" in inspected

    for row in rows:  # but a scale that is NaN is none
        row["compressed_logits"]["scale"] = float("nan")
    write_rows(tmp_path / "train.jsonl", rows)
    refused = run_script("knowledge_distillation.py", *words, check=False)
    assert refused.returncode == 2 and "30 x compressed_logits lacks a field or has a wrong one" in refused.stderr
