"""What a training step needs to know of a model and its machine: parameter groups, gradient norms, memory, cores."""

from __future__ import annotations

import os

import psutil
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def group_by_decay(model: nn.Module, weight_decay: float) -> list[dict[str, list[nn.Parameter] | float]]:
    """Parameter groups for AdamW: matrices decay, norms and biases do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def measure_gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """L2 norms (scalars) of all gradients, of the encoder's and of the decoder's, as "total", "encoder", "decoder".

    Embeddings that encoder and decoder share count in the total only. Where the model is sharded (--fsdp), every
    process must call this function, since each one adds the share that it holds.
    """
    sharded = False
    parts: dict[str, list[Tensor]] = {"encoder": [], "decoder": [], "other": []}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            names = name.removeprefix("module.").split(".")
            gradient = parameter.grad
            if isinstance(gradient, DTensor):
                gradient, sharded = gradient.to_local(), True
            parts[next((part for part in names[:2] if part in ("encoder", "decoder")), "other")].append(gradient)
    zero = torch.zeros((), device=next(model.parameters()).device)
    squares = {
        part: torch.stack(torch._foreach_norm(gradients, 2, dtype=torch.float32)).square().sum() if gradients else zero
        for part, gradients in parts.items()
    }
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
    """Scale all gradients, whose norm is ``norm``, so that it is at most ``max_norm`` (0: do nothing)."""
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_([p for p in model.parameters() if p.grad is not None], max_norm, norm)


def measure_memory_mb(device: torch.device) -> float:
    """Peak of the allocated GPU memory, or on a CPU the resident memory of this process, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return psutil.Process(os.getpid()).memory_info().rss / 2**20


def count_default_workers() -> int:
    """The default number of loader processes: min(8, cores that this process may use)."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
