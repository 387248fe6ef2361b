"""What a person sees within seconds of starting a run: one screen of facts, and the warnings that matter."""

from __future__ import annotations

import os
from typing import TypedDict

from utils.pages.html_page import format_number

TRUNCATION_SHARE = 0.05
TEACHER_RATIO = 0.9
UNMAPPED_SHARE = 0.1


class RunFacts(TypedDict, total=False):
    """Everything is optional; a line appears where its facts are known. Lengths are (median, 95th percentile, max)."""

    output_dir: str
    resumed_from: str | None
    train_rows: int
    val_rows: int
    samples_per_epoch: int
    rejected: dict[str, int]  # reason -> rows, of those looked at before the start
    input_lengths: tuple[float, float, float]
    target_lengths: tuple[float, float, float]
    max_input_len: int
    max_output_len: int
    truncated_inputs: float  # share, 0 to 1
    truncated_targets: float
    context: str
    cut_pieces: dict[str, float]  # "test", "focal method" or a part of the context -> share of inputs that lack some
    student: str
    student_parameters: int
    teacher: str | None
    teacher_parameters: int | None
    batch_size: int
    max_batch_tokens: int | None
    gradient_accumulation_steps: int
    processes: int
    epochs: float
    total_steps: int
    warmup_steps: int
    lr: float
    lr_end: float
    weights: dict[str, tuple[float, float]]  # component -> (start, end)
    gradient_limit: str  # what --semantic_gradient_share holds down
    temperature: tuple[float, float]
    alpha: float | None
    device: str
    precision: str
    num_workers: int
    seed: int
    critical_tokens_mapped: int
    critical_tokens_total: int
    critical_tokens_unmapped: list[str]


def start_screen(facts: RunFacts) -> str:
    """The summary as aligned lines of text."""
    lines = [
        ("run", _joined(facts.get("output_dir"), _prefixed("resumed from ", facts.get("resumed_from")))),
        ("data", _data(facts)),
        (
            "lengths",
            _joined(
                _lengths("input", facts, "input_lengths", "max_input_len"),
                _lengths("target", facts, "target_lengths", "max_output_len"),
            ),
        ),
        ("context", facts.get("context", "")),
        ("cut from", ", ".join(f"{piece} {share:.0%}" for piece, share in facts.get("cut_pieces", {}).items())),
        ("student" if facts.get("teacher") else "model", _model(facts.get("student"), facts.get("student_parameters"))),
        ("teacher", _model(facts.get("teacher"), facts.get("teacher_parameters"))),
        ("batch", _batch(facts)),
        ("steps", _steps(facts)),
        ("learning rate", _move(facts["lr"], facts.get("lr_end", facts["lr"])) if "lr" in facts else ""),
        (
            "losses",
            _joined(
                *(f"{name} {_move(*ends)}" for name, ends in facts.get("weights", {}).items()),
                facts.get("gradient_limit"),
            ),
        ),
        ("temperature", _move(*facts["temperature"]) if "temperature" in facts else ""),
        ("alpha", format_number(facts["alpha"]) if facts.get("alpha") is not None else ""),
        (
            "device",
            _joined(
                facts.get("device"),
                facts.get("precision"),
                _count(facts, "processes", "process"),
                _count(facts, "num_workers", "data worker"),
            ),
        ),
        ("seed", str(facts.get("seed", ""))),
    ]
    return "\n".join(f"{label:<14} {text}" for label, text in lines if text)


def warnings_that_matter(facts: RunFacts) -> list[str]:
    """Sentences about what will probably make this run worse than the person expects."""
    found = []
    for what, share, length, flag in (
        ("inputs", facts.get("truncated_inputs", 0.0), facts.get("max_input_len"), "--max_input_len"),
        ("targets", facts.get("truncated_targets", 0.0), facts.get("max_output_len"), "--max_output_len"),
    ):
        if share > TRUNCATION_SHARE:
            found.append(f"{share:.0%} of the {what} are longer than {length} tokens and are cut; raise {flag}")
    total, mapped = facts.get("critical_tokens_total", 0), facts.get("critical_tokens_mapped", 0)
    if total and total - mapped > UNMAPPED_SHARE * total:
        examples = ", ".join(facts.get("critical_tokens_unmapped", [])[:5])
        found.append(
            f"{total - mapped} of {total} critical tokens do not map to this vocabulary and have no effect"
            + (f" (such as {examples})" if examples else "")
        )
    student, teacher = facts.get("student_parameters"), facts.get("teacher_parameters")
    if student and teacher and student >= TEACHER_RATIO * teacher:
        found.append(
            f"the student ({_parameters(student)}) is not smaller than its teacher ({_parameters(teacher)}): "
            "nothing is distilled; choose a smaller --model_name or fewer --student_decoder_layers"
        )
    weights = facts.get("weights", {})
    for name, (start, end) in weights.items():
        if start == 0 == end:
            found.append(
                f"the weight of {name} is 0 from start to end: it costs time and teaches nothing; "
                "drop it from --loss_components or give it a weight in --loss_weights"
            )
    steps, warmup = facts.get("total_steps", 0), facts.get("warmup_steps", 0)
    if steps and warmup >= steps:
        found.append(
            f"warm-up takes {warmup} steps, the run has {steps}: the learning rate never reaches its value; "
            "lower --warmup_steps"
        )
    elif 0 < steps < 100:
        found.append(
            f"only {steps} optimiser steps: too few to learn much; more data, more --epochs, "
            "or a smaller --gradient_accumulation_steps"
        )
    rejected = facts.get("rejected", {})
    if rejected:
        worst = max(rejected, key=lambda reason: rejected[reason])
        found.append(
            f"{sum(rejected.values())} of the rows looked at cannot be used, most often: {worst}; they are "
            "skipped and counted in rejected.jsonl (--strict: an error)"
        )
    return found


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _prefixed(prefix: str, text: str | None) -> str:
    return f"{prefix}{text}" if text else ""


def _count(facts: RunFacts, key: str, word: str) -> str:
    number = facts.get(key)
    if number is None:
        return ""
    return f"{number} {word}" + ("" if number == 1 else "es" if word.endswith("s") else "s")


def _move(start: float, end: float) -> str:
    return format_number(start) if start == end else f"{format_number(start)} → {format_number(end)}"


def _data(facts: RunFacts) -> str:
    parts = []
    if "train_rows" in facts:
        parts.append(f"{facts['train_rows']:,} to train on")
    if facts.get("samples_per_epoch", facts.get("train_rows")) != facts.get("train_rows"):
        parts.append(f"{facts['samples_per_epoch']:,} of them drawn each epoch")
    if "val_rows" in facts:
        parts.append(f"{facts['val_rows']:,} to validate")
    return _joined(*parts)


def _lengths(what: str, facts: RunFacts, key: str, limit: str) -> str:
    if key not in facts:
        return ""
    median, high, longest = facts[key]  # type: ignore[literal-required]
    cut = f", limit {facts[limit]}" if limit in facts else ""  # type: ignore[literal-required]
    return f"{what} {median:.0f} tokens (95 %: {high:.0f}, longest {longest:.0f}{cut})"


def _parameters(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count < 1e9 else f"{count / 1e9:.2f} G"


def _model(name: str | None, parameters: int | None) -> str:
    # Only the end of a long path tells models apart.
    short = os.path.join("…", *name.split(os.sep)[-2:]) if name and len(name) > 60 else name
    return _joined(short, f"{_parameters(parameters)} parameters" if parameters else "")


def _batch(facts: RunFacts) -> str:
    if "batch_size" not in facts:
        return ""
    tokens = facts.get("max_batch_tokens")
    factors = [tokens or facts["batch_size"], facts.get("gradient_accumulation_steps", 1), facts.get("processes", 1)]
    return (
        f"{factors[0]}{' tokens' if tokens else ''} × {factors[1]} accumulated"
        f" × {factors[2]} process{'' if factors[2] == 1 else 'es'}"
        f" = {'at most ' if tokens else ''}{factors[0] * factors[1] * factors[2]}"
        f" {'input tokens' if tokens else 'samples'} a step"
    )


def _steps(facts: RunFacts) -> str:
    if "total_steps" not in facts:
        return ""
    epochs = f" in {facts['epochs']:g} epochs" if "epochs" in facts else ""
    warmup = f", the first {facts['warmup_steps']:,} warm up" if facts.get("warmup_steps") else ""
    return f"{facts['total_steps']:,}{epochs}{warmup}"
