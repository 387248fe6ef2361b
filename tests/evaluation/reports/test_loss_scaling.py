"""Synthetic runs whose faults are known: each is recognised, and a balanced run is left in peace."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.reports.loss_scaling import LossScaling, analyse
from evaluation.reports.run_data import load_run
from tests.helpers.synthetic_run import BALANCED, write_run
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def analysed(folder: Path, **run) -> LossScaling:
    data = load_run(write_run(folder, **run))
    return analyse(data.steps, data.config["semantic_loss_scale"])


def verdicts(scaling: LossScaling) -> dict[str, str]:
    return {name: one.verdict for name, one in scaling.components.items()}


@pytest.mark.parametrize("seed", range(3))
def test_balanced_run_raises_no_alarm(tmp_path, seed):
    assert set(verdicts(analysed(tmp_path, seed=seed, noise=0.3)).values()) == {"active"}


@pytest.mark.parametrize(
    "weights",
    [
        {"focal": (0.3, 0.3), "jsd": (0.7, 0.35), "semantic": (0.0, 0.35)},  # Trident: semantic grows in by schedule
    ],
)
def test_the_schedule_is_not_mistaken_for_an_explosion(tmp_path, weights):
    assert set(verdicts(analysed(tmp_path, weights=weights)).values()) == {"active"}


def test_a_component_that_begins_near_zero_may_grow(tmp_path):
    """As jsd does between a student that knows nothing and a sharp teacher: it grows twentyfold, and stays small."""
    growing = {**BALANCED, "jsd": lambda p: 0.02 * math.exp(4.5 * p)}
    assert verdicts(analysed(tmp_path, gradients=growing))["jsd"] == "active"


@pytest.mark.parametrize(
    ("component", "curve", "verdict"),
    [
        ("semantic", lambda p: 0.8 * math.exp(-9 * p), "vanishing"),
        ("jsd", lambda p: 1.4 * math.exp(6 * p), "exploding"),
        ("jsd", lambda p: math.inf if p > 0.9 else 1.0, "exploding"),
        ("semantic", lambda p: 0.01, "dominated"),
        ("semantic", lambda p: 0.0, "silent"),
        ("focal", lambda p: 30.0, "dominant"),
    ],
)
def test_a_fault_is_recognised_in_its_component(tmp_path, component, curve, verdict):
    found = verdicts(analysed(tmp_path, gradients={**BALANCED, component: curve}))
    assert found[component] == verdict
    blamed = {name for name, one in found.items() if one not in ("active", "dominated", "vanishing", "dominant")}
    assert blamed <= {component}


def test_one_step_that_was_left_out_is_no_explosion(tmp_path):
    steps = load_run(write_run(tmp_path)).steps
    for name in ("focal", "jsd", "semantic"):
        steps[f"{name}_loss_raw"][7] = math.nan
        steps[f"grad_norm_{name}"][7] = math.nan
    found = analyse(steps, 5.0)
    assert set(verdicts(found).values()) == {"active"}
    assert any(note.startswith("focal: not finite in 1 of ") for note in found.notes)
    steps["jsd_loss_raw"][-1] = math.nan
    assert verdicts(analyse(steps, 5.0)) == {"focal": "active", "jsd": "exploding", "semantic": "active"}


def test_all_components_vanishing_together_is_recognised(tmp_path):
    found = verdicts(analysed(tmp_path, gradients={name: lambda p: math.exp(-14 * p) for name in BALANCED}))
    assert set(found.values()) == {"vanishing"}


def test_a_single_component_is_balanced_by_itself(tmp_path):
    scaling = analysed(tmp_path, gradients={"ce": lambda p: math.exp(-2 * p)})
    assert verdicts(scaling) == {"ce": "active"} and scaling.components["ce"].share_mean == 1.0


def test_a_weight_scheduled_to_nothing_is_no_fault(tmp_path):
    found = verdicts(
        analysed(
            tmp_path,
            gradients={**BALANCED, "semantic": lambda p: 0.1},
            weights={"focal": (0.5, 0.5), "jsd": (0.5, 0.5), "semantic": (0.8, 0.0)},
        )
    )
    assert found["semantic"] == "scheduled out"


def test_too_few_measurements_give_no_verdict(tmp_path):
    scaling = analysed(tmp_path, steps=20, grad_norm_steps=5)
    assert set(verdicts(scaling).values()) == {"too short"}
    assert {one.balanced_weight for one in scaling.components.values()} == {None}  # nor advice
    assert scaling.balanced_semantic_loss_scale is None


def test_balancing_weights_and_scale_by_hand(tmp_path):
    """Gradients 1, 2, 6 at weights 0.5, 0.25, 0.1: pulls 0.5, 0.5, 0.6."""
    scaling = analysed(
        tmp_path,
        gradients={"focal": lambda p: 1.0, "jsd": lambda p: 2.0, "semantic": lambda p: 6.0},
        weights={"focal": (0.5, 0.5), "jsd": (0.25, 0.25), "semantic": (0.1, 0.1)},
        noise=0.0,
    )
    pull = (0.5 + 0.5 + 0.6) / 3
    balanced = {name: one.balanced_weight for name, one in scaling.components.items()}
    assert balanced == pytest.approx({"focal": pull / 1, "jsd": pull / 2, "semantic": pull / 6})
    assert scaling.balanced_semantic_loss_scale == pytest.approx(5.0 * 0.5 / 0.6)
    capped = analyse(load_run(tmp_path).steps, 5.0, gradient_share=0.3)  # another scale would change nothing there
    assert capped.balanced_semantic_loss_scale is None and "--semantic_gradient_share 0.3" in capped.notes[-1]
    assert scaling.components["semantic"].share_mean == pytest.approx(0.6 / 1.6)
    assert max(scaling.components, key=lambda name: scaling.components[name].share_mean) == "semantic"
    assert np.sum([scaling.shares[name] for name in scaling.shares], axis=0) == pytest.approx(1.0)


def test_a_component_that_acts_now_and_then_is_not_silent(tmp_path):
    """As ast does: no gradient where all predictions of a batch parse."""
    acts = iter(range(10**6))
    scaling = analysed(tmp_path, gradients={**BALANCED, "ast": lambda p: 6.0 if next(acts) % 15 == 4 else 0.0})
    assert scaling.components["ast"].verdict == "active" and scaling.components["ast"].balanced_weight > 0


def test_the_normaliser_counts_as_part_of_the_weight(tmp_path):
    data = load_run(write_run(tmp_path, noise=0.0))
    data.steps["jsd_loss_weighted"] = data.steps["jsd_loss_weighted"] * 3
    plain = analyse(load_run(tmp_path).steps).components["jsd"]
    assert analyse(data.steps).components["jsd"].pull_last == pytest.approx(3 * plain.pull_last)


def test_without_gradient_norms_the_weighted_loss_is_shown_and_named(tmp_path):
    scaling = analysed(tmp_path, grad_norm_steps=0)
    assert scaling.basis == "weighted loss" and "not what moves the student" in scaling.notes[0]


def script(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "analyse_loss_scaling.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )


def test_script_writes_table_json_and_figure(tmp_path):
    run = write_run(tmp_path / "run", gradients={**BALANCED, "semantic": lambda p: 0.01})
    done = script("--training_dir", f"{run}/")
    assert done.returncode == 0, done.stderr
    assert "dominated" in done.stdout and "--semantic_loss_scale" in done.stdout
    stored = json.loads((run / "loss_scaling.json").read_text())
    assert stored["basis"] == "gradient" and stored["components"]["semantic"]["verdict"] == "dominated"
    assert (run / "loss_scaling.png").read_bytes().startswith(b"\x89PNG")
    again = script("--log_file", run / "training_metrics.csv", "--output_dir", tmp_path / "elsewhere", "--no_plot")
    assert again.returncode == 0, again.stderr
    other = json.loads((tmp_path / "elsewhere" / "loss_scaling.json").read_text())
    assert other["components"] == stored["components"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("step_metrics.csv", "step,loss\n1,2\n", "<component>_loss_raw"),
        ("step_metrics.csv", "", "no rows"),
        ("step_metrics.csv", "focal_loss_raw\n1\n", "has no column step"),
        ("step_metrics.csv", "step,focal_loss_raw\n1,zwei\n", "line 2: focal_loss_raw is 'zwei'"),
        (None, "", "does not exist"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, name, content, words):
    if name:
        (tmp_path / name).write_text(content)
    done = script("--training_dir", tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr


def test_columns_without_values_are_refused():
    with pytest.raises(UserError, match="are empty"):
        analyse({"step": np.array([1.0]), "focal_loss_raw": np.array([np.nan])})
