"""Every parameter of the product, once: default, type, allowed values, help, and what is known of it. 13 categories.

`config/command_line.py` turns these dataclasses into flags. No other file repeats a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, TypeAlias

from config.presets import PRESETS

# Linear moves of the loss weights over training: component -> (start, end).
WEIGHT_SCHEDULING = {
    "ce": (0.35, 0.25),
    "kl": (0.6, 0.35),
    "pans": (0.05, 0.25),
    "ast": (0.0, 0.15),
    "contrastive": (0.1, 0.15),
}
TRIDENT_WEIGHT_SCHEDULING = {"focal": (0.3, 0.3), "jsd": (0.7, 0.35), "semantic": (0.0, 0.35)}

LOSS_COMPONENTS = ("ce", "focal", "kl", "jsd", "semantic", "contrastive", "pans", "ast")
# Loss functions that fix their components and have an alpha; multi_component takes --loss_components.
MODE_COMPONENTS = {
    "traditional": ("ce", "kl"),
    "enhanced": ("ce", "kl", "pans"),
    "ast_enhanced": ("ce", "kl", "pans", "ast"),
}
MULTI_COMPONENT = "multi_component"
SCRATCH_SIZES = ("tiny", "small", "medium", "wide", "deep", "base")

# What a row may say about the surroundings of its test.
CONTEXT_PARTS = ("style", "siblings", "locals", "fields", "members", "doc", "retrieved")
MAX_CONTEXT_TOKENS = 192


Value: TypeAlias = "bool | int | float | str | list[str] | list[float] | None"


@dataclass(frozen=True)
class Flag:
    """What is known of a parameter; ``low <= value <= high`` and ``value > above``."""

    help: str
    choices: tuple[Value, ...] | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    aliases: tuple[str, ...] = ()
    reads: bool = False  # names something that the run reads, so it must not be overwritten
    once: bool = False  # belongs to one start of a run and says nothing about the run
    free_on_resume: bool = False  # may differ between a run and its continuation
    compared: bool = True  # makes another configuration, where runs are compared
    needs: str | None = None  # without what it has no effect; config/checks.py knows when that is missing
    formerly: Value = None  # the default of runs that began before this one; they go on with it


def arg(default: Any, help: str, **facts: Any) -> Any:
    """A parameter as a dataclass field; ``facts`` are those of ``Flag``. None is allowed where it is the default."""
    metadata = {"flag": Flag(help, **facts)}
    if isinstance(default, tuple):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class ModelConfig:
    """Which model is trained."""

    model_name: str = arg(
        "Salesforce/codet5p-220m",
        "seq2seq model to train: a hub name, a local folder, or "
        f"scratch:{'|'.join(SCRATCH_SIZES)} (built here, untrained)",
        reads=True,
    )
    tokenizer_name: str | None = arg(
        None,
        "tokenizer of a scratch: model; default: the teacher's (student), trained on the training data (teacher)",
        reads=True,
    )
    scratch_vocab_size: int | None = arg(
        None,
        "vocabulary of a tokenizer trained here; default 2048 (tiny, small), 4096 (medium, wide), 8192 (deep), 32100"
        " (base)",
        low=300,
    )
    scratch_copying: bool = arg(True, "a scratch: model starts as a copier of the nearest assertion, else at random")
    dropout_rate: float = arg(0.1, "dropout of the trained model", low=0.0, high=0.9)
    attention: str = arg("sdpa", "attention kernel", choices=("sdpa", "eager"))
    gradient_checkpointing: bool = arg(False, "recompute activations in the backward pass: less memory, more time")


@dataclass
class StudentLayersConfig:
    """A student cut out of a larger trained model."""

    student_encoder_layers: int | None = arg(
        None, "keep this many encoder layers of --model_name, evenly spaced, first and last kept", low=1
    )
    student_decoder_layers: int | None = arg(
        None, "keep this many decoder layers of --model_name, evenly spaced, first and last kept", low=1
    )


@dataclass
class DataConfig:
    """Which rows, and how long their texts may be."""

    train_data_path: str | None = arg(
        "data/codet5p-focal-methods/distillation_data_training.jsonl", "training data, JSONL", reads=True
    )
    val_data_path: str | None = arg(
        "data/codet5p-focal-methods/distillation_data_validation.jsonl", "validation data, JSONL", reads=True
    )
    max_train_samples: int | None = arg(None, "use at most this many training rows; default: all", low=1)
    max_val_samples: int | None = arg(None, "use at most this many validation rows; default: all", low=1)
    max_input_len: int = arg(
        512, "input tokens; a longer input loses its far ends", low=16, high=16384, aliases=("--max_src_length",)
    )
    max_output_len: int = arg(
        128, "target tokens; a longer target is cut", low=4, high=4096, aliases=("--max_tgt_length",)
    )
    context: list[str] | None = arg(
        None,
        f"what the model sees beside test and method: none, all, or parts ({', '.join(CONTEXT_PARTS)}); default: what"
        " the teacher saw, else all where the rows have it",
    )
    max_context_tokens: int | None = arg(
        None, f"input tokens for the context; default: the teacher's, else {MAX_CONTEXT_TOKENS}", low=8, high=16384
    )
    allow_other_context: bool = arg(False, "train on another context than the teacher saw, to compare")
    drop_answer_in_test: bool = arg(
        False, "leave out training rows whose assertion also stands elsewhere in the test: copying it is no skill"
    )
    strict: bool = arg(False, "a bad row ends the run instead of being skipped and counted", free_on_resume=True)
    max_reject_rate: float = arg(
        0.1, "share of bad rows above which the run stops", low=0.0, high=1.0, free_on_resume=True
    )


@dataclass
class LoadingConfig:
    """How rows become batches."""

    enable_epoch_sampling: bool = arg(False, "draw another --max_train_samples rows each epoch")
    sampling_seed: int = arg(42, "seed of the rows drawn each epoch", low=0, high=2**31 - 1, compared=False)
    length_grouping: bool = arg(True, "batch inputs of similar length together: less padding")
    length_group_window: int = arg(64, "batches among which rows are sorted by length", low=1)
    num_workers: int | None = arg(
        None,
        "loader processes; default min(8, cores); 0: in the main process",
        low=0,
        free_on_resume=True,
        compared=False,
    )
    pin_memory: bool = arg(
        True, "page-locked host memory for faster copies to a GPU", free_on_resume=True, compared=False
    )
    prefetch_factor: int = arg(4, "batches that each worker keeps ready", low=1, free_on_resume=True, compared=False)


@dataclass
class OptimizationConfig:
    """Steps, learning rate, AdamW."""

    batch_size: int = arg(4, "samples of a micro-batch, per process", low=1)
    max_batch_tokens: int | None = arg(
        None, "a micro-batch takes as many samples as have this many input tokens with padding, not --batch_size", low=1
    )
    gradient_accumulation_steps: int = arg(
        4, "micro-batches of an optimiser step, per process", low=1, free_on_resume=True
    )
    epochs: int = arg(5, "passes over the training rows", low=1)
    max_steps: int | None = arg(
        None, "stop after this many optimiser steps (schedules still span --epochs)", low=1, free_on_resume=True
    )
    lr: float = arg(5e-5, "peak learning rate", above=0.0, high=10.0, aliases=("--learning_rate",))
    lr_floor_ratio: float = arg(0.2, "the learning rate falls linearly to this share of its peak", low=0.0, high=1.0)
    warmup_ratio: float = arg(0.15, "share of all optimiser steps used to warm up", low=0.0, high=1.0)
    warmup_steps: int | None = arg(None, "optimiser steps to warm up; wins over --warmup_ratio", low=0)
    weight_decay: float = arg(0.01, "AdamW weight decay (not on norms and biases)", low=0.0, high=10.0)
    max_grad_norm: float = arg(1.0, "gradient clipping by global norm; 0: off", low=0.0)
    adam_beta1: float = arg(0.9, "AdamW beta 1", low=0.0, high=0.99999)
    adam_beta2: float = arg(0.999, "AdamW beta 2", low=0.0, high=0.999999)
    adam_epsilon: float = arg(1e-8, "AdamW epsilon", above=0.0)
    max_nonfinite_steps: int = arg(
        5, "stop after this many steps in a row with a non-finite loss", low=1, free_on_resume=True
    )


@dataclass
class DistillationConfig:
    """What comes from the teacher, and how soft it is."""

    teacher_model: str | None = arg(
        None, "a live teacher (folder or hub name) instead of the logits stored in the training data", reads=True
    )
    temperature: float = arg(
        4.0, "softening of teacher and student at the start", above=0.0, high=100.0, needs="divergence"
    )
    temperature_final: float = arg(
        1.5, "softening at the end; falls geometrically", above=0.0, high=100.0, needs="divergence"
    )
    alpha: float = arg(0.5, "share of the hard loss in the modes traditional, enhanced, ast_enhanced", low=0, high=1)
    alpha_min: float = arg(0.3, "lower end of the adaptive alpha", low=0.0, high=1.0, needs="adaptive_alpha")
    alpha_drop: float = arg(0.2, "how far adaptive alpha falls over the run", low=0.0, high=1.0, needs="adaptive_alpha")
    alpha_convergence: float = arg(
        0.01,
        "the hard loss has converged when its mean improves by less than this share in a window",
        low=0.0,
        needs="adaptive_alpha",
    )
    legacy_offset: str = arg(
        "auto",
        "in data without a header, the row of logits that predicts the first token of a target; 1: the first row"
        " predicts the tokenizer's begin token",
        choices=("auto", "0", "1"),
    )
    legacy_logit_scale: str = arg(
        "auto", "in data without a header, how many times too large the logits are: auto, none or a number"
    )
    topk_tail: str = arg(
        "bucket",
        "tail of a top-k teacher: one bucket, or shaped by its mean logits",
        choices=("bucket", "shaped"),
        needs="divergence",
    )


@dataclass
class LossConfig:
    """Which loss components, with which weights."""

    loss_function: str = arg(
        MULTI_COMPONENT, "how the components are combined", choices=(*MODE_COMPONENTS, MULTI_COMPONENT)
    )
    loss_components: list[str] = arg(
        ("focal", "jsd", "semantic"), f"components of multi_component, any of: {', '.join(LOSS_COMPONENTS)}"
    )
    loss_weights: list[float] | None = arg(None, "fixed weight of each component, in their order; wins over schedules")
    enable_dynamic_weighting: bool = arg(False, "move weights (and alpha) over training; else the end values hold")
    pans_weight: float = arg(0.1, "weight of PANS in the modes enhanced and ast_enhanced", low=0.0)
    ast_weight: float = arg(0.1, "weight of AST in the mode ast_enhanced", low=0.0)
    focal_alpha: float = arg(0.25, "focal loss: scale", above=0.0, high=1.0, needs="focal")
    focal_gamma: float = arg(
        2.0, "focal loss: how strongly easy tokens are discounted", low=0.0, high=10.0, needs="focal"
    )
    normalize_components: bool = arg(False, "divide each component by its running mean before weighting")
    normalizer_momentum: float = arg(0.99, "memory of that running mean", low=0.0, high=0.99999)
    pans_max_ngram: int = arg(4, "longest n-gram of PANS", low=1, high=8, needs="pans")
    pans_decay: float = arg(0.1, "how fast PANS forgets a match that is out of place", low=0.0, needs="pans")


@dataclass
class SemanticConfig:
    """The components that read text with a frozen encoder: semantic and contrastive."""

    semantic_loss_scale: float = arg(5.0, "beta of the semantic loss", above=0.0, needs="semantic")
    semantic_gradient_share: float = arg(
        0.3,
        "semantic and contrastive pull on each sequence at most this share as hard as the token terms; 0: no limit",
        low=0.0,
        needs="encoder",
        formerly=0.0,
    )
    semantic_temperature: float = arg(1.0, "softmax temperature of the soft tokens", above=0.0, needs="encoder")
    bridge_fit_steps: int = arg(300, "optimiser steps that fit the vocabulary bridge", low=0, needs="encoder")
    bridge_batch_size: int = arg(32, "texts of a bridge step", low=1, needs="encoder")
    bridge_min_fidelity: float = arg(
        0.85, "refuse a bridge whose held-out cosine with the encoder is lower", low=-1.0, high=1.0, needs="encoder"
    )
    contrastive_encoder: str = arg(
        "microsoft/codebert-base",
        "frozen encoder of the contrastive loss: a model name or folder, or embedded:minilm",
        needs="contrastive",
    )
    contrastive_temperature: float = arg(0.1, "InfoNCE temperature", above=0.0, high=10.0, needs="contrastive")
    contrastive_batch_negatives: bool = arg(
        True,
        "take negatives from the micro-batch too; off: from the queue alone, however a batch is cut",
        needs="contrastive",
    )
    contrastive_queue_size: int = arg(
        256, "past references kept as negatives; 0: the batch alone", low=0, needs="contrastive"
    )
    embedding_cache_size: int = arg(
        20000, "reference embeddings kept (least recently used go first)", low=1, needs="encoder"
    )
    embedding_cache_ttl: float = arg(86400.0, "seconds that a cached embedding lives", above=0.0, needs="encoder")


@dataclass
class TokenWeightingConfig:
    """A larger weight for the tokens on which an assertion hangs."""

    enable_token_weighting: bool = arg(False, "give critical assertion tokens a larger weight in ce and focal")
    critical_token_weight: float = arg(
        2.5, "weight of a critical token; all others have weight 1", above=0.0, high=1000.0, needs="token_weights"
    )
    critical_token_categories: list[str] | None = arg(
        None, "categories of config/critical_tokens.py; default: all", needs="token_weights"
    )


@dataclass
class ValidationConfig:
    """When and by what a model is judged during training."""

    validation_frequency: int = arg(1, "validate every N epochs; 0: off", low=0)
    eval_steps: int = arg(0, "also validate every N optimiser steps; 0: off", low=0)
    eval_batch_size: int | None = arg(
        None, "samples of a validation batch; default: 4 x --batch_size", low=1, free_on_resume=True
    )
    validation_metric: str = arg(
        "auto",
        "what chooses the best checkpoint; auto: the code quality score where it can be computed, else the loss",
        choices=("auto", "code_quality_score", "loss", "exact_match"),
        needs="validation",
    )
    early_stopping_patience: int = arg(
        3, "validations without improvement before the run stops; 0: never", low=0, needs="validation"
    )
    early_stopping_min_delta: float = arg(
        0.0, "smallest change that counts as an improvement", low=0.0, needs="validation"
    )
    use_enhanced_metrics: bool = arg(
        False, "the full metric set at each validation; else loss, exact match and F1 only", needs="validation"
    )
    embedding_model: str = arg(
        "embaas/codesearchnet-minilm-l6",
        "text encoder of the semantic metric and loss: a sentence-transformers name or folder, embedded:minilm, none",
    )
    num_beams: int = arg(1, "beams of generated predictions; 1: greedy", low=1, high=64)
    final_evaluation: bool = arg(
        True, "evaluate the best model at the end and write predictions and metrics", free_on_resume=True
    )
    sample_predictions: int = arg(
        5,
        "how many validation predictions to log as text",
        low=0,
        free_on_resume=True,
        compared=False,
        needs="validation",
    )


@dataclass
class OutputConfig:
    """What a run writes, and how it starts."""

    output_dir: str | None = arg(None, "run folder; default results/YYYY-MM-DD_HH-MM-SS_model-name", once=True)
    overwrite: bool = arg(False, "replace a run that --output_dir already holds", once=True)
    resume: str | None = arg(
        None,
        "run folder or checkpoint to continue from; auto: the newest checkpoint of --output_dir, or a new run",
        once=True,
    )
    save_steps: int = arg(
        500, "write a checkpoint every N optimiser steps; 0: off", low=0, free_on_resume=True, compared=False
    )
    save_minutes: float = arg(
        0.0, "also write a checkpoint every X minutes; 0: off", low=0.0, free_on_resume=True, compared=False
    )
    save_total_limit: int = arg(
        2, "how many checkpoints to keep, besides the best model", low=1, free_on_resume=True, compared=False
    )
    logging_steps: int = arg(10, "optimiser steps of a log interval", low=1, free_on_resume=True, compared=False)
    grad_norm_steps: int = arg(50, "steps between gradient norms per component; 0: off", low=0, compared=False)
    tensorboard: bool = arg(True, "write TensorBoard events", free_on_resume=True, compared=False)
    report_to: list[str] = arg(
        ("tensorboard",),
        "experiment trackers: none, tensorboard, wandb, mlflow, trackio, aim, clearml, comet_ml, dvclive, swanlab",
        free_on_resume=True,
        compared=False,
    )
    run_report: bool = arg(
        True, "write run_report.html and training_curves.png at the end", free_on_resume=True, compared=False
    )
    push_to_hub: str | None = arg(
        None,
        "publish final_model under this name of the hub (owner/model), privately",
        free_on_resume=True,
        compared=False,
    )
    preset: str | None = arg(None, f"a named set of parameters: {', '.join(PRESETS)}", once=True)
    config: str | None = arg(None, "JSON file of parameters, such as a run_config.json; flags win over it", once=True)
    dry_run: bool = arg(False, "check everything, run one step, write nothing", once=True)
    print_config: bool = arg(False, "print every parameter as JSON and exit", once=True)


@dataclass
class HardwareConfig:
    """Device, precision, reproducibility."""

    device: str = arg("auto", "auto, cpu, cuda, cuda:N or mps", free_on_resume=True)
    fp16: bool = arg(False, "half precision (CUDA)")
    bf16: bool = arg(False, "bfloat16 (CUDA; a CPU gains from it where it has AVX512-BF16 or AMX)")
    tf32: bool = arg(True, "TF32 matrix products where the GPU has them")
    compile: bool = arg(False, "fuse the model's layers with torch.compile; the first start takes minutes")
    cuda_graphs: bool = arg(True, "record the steps of each length and replay them with one launch (CUDA, one process)")
    fsdp: bool = arg(False, "shard the model over the processes instead of copying it (FSDP)")
    cpu_threads: int | None = arg(
        None, "torch threads per process; default: torch's choice", low=1, free_on_resume=True, compared=False
    )
    seed: int = arg(42, "seed of Python, NumPy, torch and the workers", low=0, high=2**31 - 1, compared=False)
    deterministic: bool = arg(True, "deterministic kernels: the same seed gives the same bytes")


@dataclass
class TeacherDataConfig:
    """The data of a teacher, how it learns, and the distillation data that it writes."""

    data_path: str | None = arg(
        None, "one data file instead of two; split by --validation_split and --seed", reads=True
    )
    validation_split: float = arg(0.1, "share of --data_path that validates", above=0.0, high=0.9)
    label_smoothing: float = arg(
        0.0, "share of each target token that the teacher's loss spreads over all tokens", low=0.0, high=0.9
    )
    lora_rank: int | None = arg(
        None, "train LoRA adapters of this rank instead of all weights (peft); wants an --lr of about 5e-4", low=1
    )
    create_distillation_dataset: bool = arg(True, "write the distillation data after training", free_on_resume=True)
    distillation_dir: str | None = arg(
        None,
        "where the distillation data go; default: --output_dir",
        free_on_resume=True,
        compared=False,
        needs="distillation_data",
    )
    max_distill_samples: int | None = arg(
        None,
        "distil at most this many rows of each file; default: all",
        low=1,
        free_on_resume=True,
        needs="distillation_data",
    )
    cross_fit: int | None = arg(
        None,
        "the training rows' logits come from this many teachers, each of which did not train on them (folds)",
        low=2,
        high=100,
        free_on_resume=True,
        needs="distillation_data",
    )
    fold: int | None = arg(
        None, "train the teacher of this fold of --cross_fit alone, from 1 on; 0: that of all rows", low=0, once=True
    )
    teacher_encoding: str = arg(
        "topk", "how logits are stored", choices=("topk", "hidden", "dense"), needs="distillation_data"
    )
    topk: int = arg(
        64, "logits stored per token with --teacher_encoding topk", low=1, high=65536, needs="distillation_data"
    )
    compression_bits: int = arg(
        16,
        "bits per value: 4, 8, 16 or 32 for dense, 8 or 16 for hidden",
        choices=(4, 8, 16, 32),
        needs="distillation_data",
    )
    distill_batch_size: int | None = arg(
        None,
        "samples of a generation batch; default: 4 x --batch_size",
        low=1,
        free_on_resume=True,
        needs="distillation_data",
    )
    compression_workers: int = arg(
        1, "processes that compress; 0: the main process", low=0, free_on_resume=True, needs="distillation_data"
    )


class RunConfig:
    """What teacher and student runs have in common: one object a category, and which parameters the user named."""

    model: ModelConfig
    data: DataConfig
    loading: LoadingConfig
    optimization: OptimizationConfig
    validation: ValidationConfig
    output: OutputConfig
    hardware: HardwareConfig
    given: frozenset[str]

    def flat(self) -> dict[str, Value]:
        """Every parameter under its own name, ready for JSON."""
        return {name: value for category in categories(self) for name, value in asdict(getattr(self, category)).items()}


@dataclass
class StudentConfig(RunConfig):
    """Every parameter of knowledge_distillation.py."""

    model: ModelConfig = field(default_factory=ModelConfig)
    student: StudentLayersConfig = field(default_factory=StudentLayersConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loading: LoadingConfig = field(default_factory=LoadingConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    token_weighting: TokenWeightingConfig = field(default_factory=TokenWeightingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    given: frozenset[str] = frozenset()


@dataclass
class TeacherConfig(RunConfig):
    """Every parameter of train_codet5_assertions.py. The student's data are what it makes."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(model_name="Salesforce/codet5p-770m"))
    data: DataConfig = field(default_factory=lambda: DataConfig(train_data_path=None, val_data_path=None))
    loading: LoadingConfig = field(default_factory=LoadingConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    teacher_data: TeacherDataConfig = field(default_factory=TeacherDataConfig)
    given: frozenset[str] = frozenset()


def categories(config: RunConfig | type[RunConfig]) -> list[str]:
    """The names of the categories of a configuration, in their order."""
    return [f.name for f in fields(config) if f.name != "given"]  # type: ignore[arg-type]


def parameters(config: RunConfig) -> Iterator[tuple[str, Field, Flag]]:
    """(category, dataclass field, what is known of it) of each parameter."""
    for category in categories(config):
        for parameter in fields(getattr(config, category)):
            yield category, parameter, parameter.metadata["flag"]


def help_of(section: type, name: str) -> str:
    """The help of a parameter, for other commands that have the same flag."""
    flag: Flag = next(parameter.metadata["flag"] for parameter in fields(section) if parameter.name == name)
    return flag.help


def former_defaults(known: Iterable[tuple[str, Flag]]) -> dict[str, Value]:
    """What runs of an earlier version have, by parameter, where the default is another one today."""
    return {name: flag.formerly for name, flag in known if flag.formerly is not None}


def fill_defaults(stored: dict[str, Value]) -> dict[str, Value]:
    """The stored parameters of a run; those that came later than the run have the defaults that runs had then."""
    if "loss_function" not in stored and "data_path" not in stored:
        return stored
    config = StudentConfig() if "loss_function" in stored else TeacherConfig()
    known = ((parameter.name, flag) for _, parameter, flag in parameters(config))
    return config.flat() | former_defaults(known) | stored


def flags_with(fact: str, value: bool = True) -> frozenset[str]:
    """Names of the parameters of both scripts for which a yes-or-no ``fact`` of ``Flag`` has this value."""
    known = (*parameters(StudentConfig()), *parameters(TeacherConfig()))
    return frozenset(parameter.name for _, parameter, flag in known if getattr(flag, fact) is value)
