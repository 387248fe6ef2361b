"""The one training engine, for teacher and student alike: they differ in the loss that they are given.

An optimiser step is a window of micro-batches: ``gradient_accumulation_steps`` of each process, fewer at the end of an
epoch. All of them are fetched first, so every term is divided by the tokens or sequences of the whole window.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from config.defaults import RunConfig, StudentConfig
from config.schedules import AlphaController, lr_lambda, temperature_at, warmup_step_count
from data.batches.buckets import MAX_SHAPES, pad_to_buckets
from data.batches.collate import IGNORED, Batch
from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss
from models.seq2seq.inputs import shift_right, to_device
from models.seq2seq.target_head import TargetHead, target_rows
from models.training import sharding
from models.training.checkpoint import best_step, load_checkpoint, save_best, save_checkpoint
from utils.errors import UserError
from utils.logging_utils import DistillationLogger, step_columns
from utils.seeding import seed_step
from utils.signals import REQUEUE_EXIT_CODE, StopSignal, exit_on_signal
from utils.training_utils import (
    clip_gradients,
    group_by_decay,
    measure_gradient_norms,
    measure_memory_mb,
)

LOWEST_SCALE = 1.0  # of --fp16: gradients that are still not finite below it are no matter of the scale
# How Python, torch and safetensors report a disk that is full or not to be written.
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class Validation(Protocol):
    """Judges the model during training; evaluation/validation.py has the one that is used."""

    def __call__(self, model: PreTrainedModel, step: int) -> dict[str, float | None]:
        """Metric -> value, the same in every process."""

    def one_batch_only(self) -> None:
        """From now on judge the first batch alone, as a dry run does."""


class TrainingData(Protocol):
    """Where micro-batches come from. All processes see the same numbering; each is given every W-th."""

    def micro_batches(self, epoch: int) -> int:
        """Micro-batches of the epoch over all processes."""

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This process's batches of the epoch from its ``start``-th on; as many in each process, the last repeated."""

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """What is known of the data after an epoch (coverage, ...)."""


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
    extra: dict[str, Any] = field(default_factory=dict)


class TrainingEngine:
    """Runs the optimiser steps; ``run`` returns 0 when done, 85 when a signal asked for a checkpoint and an end."""

    def __init__(
        self,
        config: RunConfig,
        accelerator: Accelerator,
        model: PreTrainedModel,
        tokenizer: Any,
        loss: MultiComponentLoss,
        data: TrainingData,
        folder: Path,
        logger: DistillationLogger,
        validate: Validation | None = None,
        alpha: AlphaController | None = None,
    ) -> None:
        self.config, self.accelerator, self.tokenizer = config, accelerator, tokenizer
        self.loss, self.data, self.folder, self.logger, self.validate = loss, data, folder, logger, validate
        self.alpha = alpha
        optim = config.optimization
        self.fsdp = config.hardware.fsdp
        # What is judged and saved: the model itself, or with --fsdp a whole copy beside the shares.
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
        self.model = model if self.fsdp else accelerator.prepare(model)
        self.optimizer = accelerator.prepare(optimizer)
        self.forward = self._compiled() if config.hardware.compile else self.model
        # A compiled model wants shapes that do not change; --fsdp has its own copy of the head.
        self.target_head = None if config.hardware.compile or config.hardware.fsdp else TargetHead(model)
        self.progress = Progress()
        self.signal = StopSignal()
        world = accelerator.num_processes
        self.steps_per_epoch = [
            math.ceil(data.micro_batches(epoch) / (optim.gradient_accumulation_steps * world))
            for epoch in range(optim.epochs)
        ]
        self.total_steps = sum(self.steps_per_epoch)
        self.last_step = min(self.total_steps, optim.max_steps or self.total_steps)
        self.warmup_steps = warmup_step_count(self.total_steps, optim.warmup_steps, optim.warmup_ratio)
        self.lr_factor = lr_lambda(self.total_steps, self.warmup_steps, optim.lr_floor_ratio)
        self._saved_at = time.monotonic()
        self._spare: Batch | None = None
        self._interval: list[float] = []
        self._interval_started = time.monotonic()
        self._interval_samples = 0
        logger.declare_step_columns(step_columns(loss.components))

    # -- schedules ----------------------------------------------------------------------------------------------------

    def loss_progress(self) -> LossProgress:
        """Temperature, alpha and share of the steps done, before the step that comes."""
        fraction = self.progress.step / max(1, self.total_steps)
        alpha = self.alpha.value(fraction) if self.alpha else 0.5
        return LossProgress(fraction, self._temperature(fraction), alpha)

    def _temperature(self, fraction: float) -> float:
        if not isinstance(self.config, StudentConfig):
            return 1.0
        distillation = self.config.distillation
        return temperature_at(distillation.temperature, distillation.temperature_final, fraction)

    def final_progress(self) -> LossProgress:
        """What validation uses all along, so that its loss can be compared over the run."""
        return LossProgress(1.0, self._temperature(1.0), self.alpha.alpha if self.alpha else 0.5)

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Train to the last step, or until a signal, early stopping or too many non-finite steps."""
        self.signal.install()
        self._interval_started = time.monotonic()
        self.logger.start_progress(self.last_step, self.progress.step)
        try:
            while not self.progress.finished and self.progress.epoch < len(self.steps_per_epoch):
                for window in self._windows():
                    self._train_step(window)
                    self._maybe_validate()
                    self._maybe_finish()
                    told_to_stop, minutes_over = self._any(self.signal.received is not None, self._save_minutes_over())
                    if told_to_stop:
                        return self._stop()
                    self._maybe_save(minutes_over)
                    if self.progress.finished:
                        break
        except (RuntimeError, ConnectionError, EOFError) as error:
            # The last two: it died between announcing a batch and handing it over.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            reason = str(error).partition("\n")[0].rstrip(". ")
            raise UserError(
                f"step {self.progress.step + 1}: a data worker died ({reason}), most often for lack of memory;"
                " continue with --resume, and fewer --num_workers"
            ) from None
        finally:
            self.logger.end_progress()
        # One that came during the last checkpoint: what follows (evaluation) is for the next start.
        (told_to_stop,) = self._any(self.signal.received is not None)
        exit_on_signal()
        if told_to_stop:
            self.logger.info(f"{self.signal.received or 'signal'}: training is done; continue with --resume")
            return REQUEUE_EXIT_CODE
        return 0

    def _stop(self) -> int:
        written = self.save()
        name = self.signal.received or "signal"
        done = "checkpoint written; continue" if written else "no new checkpoint; continue from the last good one"
        self.logger.info(f"{name}: {done} with --resume")
        return REQUEUE_EXIT_CODE

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

    def _windows(self) -> Iterator[list[tuple[Batch, bool]]]:
        """The optimiser steps of the current epoch that are still to do: their batches, and whether each counts.

        One that does not count (a repeated one, or a stand-in for a batch of bad rows) keeps the processes in step.
        """
        accumulation = self.config.optimization.gradient_accumulation_steps
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        epoch = self.progress.epoch
        total = self.data.micro_batches(epoch)
        first = self.progress.window * accumulation
        batches = self.data.batches(epoch, first)
        for start in range(first, math.ceil(total / world), accumulation):
            found = list(islice(batches, accumulation))
            usable = [batch for batch in found if "input_ids" in batch]
            if world == 1:
                yield [(batch, True) for batch in usable]
                continue
            self._spare = usable[-1] if usable else self._spare
            if self._spare is None:  # nothing to stand in yet: take what comes later
                later = self.data.batches(epoch, start + accumulation)
                self._spare = next((batch for batch in later if "input_ids" in batch), None)
            if self._spare is None:
                raise UserError("a process found no usable row; see rejected.jsonl, start again with fewer processes")
            yield [
                (batch, j * world + rank < total) if "input_ids" in batch else (self._spare, False)
                for j, batch in enumerate(found, start)
            ]

    def _train_step(self, window: list[tuple[Batch, bool]]) -> None:
        """Forward, backward, clip, step: one window."""
        started = time.monotonic()
        progress, config, device = self.progress, self.config.optimization, self.accelerator.device
        world = self.accelerator.num_processes
        seed_step(self.config.hardware.seed, progress.step, self.accelerator.process_index)
        totals = torch.tensor(
            [
                sum(int((batch["labels"] != IGNORED).sum()) for batch, counts in window if counts),
                sum(len(batch["labels"]) for batch, counts in window if counts),
            ],
            dtype=torch.float64,
        )
        if world > 1:
            totals = self.accelerator.reduce(totals.float().to(device), "sum").cpu().double()
        tokens, sequences = totals.tolist()
        where = self.loss_progress()
        lr = config.lr * self.lr_factor(progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        denominators = Denominators(max(1.0, tokens), max(1.0, sequences))
        every = self.config.output.grad_norm_steps
        wants_norms = every > 0 and progress.step % every == 0
        component_norms: dict[str, Tensor] = {}
        raw = {name: torch.zeros((), device=device) for name in self.loss.components}
        weighted = {name: torch.zeros((), device=device) for name in self.loss.components}
        weights = dict(self.loss.weights(where))
        self.model.train()
        for index, (batch, counts_here) in enumerate(window):
            if self.config.hardware.compile:
                batch = pad_to_buckets(batch, self.bare_model.config.pad_token_id)
            batch = to_device(batch, device)
            is_last = index == len(window) - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast(), self._targets_only(batch):
                    logits = self.forward(
                        input_ids=batch["input_ids"],
                        attention_mask=batch["attention_mask"],
                        decoder_input_ids=shift_right(self.bare_model, batch["labels"]),
                    ).logits
                if wants_norms and not component_norms:
                    component_norms = self.loss.gradient_norms(logits, batch, where, denominators)
                if counts_here:
                    output = self.loss(logits, batch, where, denominators)
                    for name in raw:
                        raw[name] += output.raw[name]
                        weighted[name] += output.weighted[name]
                # DDP averages over the processes; the denominators already span them. A stand-in takes part, with 0.
                self.accelerator.backward(output.total * world if counts_here else logits.sum() * 0.0)
        values = torch.stack([*raw.values(), *weighted.values()])
        if world > 1:
            values = self.accelerator.reduce(values, "sum")
        raw_values = dict(zip(raw, values[: len(raw)], strict=True))
        if self.accelerator.scaler is not None and window:
            self.accelerator.unscale_gradients(self.optimizer)
        norms = measure_gradient_norms(self.model)
        # The one wait for the device in a step: is all finite, and what do the logs want.
        host = torch.stack([*values, *norms.values(), *component_norms.values()]).tolist()
        host_values, host = host[: len(values)], host[len(values) :]
        host_norms = dict(zip([*norms, *component_norms], host, strict=True))
        finite_loss, finite_norm = all(map(math.isfinite, host_values)), math.isfinite(host_norms["total"])
        if tokens:
            finite = self._apply([batch for batch, _ in window], norms["total"], finite_norm, finite_loss)
        else:
            finite = self._leave_out(bool(window))
        if finite:
            self.loss.end_step(raw_values)
            if self.alpha and "ce" in raw_values:
                self.alpha.observe(raw_values["ce"].detach())
        progress.step += 1
        progress.window += 1
        progress.samples += int(sequences)
        progress.seconds += time.monotonic() - started
        row = {
            "epoch": progress.epoch + progress.window / self.steps_per_epoch[progress.epoch],
            "step": progress.step,
            "learning_rate": lr,
            "temperature": where.temperature,
            "alpha": where.alpha if self.alpha else None,
            "loss_total": sum(host_values[len(raw) :]),
            "target_tokens": int(tokens),
            "samples": int(sequences),
            "memory_mb": measure_memory_mb(device),
            "seconds": time.monotonic() - started,
        }
        for position, name in enumerate(raw):
            row[f"{name}_loss_raw"] = host_values[position]
            row[f"{name}_loss_weighted"] = host_values[len(raw) + position]
            row[f"{name}_weight"] = weights[name]
            row[f"grad_norm_{name}"] = None
        row |= {f"grad_norm_{part}": norm for part, norm in host_norms.items()}
        self.logger.step(row)
        self._maybe_log(row, finite)
        if progress.window == self.steps_per_epoch[progress.epoch]:
            self._end_epoch(row)

    def _compiled(self) -> Callable:
        """The training forward, compiled once for each bucket of lengths; generation keeps the model as it is."""
        torch._dynamo.config.recompile_limit = MAX_SHAPES
        return torch.compile(self.model, dynamic=False)

    def _targets_only(self, batch: Batch) -> AbstractContextManager:
        if self.target_head is None:
            return nullcontext()
        teacher = batch.get("teacher")
        count = teacher.num_positions if teacher is not None else None
        return self.target_head.only(target_rows(batch["labels"], count))

    def _apply(self, window: list[Batch], norm: Tensor, finite_norm: bool, finite_loss: bool) -> bool:
        """Clip and step where loss and gradient are finite; else skip, and stop after too many in a row."""
        progress, scaler = self.progress, self.accelerator.scaler
        if finite_norm and finite_loss:
            clip_gradients(self.model, norm, self.config.optimization.max_grad_norm)
            self.optimizer.step()
            progress.nonfinite_in_row = 0
        elif scaler is None or not finite_loss or scaler.get_scale() < LOWEST_SCALE:
            progress.nonfinite_in_row += 1
            progress.nonfinite_total += 1
            self.logger.warning(f"step {progress.step + 1}: non-finite loss or gradient, step skipped")
            if progress.nonfinite_in_row >= self.config.optimization.max_nonfinite_steps:
                path = self.folder / f"nonfinite_step_{progress.step + 1}.pt"
                if self.accelerator.is_main_process:
                    torch.save([{k: batch[k] for k in ("input_ids", "labels", "row_ids")} for batch in window], path)
                raise UserError(
                    f"{progress.nonfinite_in_row} steps in a row had a non-finite loss; the last batch is in {path};"
                    " lower --lr, or look at the rows it names"
                )
        if finite_norm and finite_loss:
            self.optimizer.zero_grad()
            return True
        return self._leave_out(True)

    def _leave_out(self, gradients: bool) -> bool:
        """Forget this step's gradients, if there are any. Of --fp16 the scaler notes what it saw of them."""
        if self.accelerator.scaler is not None and gradients:
            self.accelerator.scaler.update()
        self.optimizer.zero_grad()
        return False

    # -- now and then -------------------------------------------------------------------------------------------------

    def _maybe_log(self, row: dict[str, Any], finite: bool) -> None:
        progress = self.progress
        self._interval_samples += row["samples"]
        if finite:
            self._interval.append(row["loss_total"])
            progress.epoch_loss_sum += row["loss_total"]
            progress.epoch_finite_steps += 1
        if progress.step % self.config.output.logging_steps and progress.step != self.last_step:
            return
        seconds = time.monotonic() - self._interval_started
        rate = self._interval_samples / max(seconds, 1e-9)
        mean = sum(self._interval) / len(self._interval) if self._interval else None
        self.logger.training(
            {
                "kind": "step",
                "epoch": row["epoch"],
                "step": progress.step,
                "train_loss": mean,
                "learning_rate": row["learning_rate"],
                "samples_per_second": rate,
                "seconds": progress.seconds,
                "memory_mb": row["memory_mb"],
            }
        )
        names = self.loss.components
        step = progress.step
        self.logger.scalars("Loss", {"train": row["loss_total"]}, step)
        self.logger.scalars("Loss_Raw", {name: row[f"{name}_loss_raw"] for name in names}, step)
        self.logger.scalars("Loss_Weighted", {name: row[f"{name}_loss_weighted"] for name in names}, step)
        self.logger.scalars("Weights", {name: row[f"{name}_weight"] for name in names}, step)
        self.logger.scalars("Gradients", {k: v for k, v in row.items() if k.startswith("grad_norm_")}, step)
        hyper = {key: row[key] for key in ("learning_rate", "temperature", "alpha")}
        self.logger.scalars("Hyperparams", hyper, step)
        self.logger.scalars("Training", {"samples_per_second": rate, "memory_mb": row["memory_mb"]}, step)
        self._interval, self._interval_samples, self._interval_started = [], 0, time.monotonic()

    def _end_epoch(self, row: dict[str, Any]) -> None:
        progress = self.progress
        facts, finite = self.data.end_epoch(progress.epoch), progress.epoch_finite_steps
        self.logger.training(
            {
                "kind": "epoch",
                "epoch": progress.epoch + 1,
                "step": progress.step,
                "train_loss": progress.epoch_loss_sum / finite if finite else None,
                "learning_rate": row["learning_rate"],
                "seconds": progress.seconds,
                "memory_mb": row["memory_mb"],
                "coverage": facts.get("coverage"),
            }
        )
        progress.epoch += 1
        progress.window = 0
        progress.epoch_loss_sum, progress.epoch_finite_steps = 0.0, 0

    def _maybe_validate(self) -> None:
        settings, progress = self.config.validation, self.progress
        ended = progress.window == 0
        due = ended and settings.validation_frequency and progress.epoch % settings.validation_frequency == 0
        due = due or (settings.eval_steps and progress.step % settings.eval_steps == 0)
        due = due or progress.step >= self.last_step  # or the last weights could never be the best
        if self.validate is None or not due:
            return
        if self.alpha:
            self.alpha.close_window()
        started = time.monotonic()
        metrics = self.validate(self.whole_model().to(self.accelerator.device), progress.step)
        if self.fsdp:
            self.bare_model.cpu()
        steps = self.steps_per_epoch[min(progress.epoch, len(self.steps_per_epoch) - 1)]
        epoch = progress.epoch + progress.window / steps
        self.logger.training({"kind": "validation", "epoch": epoch, "step": progress.step, **metrics})
        self.logger.scalars("Validation", metrics, progress.step)
        self._interval_started += time.monotonic() - started
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
                progress.best_value, progress.best_step, progress.bad_validations = value, progress.step, 0
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
        if progress.step >= self.last_step or progress.stopped_early:
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
        from accelerate.utils import gather_object

        loss_states = gather_object([self.loss.state_dict()])
        model, optimizer, failed = self.whole_model(), self._optimizer_state(), False
        if self.accelerator.is_main_process:
            state = {
                "progress": asdict(self.progress),
                "alpha": self.alpha.state_dict() if self.alpha else None,
                "logger": self.logger.state_dict(),
                "processes": self.accelerator.num_processes,
                "steps_per_epoch": self.steps_per_epoch,
                "config": self.config.flat(),
                "interval": [self._interval, self._interval_samples],
            }
            scaler = self.accelerator.scaler
            tensors = {
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

    def _optimizer_state(self) -> dict[str, Any]:
        if self.fsdp:
            return sharding.optimizer_state(self.model, self.optimizer.optimizer)
        return self.optimizer.state_dict()

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint folder."""
        tensors, state = load_checkpoint(path, self.bare_model)
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise UserError(
                f"--resume {path}: an epoch had {state['steps_per_epoch'][0]} steps, now it has"
                f" {self.steps_per_epoch[0]}; the training data are not those that the run began with"
            )
        if self.fsdp:
            sharding.scatter(self.bare_model, self.model)
            sharding.load_optimizer_state(self.model, self.optimizer.optimizer, tensors["optimizer"])
        else:
            self.optimizer.load_state_dict(tensors["optimizer"])
        if self.accelerator.scaler is not None and tensors["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(tensors["scaler"])
        states = tensors["loss"]
        self.loss.load_state_dict(states[min(self.accelerator.process_index, len(states) - 1)])
        self.progress = Progress(**state["progress"])
        # --max_steps may be another now.
        self.progress.finished = self.progress.stopped_early or self.progress.step >= self.last_step
        if self.progress.best_value is not None and best_step(self.folder) != self.progress.best_step:
            self.logger.warning(
                f"best_model is not that of step {self.progress.best_step} any more; the best of what follows counts"
            )
            self.progress.best_value, self.progress.bad_validations = None, 0
        if self.alpha and state["alpha"]:
            self.alpha.load_state_dict(state["alpha"])
        self.logger.load_state_dict(state["logger"])
        self._interval, self._interval_samples = state["interval"]
        self.logger.info(f"resumed from {path} at step {self.progress.step}")
