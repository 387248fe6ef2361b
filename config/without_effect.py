"""Flags that do nothing beside the others: a run that was asked for them must say so."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

from config.schedules import MODE_COMPONENTS, MULTI_COMPONENT

if TYPE_CHECKING:
    from config.command_line import Config

OF_COMPONENT = {
    "focal": ("focal_alpha", "focal_gamma"),
    "semantic": ("semantic_loss_scale",),
    "contrastive": ("contrastive_encoder", "contrastive_temperature", "contrastive_queue_size"),
}
OF_MODE = {"pans": "pans_weight", "ast": "ast_weight"}
OF_ALPHA = ("alpha", "alpha_min", "alpha_drop", "alpha_convergence")
OF_TOKEN_WEIGHTING = ("critical_token_weight", "critical_token_categories")


def without_effect(config: Config) -> list[str]:
    """One sentence for each parameter that the user set to another value than its default and that nothing reads."""
    loss = config.loss
    mode = loss.loss_function
    components = MODE_COMPONENTS.get(mode, loss.loss_components)
    several = mode == MULTI_COMPONENT
    reasons: dict[str, str] = {}
    if several:
        reasons |= dict.fromkeys(OF_ALPHA, f"the mode {mode} has no alpha; its weights come from --loss_weights")
        reasons |= dict.fromkeys(OF_MODE.values(), f"the mode {mode} takes its weights from --loss_weights")
        if loss.loss_weights is not None:
            reasons["enable_dynamic_weighting"] = "--loss_weights are fixed"
    else:
        reasons["loss_components"] = f"the mode {mode} consists of {', '.join(components)}"
        reasons |= {flag: f"the mode {mode} has no {name}" for name, flag in OF_MODE.items() if name not in components}
    for name, flags in OF_COMPONENT.items():
        if name not in components:
            reasons |= dict.fromkeys(flags, f"{name} is not among the components")
    if not config.token_weighting.enable_token_weighting:
        reasons |= dict.fromkeys(OF_TOKEN_WEIGHTING, "it needs --enable_token_weighting")
    elif not {"ce", "focal"} & set(components):
        reasons["enable_token_weighting"] = "it weighs the labels of ce and focal; neither is among the components"
    values, defaults = config.flat(), {}
    for part in config.categories.values():
        for f in fields(part):
            defaults[f.name] = f.default_factory() if f.default_factory is not MISSING else f.default
    return [
        f"--{name} has no effect: {reason}"
        for name, reason in reasons.items()
        if name in config.given and values[name] != defaults[name]
    ]
