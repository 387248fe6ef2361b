"""Experiment trackers other than TensorBoard (wandb, mlflow, trackio, ...), through accelerate's classes for them."""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

PROJECT = "assertion-distillation"
# Name for --report_to -> the package to install. TensorBoard has its own writer (tensorboard_log.py).
PACKAGES = {
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "aim": "aim",
    "clearml": "clearml",
    "comet_ml": "comet_ml",
    "dvclive": "dvclive",
    "swanlab": "swanlab",
}


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError for a tracker whose package is not there. Nothing is imported."""
    for name in names:
        if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
            raise UserError(f"--report_to {name}: not installed; pip install {PACKAGES[name]}")


class Trackers:
    """They start with the first scalars. One that fails is warned about once and left out from then on."""

    def __init__(
        self, names: Sequence[str], folder: Path, parameters: Mapping[str, object], warn: Callable[[str], None]
    ) -> None:
        """``folder`` of the run, whose name becomes theirs; ``parameters`` of the run, which they show."""
        self._names, self._folder, self._parameters, self._warn = list(names), folder, parameters, warn
        self._running: dict[str, GeneralTracker] = {}

    def scalars(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        """Log ``group/name`` for each value that is not None."""
        kept = {f"{group}/{name}": float(value) for name, value in values.items() if value is not None}
        for name in list(self._names) if kept else ():
            with self._out_on_failure(name):
                self._get(name).log(kept, step=step)

    def close(self) -> None:
        """Let them finish; safe to call twice."""
        for name in list(self._running):
            with self._out_on_failure(name):
                self._running.pop(name).finish()
        self._names = []

    def _get(self, name: str) -> GeneralTracker:
        if name not in self._running:
            tracker = self._make(name)
            tracker.start()
            tracker.store_init_configuration({key: _plain(value) for key, value in self._parameters.items()})
            self._running[name] = tracker
        return self._running[name]

    def _make(self, name: str) -> GeneralTracker:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind: Any = LOGGER_TYPE_TO_CLASS[name]
        run = self._folder.resolve().name
        if name == "mlflow":
            return kind(experiment_name=PROJECT, run_name=run)
        named: dict[str, dict[str, str]] = {"wandb": {"name": run, "dir": str(self._folder)}, "trackio": {"name": run}}
        place = (str(self._folder),) if kind.requires_logging_directory else ()
        return kind(PROJECT, *place, **named.get(name, {}))

    @contextlib.contextmanager
    def _out_on_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a broken tracker must not end a training run, whatever it raises
            self._names = [other for other in self._names if other != name]
            self._running.pop(name, None)
            reason = " ".join(str(error).split())[:300]
            self._warn(f"{name} is off from here on ({type(error).__name__}: {reason}); the CSV files go on")


def _plain(value: object) -> str | int | float | bool | None:
    """What every tracker can show."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
