"""The screen at the start of a run, and its warnings."""

from __future__ import annotations

import re

import pytest

from models.training.start_screen import RunFacts, start_screen, warnings_that_matter
from utils.logging_utils import estimate

HEALTHY: RunFacts = {
    "output_dir": "results/run",
    "resumed_from": None,
    "train_rows": 20_000,
    "val_rows": 2_000,
    "rejected": {},
    "samples_per_epoch": 5_000,
    "input_lengths": (210, 480, 900),
    "target_lengths": (27, 60, 128),
    "max_input_len": 512,
    "max_output_len": 128,
    "truncated_inputs": 0.03,
    "truncated_targets": 0.0,
    "student": "Salesforce/codet5p-220m",
    "student_parameters": 222_882_048,
    "teacher": "Salesforce/codet5p-770m",
    "teacher_parameters": 737_639_424,
    "batch_size": 4,
    "gradient_accumulation_steps": 8,
    "processes": 2,
    "epochs": 10,
    "total_steps": 790,
    "warmup_steps": 118,
    "lr": 5e-5,
    "lr_end": 1e-5,
    "weights": {"focal": (0.3, 0.3), "jsd": (0.7, 0.35), "semantic": (0.0, 0.35)},
    "gradient_limit": "semantic at most 0.3 × the pull of the token terms",
    "temperature": (4.0, 1.5),
    "alpha": None,
    "device": "cuda:0 NVIDIA A100",
    "precision": "fp16",
    "num_workers": 8,
    "seed": 42,
    "critical_tokens_total": 310,
    "critical_tokens_mapped": 305,
    "critical_tokens_unmapped": ["isCloseTo"],
}


def test_screen_says_what_a_person_checks():
    screen = start_screen(HEALTHY)
    flat = re.sub(r" +", " ", screen)
    for fact in (
        "data 20,000 to train on, 5,000 of them drawn each epoch, 2,000 to validate",
        "input 210 tokens (95 %: 480, longest 900, limit 512)",
        "222.9 M parameters",
        "737.6 M parameters",
        "4 × 8 accumulated × 2 processes = 64 samples a step",
        "790 in 10 epochs, the first 118 warm up",
        "learning rate 5e-05 → 1e-05",
        "focal 0.3, jsd 0.7 → 0.35, semantic 0 → 0.35, semantic at most 0.3 × the pull of the token terms",
        "temperature 4 → 1.5",
        "cuda:0 NVIDIA A100, fp16, 2 processes, 8 data workers",
        "seed 42",
    ):
        assert fact in flat, fact
    assert len(screen.splitlines()) <= 24 and max(map(len, screen.splitlines())) <= 120


def test_unknown_facts_leave_no_empty_lines():
    assert start_screen({"seed": 1, "student": "t5"}).split() == ["model", "t5", "seed", "1"]
    assert start_screen({}) == "" and warnings_that_matter({}) == []


def test_a_healthy_run_is_not_warned_about():
    assert warnings_that_matter(HEALTHY) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"truncated_inputs": 0.31}, ["31%", "512", "--max_input_len"]),
        ({"truncated_targets": 0.12}, ["12%", "128", "--max_output_len"]),
        ({"critical_tokens_mapped": 200}, ["110 of 310", "isCloseTo"]),
        ({"student_parameters": 737_639_424}, ["not smaller", "737.6 M"]),
        ({"weights": {"jsd": (1.0, 1.0), "semantic": (0.0, 0.0)}}, ["semantic", "--loss_weights"]),
        ({"warmup_steps": 900}, ["900", "790", "--warmup_steps"]),
        ({"total_steps": 12, "warmup_steps": 1}, ["only 12"]),
        ({"rejected": {"missing focal method": 7, "not valid JSON": 2}}, ["9 of the rows", "missing focal method"]),
    ],
)
def test_each_fault_is_named_with_what_to_do(changes, words):
    warnings = warnings_that_matter({**HEALTHY, **changes})
    assert len(warnings) == 1
    assert all(word in warnings[0] for word in words), warnings[0]
    assert "\n" not in warnings[0]


def test_a_weight_that_starts_at_zero_but_grows_is_fine():
    assert warnings_that_matter({**HEALTHY, "weights": {"semantic": (0.0, 0.35)}}) == []


def test_estimate():
    assert estimate(0.5, 7200, 3 * 1024) == "0.5 s a step: about 1 h to go, 3.0 GiB in use"
