"""Experiment trackers: what reaches them, and that none of them can end a run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from config.command_line import parse_config
from config.defaults import StudentConfig
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_the_real_ones_work_offline(name, tmp_path, monkeypatch):
    """Where they are installed: pip install wandb mlflow-skinny trackio."""
    pytest.importorskip(name)
    PartialState()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    told: list[str] = []
    (tmp_path / "run").mkdir()
    trackers = Trackers([name], tmp_path / "run", PARAMETERS, told.append)
    for step in (1, 2, 3):
        trackers.scalars("Loss", {"train": 1.0 / step}, step)
    trackers.close()
    assert told == []
    written = [path for path in Path(tmp_path).rglob("*") if path.is_file() and path.stat().st_size > 100]
    assert any(part in str(path) for path in written for part in ("wandb", "mlflow.db", "trackio"))


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
