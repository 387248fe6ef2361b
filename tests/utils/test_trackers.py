"""Experiment trackers: what reaches them, and that none of them can end a run."""

from __future__ import annotations

import csv
import importlib.util
import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from config.command_line import parse_config
from config.defaults import StudentConfig
from tests.helpers.commands import run_script, student_words
from utils.errors import UserError
from utils.gpu_meter import GPU_COLUMNS, GpuMeter
from utils.logging_utils import DistillationLogger
from utils.trackers import PACKAGES, Trackers

PARAMETERS = {"lr": 1e-3, "loss_components": ["ce", "kl"], "model_name": None, "bound": float("inf")}


class Recorder:
    """Stands for a tracker; fails where ``fails`` says."""

    requires_logging_directory = False
    fails: str | None = None
    made: list[Recorder] = []  # noqa: RUF012

    def __init__(self, project: str, **more: object) -> None:
        self.project, self.more = project, more
        self.calls: list[tuple] = []
        self.made.append(self)

    def _do(self, what: str, *facts: object) -> None:
        self.calls.append((what, *facts))
        if what == self.fails:
            raise RuntimeError("the server\nis gone")

    def start(self) -> None:
        self._do("start")

    def store_init_configuration(self, values: dict) -> None:
        self._do("parameters", values)

    def log(self, values: dict, step: int) -> None:
        self._do("log", values, step)

    def finish(self) -> None:
        self._do("finish")


@pytest.fixture
def recorder(monkeypatch):
    made: list[Recorder] = []
    kind = type("Kind", (Recorder,), {"made": made})
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "trackio", kind)
    return kind


def test_the_names_are_those_of_accelerate():
    assert set(PACKAGES) == set(LOGGER_TYPE_TO_CLASS) - {"tensorboard"}


def test_a_tracker_gets_parameters_and_scalars_and_is_finished(recorder, tmp_path):
    logger = DistillationLogger(tmp_path / "run", tensorboard=False, console=False, report_to=["trackio"],
                                parameters=PARAMETERS)  # fmt: skip
    assert recorder.made == []  # it starts with the first scalars, when the run is known to begin
    logger.scalars("Loss", {"train": 1.5, "other": None}, 10)
    logger.scalars("Training", {"coverage": None}, 10)
    logger.close()
    (made,) = recorder.made
    assert made.project == "assertion-distillation" and made.more == {"name": "run"}
    shown = {"lr": 1e-3, "loss_components": "['ce', 'kl']", "model_name": None, "bound": "inf"}
    assert made.calls == [("start",), ("parameters", shown), ("log", {"Loss/train": 1.5}, 10), ("finish",)]


@pytest.mark.parametrize("fails", ["start", "parameters", "log", "finish"])
def test_a_tracker_that_fails_is_told_once_and_left_out(recorder, fails, tmp_path):
    recorder.fails = fails
    told: list[str] = []
    trackers = Trackers(["trackio"], tmp_path, PARAMETERS, told.append)
    for step in (1, 2):
        trackers.scalars("Loss", {"train": 1.0}, step)
    trackers.close()
    trackers.close()
    assert told == ["trackio is off from here on (RuntimeError: the server is gone); the CSV files go on"]
    assert len(recorder.made) == 1 and recorder.made[0].calls[-1][0] == fails


def test_other_processes_and_dry_runs_report_nothing(recorder, tmp_path):
    for more in ({"main_process": False}, {"files": False}):
        logger = DistillationLogger(tmp_path, tensorboard=False, console=False, report_to=["trackio"], **more)
        logger.scalars("Loss", {"train": 1.0}, 1)
        logger.close()
    assert recorder.made == []


def test_only_what_is_asked_for_is_looked_for(monkeypatch, tmp_path):
    looked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: looked.append(name))
    parse_config(StudentConfig, [])
    parse_config(StudentConfig, ["--report_to", "none"])
    assert looked == []
    with pytest.raises(UserError, match="--report_to wandb: not installed; pip install wandb"):
        parse_config(StudentConfig, ["--report_to", "tensorboard", "wandb"])
    with pytest.raises(UserError, match=r"--report_to wandbb is unknown; did you mean wandb\?"):
        parse_config(StudentConfig, ["--report_to", "wandbb"])
    assert looked == ["wandb"]


def run_with(name: str, teacher_run: Path, folder: Path, **environment: str) -> str:
    """What a short run that reports to TensorBoard and to ``name`` prints."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"pip install {name}")
    words = student_words(teacher_run, folder, "--epochs", 1, "--grad_norm_steps", 1, "--logging_steps", 1,
                          "--max_train_samples", 24, "--enable_epoch_sampling", "--report_to", "tensorboard",
                          name)  # fmt: skip
    words.remove("--no_tensorboard")
    done = run_script(*words, **environment)
    assert list((folder / "tensorboard").iterdir())
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_run_reports_to_the_real_ones_offline(name, teacher_run, tmp_path):
    offline = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
               "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}  # fmt: skip
    assert "is off from here on" not in run_with(name, teacher_run, tmp_path / "run", **offline)
    for key in ("Loss/train", "Gradients/grad_norm_jsd", "Training/coverage", "Validation/f1"):
        assert READERS[name](tmp_path, key), key
    if name != "wandb":
        with open(tmp_path / "run" / "step_metrics.csv", newline="") as file:
            expected = [(int(row["step"]), float(row["loss_total"])) for row in csv.DictReader(file)]
        assert np.allclose(READERS[name](tmp_path, "Loss/train"), expected)


@pytest.mark.slow
def test_a_run_outlives_a_tracker_without_its_server(teacher_run, tmp_path):
    told = run_with("mlflow", teacher_run, tmp_path / "run", MLFLOW_TRACKING_URI="sqlite:////proc/none/mlflow.db")
    assert told.count("mlflow is off from here on") == 1
    assert (tmp_path / "run" / "final_model" / "model.safetensors").is_file()


def read_wandb(folder: Path, key: str) -> bool:
    """Its files have no public reader."""
    (file,) = (folder / "run").glob("wandb/offline-run-*/*.wandb")
    return key.encode() in file.read_bytes()


def read_mlflow(folder: Path, key: str) -> list[tuple[int, float]]:
    with sqlite3.connect(folder / "mlflow.db") as rows:
        return list(rows.execute("select step, value from metrics where key = ? order by step", (key,)))


def read_trackio(folder: Path, key: str) -> list[tuple[int, float]]:
    (file,) = (folder / "trackio").glob("*.db")
    with sqlite3.connect(file) as rows:
        found = [(step, json.loads(values)) for step, values in rows.execute("select step, metrics from metrics")]
    return sorted((step, values[key]) for step, values in found if key in values)


READERS = {"wandb": read_wandb, "mlflow": read_mlflow, "trackio": read_trackio}


class FakeLibrary(SimpleNamespace):
    """pynvml for one GPU at 37 % with 2 GiB in use."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__(asked=[], broken=False)

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked.append(uuid)
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        if self.broken:
            raise self.NVMLError("lost")
        return SimpleNamespace(gpu=37, memory=12)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=2 << 30, total=80 << 30)


def test_a_gpu_is_measured_by_its_own_number(monkeypatch):
    library, told = FakeLibrary(), []
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-ab"))
    meter = GpuMeter(torch.device("cuda:0"), told.append)
    assert library.asked == ["GPU-12-ab"] and meter.columns == GPU_COLUMNS
    assert meter.read() == {"gpu_utilization": 37.0, "gpu_memory_mb": 2048.0}
    library.broken = True
    assert meter.read() == {} and told == []


def test_without_a_gpu_or_its_library_nothing_is_measured(monkeypatch):
    told: list[str] = []
    meter = GpuMeter(torch.device("cpu"), told.append)
    assert (meter.read(), meter.columns, told) == ({}, (), [])
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = GpuMeter(torch.device("cuda"), told.append)
    assert (meter.read(), meter.columns) == ({}, ()) and told[0].startswith("GPU use is not measured")
