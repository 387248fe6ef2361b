"""From the flags to the loss of a student: weights, encoders, the vocabulary bridge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from config.command_line import Config
from config.schedules import loss_components
from data.dataset import AssertionDataset
from data.readers import RowError
from models.ast_spans import SpanFinder
from models.encoders import EmbeddingCache, Encoder, resolve_encoder
from models.loss_functions import COMPONENTS, LossResources, LossSettings
from models.multi_component_loss import MultiComponentLoss, weight_plan
from models.vocabulary_bridge import GoldQueue, SoftTextEncoder, bridge
from utils.errors import UserError
from utils.token_weighting import find_critical_tokens, token_weights

BRIDGE_ROWS = 8192


def target_texts(dataset: AssertionDataset) -> list[str]:
    """Targets of evenly spaced training rows: what the vocabulary bridge is fitted on."""
    texts = []
    for row in np.unique(np.linspace(0, len(dataset) - 1, min(BRIDGE_ROWS, len(dataset))).astype(int)):
        try:
            texts.append(dataset.sample(int(row)).target)
        except RowError:
            continue
    return texts


def soft_encoder(
    encoder: Encoder, flag: str, config: Config, tokenizer: Any, vocab_size: int, texts: list[str], progress: bool
) -> SoftTextEncoder:
    """The frozen encoder with its fitted bridge; UserError where the bridge is not faithful enough."""
    settings = config.semantic
    fitted = bridge(
        encoder,
        tokenizer,
        texts,
        vocab_size=vocab_size,
        steps=settings.bridge_fit_steps,
        batch_size=settings.bridge_batch_size,
        min_fidelity=settings.bridge_min_fidelity,
        progress=progress,
        flag=flag,
    )
    cache = EmbeddingCache(encoder, settings.embedding_cache_size, settings.embedding_cache_ttl)
    tokens = fitted.tokens.to(device=encoder.device, dtype=encoder.dtype)
    return SoftTextEncoder(encoder, tokens, cache, fitted.fidelity)


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
    settings, semantic = config.loss, config.semantic
    names = loss_components(settings.loss_function, settings.loss_components, COMPONENTS)
    plan = weight_plan(
        settings.loss_function,
        names,
        loss_weights_given=settings.loss_weights,
        enable_dynamic_weighting=settings.enable_dynamic_weighting,
        pans_weight=settings.pans_weight,
        ast_weight=settings.ast_weight,
    )
    weights = None
    if config.token_weighting.enable_token_weighting:
        critical = find_critical_tokens(tokenizer, config.token_weighting.critical_token_categories)
        weights = token_weights(critical, vocab_size, config.token_weighting.critical_token_weight).to(device)
        say(critical.describe())
    not_text = torch.zeros(vocab_size, dtype=torch.bool)
    not_text[[index for index in tokenizer.all_special_ids if index < vocab_size]] = True
    not_text[len(tokenizer) :] = True
    encoders: dict[str, SoftTextEncoder] = {}
    texts = target_texts(dataset) if {"semantic", "contrastive"} & set(names) else []
    for name, flag, value in (
        ("semantic", "--embedding_model", config.validation.embedding_model),
        ("contrastive", "--contrastive_encoder", semantic.contrastive_encoder),
    ):
        if name not in names:
            continue
        if value == "none":
            raise UserError(f"--loss_components {name}: needs {flag}, which is none; embedded:minilm works offline")
        twin = encoders.get("semantic")
        if twin is not None and value == config.validation.embedding_model:
            encoders[name] = twin
            continue
        encoder = resolve_encoder(value, device, flag)
        encoders[name] = soft_encoder(encoder, flag, config, tokenizer, vocab_size, texts, progress)
        say(f"{name}: vocabulary bridge into {encoder.name}, held-out fidelity {encoders[name].fidelity:.3f}")
    contrastive = encoders.get("contrastive")
    queue = None
    if contrastive is not None and semantic.contrastive_queue_size:
        queue = GoldQueue(semantic.contrastive_queue_size, contrastive.cache)
    return MultiComponentLoss(
        names,
        plan,
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
        resources=LossResources(
            not_text=not_text.to(device),
            token_weights=weights,
            semantic=encoders.get("semantic"),
            contrastive=contrastive,
            queue=queue,
            spans=SpanFinder(tokenizer) if "ast" in names else None,
        ),
        teacher_available=teacher_available,
        normalize=settings.normalize_components,
        normalizer_momentum=settings.normalizer_momentum,
    )
