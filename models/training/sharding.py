"""``--fsdp``: parameters, gradients and optimiser state spread over the processes (torch's fully_shard)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel


def shard(model: PreTrainedModel, device: torch.device, processes: int) -> PreTrainedModel:
    """Spread ``model``, in place, over all processes: each block for itself, the rest (embeddings, head) together."""
    mesh = init_device_mesh(device.type, (processes,))
    blocks = set(model._no_split_modules or ())  # transformers has no public name for it
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@torch.no_grad()
def gather(model: nn.Module, whole: nn.Module) -> None:
    """Put the sharded ``model``'s weights together in ``whole``, in every process; all processes call it."""
    for target, part in zip(whole.parameters(), model.parameters(), strict=True):
        target.copy_(part.full_tensor())  # type: ignore[attr-defined]


def scatter(whole: nn.Module, model: nn.Module) -> None:
    """Give the sharded ``model`` the weights of ``whole``."""
    set_model_state_dict(model, whole.state_dict(), options=StateDictOptions(full_state_dict=True))


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state by parameter name, in the main process (others: empty); all processes call it."""
    return get_optimizer_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def load_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take this process's share of what ``optimizer_state`` gave."""
    set_optimizer_state_dict(model, optimizer, state, options=StateDictOptions(full_state_dict=True))
