"""Flags that do nothing beside the others: a run that was asked for them must say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from config.schedules import MODE_COMPONENTS, MULTI_COMPONENT

if TYPE_CHECKING:
    from config.command_line import Config

Values = dict[str, Any]
# Flags, and why nothing reads them.
Idle = tuple[tuple[str, ...], str]

OF_COMPONENT = {
    "focal": ("focal_alpha", "focal_gamma"),
    "semantic": ("semantic_loss_scale",),
    "contrastive": ("contrastive_encoder", "contrastive_temperature", "contrastive_queue_size"),
    "pans": ("pans_max_ngram", "pans_decay"),
}
OF_ENCODERS = (
    "semantic_temperature",
    "bridge_fit_steps",
    "bridge_batch_size",
    "bridge_min_fidelity",
    "embedding_cache_size",
    "embedding_cache_ttl",
)
OF_DIVERGENCES = ("temperature", "temperature_final", "topk_tail")
OF_MODE = {"pans": "pans_weight", "ast": "ast_weight"}
OF_ADAPTIVE_ALPHA = ("alpha_min", "alpha_drop", "alpha_convergence")
OF_TOKEN_WEIGHTING = ("critical_token_weight", "critical_token_categories")
OF_VALIDATION = (
    "validation_metric",
    "early_stopping_patience",
    "early_stopping_min_delta",
    "use_enhanced_metrics",
    "sample_predictions",
)
OF_TEACHER_DATA = (
    "distillation_dir",
    "max_distill_samples",
    "teacher_encoding",
    "topk",
    "compression_bits",
    "distill_batch_size",
    "compression_workers",
)


def without_effect(config: Config) -> list[str]:
    """One sentence for each parameter that the user set to another value than its default and that nothing reads."""
    values, defaults = config.flat(), {}
    for part in config.categories.values():
        for f in fields(part):
            defaults[f.name] = f.default_factory() if f.default_factory is not MISSING else f.default
    idle = [*_of_training(values), *(_of_loss(values) if "loss_function" in values else _of_teacher(values))]
    reasons = {name: reason for flags, reason in reversed(idle) for name in flags}  # the first reason counts
    return [
        f"--{name} has no effect: {reason}"
        for name, reason in reasons.items()
        if name in config.given and values[name] != defaults[name]
    ]


def _validates(values: Values) -> bool:
    return bool(values["validation_frequency"] or values["eval_steps"])


def _of_training(values: Values) -> Iterator[Idle]:
    if not _validates(values):
        yield OF_VALIDATION, "validation is off"
    if not values["enable_epoch_sampling"]:
        yield ("sampling_seed",), "it needs --enable_epoch_sampling"
    if not values["length_grouping"]:
        yield ("length_group_window",), "it needs --length_grouping"
    if values["num_workers"] == 0:
        yield ("prefetch_factor",), "without loader processes nothing is read ahead"
    if values["warmup_steps"] is not None:
        yield ("warmup_ratio",), "--warmup_steps wins"
    if not values["model_name"].startswith("scratch:"):
        yield ("tokenizer_name", "scratch_vocab_size"), f"{values['model_name']} has a tokenizer"
    elif values["tokenizer_name"]:
        yield ("scratch_vocab_size",), "--tokenizer_name has its vocabulary"


def _of_teacher(values: Values) -> Iterator[Idle]:
    if not values["create_distillation_dataset"]:
        yield OF_TEACHER_DATA, "no distillation data are written"
    if values["teacher_encoding"] != "topk":
        yield ("topk",), f"--teacher_encoding {values['teacher_encoding']} stores all"


def _of_loss(values: Values) -> Iterator[Idle]:
    mode, dynamic = values["loss_function"], values["enable_dynamic_weighting"]
    components: Sequence[str] = MODE_COMPONENTS.get(mode) or values["loss_components"]
    if mode == MULTI_COMPONENT:
        yield ("alpha", *OF_ADAPTIVE_ALPHA), f"the mode {mode} has no alpha; its weights come from --loss_weights"
        yield tuple(OF_MODE.values()), f"the mode {mode} takes its weights from --loss_weights"
        if values["loss_weights"] is not None:
            yield ("enable_dynamic_weighting",), "--loss_weights are fixed"
    else:
        yield ("loss_components",), f"the mode {mode} consists of {', '.join(components)}"
        yield tuple(flag for name, flag in OF_MODE.items() if name not in components), f"the mode {mode} lacks it"
        if not dynamic:
            yield OF_ADAPTIVE_ALPHA, "it needs --enable_dynamic_weighting"
        elif not _validates(values):
            yield ("enable_dynamic_weighting", *OF_ADAPTIVE_ALPHA), "alpha is adapted at validations, which are off"
    for name, flags in OF_COMPONENT.items():
        if name not in components:
            yield flags, f"{name} is not among the components"
    if not {"semantic", "contrastive"} & set(components):
        yield OF_ENCODERS, "neither semantic nor contrastive is among the components"
    if not {"kl", "jsd"} & set(components):
        yield OF_DIVERGENCES, "neither kl nor jsd is among the components"
    if not values["normalize_components"]:
        yield ("normalizer_momentum",), "it needs --normalize_components"
    if not values["enable_token_weighting"]:
        yield OF_TOKEN_WEIGHTING, "it needs --enable_token_weighting"
    elif not {"ce", "focal"} & set(components):
        yield ("enable_token_weighting",), "it weighs the labels of ce and focal; neither is among the components"
