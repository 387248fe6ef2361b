"""Small pieces of training: when to stop, which weights decay, how large the gradients are."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import psutil
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

REQUEUE_EXIT_CODE = 85
STOPS = (signal.SIGTERM, signal.SIGUSR1)


class StopSignal:
    """SIGTERM, SIGUSR1 and the first Ctrl-C ask for a checkpoint and exit code 85; a second Ctrl-C interrupts."""

    def __init__(self) -> None:
        self.received: str | None = None

    def install(self) -> None:
        for number in (*STOPS, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == "SIGINT":
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


def ignore_signals() -> None:
    """In a process that works for another: a signal to the group is that one's matter."""
    for number in (*STOPS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def exit_on_signal() -> None:
    """From now on the same signals end the process at once, Ctrl-C as ever, the others with 85.

    For work that keeps what it has done by itself: an evaluation.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        print(f"{signal.Signals(number).name}: stopped; continue with --resume", file=sys.stderr)
        sys.exit(REQUEUE_EXIT_CODE)

    for number in STOPS:
        signal.signal(number, leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW parameter groups: matrices decay, norms and biases do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """L2 norm of all gradients, of the encoder's and of the decoder's. Tied embeddings count in the total only.

    Of a sharded model (--fsdp) every process adds its share; all call it.
    """
    sharded = False
    norms: dict[str, list[Tensor]] = {"encoder": [], "decoder": [], "other": []}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parts = name.removeprefix("module.").split(".")
            part = next((part for part in parts[:2] if part in ("encoder", "decoder")), "other")
            gradient = parameter.grad
            if isinstance(gradient, DTensor):
                gradient, sharded = gradient.to_local(), True
            norms[part].append(torch.linalg.vector_norm(gradient, dtype=torch.float32))
    zero = torch.zeros((), device=next(model.parameters()).device)
    squares = {part: torch.stack(values).square().sum() if values else zero for part, values in norms.items()}
    if sharded:
        together = torch.stack(list(squares.values()))
        torch.distributed.all_reduce(together)
        squares = dict(zip(squares, together, strict=True))
    return {
        "total": torch.stack(list(squares.values())).sum().sqrt(),
        "encoder": squares["encoder"].sqrt(),
        "decoder": squares["decoder"].sqrt(),
    }


def clip_gradients(model: nn.Module, norm: Tensor, max_norm: float) -> None:
    """Scale all gradients so that their norm, known to be ``norm``, is at most ``max_norm`` (0: leave them)."""
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_([p for p in model.parameters() if p.grad is not None], max_norm, norm)


def memory_mb(device: torch.device) -> float:
    """Peak memory on a GPU, else the resident memory of this process, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return psutil.Process(os.getpid()).memory_info().rss / 2**20


def default_workers() -> int:
    """Loader processes: min(8, cores this process may use)."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
