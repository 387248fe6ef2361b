"""What is wrong with a configuration, and what in it has no effect. Nothing is loaded for either."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import Field
from importlib.util import find_spec
from pathlib import Path

from config.defaults import (
    CONTEXT_PARTS,
    LOSS_COMPONENTS,
    MULTI_COMPONENT,
    SCRATCH_SIZES,
    Flag,
    LossConfig,
    RunConfig,
    StudentConfig,
    TeacherConfig,
    ValidationConfig,
    Value,
    parameters,
)
from config.schedules import component_names
from utils.arguments import nearest
from utils.device_names import check_device_name
from utils.errors import UserError
from utils.trackers import PACKAGES, check_installed

KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "str": (str, "a text"),
}


def kind_of(parameter: Field) -> tuple[str, bool]:
    """The kind of value that a parameter's annotation (``int | None``, ``list[str]``) names; whether it is a list."""
    inner = str(parameter.type).removesuffix(" | None")
    return inner.removeprefix("list[").removesuffix("]"), inner.startswith("list[")


def check_value(parameter: Field, flag: Flag, value: Value, default: Value, where: str) -> None:
    """Type and range of one value, for flags and files alike; raises UserError."""
    name = parameter.name
    if value is None:
        if default is not None:
            raise UserError(f"{where}: --{name} needs a value")
        return
    kind, many = kind_of(parameter)
    wanted, words = KINDS[kind]
    for one in value if many and isinstance(value, list) else [value]:
        # In Python true is a whole number; as the value of a flag it is not.
        right = isinstance(one, wanted) and (kind == "bool" or not isinstance(one, bool))
        if not right or (many and not isinstance(value, list)):
            raise UserError(f"{where}: --{name} {value!r} is not {'a list, each ' * many}{words}")
        if isinstance(one, float) and not math.isfinite(one):
            raise UserError(f"{where}: --{name} {one} is not a finite number")
    if isinstance(value, (int, float)):
        if flag.low is not None and value < flag.low:
            raise UserError(f"{where}: --{name} {value} is too small; allowed: at least {flag.low}")
        if flag.above is not None and value <= flag.above:
            raise UserError(f"{where}: --{name} {value} is too small; allowed: more than {flag.above}")
        if flag.high is not None and value > flag.high:
            raise UserError(f"{where}: --{name} {value} is too large; allowed: at most {flag.high}")
    if flag.choices and value not in flag.choices:
        hint = nearest(str(value), [str(choice) for choice in flag.choices])
        allowed = ", ".join(map(str, flag.choices))
        raise UserError(f"{where}: --{name} {value} is unknown{hint}; allowed: {allowed}")


def check_model_name(flag: str, name: str) -> None:
    """Raise UserError where ``name`` can be no model: a size or folder that does not exist, or the folder of a run."""
    if name.startswith("scratch:"):
        if name.removeprefix("scratch:") not in SCRATCH_SIZES:
            known = ", ".join(f"scratch:{size}" for size in SCRATCH_SIZES)
            raise UserError(f"{flag} {name}: unknown size; allowed: {known}")
        return
    folder = Path(name).expanduser()
    if folder.is_dir():
        models = [folder / part for part in ("final_model", "best_model") if (folder / part / "config.json").is_file()]
        if models and not (folder / "config.json").is_file():
            raise UserError(f"{flag} {name}: the folder of a run; its model is in {models[0]}")
    elif folder.exists():
        raise UserError(f"{flag} {name}: a file; name the folder of a model")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"{flag} {name}: no such folder")


def check_together(config: RunConfig) -> None:
    """What one value alone cannot tell, and names of what does not exist; raises UserError."""
    check_device_name(config.hardware.device)
    check_model_name("--model_name", config.model.model_name)
    if config.model.tokenizer_name:
        check_model_name("--tokenizer_name", config.model.tokenizer_name)
    if config.loading.enable_epoch_sampling and config.data.max_train_samples is None:
        raise UserError("--enable_epoch_sampling needs --max_train_samples: how many rows to draw each epoch")
    if config.hardware.fp16 and config.hardware.bf16:
        raise UserError("--fp16 and --bf16 exclude each other")
    check_context(config.data.context)
    validation = config.validation
    if validation.validation_metric == "code_quality_score" and (
        not validation.use_enhanced_metrics or validation.embedding_model == "none"
    ):
        raise UserError(
            "--validation_metric code_quality_score needs --use_enhanced_metrics and an --embedding_model; it cannot be"
            " computed without them"
        )
    if config.output.overwrite and config.output.resume:
        raise UserError("--overwrite and --resume exclude each other")
    _check_trackers(config.output.report_to)
    if isinstance(config, StudentConfig):
        _check_loss(config.loss)
        if config.distillation.teacher_model:
            check_model_name("--teacher_model", config.distillation.teacher_model)
        _check_encoders(config)
        semantic = config.semantic
        if (
            "contrastive" in component_names(config.loss)
            and not semantic.contrastive_batch_negatives
            and not semantic.contrastive_queue_size
        ):
            raise UserError(
                "--no_contrastive_batch_negatives needs --contrastive_queue_size above 0, or there are no negatives"
            )
        _check_categories(config.token_weighting.critical_token_categories or ())
    if isinstance(config, TeacherConfig):
        _check_teacher(config)
        _check_lora(config)


def _check_lora(config: TeacherConfig) -> None:
    if config.teacher_data.lora_rank:
        if config.hardware.fsdp:
            raise UserError("--lora_rank does not work with --fsdp; leave one of them out")
        if find_spec("peft") is None:
            raise UserError("--lora_rank needs peft; pip install peft")


def _check_trackers(names: Sequence[str]) -> None:
    """The value of --report_to, and whether what it names is installed."""
    if list(names) == ["none"]:
        return
    known = ("tensorboard", *PACKAGES)
    for name in names:
        if name not in known:
            raise UserError(
                f"--report_to {name} is unknown{nearest(name, known)}; allowed: none alone, or {', '.join(known)}"
            )
    check_installed(names)


def check_context(parts: Sequence[str] | None) -> None:
    """The value of --context; raises UserError."""
    if parts is None or list(parts) in (["none"], ["all"]):
        return
    for name in parts:
        if name in ("none", "all"):
            raise UserError(f"--context {' '.join(parts)}: {name} stands alone, without names of parts")
        if name not in CONTEXT_PARTS:
            hint = nearest(name, CONTEXT_PARTS)
            raise UserError(f"--context {name} is unknown{hint}; allowed: none, all, {', '.join(CONTEXT_PARTS)}")


def _check_loss(loss: LossConfig) -> None:
    components = loss.loss_components
    if not components:
        raise UserError("--loss_components: name at least one component")
    for name in components:
        if name not in LOSS_COMPONENTS:
            hint = nearest(name, LOSS_COMPONENTS)
            raise UserError(f"--loss_components {name} is unknown{hint}; allowed: {', '.join(LOSS_COMPONENTS)}")
    if len(set(components)) != len(components):
        raise UserError(f"--loss_components {' '.join(components)}: a component is named twice")
    if loss.loss_weights is None:
        return
    if loss.loss_function != MULTI_COMPONENT:
        raise UserError(f"--loss_weights belongs to --loss_function multi_component, not {loss.loss_function}")
    if len(loss.loss_weights) != len(components):
        raise UserError(
            f"--loss_weights has {len(loss.loss_weights)} values for {len(components)} components"
            f" ({' '.join(components)})"
        )
    if any(not weight >= 0 for weight in loss.loss_weights) or not any(loss.loss_weights):
        raise UserError(f"--loss_weights {loss.loss_weights}: weights are >= 0 and not all 0")


def _check_encoders(config: StudentConfig) -> None:
    for component, flag, name in (
        ("semantic", "--embedding_model", config.validation.embedding_model),
        ("contrastive", "--contrastive_encoder", config.semantic.contrastive_encoder),
    ):
        if component in component_names(config.loss) and name == "none":
            raise UserError(
                f"{flag} none: the loss component {component} reads texts with it; name an encoder (embedded:minilm"
                f" works offline) or leave {component} out of --loss_components"
            )


def _check_categories(names: Iterable[str]) -> None:
    from config.critical_tokens import CRITICAL_TOKENS

    for name in names:
        if name not in CRITICAL_TOKENS:
            raise UserError(
                f"--critical_token_categories {name} is unknown{nearest(name, list(CRITICAL_TOKENS))};"
                f" allowed: {', '.join(CRITICAL_TOKENS)}"
            )


def _check_teacher(config: TeacherConfig) -> None:
    teacher, data = config.teacher_data, config.data
    if teacher.data_path and (data.train_data_path or data.val_data_path):
        raise UserError("--data_path excludes --train_data_path and --val_data_path")
    if not teacher.data_path and not (data.train_data_path and data.val_data_path):
        raise UserError("give --train_data_path and --val_data_path, or --data_path with --validation_split")
    if teacher.cross_fit and teacher.teacher_encoding == "hidden":
        raise UserError(
            "--cross_fit: hidden stores one output head for the whole file, but each fold's teacher has its own; use"
            " --teacher_encoding topk or dense"
        )
    if teacher.fold is not None:
        if not teacher.cross_fit or teacher.fold > teacher.cross_fit:
            raise UserError(f"--fold {teacher.fold}: must be from 0 to --cross_fit {teacher.cross_fit or 'K'}")
        if config.output.overwrite:
            raise UserError("--fold: goes on in a folder that other folds use too; leave --overwrite out")
        if teacher.fold and config.output.dry_run:
            raise UserError("--fold: the dry run is that of the whole run; leave --fold out")
        if not teacher.create_distillation_dataset:
            raise UserError("--fold: is for its distillation data; leave --no_create_distillation_dataset out")
    if teacher.teacher_encoding == "hidden" and teacher.compression_bits not in (8, 16):
        raise UserError(f"--compression_bits {teacher.compression_bits}: hidden is stored with 8 or 16 bits")


# -- flags without effect ---------------------------------------------------------------------------------------------

# Names of parameters, or of a need that parameters have (``Flag.needs``), and why nothing reads them.
Idle = tuple[str, str]


def without_effect(config: RunConfig) -> list[str]:
    """One sentence for each parameter that the user set to another value than its default and that nothing reads."""
    idle = [*_idle_in_training(config)]
    if isinstance(config, StudentConfig):
        idle += _idle_in_loss(config)
    if isinstance(config, TeacherConfig):
        idle += _idle_in_distillation(config)
    values, defaults = config.flat(), type(config)().flat()
    flags = {parameter.name: flag for _, parameter, flag in parameters(config)}
    reasons: dict[str, str] = {}
    for what, reason in idle:
        for name in (name for name, flag in flags.items() if what in (name, flag.needs)):
            reasons.setdefault(name, reason)  # the first reason counts
    return [
        f"--{name} has no effect: {reason}"
        for name, reason in reasons.items()
        if name in config.given and values[name] not in (defaults[name], flags[name].formerly)
    ]


def _validates(validation: ValidationConfig) -> bool:
    return bool(validation.validation_frequency or validation.eval_steps)


def _idle_in_training(config: RunConfig) -> Iterator[Idle]:
    model, loading = config.model, config.loading
    if not _validates(config.validation):
        yield "validation", "validation is off"
    if not loading.enable_epoch_sampling:
        yield "sampling_seed", "it needs --enable_epoch_sampling"
    if not loading.length_grouping:
        yield "length_group_window", "it needs --length_grouping"
    if loading.num_workers == 0:
        yield "prefetch_factor", "without loader processes nothing is read ahead"
    if config.optimization.warmup_steps is not None:
        yield "warmup_ratio", "--warmup_steps wins"
    if not model.model_name.startswith("scratch:"):
        yield "tokenizer_name", f"{model.model_name} has a tokenizer"
        yield "scratch_vocab_size", f"{model.model_name} has a tokenizer"
        yield "scratch_copying", f"{model.model_name} is trained already"
    elif model.tokenizer_name:
        yield "scratch_vocab_size", "--tokenizer_name has its vocabulary"


def _idle_in_distillation(config: TeacherConfig) -> Iterator[Idle]:
    if not config.teacher_data.create_distillation_dataset:
        yield "distillation_data", "no distillation data are written"
    if config.teacher_data.teacher_encoding != "topk":
        yield "topk", f"--teacher_encoding {config.teacher_data.teacher_encoding} stores all"


def _idle_in_loss(config: StudentConfig) -> Iterator[Idle]:
    loss = config.loss
    mode = loss.loss_function
    components = component_names(loss)
    yield from _idle_in_multi_component(loss) if mode == MULTI_COMPONENT else _idle_in_mode(config)
    for name in ("focal", "semantic", "contrastive", "pans"):
        if name not in components:
            yield name, f"{name} is not among the components"
    if not {"semantic", "contrastive"} & set(components):
        yield "encoder", "neither semantic nor contrastive is among the components"
    if not {"ce", "focal", "kl", "jsd"} & set(components):
        yield "semantic_gradient_share", "it is a share of the pull of ce, focal, kl and jsd; none is a component"
    if not {"kl", "jsd"} & set(components):
        yield "divergence", "neither kl nor jsd is among the components"
    if not loss.normalize_components:
        yield "normalizer_momentum", "it needs --normalize_components"
    if not config.token_weighting.enable_token_weighting:
        yield "token_weights", "it needs --enable_token_weighting"
    elif not {"ce", "focal"} & set(components):
        yield "enable_token_weighting", "it weights the labels of ce and focal; neither is among the components"


def _idle_in_multi_component(loss: LossConfig) -> Iterator[Idle]:
    mode = loss.loss_function
    for name in ("alpha", "adaptive_alpha"):
        yield name, f"the mode {mode} has no alpha; its weights come from the schedule or --loss_weights"
    for name in ("pans_weight", "ast_weight"):
        yield name, f"the mode {mode} takes its weights from the schedule or --loss_weights"
    if loss.loss_weights is not None:
        yield "enable_dynamic_weighting", "--loss_weights are fixed"


def _idle_in_mode(config: StudentConfig) -> Iterator[Idle]:
    mode = config.loss.loss_function
    components = component_names(config.loss)
    yield "loss_components", f"the mode {mode} consists of {', '.join(components)}"
    for name in ("pans", "ast"):
        if name not in components:
            yield f"{name}_weight", f"the mode {mode} lacks it"
    if not config.loss.enable_dynamic_weighting:
        yield "adaptive_alpha", "it needs --enable_dynamic_weighting"
    elif not _validates(config.validation):
        for name in ("enable_dynamic_weighting", "adaptive_alpha"):
            yield name, "alpha is adapted at validations, which are off"
