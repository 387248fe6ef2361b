"""What a training writes down of its steps, epochs and validations."""

from __future__ import annotations

import time
from collections.abc import Mapping

from models.training.plan import Plan
from models.training.step import StepResult
from utils.gpu_meter import GPU_COLUMNS
from utils.logging_utils import DistillationLogger

Row = dict[str, float | None]


class StepLog:
    """Turns results of steps into rows of the CSV files and scalars of TensorBoard.

    A row of training_metrics.csv covers an interval of ``every`` steps; its loss is the mean over those that count.
    """

    def __init__(self, logger: DistillationLogger, plan: Plan, every: int) -> None:
        self.logger = logger
        self.plan = plan
        self.every = every
        self._losses: list[float] = []
        self._samples = 0
        self._norms: Row = {}  # the newest of the interval; those of components are not measured at every step
        self._started = time.monotonic()

    def start(self) -> None:
        """The clock of the first interval starts."""
        self._started = time.monotonic()

    def pause(self, seconds: float) -> None:
        """``seconds`` went into something else than training; the speed does not count them."""
        self._started += seconds

    def state(self) -> tuple[list[float], int]:
        """The interval that is not over yet; goes into the checkpoint."""
        return self._losses, self._samples

    def restore(self, state: tuple[list[float], int]) -> None:
        """Go on with the interval that ``state`` gave."""
        self._losses, self._samples = state

    def step(self, step: int, epoch: float, result: StepResult, training_seconds: float, row: Row) -> None:
        """One optimiser step; ``row`` adds what is known outside of it (learning rate, memory, seconds, ...).

        training_seconds: of all steps so far.
        """
        row = {
            "epoch": epoch,
            "step": step,
            "loss_total": result.loss,
            "target_tokens": result.target_tokens,
            "samples": result.samples,
            **row,
            **{f"{name}_loss_raw": value for name, value in result.raw.items()},
            **{f"{name}_loss_weighted": value for name, value in result.weighted.items()},
            **{f"{name}_weight": result.weights[name] for name in result.raw},
            **{f"grad_norm_{name}": None for name in result.raw},  # measured every --grad_norm_steps only
            **{f"grad_norm_{part}": norm for part, norm in result.norms.items()},
        }
        self.logger.step(row)
        self._samples += result.samples
        self._norms |= {f"grad_norm_{part}": norm for part, norm in result.norms.items()}
        if result.applied:
            self._losses.append(result.loss)
        if step % self.every == 0 or step == self.plan.last_step:
            self._end_interval(step, result, training_seconds, row)

    def _end_interval(self, step: int, result: StepResult, training_seconds: float, row: Row) -> None:
        rate = self._samples / max(time.monotonic() - self._started, 1e-9)
        self.logger.training(
            {
                "kind": "step",
                "epoch": row["epoch"],
                "step": step,
                "train_loss": sum(self._losses) / len(self._losses) if self._losses else None,
                "learning_rate": row["learning_rate"],
                "samples_per_second": rate,
                "seconds": training_seconds,
                "memory_mb": row["memory_mb"],
            }
        )
        groups: dict[str, Mapping[str, float | None]] = {
            "Loss": {"train": result.loss},
            "Loss_Raw": result.raw,
            "Loss_Weighted": result.weighted,
            "Weights": {name: result.weights[name] for name in result.raw},
            "Gradients": self._norms,
            "Hyperparams": {name: row[name] for name in ("learning_rate", "temperature", "alpha")},
            "Training": {
                "samples_per_second": rate,
                **{name: row[name] for name in ("memory_mb", *GPU_COLUMNS) if name in row},
            },
        }
        for group, values in groups.items():
            self.logger.scalars(group, values, step)
        self._norms = {}
        self._losses = []
        self._samples = 0
        self._started = time.monotonic()
