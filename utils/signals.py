"""Signals that ask a process to stop: finish the step, write a checkpoint and exit with code 85."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

REQUEUE_EXIT_CODE = 85  # "start me again": the Slurm scripts turn it into a requeue
STOPS = (signal.SIGTERM, signal.SIGUSR1)


class StopSignal:
    """Notes SIGTERM, SIGUSR1 and the first Ctrl-C in ``received``; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received: str | None = None

    def install(self) -> None:
        """Handle these signals in this process from now on."""
        for number in (*STOPS, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == "SIGINT":
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


def ignore_signals() -> None:
    """Ignore the signals above: for a worker process, whose parent decides when to stop."""
    for number in (*STOPS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def heed_parent_alone() -> None:
    """The same for a worker that its parent ends with SIGTERM: from others, as from a scheduler that sends it to all
    processes of a job, it does nothing. Where the system does not tell the sender (macOS), it ends the worker."""
    for number in (signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = os.getppid()

    def wait_for_parent() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait_for_parent, daemon=True).start()


def exit_on_signal(advice: str = "continue with --resume") -> None:
    """Let the same signals end the process at once: Ctrl-C as usual, the others with code 85 and some advice.

    For work that saves its results as it goes, such as an evaluation, or that leaves nothing behind.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        print(f"{signal.Signals(number).name}: stopped; {advice}", file=sys.stderr)
        sys.exit(REQUEUE_EXIT_CODE)

    for number in STOPS:
        signal.signal(number, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)
