"""Whole runs of both scripts: what they write, and that being killed changes nothing."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_script, student_words
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from utils.logging_utils import UNSTABLE_COLUMNS
from utils.training_utils import REQUEUE_EXIT_CODE


def table(path: Path) -> list[dict[str, str]]:
    """A CSV without the columns that time and memory decide."""
    with open(path, newline="") as handle:
        return [{k: v for k, v in row.items() if k not in UNSTABLE_COLUMNS} for row in csv.DictReader(handle)]


def outcome(folder: Path) -> dict:
    """What must be the same, byte for byte, however often a run was killed."""
    last = sorted(folder.glob("checkpoint-*"))[-1]
    return {
        "weights": (folder / "final_model" / "model.safetensors").read_bytes(),
        "best": (folder / "best_model" / "model.safetensors").read_bytes(),
        "optimizer": (last / "training_state.pt").read_bytes(),
        "steps": table(folder / "step_metrics.csv"),
        "training": table(folder / "training_metrics.csv"),
        "samples": (folder / "sample_predictions.jsonl").read_bytes(),
    }


def assert_same(one: dict, two: dict) -> None:
    for key in one:
        assert one[key] == two[key], f"{key} differs"


@pytest.fixture(scope="module")
def reference(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students") / "reference"
    run_script(*student_words(teacher_run, folder, "--save_steps", 4))
    return folder


def test_teacher_run_leaves_a_plain_model_and_its_knowledge(teacher_run: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(teacher_run / "final_model")
    assert len(AutoTokenizer.from_pretrained(teacher_run / "final_model")) == model.config.vocab_size
    for part, count in (("training", 90), ("validation", 20)):
        lines = (teacher_run / f"distillation_data_{part}.jsonl").read_text().splitlines()
        assert len(lines) == count + 1
        assert json.loads(lines[0])["distillation_header"]["vocab_size"] == model.config.vocab_size
        assert {"focal_method", "teacher_prediction", "teacher_logits_compressed"} <= set(json.loads(lines[1]))


def test_student_run_writes_what_the_specification_names(reference: Path) -> None:
    for name in ("final_model", "best_model", "training_metrics.csv", "step_metrics.csv", "distillation_log.txt",
                 "run_config.json"):  # fmt: skip
        assert (reference / name).exists(), name
    AutoModelForSeq2SeqLM.from_pretrained(reference / "final_model")
    steps = table(reference / "step_metrics.csv")
    # ceil(90 / (8 * 2)) steps an epoch, 3 epochs; the last, incomplete window of an epoch is a step too.
    assert [int(row["step"]) for row in steps] == list(range(1, 19))
    assert float(steps[0]["temperature"]) == 4.0
    assert all(float(row["focal_loss_raw"]) > 0 and float(row["grad_norm_total"]) > 0 for row in steps)
    assert int(steps[5]["samples"]) == 90 - 5 * 16
    assert float(steps[-1]["focal_loss_raw"]) < float(steps[0]["focal_loss_raw"])


def test_same_seed_same_run_other_seed_another(teacher_run: Path, reference: Path, tmp_path: Path) -> None:
    run_script(*student_words(teacher_run, tmp_path / "again", "--save_steps", 4, "--num_workers", 2))
    assert_same(outcome(reference), outcome(tmp_path / "again"))
    run_script(*student_words(teacher_run, tmp_path / "other", "--save_steps", 4, "--seed", 7))
    assert outcome(tmp_path / "other")["weights"] != outcome(reference)["weights"]


def kill_and_resume(words: list[str], folder: Path, kills: int, seed: int, done: str) -> int:
    """Start, SIGKILL at a random moment, start again with --resume auto ...; returns how often it was killed."""
    draw = random.Random(seed)
    killed = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "42"}
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, *words, "--resume", "auto"], cwd=ROOT, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started = time.monotonic()
        # The first seconds go to imports; kill somewhere in the work that follows.
        while not (folder / "distillation_log.txt").exists() and time.monotonic() - started < 60:
            time.sleep(0.05)
        time.sleep(draw.uniform(0.5, 6.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    run_script(*words, "--resume", "auto")
    assert (folder / done).exists()
    return killed


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_student_is_the_student_that_was_left_alone(
    teacher_run: Path, reference: Path, tmp_path: Path, kills: int
) -> None:
    folder = tmp_path / "killed"
    words = student_words(teacher_run, folder, "--save_steps", 4)
    assert kill_and_resume(words, folder, kills, seed=kills, done="final_model") > 0
    assert_same(outcome(reference), outcome(folder))


def test_sigterm_leaves_a_checkpoint_and_exit_code_85(teacher_run: Path, reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    words = student_words(teacher_run, folder, "--save_steps", 4)
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "42"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "a step: about" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == REQUEUE_EXIT_CODE
    assert list(folder.glob("checkpoint-*")) and not (folder / "final_model").exists()
    run_script(*words, "--resume", "auto")
    assert_same(outcome(reference), outcome(folder))


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_killed_teacher_writes_the_same_knowledge(
    raw_data: tuple[Path, Path], teacher_run: Path, tmp_path: Path, kills: int
) -> None:
    from conftest import SMALL

    folder = tmp_path / "teacher"
    words = [
        "train_codet5_assertions.py", "--train_data_path", str(raw_data[0]), "--val_data_path", str(raw_data[1]),
        "--model_name", "scratch:tiny", "--scratch_vocab_size", "400", "--epochs", "2", "--output_dir", str(folder),
        "--compression_workers", "0", "--save_steps", "3", *SMALL,
    ]  # fmt: skip
    kill_and_resume(words, folder, kills, seed=kills, done="distillation_data_validation.jsonl")
    for part in ("training", "validation"):
        name = f"distillation_data_{part}.jsonl"
        mine, theirs = ((f / name).read_text().splitlines() for f in (folder, teacher_run))
        assert mine[1:] == theirs[1:]  # the header names the teacher's folder
        assert (folder / f"{name}.shared.safetensors").read_bytes() == (
            teacher_run / f"{name}.shared.safetensors"
        ).read_bytes()


def test_two_processes_do_what_one_does_with_twice_the_accumulation(teacher_run: Path, tmp_path: Path) -> None:
    more = ["--dropout_rate", 0, "--validation_frequency", 0, "--epochs", 1]
    run_script(*student_words(teacher_run, tmp_path / "one", *more))
    run_script(
        "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2,
        *student_words(teacher_run, tmp_path / "two", *more, "--gradient_accumulation_steps", 1),
    )  # fmt: skip
    one, two = (load_file(tmp_path / name / "final_model" / "model.safetensors") for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-5)
    losses = [
        [float(row["loss_total"]) for row in table(tmp_path / name / "step_metrics.csv")] for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_all_eight_components_and_the_evaluation_in_one_run(teacher_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "eight"
    names = ["ce", "focal", "kl", "jsd", "semantic", "contrastive", "pans", "ast"]
    words = [word for word in student_words(teacher_run, folder) if word != "--no_final_evaluation"]
    start = words.index("--loss_components")
    words[start + 1 : start + 3] = names
    run_script(
        *words, "--epochs", 1, "--max_train_samples", 32, "--max_val_samples", 8, "--embedding_model",
        "embedded:minilm", "--contrastive_encoder", "embedded:minilm", "--bridge_fit_steps", 25,
        "--bridge_min_fidelity", 0.3, "--enable_token_weighting", "--use_enhanced_metrics", "--grad_norm_steps", 1,
        "--loss_weights", *([1] * 8), DISTIL_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    rows = table(folder / "step_metrics.csv")
    for name in names:
        assert all(float(row[f"{name}_loss_raw"]) >= 0 for row in rows), name
    for name in set(names) - {"ast"}:  # ast is rightly 0 where everything parses
        assert all(float(row[f"grad_norm_{name}"]) > 0 for row in rows), name
    summary = json.loads((folder / "metrics_summary_final.json").read_text())
    assert {"teacher", "student", "baselines", "comparison", "run"} <= set(summary)
