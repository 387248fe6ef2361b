"""Comparing runs: means and intervals by hand, what differs, what is no run."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.reports.comparison import (
    Score,
    average_with_interval,
    build_csv_rows,
    compare,
    count_parameters,
    is_clearly_better,
    render_markdown,
    tabulate,
)
from tests.helpers.synthetic_run import default_summary, metric, write_run
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def make(folder: Path, score: float | None, seed: int = 0, **config) -> Path:
    summary = {**default_summary(0.5), "student": {"code_quality_score": metric(score), "exact_match": metric(0.25)}}
    return write_run(folder, steps=30, seed=seed, validations=3, config={"seed": seed, **config}, summary=summary)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three seeds of one configuration with 0.5, 0.6, 0.7, and one run of another with 0.9."""
    seeds = [make(tmp_path / f"plain-{seed}", score, seed) for seed, score in enumerate((0.5, 0.6, 0.7))]
    return [*seeds, make(tmp_path / "hot", 0.9, temperature=8.0)]


def test_mean_and_interval_by_hand():
    """Mean 0.6, standard deviation 0.1, t(0.975, 2) = 4.302653: margin 4.302653 x 0.1 / sqrt 3 = 0.248414."""
    assert average_with_interval([0.5, 0.6, 0.7]) == pytest.approx((0.6, 0.6 - 0.248414, 0.6 + 0.248414), abs=1e-6)
    assert average_with_interval([0.5]) == (0.5, None, None)


def test_seeds_are_gathered_and_ranked(runs):
    found = compare(runs)
    best, plain = found.groups
    assert best.label == "temperature=8.0" and plain.label == "temperature=4.0"
    assert found.differing == ["temperature"] and found.metric == "code_quality_score"
    score = plain.scores["code_quality_score"]
    assert (score.value, score.low, score.high, score.seeds) == pytest.approx((0.6, 0.351586, 0.848414, 3), abs=1e-6)
    single = best.scores["code_quality_score"]
    assert (single.value, single.low, single.high, single.seeds) == pytest.approx((0.9, 0.87, 0.93, 1))


def test_cost_by_hand(runs):
    for run in runs:
        lines = (run / "step_metrics.csv").read_text().splitlines()
        (run / "step_metrics.csv").write_text(
            "\n".join([lines[0], *(line.rpartition(",")[0] + ",12.0" for line in lines[1:])]) + "\n"
        )
    hot = compare(runs).groups[0]
    assert hot.seconds == pytest.approx(30 * 12)  # 6 minutes for 90 points
    assert hot.minutes_per_point("code_quality_score") == pytest.approx(6 / 90)


def test_runs_are_told_apart_by_their_intervals():
    assert is_clearly_better(Score(0.9, 0.87, 0.93, 1), Score(0.6, 0.35, 0.85, 3))
    assert not is_clearly_better(Score(0.9, 0.87, 0.93, 1), Score(0.85, 0.8, 0.88, 3))
    assert not is_clearly_better(Score(0.9, None, None, 1), Score(0.1, None, None, 1))


def test_the_same_seed_twice_counts_once(tmp_path):
    found = compare([make(tmp_path / "a", 0.5, 1), make(tmp_path / "b", 0.5, 1), make(tmp_path / "c", 0.7, 2)])
    assert len(found.groups) == 1 and found.groups[0].scores["code_quality_score"].seeds == 2
    assert any("b has the configuration and the seed of a" in note for note in found.notes)


def test_of_the_same_run_twice_the_evaluated_one_counts(tmp_path):
    found = compare([make(tmp_path / "a", None, 1), make(tmp_path / "b", 0.9, 1), make(tmp_path / "c", 0.3, lr=1e-3)])
    assert [group.scores["code_quality_score"].value for group in found.groups] == [0.9, 0.3]
    assert any("a has the configuration and the seed of b" in note for note in found.notes)


def test_seeds_that_agree_by_chance_prove_nothing(tmp_path):
    runs = [
        make(tmp_path / f"{name}{seed}", score, seed, lr=lr)
        for name, score, lr in (("a", 0.5, 1e-3), ("b", 0.49, 1e-4))
        for seed in (1, 2)
    ]
    best, other = (group.scores["code_quality_score"] for group in compare(runs).groups)
    assert (best.low, best.high) == pytest.approx((0.47, 0.53)) and not is_clearly_better(best, other)


def test_an_interval_stays_within_the_range_of_the_score(tmp_path):
    (group,) = compare([make(tmp_path / "a", 0.9, 1), make(tmp_path / "b", 0.2, 2)]).groups
    score = group.scores["code_quality_score"]
    assert (score.low, score.high) == (0, 1)


def test_seeds_without_an_evaluation_are_not_counted_as_judged(tmp_path):
    comparison = compare([make(tmp_path / "a", 0.9, 1), make(tmp_path / "b", None, 2)])
    headers, rows = tabulate(comparison)
    assert rows[0][headers.index("seeds")] == "1 of 2"


def test_bookkeeping_does_not_make_another_configuration(tmp_path):
    found = compare([make(tmp_path / "a", 0.5, 1), make(tmp_path / "b", 0.6, 2, num_workers=7, save_steps=3)])
    assert len(found.groups) == 1 and found.differing == []


def test_a_teacher_among_students_leaves_their_labels_short(tmp_path, runs):
    import json

    teacher = make(tmp_path / "teacher", None, temperature=None, teacher_encoding="topk", topk=64, model_name="big")
    record = json.loads((teacher / "run_config.json").read_text()) | {"script": "train_codet5_assertions.py"}
    del record["config"]["temperature"], record["config"]["semantic_loss_scale"]
    (teacher / "run_config.json").write_text(json.dumps(record))
    found = compare([*runs, teacher])
    assert [group.label for group in found.groups] == ["temperature=8.0", "temperature=4.0", "teacher"]
    assert found.differing == ["model_name", "temperature"]


def test_scores_that_were_not_computed_stay_open(tmp_path):
    found = compare([make(tmp_path / "a", None), make(tmp_path / "b", 0.4, lr=1e-4)])
    text = render_markdown(found)
    assert found.groups[-1].label == "lr=5e-05" and "not evaluated" in text
    assert next(row for row in build_csv_rows(found) if row["runs"] == "a")["code_quality_score"] is None


def test_folders_without_a_run_are_skipped_and_named(tmp_path, runs):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    found = compare([*runs, tmp_path / "notes", tmp_path / "notes.txt"])
    assert sum(note.startswith("skipped") for note in found.notes) == 2
    with pytest.raises(UserError, match="none of these"):
        compare([tmp_path / "notes"])


def test_parameters_are_counted_from_the_header(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float16)}, tmp_path / "m.safetensors")
    assert count_parameters(tmp_path / "m.safetensors") == 22


def test_script_writes_markdown_csv_and_figure(tmp_path, runs):
    from safetensors.numpy import save_file

    (runs[3] / "final_model").mkdir()
    save_file({"w": np.zeros((1000, 500), np.float32)}, runs[3] / "final_model" / "model.safetensors")
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts" / "compare_runs.py"),
            *map(str, runs),
            "--output_dir",
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert text in done.stdout and "0.600 (0.352 to 0.848)" in text and "clearly worse" in text
    assert "| `temperature` | 8.0 | 4.0 |" in text and "0.5 M, 2 MB" in text
    with open(tmp_path / "out" / "comparison.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["seeds"], row["temperature"]) for row in rows] == [("1", "8.0"), ("3", "4.0")]
    assert float(rows[1]["code_quality_score_low"]) == pytest.approx(0.351586, abs=1e-6)
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_metric_is_named(tmp_path, runs):
    script = [sys.executable, str(ROOT / "scripts" / "compare_runs.py"), str(runs[0]), "--metric", "beauty"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "beauty" in done.stderr and done.stderr.count("\n") == 1
