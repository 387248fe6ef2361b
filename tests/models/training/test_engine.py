"""The training engine alone, on a model of seconds: mixed precision, choice of the best model, what may be resumed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from transformers import T5Config, T5ForConditionalGeneration

from config.command_line import parse_config
from config.defaults import StudentConfig
from models.loss_functions import COMPONENTS
from models.training.checkpoint import checkpoints, drop_later, load_checkpoint
from models.training.engine import TrainingEngine
from models.training.run import Run
from models.training.run_folder import choose_folder, prepare_folder
from tests.helpers.batches import Batches
from tests.helpers.faults import table
from tests.helpers.fixed_loss import fixed_loss
from utils.errors import UserError
from utils.logging_utils import DistillationLogger
from utils.signals import REQUEUE_EXIT_CODE


class Spoiled(torch.autograd.Function):
    """A finite value whose gradient is not a number."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


def config_of(*flags: str):
    plain = ["--gradient_accumulation_steps", "1", "--epochs", "15", "--lr", "1e-2", "--grad_norm_steps", "0"]
    return parse_config(StudentConfig, [*plain, *flags])


class NoTokenizer:
    def save_pretrained(self, folder) -> None:
        """These models need none."""


def engine_of(folder, *flags: str, scaler=None, data=None) -> TrainingEngine:
    torch.manual_seed(0)
    shape = T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_heads=2,
        num_layers=1,
        num_decoder_layers=1,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    accelerator = Accelerator(cpu=True)
    if scaler is not None:  # what --fp16 gives on CUDA
        accelerator.scaler, accelerator.native_amp = scaler, True
        accelerator.state._mixed_precision = "fp16"
        accelerator.autocast = lambda *_, **__: torch.autocast("cpu", enabled=False)
    logger = DistillationLogger(folder, tensorboard=False, console=False)
    loss = fixed_loss({"ce": 1.0})
    model = T5ForConditionalGeneration(shape)
    run = Run(config_of(*flags), folder, accelerator, logger)
    return TrainingEngine(run, model, NoTokenizer(), loss, data or Batches())


def steps(engine: TrainingEngine, epochs: int) -> None:
    for _ in range(epochs):
        for window in engine.epoch():
            engine.train_step(window)


def change_cross_entropy(monkeypatch, change) -> None:
    """Let ``change`` have the value of the component ce."""
    plain = COMPONENTS["ce"]
    monkeypatch.setitem(COMPONENTS, "ce", replace(plain, function=lambda inputs: change(plain.function(inputs))))


def test_fp16_goes_on_after_a_loss_that_is_not_finite(tmp_path, monkeypatch):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    engine = engine_of(tmp_path, scaler=scaler)
    calls = []

    def spoil_the_third(value):
        calls.append(1)
        return value * (torch.nan if len(calls) == 3 else 1.0)

    change_cross_entropy(monkeypatch, spoil_the_third)
    before = [p.clone() for p in engine.bare_model.parameters()]
    steps(engine, 2)
    assert engine.progress.step == 8 and engine.progress.nonfinite_total == 1
    assert scaler.get_scale() == 512.0
    means = [float(row["train_loss"]) for row in table(tmp_path / "training_metrics.csv") if row["kind"] == "epoch"]
    assert means[0] == pytest.approx(means[1], rel=0.3)  # of the three steps that count, not of four
    assert any(not torch.equal(a, b) for a, b in zip(before, engine.bare_model.parameters(), strict=True))


def test_fp16_gradients_that_stay_non_finite_end_the_run(tmp_path, monkeypatch):
    engine = engine_of(tmp_path, scaler=torch.amp.GradScaler("cpu", init_scale=64.0))
    change_cross_entropy(monkeypatch, Spoiled.apply)
    with pytest.raises(UserError, match="5 steps in a row"):
        steps(engine, 15)
    assert engine.progress.step < 15  # 7 that lower the scale to below 1, then 5 that count


def test_fp16_lets_a_window_without_rows_pass(tmp_path):
    engine = engine_of(tmp_path, scaler=torch.amp.GradScaler("cpu"))
    engine.train_step([])
    engine.train_step([(Batches().ready[0], False)])
    steps(engine, 1)
    assert engine.progress.nonfinite_total == 0


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ((), "val_loss"),
        (("--use_enhanced_metrics",), "code_quality_score"),
        (("--use_enhanced_metrics", "--embedding_model", "none", "--loss_components", "focal", "jsd"), "val_loss"),
        (("--validation_metric", "exact_match"), "exact_match"),
    ],
)
def test_the_default_metric_for_the_best_model_can_be_computed(tmp_path, flags, chosen):
    assert engine_of(tmp_path, *flags).metric_name() == chosen


@pytest.mark.parametrize("flags", [(), ("--use_enhanced_metrics", "--embedding_model", "none")])
def test_a_validation_metric_that_cannot_be_computed_is_refused(flags):
    with pytest.raises(UserError, match="--validation_metric code_quality_score needs"):
        config_of("--validation_metric", "code_quality_score", *flags)


class Fewer(Batches):
    def __init__(self) -> None:
        super().__init__()
        self.ready = self.ready[:2]


class Others(Batches):
    """As many rows, but others."""

    def fingerprint(self) -> str:
        return "others"


def test_a_run_is_not_continued_on_other_data(tmp_path):
    engine = engine_of(tmp_path)
    steps(engine, 1)
    assert engine.save()
    (saved,) = checkpoints(tmp_path)
    engine_of(tmp_path).restore(saved)
    with pytest.raises(UserError, match="4 steps, now it has 2; the training data are not"):
        engine_of(tmp_path, data=Fewer()).restore(saved)
    with pytest.raises(UserError, match="the training rows are others than those that the run began with"):
        engine_of(tmp_path, data=Others()).restore(saved)
    written = json.loads((saved / "state.json").read_text())
    del written["rows"]  # as earlier versions wrote it
    (saved / "state.json").write_text(json.dumps(written))
    engine_of(tmp_path, data=Others()).restore(saved)


def test_a_signal_during_the_last_checkpoint_is_heeded(tmp_path, monkeypatch):
    engine = engine_of(tmp_path, "--max_steps", "2", "--validation_frequency", "0")

    def save() -> bool:
        engine.signal.received = "SIGUSR1"
        return True

    monkeypatch.setattr(engine, "save", save)
    assert engine.run() == REQUEUE_EXIT_CODE and engine.progress.finished


def test_checkpoints_after_the_one_that_is_resumed_are_dropped(tmp_path):
    for step in (6, 12, 18):
        (tmp_path / f"checkpoint-{step:07d}").mkdir()
    assert drop_later(tmp_path / "checkpoint-0000018") == []
    assert drop_later(tmp_path / "checkpoint-0000006") == ["checkpoint-0000012", "checkpoint-0000018"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0000006"]


def test_a_run_goes_on_in_its_own_folder(tmp_path):
    def folder(output):
        return choose_folder(config_of("--resume", str(tmp_path / "run/checkpoint-0000006"), *output), "m")

    (tmp_path / "run" / "checkpoint-0000006").mkdir(parents=True)
    assert folder([]) == folder(["--output_dir", str(tmp_path / "run")]) == tmp_path / "run"
    with pytest.raises(UserError, match="a run goes on in its own folder"):
        folder(["--output_dir", str(tmp_path / "other")])


def test_overwriting_a_run_keeps_files_of_others(tmp_path):
    for name in (".git", "src", "final_model", "checkpoint-0000003", ".checkpoint-0000002.77.tmp"):
        (tmp_path / name).mkdir()
    for name in (".env", "notes.txt", "step_metrics.csv", ".progress", ".distillation_data_training.jsonl.part0"):
        (tmp_path / name).touch()
    prepare_folder(tmp_path, config_of("--overwrite"))
    assert {path.name for path in tmp_path.iterdir()} == {".git", "src", ".env", "notes.txt", ".lock"}


def test_weights_of_another_shape_are_refused_in_a_line(tmp_path):
    engine = engine_of(tmp_path)
    folder = tmp_path / "checkpoint-0000001"
    folder.mkdir()
    save_file({"weight": torch.zeros(3, 2)}, folder / "model.safetensors")
    torch.save({}, folder / "training_state.pt")
    (folder / "state.json").write_text("{}")
    for model in (torch.nn.Linear(2, 4, bias=False), engine.bare_model):
        with pytest.raises(UserError, match="weights belong to another model"):
            load_checkpoint(folder, model)


def test_norms_of_components_and_coverage_reach_the_trackers(tmp_path, monkeypatch):
    """Norms are measured at steps 1 and 5, intervals end with steps 3, 6 and 8."""
    engine = engine_of(tmp_path, "--grad_norm_steps", "4", "--logging_steps", "3", "--max_steps", "8")
    shown = {}
    monkeypatch.setattr(
        engine.logger, "scalars", lambda group, values, step: shown.setdefault(step, {}).update({group: dict(values)})
    )
    coverage = iter([0.25, 0.5])
    monkeypatch.setattr(engine.data, "end_epoch", lambda epoch: {"coverage": next(coverage)})
    steps(engine, 2)
    rows = {int(row["step"]): row for row in table(tmp_path / "step_metrics.csv")}
    for step, measured in ((3, 1), (6, 5)):
        assert shown[step]["Gradients"]["grad_norm_ce"] == float(rows[measured]["grad_norm_ce"])
        assert shown[step]["Gradients"]["grad_norm_total"] == float(rows[step]["grad_norm_total"])
    assert "grad_norm_ce" not in shown[8]["Gradients"]  # not measured since the last interval
    assert (shown[4]["Training"], shown[8]["Training"]) == ({"coverage": 0.25}, {"coverage": 0.5})
