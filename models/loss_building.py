"""From the flags to the loss of a student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from config.command_line import Config
from data.dataset import AssertionDataset
from data.rows.readers import RowError
from models.loss_functions import LossSettings
from models.losses.critical_tokens import find_critical_tokens, token_weights
from models.multi_component_loss import MultiComponentLoss, build_loss

BRIDGE_ROWS = 8192


def target_texts(dataset: AssertionDataset) -> Iterator[str]:
    """Targets of evenly spaced training rows: what the vocabulary bridge is fitted on."""
    for row in np.unique(np.linspace(0, len(dataset) - 1, min(BRIDGE_ROWS, len(dataset))).astype(int)):
        try:
            yield dataset.sample(int(row)).target
        except RowError:
            continue


def build_student_loss(
    config: Config,
    tokenizer: Any,
    vocab_size: int,
    dataset: AssertionDataset,
    device: torch.device,
    *,
    teacher_available: bool,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> MultiComponentLoss:
    """The loss of ``--loss_function``; UserError where a component lacks what it needs, naming the flag to change."""
    settings, semantic, weighting = config.loss, config.semantic, config.token_weighting
    weights = None
    if weighting.enable_token_weighting:
        critical = find_critical_tokens(tokenizer, weighting.critical_token_categories)
        weights = token_weights(critical, vocab_size, weighting.critical_token_weight).to(device)
        say(critical.describe())
    return build_loss(
        loss_function=settings.loss_function,
        components=settings.loss_components,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        device=device,
        teacher_available=teacher_available,
        texts=target_texts(dataset),
        settings=LossSettings(
            focal_alpha=settings.focal_alpha,
            focal_gamma=settings.focal_gamma,
            topk_tail=config.distillation.topk_tail,
            pans_max_ngram=settings.pans_max_ngram,
            pans_decay=settings.pans_decay,
            semantic_loss_scale=semantic.semantic_loss_scale,
            semantic_temperature=semantic.semantic_temperature,
            contrastive_temperature=semantic.contrastive_temperature,
        ),
        loss_weights=settings.loss_weights,
        enable_dynamic_weighting=settings.enable_dynamic_weighting,
        pans_weight=settings.pans_weight,
        ast_weight=settings.ast_weight,
        normalize_components=settings.normalize_components,
        normalizer_momentum=settings.normalizer_momentum,
        token_weights=weights,
        embedding_model=config.validation.embedding_model,
        contrastive_encoder=semantic.contrastive_encoder,
        bridge_fit_steps=semantic.bridge_fit_steps,
        bridge_batch_size=semantic.bridge_batch_size,
        bridge_min_fidelity=semantic.bridge_min_fidelity,
        contrastive_queue_size=semantic.contrastive_queue_size,
        embedding_cache_size=semantic.embedding_cache_size,
        embedding_cache_ttl=semantic.embedding_cache_ttl,
        progress=progress,
        log=say,
    )
