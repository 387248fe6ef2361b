"""Run folders made from formulas, with the files and columns of a real run, for the tests of what reads them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.logging_utils import DistillationLogger, step_columns

Curve = Callable[[float], float]  # progress in [0, 1] -> value

BALANCED: dict[str, Curve] = {
    "focal": lambda p: 1.0 * math.exp(-2 * p),
    "jsd": lambda p: 1.4 * math.exp(-1.5 * p),
    "semantic": lambda p: 0.8,
}


def write_run(
    folder: Path,
    gradients: Mapping[str, Curve] = BALANCED,
    weights: Mapping[str, tuple[float, float]] | None = None,
    validation: Curve = lambda p: 0.7 * (1 - math.exp(-3 * p)),
    *,
    steps: int = 300,
    grad_norm_steps: int = 5,
    validations: int = 8,
    config: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
    seed: int = 0,
    noise: float = 0.05,
) -> Path:
    """Write a run whose raw gradients follow ``gradients`` and whose score follows ``validation``."""
    chance = random.Random(seed)
    weights = weights or dict.fromkeys(gradients, (0.5, 0.5))

    def jitter() -> float:
        return math.exp(chance.gauss(0, noise)) if noise else 1.0

    logger = DistillationLogger(folder, tensorboard=False, console=False, main_process=True)
    logger.declare_step_columns(step_columns(gradients))
    logger.info("a synthetic run")
    for step in range(1, steps + 1):
        progress = step / steps
        row: dict[str, Any] = {"epoch": 5 * progress, "step": step}
        norms = {}
        for name, curve in gradients.items():
            start, end = weights[name]
            weight = start + progress * (end - start)
            raw = (0.3 + 2 * math.exp(-3 * progress)) * jitter()
            gradient = curve(progress) * jitter()
            norms[name] = weight * gradient
            row |= {f"{name}_loss_raw": raw, f"{name}_loss_weighted": raw * weight, f"{name}_weight": weight}
            if grad_norm_steps and step % grad_norm_steps == 0:
                row[f"grad_norm_{name}"] = gradient
        total = math.sqrt(sum(norm * norm for norm in norms.values() if math.isfinite(norm)))
        row |= {
            "grad_norm_total": total,
            "grad_norm_encoder": 0.6 * total,
            "grad_norm_decoder": 0.8 * total,
            "learning_rate": 5e-5 * min(step / (0.15 * steps), 1 - 0.8 * progress),
            "temperature": 4 * (1.5 / 4) ** progress,
            "target_tokens": 430,
            "samples": 16,
            "loss_total": sum(v for k, v in row.items() if k.endswith("_weighted")),
            "memory_mb": 900 + 40 * progress,
            "seconds": 0.2 * jitter(),
        }
        logger.step(row)
        if step % 10 == 0:
            logger.training(
                {
                    "kind": "step",
                    "epoch": 5 * progress,
                    "step": step,
                    "train_loss": row["loss_total"],
                    "samples_per_second": 80.0,
                    "seconds": 0.2 * step,
                    "memory_mb": row["memory_mb"],
                }
            )
        if validations and step % max(1, steps // validations) == 0:
            score = validation(progress) * jitter()
            logger.training(
                {
                    "kind": "validation",
                    "epoch": 5 * progress,
                    "step": step,
                    "val_loss": 1 / (0.1 + score),
                    "exact_match": 0.8 * score,
                    "f1": score,
                    "code_quality_score": score,
                    "seconds": 0.2 * step,
                }
            )
            logger.sample_predictions(
                step,
                [
                    {
                        "id": 3,
                        "reference": "assertEquals(4, list.size());",
                        "prediction": predicted(progress),
                        "teacher_prediction": "assertEquals(4, list.size());",
                        "exact_match": float(progress > 0.8),
                    },
                    {"id": 9, "reference": "assertTrue(map.<String>isEmpty());", "prediction": "assertTrue(map"},
                ],
            )
    logger.close()
    defaults = {
        "model_name": "scratch:tiny",
        "batch_size": 4,
        "gradient_accumulation_steps": 4,
        "epochs": 5,
        "lr": 5e-5,
        "seed": seed,
        "temperature": 4.0,
        "loss_function": "multi_component",
        "early_stopping_patience": 5,
        "loss_components": list(gradients),
        "semantic_loss_scale": 5.0,
        "output_dir": str(folder),
    }
    (folder / "run_config.json").write_text(
        json.dumps(
            {
                "config": {**defaults, **(config or {})},
                "versions": {"torch": "2.0", "transformers": "4.40"},
                "git": {"commit": "0123456789abcdef", "modified": False},
            }
        )
    )
    (folder / "metrics_summary_final.json").write_text(json.dumps(summary or default_summary(validation(1.0))))
    return folder


def predicted(progress: float) -> str:
    """What a model writes that gets better: one more correct token each time."""
    words = ["assertEquals(", "4, ", "list", ".size()", ");"]
    return "".join(words[: max(1, round(progress * len(words)))])


def metric(value: float | None, spread: float = 0.03, n: int = 200) -> dict[str, Any]:
    if value is None:
        return {"value": None, "reason": "no JDK"}
    return {"value": value, "low": max(0.0, value - spread), "high": min(1.0, value + spread), "n": n}


def default_summary(score: float) -> dict[str, Any]:
    return {
        "teacher": {"exact_match": metric(0.75), "code_quality_score": metric(0.82)},
        "student": {
            "exact_match": metric(0.8 * score),
            "code_quality_score": metric(score),
            "pass_rate": metric(None),
            "knowledge_retention_score": metric(0.9 * score),
        },
        "baselines": {
            "no_teacher": {"exact_match": metric(0.4), "code_quality_score": metric(0.55)},
            "retrieval": {"exact_match": metric(None), "code_quality_score": metric(None)},
        },
        "comparison": {},
        "run": {"systems": {"no_teacher": {"title": "student without a teacher"}}},
    }
