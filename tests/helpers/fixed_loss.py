"""A loss whose weights do not move over training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from config.defaults import DistillationConfig, LossConfig, SemanticConfig
from models.loss_functions import LossResources, LossSettings
from models.multi_component_loss import MultiComponentLoss

SECTIONS = {"loss": LossConfig, "semantic": SemanticConfig, "distillation": DistillationConfig}


def fixed_loss(
    weights: Mapping[str, float],
    resources: LossResources | None = None,
    **flags: Any,
) -> MultiComponentLoss:
    """The components of ``weights``; ``flags`` as on the command line."""
    flags |= {"loss_components": list(weights), "loss_weights": list(weights.values())}
    known = {name: {field.name for field in fields(kind)} for name, kind in SECTIONS.items()}
    assert flags.keys() <= set().union(*known.values())
    sections = {
        name: kind(**{flag: value for flag, value in flags.items() if flag in known[name]})
        for name, kind in SECTIONS.items()
    }
    return MultiComponentLoss(LossSettings(**sections), resources)
