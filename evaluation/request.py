"""What an evaluation is asked for. Light to import: the command line takes its defaults from here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Literal

from config.checks import check_context, check_model_name
from config.defaults import DataConfig, DistillationConfig, HardwareConfig, ValidationConfig
from evaluation.execution_settings import ExecutionSettings, Sandbox
from utils.device_names import check_device_name
from utils.errors import UserError

AT_LEAST_ONE = ("num_beams", "num_return_sequences", "batch_size", "max_output_len", "workers")
AT_LEAST_ONE_OR_NONE = ("max_context_tokens", "max_per_class", "teacher_limit", "student_limit", "execution_limit")
ABOVE_ZERO = ("temperature", "timeout")
OF_A_PROJECT = ("class_path", "junit_jars", "jdk_home", "execution_limit", "timeout", "sandbox")


@dataclass(frozen=True)
class EvaluationRequest:
    """The flags of evaluate_assertions.py, whose help explains each; the summary keeps them in this order.

    Raises UserError for values that are out of range or do not go together.
    """

    teacher_data: str
    train_data: str | None = None
    max_per_class: int | None = None
    teacher_limit: int | None = None
    student_limit: int | None = None
    student_model_path: str | None = None
    teacher_model: str | None = None
    baseline_model_path: str | None = None
    predictions: list[str] = field(default_factory=list)
    embedding_model: str = ValidationConfig.embedding_model
    device: str = HardwareConfig.device
    num_beams: int = ValidationConfig.num_beams
    num_return_sequences: int = 1
    decoding: Literal["free", "java", "names"] = "java"
    pool: bool = False
    batch_size: int = 16
    max_input_len: int = DataConfig.max_input_len
    max_output_len: int = DataConfig.max_output_len
    context: list[str] | None = DataConfig.context
    max_context_tokens: int | None = DataConfig.max_context_tokens
    allow_other_context: bool = DataConfig.allow_other_context
    latency_samples: int = 20
    temperature: float = DistillationConfig.temperature
    project: str | None = None
    class_path: str | None = None
    junit_jars: list[str] = field(default_factory=list)
    jdk_home: str | None = None
    execution_limit: int | None = None
    timeout: float = ExecutionSettings.timeout_s
    sandbox: Sandbox = ExecutionSettings.sandbox
    no_controls: bool = False
    output_dir: str | None = None
    overwrite: bool = False
    resume: bool = False
    workers: int = os.cpu_count() or 1
    max_reject_rate: float = DataConfig.max_reject_rate
    legacy_offset: str = DistillationConfig.legacy_offset
    legacy_logit_scale: str = DistillationConfig.legacy_logit_scale

    def __post_init__(self) -> None:
        from data.distillation.legacy import LegacyOptions

        LegacyOptions(self.legacy_offset, self.legacy_logit_scale)
        for name in AT_LEAST_ONE_OR_NONE:
            value = getattr(self, name)
            self._require(name, value is None or value >= 1, "at least 1")
        for name in AT_LEAST_ONE:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("max_input_len", self.max_input_len >= 16, "at least 16")
        for name in ABOVE_ZERO:
            self._require(name, 0 < getattr(self, name) < float("inf"), "above 0")
        self._require("latency_samples", self.latency_samples >= 0, "at least 0")
        self._require("max_reject_rate", 0 <= self.max_reject_rate <= 1, "0 to 1")
        check_context(self.context)
        check_device_name(self.device)
        for name in ("student_model_path", "teacher_model", "baseline_model_path"):
            if path := getattr(self, name):
                check_model_name(f"--{name}", path)
        if self.num_return_sequences > self.num_beams:
            raise UserError(
                f"--num_return_sequences {self.num_return_sequences} needs at least as many --num_beams,"
                f" not {self.num_beams}"
            )
        if self.pool and not self.student_model_path:
            raise UserError("--pool needs --student_model_path: the student whose candidates are ranked")
        if self.resume and not self.output_dir:
            raise UserError("--resume needs --output_dir: the folder of the evaluation to continue")
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite exclude each other")
        if not self.project:
            unset = self.defaults()
            for name in OF_A_PROJECT:
                if getattr(self, name) != unset[name]:
                    raise UserError(f"--{name} needs --project: the folder that the tasks were mined from")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UserError(f"--{name} {getattr(self, name)}: allowed: {allowed}")

    @classmethod
    def defaults(cls) -> dict[str, object]:
        """Field -> default, of all fields but ``teacher_data``, which has none."""
        optional = fields(cls)[1:]
        return {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in optional}
