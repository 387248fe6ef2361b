"""TensorBoard event files: one event holds all scalars of a group at a step.

They are written with TensorBoard's messages and record format, not with torch's ``SummaryWriter``. That one writes an
event for each scalar, which took 3 to 6 times as long and 1.8 times the bytes, and it renames texts. Both it and
TensorBoard's own file writer use a thread whose failure prints a traceback; here an error is raised where it happens.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

GROUPS = ("Loss", "Loss_Raw", "Loss_Weighted", "Weights", "Gradients", "Hyperparams", "Validation", "Training")
FLUSH_SECONDS = 10.0


class _EventFile:
    """A new event file in ``folder``. Anything may be raised: a missing package, a full disk, a lost permission."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        # The import takes a quarter of a second, so it waits until there is something to write.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.new_event, self.new_summary = event_pb2.Event, summary_pb2.Summary
        had_events = folder.exists() and any(folder.iterdir())
        folder.mkdir(parents=True, exist_ok=True)
        # Viewers read the files of a folder in the order of their names: time first.
        name = (
            f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        )
        self._handle = open(folder / name, "xb")  # noqa: SIM115
        self._records = RecordWriter(self._handle)
        self._flushed_at = time.monotonic()
        self.add(self.new_event(wall_time=time.time(), file_version="brain.Event:2"))
        if had_events:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self.add(self.new_event(wall_time=time.time(), step=purge_step, session_log=start))
        self.flush()

    def add(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        if time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._handle.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        self._handle.close()


class TensorBoardLog:
    """Scalars and texts for TensorBoard. Any failure is warned about once and ends TensorBoard, not the run."""

    def __init__(self, folder: Path, warn: Callable[[str], None], purge_step: int = 0) -> None:
        """``purge_step``: viewers drop what earlier files in ``folder`` say about this step and later ones."""
        self._warn = warn
        self._file: _EventFile | None = None
        self.last_step = purge_step - 1
        with self._off_on_failure():
            self._file = _EventFile(folder, purge_step)

    def scalars(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        """Write ``group/name`` for each value that is not None."""
        if self._file is None:
            return
        with self._off_on_failure():
            value = self._file.new_summary.Value
            kept = [value(tag=f"{group}/{name}", simple_value=float(v)) for name, v in values.items() if v is not None]
            if kept:
                self._add(kept, step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Write a Markdown text."""
        if self._file is None:
            return
        with self._off_on_failure():
            from tensorboard.compat.proto.tensor_pb2 import TensorProto
            from tensorboard.plugins.text.metadata import create_summary_metadata

            tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()])
            metadata = create_summary_metadata(display_name="", description="")
            self._add([self._file.new_summary.Value(tag=tag, metadata=metadata, tensor=tensor)], step)

    def _add(self, values: list[Summary.Value], step: int) -> None:
        assert self._file is not None
        summary = self._file.new_summary(value=values)
        self._file.add(self._file.new_event(wall_time=time.time(), step=step, summary=summary))
        self.last_step = max(self.last_step, step)

    def flush(self) -> None:
        """Hand everything so far to the system."""
        if self._file is not None:
            with self._off_on_failure():
                self._file.flush()

    def close(self) -> None:
        """Flush and close the file; safe to call twice."""
        if self._file is not None:
            with self._off_on_failure():
                self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _off_on_failure(self) -> Iterator[None]:
        """Warn of a failure and write nothing from then on."""
        try:
            yield
        except Exception as error:  # a broken viewer must not end a training run, whatever it raises
            if self._file is not None:
                with contextlib.suppress(OSError):  # what the file still holds in memory cannot be written either
                    self._file.close()
                self._file = None
            self._warn(f"TensorBoard is off from here on ({type(error).__name__}: {error}); the CSV files go on")
