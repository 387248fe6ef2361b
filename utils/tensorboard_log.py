"""TensorBoard event files, written with TensorBoard's own writer: one event holds all scalars of a step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

GROUPS = ("Loss", "Loss_Raw", "Loss_Weighted", "Weights", "Gradients", "Hyperparams", "Validation", "Training")


def _without_traceback(args: threading.ExceptHookArgs) -> None:
    """The failure of TensorBoard's own thread comes back at the next call, and is then said in one line."""
    if type(args.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(args)


class TensorBoardLog:
    """Scalars and texts for TensorBoard. Any failure is warned about once and ends TensorBoard, not the run."""

    def __init__(self, folder: Path, warn: Callable[[str], None], purge_step: int = 0) -> None:
        """``purge_step``: viewers drop what earlier files in ``folder`` say about this step and later ones."""
        self._warn = warn
        self._writer: Any = None
        self.last_step = purge_step - 1
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            threading.excepthook = _without_traceback
            self._event, self._summary = event_pb2.Event, summary_pb2.Summary
            had_events = folder.exists() and any(folder.iterdir())
            self._writer = EventFileWriter(str(folder), max_queue_size=1000, flush_secs=10)
            if had_events:
                start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._writer.add_event(self._event(wall_time=time.time(), step=purge_step, session_log=start))
        except Exception as error:  # a broken viewer must not end a training run, whatever it raises
            self._fail(error)

    def scalars(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        """Write ``group/name`` for each value that is not None."""
        if self._writer is None:
            return
        value = self._summary.Value
        kept = [value(tag=f"{group}/{name}", simple_value=float(v)) for name, v in values.items() if v is not None]
        if kept:
            self._add(kept, step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Write a Markdown text."""
        if self._writer is None:
            return
        try:
            from tensorboard.compat.proto.tensor_pb2 import TensorProto
            from tensorboard.plugins.text.metadata import create_summary_metadata

            tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()])
            metadata = create_summary_metadata(display_name="", description="")
        except Exception as error:
            self._fail(error)
        else:
            self._add([self._summary.Value(tag=tag, metadata=metadata, tensor=tensor)], step)

    def _add(self, values: list[Any], step: int) -> None:
        try:
            self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))
            self.last_step = max(self.last_step, step)
        except Exception as error:
            self._fail(error)

    def flush(self) -> None:
        if self._writer is not None:
            try:
                self._writer.flush()
            except Exception as error:
                self._fail(error)

    def close(self) -> None:
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:
                self._fail(error)
            self._writer = None

    def _fail(self, error: Exception) -> None:
        self._writer = None
        self._warn(f"TensorBoard is off from here on ({type(error).__name__}: {error}); the CSV files go on")
