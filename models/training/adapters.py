"""LoRA: small matrices beside the frozen weights are trained instead of them, which saves the optimiser's memory.

A checkpoint holds them as they are; every model that leaves the run has them merged and is a plain one.
Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021; layers of peft.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

BASE = ".base_layer."


def add_adapters(model: PreTrainedModel, rank: int) -> None:
    """Put adapters of this rank, which change nothing yet, on all linear layers but the head; freeze the rest."""
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    inject_adapter_in_model(settings, model)


def _adapted(model: nn.Module) -> dict[str, Any]:
    """Name -> layer with an adapter; none where there is no peft in use."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def plain_state(model: PreTrainedModel) -> dict[str, Tensor] | None:
    """The weights with the adapters merged, under the names of a plain model; None for a model without adapters."""
    layers = _adapted(model)
    if not layers:
        return None
    state = {}
    for key, value in model.state_dict().items():
        owner, found, name = key.partition(BASE)
        if ".lora_" in key:
            continue
        if found and name == "weight":
            value = value + layers[owner].get_delta_weight("default").to(value.dtype)
        state[f"{owner}.{name}" if found else key] = value
    return state


def merge_adapters(model: PreTrainedModel) -> None:
    """Make it a plain model again, in place."""
    for name, layer in _adapted(model).items():
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
