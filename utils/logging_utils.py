"""What a run records and shows: CSV files, the log, trackers, sample predictions, and its progress."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TextIO, TypedDict

from utils.atomic_io import write_json
from utils.csv_log import AppendFile, Cell, CsvLog, read_csv
from utils.metrics import TRAINING_METRICS
from utils.pages.html_page import format_seconds
from utils.tensorboard_log import TensorBoardLog
from utils.trackers import Trackers

if TYPE_CHECKING:
    from tqdm import tqdm

STEP_FILE = "step_metrics.csv"
TRAINING_FILE = "training_metrics.csv"
SAMPLES_FILE = "sample_predictions.jsonl"
LOG_FILE = "distillation_log.txt"

ESTIMATE_AFTER = 5  # steps after the first one, which is slower

TRAINING_COLUMNS = (
    "kind",
    "epoch",
    "step",
    "train_loss",
    "val_loss",
    *TRAINING_METRICS,
    "learning_rate",
    "samples_per_second",
    "seconds",
    "memory_mb",
    "coverage",
)
# Columns whose values differ between two runs of the same seed on the same machine.
UNSTABLE_COLUMNS = ("seconds", "samples_per_second", "memory_mb", "gpu_utilization", "gpu_memory_mb")


def step_columns(components: Iterable[str], more: Iterable[str] = ()) -> list[str]:
    """The columns of step_metrics.csv for these loss components; ``more``: those of a GPU (utils/gpu_meter.py)."""
    names = list(components)
    return [
        "epoch",
        "step",
        *(f"{name}_{what}" for name in names for what in ("loss_raw", "loss_weighted", "weight")),
        "grad_norm_total",
        "grad_norm_encoder",
        "grad_norm_decoder",
        *(f"grad_norm_{name}" for name in names),
        "learning_rate",
        "temperature",
        "alpha",
        "loss_total",
        "target_tokens",
        "samples",
        "memory_mb",
        "seconds",
        *more,
    ]


def components_of(columns: Iterable[str]) -> list[str]:
    """The loss components for which step_metrics.csv has columns."""
    return [column.removesuffix("_loss_raw") for column in columns if column.endswith("_loss_raw")]


def estimate(seconds_per_step: float, steps_left: int, memory_mb: float | None = None) -> str:
    """The line that is printed after the first few steps: time left and memory in use."""
    text = f"{format_seconds(seconds_per_step)} a step: about {format_seconds(seconds_per_step * steps_left)} to go"
    return text + (f", {memory_mb / 1024:.1f} GiB in use" if memory_mb else "")


class LoggerState(TypedDict, total=False):
    """What a checkpoint keeps of a logger; empty in all processes but the main one."""

    lengths: dict[str, int]  # bytes of each file
    tensorboard_step: int  # the last one that was written


class SamplePrediction(TypedDict, total=False):
    """A row of sample_predictions.jsonl: what the model wrote for one sample, whose ``id`` stays the same."""

    step: int  # of the validation; ``DistillationLogger.sample_predictions`` adds it
    id: int
    reference: str
    prediction: str
    teacher_prediction: str | None
    exact_match: bool


class DistillationLogger:
    """Everything that a run prints and records, in ``output_dir``; only the main process writes.

    Nothing here raises an error into training: a full disk, a lost permission or a failing TensorBoard causes one
    warning. The first row of a run empties the CSV and JSONL files, unless ``load_state_dict`` was called: then they
    continue exactly after the rows that the checkpoint knows. distillation_log.txt is never cut, so it holds every
    attempt.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        tensorboard: bool = True,
        console: bool = True,
        main_process: bool = True,
        files: bool = True,
        report_to: Sequence[str] = (),
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        """``files=False``: print everything, write nothing (a dry run).

        ``report_to``: other trackers (utils/trackers.py), which show the ``parameters`` of the run.
        """
        self.folder = Path(output_dir)
        self._main = main_process and files
        self._console = console and main_process
        self._bar: tqdm | None = None
        self._total = 0
        self._last_step: dict[str, float | None] = {}
        self._progress_from = (0, 0.0)
        self._first_times: list[float] = []
        self._use_tensorboard = tensorboard and self._main
        self._tensorboard: TensorBoardLog | None = None
        self._purge_step = 0
        self._trackers = Trackers(report_to if self._main else (), self.folder, parameters or {}, self.warning)
        self._log = AppendFile(self.folder / LOG_FILE, self._warn_console, keep=True)
        self._steps = CsvLog(self.folder / STEP_FILE, self.warning)
        self._training = CsvLog(self.folder / TRAINING_FILE, self.warning, TRAINING_COLUMNS)
        self._samples = AppendFile(self.folder / SAMPLES_FILE, self.warning)

    # ---------------------------------------------------------------------------------------------------------- text

    def info(self, text: str) -> None:
        """Write ``text`` to standard output and to the log."""
        self._say("INFO", text, sys.stdout)

    def warning(self, text: str) -> None:
        """Write ``text`` to standard error and to the log."""
        self._say("WARNING", text, sys.stderr)

    def _say(self, level: str, text: str, stream: TextIO) -> None:
        if self._main:
            start = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {level} "
            self._log.write(
                "".join(f"{start}{line}\n" for line in text.split("\n")).encode(errors="replace"), flush=True
            )
        if self._console:
            self._print(text if level == "INFO" else f"warning: {text}", stream)

    def _warn_console(self, text: str) -> None:
        if self._console:
            self._print(f"warning: {text}", sys.stderr)

    def _print(self, text: str, stream: TextIO) -> None:
        try:
            if self._bar is not None:
                self._bar.clear()
            print(text, file=stream, flush=True)
            if self._bar is not None:
                self._bar.refresh()
        except (OSError, ValueError):  # its reader has gone, or the stream is closed; the log file has the text
            self._console = False

    # ------------------------------------------------------------------------------------------------------ progress

    def start_progress(self, total: int, initial: int = 0, description: str = "train") -> None:
        """Show the progress towards ``total`` optimiser steps: a bar where standard error is a terminal, else lines."""
        self.end_progress()
        self._total = total
        self._progress_from = (initial, time.monotonic())
        self._first_times = []
        if self._console and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=initial, desc=description, unit="step", dynamic_ncols=True)

    def end_progress(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show_interval(self, row: Mapping[str, Cell]) -> None:
        """Show a logging interval: the losses on the bar, or one line of key=value."""
        numbers = {name: value for name, value in row.items() if value is not None and not isinstance(value, str)}
        shown = {
            "loss": numbers.get("train_loss"),
            **{name: self._last_step.get(f"{name}_loss_raw") for name in components_of(self._last_step)},
            "lr": numbers.get("learning_rate"),
            "samples_per_second": numbers.get("samples_per_second"),
        }
        texts = {key: f"{value:.4g}" for key, value in shown.items() if value is not None}
        if self._bar is not None:
            self._bar.set_postfix(texts, refresh=False)
        step = numbers.get("step", 0)
        first, since = self._progress_from
        if self._total and step > first:
            eta = format_seconds((time.monotonic() - since) / (step - first) * (self._total - step))
            texts["eta"] = eta.replace(" ", "")
        line = f"step={step}" + (f"/{self._total}" if self._total else "")
        line += f" epoch={numbers['epoch']:.4g}" if "epoch" in numbers else ""
        line += "".join(f" {key}={text}" for key, text in texts.items())
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} INFO {line}\n".encode(), flush=True)
        if self._console and self._bar is None:
            self._print(line, sys.stdout)

    # ------------------------------------------------------------------------------------------------------- numbers

    def declare_step_columns(self, columns: Sequence[str]) -> None:
        """Set the columns of step_metrics.csv (see ``step_columns``); by default they are the keys of the first row."""
        self._steps.declare(columns)

    def step(self, row: Mapping[str, float | None]) -> None:
        """Record one optimiser step: a row of step_metrics.csv."""
        if not self._main:
            return
        self._steps.row(row)
        self._last_step = dict(row)
        step = row.get("step") or 0
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        if self._total and len(self._first_times) <= ESTIMATE_AFTER:
            self._first_times.append(time.monotonic())
            if len(self._first_times) > ESTIMATE_AFTER:
                # Measured from step to step, so that the wait for data counts too.
                seconds = median(after - before for before, after in pairwise(self._first_times))
                self.info(estimate(seconds, self._total - int(step), row.get("memory_mb")))

    def training(self, row: Mapping[str, Cell]) -> None:
        """Record a row of training_metrics.csv, of ``kind`` "step" (a logging interval), "epoch" or "validation"."""
        if not self._main:
            return
        self._training.row(row)
        self._steps.flush()
        self._training.flush()
        if row.get("kind") == "step":
            self._show_interval(row)

    def scalars(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        """Give TensorBoard and other trackers ``group/name``; ``group`` is one of tensorboard_log.GROUPS.

        Call it once per logging interval: a group takes about 0.1 ms to write, too long for every step.
        """
        if self._use_tensorboard:
            self._open_board().scalars(group, values, step)
        self._trackers.scalars(group, values, step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Write a Markdown text for TensorBoard."""
        if self._use_tensorboard:
            self._open_board().text(tag, text, step)

    def _open_board(self) -> TensorBoardLog:
        if self._tensorboard is None:
            self._tensorboard = TensorBoardLog(self.folder / "tensorboard", self.warning, self._purge_step)
        return self._tensorboard

    def sample_predictions(self, step: int, rows: Iterable[SamplePrediction]) -> None:
        """Write the predictions of a validation to sample_predictions.jsonl and, as a text, to TensorBoard."""
        if not self._main:
            return
        rows = list(rows)
        for row in rows:
            self._samples.write((json.dumps({"step": step, **row}, ensure_ascii=False) + "\n").encode(errors="replace"))
        self._samples.flush()
        fence = "```"
        blocks = (
            f"reference\n{fence}java\n{row.get('reference')}\n{fence}\nprediction\n{fence}java\n"
            f"{row.get('prediction')}\n{fence}\n"
            for row in rows
        )
        self.text("Validation/sample_predictions", "\n---\n".join(blocks), step)

    # -------------------------------------------------------------------------------------------------- state, export

    def _files(self) -> dict[str, AppendFile]:
        return {STEP_FILE: self._steps, TRAINING_FILE: self._training, SAMPLES_FILE: self._samples}

    def state_dict(self) -> LoggerState:
        """Write everything so far to the disk; return how long each file is then, for the checkpoint."""
        if not self._main:
            return {}
        for file in self._files().values():
            file.flush(sync=True)
        if self._tensorboard is not None:
            self._tensorboard.flush()
        last = self._tensorboard.last_step if self._tensorboard else self._purge_step - 1
        return {"lengths": {name: file.length for name, file in self._files().items()}, "tensorboard_step": last}

    def load_state_dict(self, state: LoggerState) -> None:
        """Cut the files back to the checkpoint, so that steps that are repeated after it appear once."""
        if not self._main or not state:
            return
        for name, file in self._files().items():
            file.truncate_to(state["lengths"][name])
        self._purge_step = state["tensorboard_step"] + 1

    def export_json(self) -> None:
        """Write metrics.json (see ``export_json``) into the folder; a failure is warned about."""
        if not self._main:
            return
        for file in self._files().values():
            file.flush()
        try:
            export_json(self.folder)
        except OSError as error:
            self.warning(f"metrics.json was not written ({error.strerror or error})")

    def close(self) -> None:
        """Flush and close everything; safe to call twice."""
        self.end_progress()
        if not self._main:
            return
        for file in (*self._files().values(), self._log):
            file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        self._trackers.close()


def export_json(folder: str | Path) -> None:
    """Write both CSV files of a run folder into its metrics.json.

    It holds {"step_metrics": [row, ...], "training_metrics": [row, ...]}, with null for an empty cell and for a number
    that JSON cannot hold (nan, inf).
    """
    paths = [Path(folder) / name for name in (STEP_FILE, TRAINING_FILE)]
    tables = {path.stem: read_csv(path) if path.exists() else [] for path in paths}
    typed = {
        name: [{column: _parse_cell(text) for column, text in row.items()} for row in rows]
        for name, rows in tables.items()
    }
    write_json(Path(folder) / "metrics.json", typed)


def _parse_cell(text: str) -> Cell:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text or None
    return number if math.isfinite(number) else None
