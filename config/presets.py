"""Named overlays over the defaults: flags and --config win over them."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Runs anywhere without a model hub: models built here, the embedded encoder, a small sample.
    "quick_start": {
        "model_name": "scratch:tiny",
        "embedding_model": "embedded:minilm",
        "contrastive_encoder": "embedded:minilm",
        "max_train_samples": 1000,
        "max_val_samples": 200,
        "max_input_len": 256,
        "max_output_len": 64,
        "batch_size": 16,
        "gradient_accumulation_steps": 1,
        "epochs": 3,
        "lr": 2e-3,
        "use_enhanced_metrics": True,
    },
    # More passes, a larger effective batch, the full metric set at each validation. Not the default loss: ce + kl is
    # level with Trident and several times as fast (docs/results.md). No token weights: they buy critical tokens at the
    # cost of the rest (the same page). Four beams: docs/evaluation.md.
    "high_quality": {
        "loss_components": ["ce", "kl"],
        "num_beams": 4,
        "epochs": 10,
        "batch_size": 8,
        "gradient_accumulation_steps": 8,
        "enable_dynamic_weighting": True,
        "use_enhanced_metrics": True,
        "early_stopping_patience": 5,
    },
    # 8-16 GB of memory: short inputs, batch 2, recomputed activations, another small sample each epoch.
    "memory_constrained": {
        "max_train_samples": 500,
        "max_val_samples": 50,
        "enable_epoch_sampling": True,
        "batch_size": 2,
        "gradient_accumulation_steps": 4,
        "num_workers": 2,
        "max_input_len": 384,
        "max_output_len": 64,
        "gradient_checkpointing": True,
    },
}
