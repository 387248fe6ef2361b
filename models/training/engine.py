"""The one training engine, for teacher and student alike: they differ in the loss that they are given.

The loop reads: step, log, validate, save. What one step does is in step.py, which batches it gets in windows.py, which
learning rate and temperature hold in plan.py.
"""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from config.schedules import AlphaController
from models.multi_component_loss import MultiComponentLoss
from models.training import sharding
from models.training.checkpoint import (
    RunState,
    StateDict,
    Tensors,
    load_checkpoint,
    read_best_step,
    save_best,
    save_checkpoint,
)
from models.training.passes import choose_pass
from models.training.plan import Plan, no_softening
from models.training.run import Run
from models.training.step import StepResult, TrainingStep
from models.training.step_log import StepLog
from models.training.windows import Ahead, TrainingData, Window, Windows
from utils.errors import UserError
from utils.gpu_meter import GpuMeter
from utils.logging_utils import step_columns
from utils.signals import REQUEUE_EXIT_CODE, StopSignal, exit_on_signal
from utils.training_utils import group_by_decay, measure_memory_mb

# How Python, torch and safetensors report a disk that is full or cannot be written.
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class Validation(Protocol):
    """Judges the model during training; evaluation/validation.py has the one that is used."""

    def __call__(self, model: PreTrainedModel, step: int) -> dict[str, float | None]:
        """Metric -> value, the same in every process."""

    def one_batch_only(self) -> None:
        """From now on judge the first batch alone, as a dry run does."""


@dataclass
class Progress:
    """Where training stands; goes into the checkpoint as JSON."""

    step: int = 0
    epoch: int = 0
    window: int = 0  # optimiser steps done in this epoch
    samples: int = 0
    seconds: float = 0.0
    best_value: float | None = None
    best_step: int = 0
    bad_validations: int = 0
    nonfinite_in_row: int = 0
    nonfinite_total: int = 0
    finished: bool = False
    stopped_early: bool = False
    epoch_loss_sum: float = 0.0
    epoch_finite_steps: int = 0

    @classmethod
    def of_checkpoint(cls, stored: StateDict) -> Progress:
        """The progress that a checkpoint holds; older ones have one field more, ``extra``."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})


class TrainingEngine:
    """Runs the optimiser steps; ``run`` returns 0 when done, 85 when a signal asked for a checkpoint and an end."""

    def __init__(
        self,
        run: Run,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        loss: MultiComponentLoss,
        data: TrainingData,
        *,
        temperature: Callable[[float], float] = no_softening,
        alpha: AlphaController | None = None,
    ) -> None:
        """temperature: share of the steps done -> T; alpha: None where the loss has none."""
        self.config = run.config
        self.accelerator = run.accelerator
        self.folder = run.folder
        self.logger = run.logger
        self.tokenizer = tokenizer
        self.loss = loss
        self.data = data
        self.validate: Validation | None = None
        self.progress, self.signal = Progress(), StopSignal()
        config = run.config
        accelerator = run.accelerator
        optim = run.config.optimization
        self.fsdp = config.hardware.fsdp
        # What is judged and saved: the model itself, or with --fsdp a whole copy next to the shares.
        self.bare_model = copy.deepcopy(model) if self.fsdp else model
        if self.fsdp:
            sharding.shard(model, accelerator.device, accelerator.num_processes)
        optimizer = torch.optim.AdamW(
            group_by_decay(model, optim.weight_decay),
            lr=optim.lr,
            betas=(optim.adam_beta1, optim.adam_beta2),
            eps=optim.adam_epsilon,
            fused=accelerator.device.type in ("cuda", "cpu"),
        )
        # With --fsdp the model is prepared already, and the bare one is its copy.
        computing = model if self.fsdp else self.bare_model
        self.model, self.through = choose_pass(
            config,
            accelerator,
            computing,
            (lambda same: same) if self.fsdp else accelerator.prepare,
            self.logger.warning,
        )
        self.optimizer = accelerator.prepare(optimizer)
        self.step = TrainingStep(config, accelerator, self.model, self.through, self.optimizer, loss)
        self.windows = Windows(
            data, optim.gradient_accumulation_steps, accelerator.process_index, accelerator.num_processes
        )
        steps_per_epoch = [self.windows.steps(epoch) for epoch in range(optim.epochs)]
        self.plan = Plan(optim, steps_per_epoch, temperature, alpha)
        self.log = StepLog(run.logger, self.plan, config.output.logging_steps)
        self._saved_at = time.monotonic()
        self.gpu = GpuMeter(accelerator.device, run.logger.warning)
        run.logger.declare_step_columns(step_columns(loss.components, self.gpu.columns))

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Train to the last step, or until a signal, early stopping or too many non-finite steps."""
        self.signal.install()
        self.log.start()
        self.logger.start_progress(self.plan.last_step, self.progress.step)
        try:
            stopped = self._train()
        except (RuntimeError, ConnectionError, EOFError) as error:
            explained = self._explain(error)
            if explained is error:
                raise
            raise explained from None
        finally:
            self.logger.end_progress()
        if stopped:
            return REQUEUE_EXIT_CODE
        # A signal during the last checkpoint: what follows (the evaluation) is for the next start.
        (told_to_stop,) = self._any(self.signal.received is not None)
        exit_on_signal()
        if told_to_stop:
            self.logger.info(f"{self.signal.received or 'signal'}: training is done; continue with --resume")
            return REQUEUE_EXIT_CODE
        return 0

    def _explain(self, error: Exception) -> Exception:
        """What the user can do about an error of a step; the error itself where that is not known."""
        where = f"step {self.progress.step + 1}"
        first = str(error).strip().partition("\n")[0].rstrip(". ")
        if lost := self.data.lost_worker():
            why = ", most often for lack of memory" if lost.endswith(f"signal {signal.SIGKILL:d}") else ""
            return UserError(
                f"{where}: a data worker died ({lost}){why}; continue with --resume, and fewer --num_workers"
            )
        if "does not have a deterministic implementation" in first:
            return UserError(f"{where}: {first.partition(', but')[0]}; --no_deterministic does without")
        if isinstance(error, torch._dynamo.exc.TorchDynamoException):
            causes = [line.strip() for line in str(error).splitlines() if line.strip()]
            cause = next((line for line in causes if "Error" in line or "error" in line), causes[0])
            return UserError(
                f"{where}: torch.compile failed ({cause[:300]}); leave out --compile, or fix what it lacks"
            )
        return error

    def _train(self) -> bool:
        """All steps that are left; returns whether a signal stopped them."""
        while not self.progress.finished and self.progress.epoch < len(self.plan.steps_per_epoch):
            ahead = Ahead(self.epoch(), self.through.prepare)
            for window in ahead:
                self.train_step(window, ahead.fetch)
                self._maybe_validate()
                self._maybe_finish()
                told_to_stop, minutes_over = self._any(self.signal.received is not None, self._save_minutes_over())
                if told_to_stop:
                    self._save_and_stop()
                    return True
                self._maybe_save(minutes_over)
                if self.progress.finished:
                    break
        return False

    def epoch(self) -> Iterator[Window]:
        """The optimiser steps of the current epoch that are still to do."""
        return self.windows.of_epoch(self.progress.epoch, self.progress.window)

    def _save_and_stop(self) -> None:
        written = self.save()
        name = self.signal.received or "signal"
        done = "checkpoint written; continue" if written else "no new checkpoint; continue from the last good one"
        self.logger.info(f"{name}: {done} with --resume")

    def _any(self, *flags: bool) -> list[bool]:
        """Which of the flags are set in any process; all call it."""
        if self.accelerator.num_processes == 1:
            return list(flags)
        values = torch.tensor([float(flag) for flag in flags], device=self.accelerator.device)
        return (self.accelerator.reduce(values, "sum") > 0).tolist()

    def whole_model(self) -> PreTrainedModel:
        """The model to judge and to save; with --fsdp put together from all processes, which all call it."""
        if self.fsdp:
            sharding.gather(self.model, self.bare_model)
        return self.bare_model

    # -- one step -----------------------------------------------------------------------------------------------------

    def train_step(self, window: Window, meanwhile: Callable[[], None] = lambda: None) -> None:
        """One optimiser step, its place in the progress, its line in the logs; ``meanwhile`` as in ``TrainingStep``."""
        started = time.monotonic()
        progress, plan = self.progress, self.plan
        every = self.config.output.grad_norm_steps
        where, learning_rate = plan.loss_progress(progress.step), plan.learning_rate(progress.step)
        wants_norms = every > 0 and progress.step % every == 0
        result = self.step(window, progress.step, learning_rate, where, wants_norms, meanwhile)
        self._count_nonfinite(result, window)
        if result.applied and plan.alpha and result.hard_loss is not None:
            plan.alpha.observe(result.hard_loss)
        if result.applied:
            progress.epoch_loss_sum += result.loss
            progress.epoch_finite_steps += 1
        progress.step += 1
        progress.window += 1
        progress.samples += result.samples
        progress.seconds += time.monotonic() - started
        memory_mb = measure_memory_mb(self.accelerator.device)
        self.log.step(
            progress.step,
            plan.epochs_done(progress.epoch, progress.window),
            result,
            progress.seconds,
            {
                "learning_rate": learning_rate,
                "temperature": where.temperature,
                "alpha": where.alpha if plan.alpha else None,
                "memory_mb": memory_mb,
                "seconds": time.monotonic() - started,
                **self.gpu.read(),
            },
        )
        if progress.window == plan.steps_per_epoch[progress.epoch]:
            self._end_epoch(learning_rate, memory_mb)

    def _count_nonfinite(self, result: StepResult, window: Window) -> None:
        """Say that a step was skipped; after too many in a row keep the batch and stop. Raises UserError."""
        progress = self.progress
        if result.applied:
            progress.nonfinite_in_row = 0
        if not result.nonfinite:
            return
        progress.nonfinite_in_row += 1
        progress.nonfinite_total += 1
        self.logger.warning(f"step {progress.step + 1}: non-finite loss or gradient, step skipped")
        if progress.nonfinite_in_row < self.config.optimization.max_nonfinite_steps:
            return
        path = self.folder / f"nonfinite_step_{progress.step + 1}.pt"
        if self.accelerator.is_main_process:
            kept = [
                {
                    "input_ids": batch["input_ids"].cpu(),
                    "labels": batch["labels"].cpu(),
                    "row_ids": batch["row_ids"].cpu(),
                }
                for batch, _ in window
            ]
            torch.save(kept, path)
        raise UserError(
            f"{progress.nonfinite_in_row} steps in a row had a non-finite loss; the last batch is in {path};"
            " lower --lr, or look at the rows it names"
        )

    def _end_epoch(self, learning_rate: float, memory_mb: float) -> None:
        progress = self.progress
        facts, finite = self.data.end_epoch(progress.epoch), progress.epoch_finite_steps
        if coverage := facts.get("coverage"):
            self.logger.info(f"epoch {progress.epoch + 1}: {coverage:.1%} of the training file used so far")
        self.logger.training(
            {
                "kind": "epoch",
                "epoch": progress.epoch + 1,
                "step": progress.step,
                "train_loss": progress.epoch_loss_sum / finite if finite else None,
                "learning_rate": learning_rate,
                "seconds": progress.seconds,
                "memory_mb": memory_mb,
                "coverage": facts.get("coverage"),
            }
        )
        self.logger.scalars("Training", {"coverage": facts.get("coverage")}, progress.step)
        progress.epoch += 1
        progress.window = 0
        progress.epoch_loss_sum, progress.epoch_finite_steps = 0.0, 0

    # -- now and then -------------------------------------------------------------------------------------------------

    def _maybe_validate(self) -> None:
        settings = self.config.validation
        progress = self.progress
        plan = self.plan
        ended = progress.window == 0
        due = ended and settings.validation_frequency and progress.epoch % settings.validation_frequency == 0
        due = due or (settings.eval_steps and progress.step % settings.eval_steps == 0)
        due = due or progress.step >= plan.last_step  # or the last weights could never be the best
        if self.validate is None or not due:
            return
        if plan.alpha:
            plan.alpha.close_window()
        started = time.monotonic()
        metrics = self.validate(self.whole_model().to(self.accelerator.device), progress.step)
        if self.fsdp:
            self.bare_model.cpu()
        epoch = plan.epochs_done(progress.epoch, progress.window)
        self.logger.training({"kind": "validation", "epoch": epoch, "step": progress.step, **metrics})
        self.logger.scalars("Validation", metrics, progress.step)
        self.log.pause(time.monotonic() - started)
        self._keep_best(metrics)

    def _keep_best(self, metrics: dict[str, float | None]) -> None:
        settings, progress = self.config.validation, self.progress
        name = self.metric_name()
        value = metrics.get(name)
        shown = " ".join(f"{k}={v:.4f}" for k, v in metrics.items() if v is not None)
        self.logger.info(f"validation step={progress.step} {shown}")
        if value is None or not math.isfinite(value):
            self.logger.warning(f"validation: {name} could not be computed; this validation chooses nothing")
            return
        sign = -1.0 if name == "val_loss" else 1.0
        best = progress.best_value
        if best is None or sign * (value - best) > settings.early_stopping_min_delta:
            if self._save_best():
                progress.best_value = value
                progress.best_step = progress.step
                progress.bad_validations = 0
        else:
            progress.bad_validations += 1
            if settings.early_stopping_patience and progress.bad_validations >= settings.early_stopping_patience:
                self.logger.info(f"early stopping: {name} has not improved since step {progress.best_step}")
                progress.stopped_early = True

    def _save_best(self) -> bool:
        failed = False
        if self.accelerator.is_main_process:
            try:
                save_best(self.folder, self.bare_model, self.tokenizer, self.progress.step)
            except WRITE_ERRORS as error:
                failed = True
                step = self.progress.step
                self.logger.warning(f"best model of step {step} was not written ({error}); it does not count")
        return not self._any(failed)[0]

    def metric_name(self) -> str:
        """The column of training_metrics.csv that chooses the best model; fixed for the run."""
        settings = self.config.validation
        wanted = settings.validation_metric
        if wanted == "auto":
            scored = settings.use_enhanced_metrics and settings.embedding_model != "none"
            return "code_quality_score" if scored else "val_loss"
        return "val_loss" if wanted == "loss" else wanted

    def _maybe_finish(self) -> None:
        progress = self.progress
        if progress.step >= self.plan.last_step or progress.stopped_early:
            progress.finished = True

    def _save_minutes_over(self) -> bool:
        minutes = self.config.output.save_minutes
        return bool(minutes) and time.monotonic() - self._saved_at >= 60 * minutes

    def _maybe_save(self, minutes_over: bool) -> None:
        every = self.config.output.save_steps
        if minutes_over or self.progress.finished or (every and self.progress.step % every == 0):
            self.save()

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def save(self) -> bool:
        """Write a checkpoint and say whether that went well; all processes call it."""
        loss_states = gather_object([self.loss.state_dict()])
        model = self.whole_model()
        optimizer = self._optimizer_state()
        failed = False
        if self.accelerator.is_main_process:
            alpha, scaler = self.plan.alpha, self.accelerator.scaler
            state: RunState = {
                "progress": asdict(self.progress),
                "alpha": alpha.state_dict() if alpha else None,
                "logger": self.logger.state_dict(),
                "processes": self.accelerator.num_processes,
                "steps_per_epoch": self.plan.steps_per_epoch,
                "rows": self.data.fingerprint(),
                "config": self.config.flat(),
                "interval": self.log.state(),
            }
            tensors: Tensors = {
                "optimizer": optimizer,
                "scaler": scaler.state_dict() if scaler is not None else None,
                "loss": loss_states,
            }
            try:
                limit = self.config.output.save_total_limit
                save_checkpoint(self.folder, self.progress.step, model, self.tokenizer, tensors, state, limit)
            except WRITE_ERRORS as error:
                failed = True
                self.logger.warning(
                    f"checkpoint at step {self.progress.step} was not written ({error}); the last good one stands"
                )
        self._saved_at = time.monotonic()
        return not self._any(failed)[0]

    def _optimizer_state(self) -> StateDict:
        if self.fsdp:
            return sharding.optimizer_state(self.model, self.optimizer.optimizer)
        return self.optimizer.state_dict()

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint folder. Raises UserError where the data are not those of its run."""
        tensors, state = load_checkpoint(path, self.bare_model)
        if state["steps_per_epoch"] != self.plan.steps_per_epoch:
            raise UserError(
                f"--resume {path}: an epoch had {state['steps_per_epoch'][0]} steps, now it has"
                f" {self.plan.steps_per_epoch[0]}; the training data are not those that the run began with"
            )
        if state.get("rows") not in (None, self.data.fingerprint()):  # None: of an earlier version
            raise UserError(
                f"--resume {path}: the training rows are others than those that the run began with; give it those, or"
                " start a new run from its weights (--model_name)"
            )
        if self.fsdp:
            sharding.scatter(self.bare_model, self.model)
            sharding.load_optimizer_state(self.model, self.optimizer.optimizer, tensors["optimizer"])
        else:
            self.optimizer.load_state_dict(tensors["optimizer"])
        self.through.weights_moved()
        if self.accelerator.scaler is not None and tensors["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(tensors["scaler"])
        states = tensors["loss"]
        self.loss.load_state_dict(states[min(self.accelerator.process_index, len(states) - 1)])
        self.progress = progress = Progress.of_checkpoint(state["progress"])
        # --max_steps may be another now.
        progress.finished = progress.stopped_early or progress.step >= self.plan.last_step
        if progress.best_value is not None and read_best_step(self.folder) != progress.best_step:
            self.logger.warning(
                f"best_model is no longer that of step {progress.best_step}; the best of what follows counts"
            )
            progress.best_value, progress.bad_validations = None, 0
        if self.plan.alpha and state["alpha"]:
            self.plan.alpha.load_state_dict(state["alpha"])
        self.logger.load_state_dict(state["logger"])
        self.log.restore(state["interval"])
        self.logger.info(f"resumed from {path} at step {progress.step}")
