"""From the flags to the loss of a student."""

from __future__ import annotations

from typing import Any

from config.command_line import Config
from config.schedules import loss_components
from models.loss_functions import COMPONENTS, LossSettings
from models.multi_component_loss import MultiComponentLoss, weight_plan


def build_student_loss(config: Config, *, teacher_available: bool, resources: Any = None) -> MultiComponentLoss:
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
            contrastive_batch_negatives=semantic.contrastive_queue_size == 0,
        ),
        resources=resources,
        teacher_available=teacher_available,
        normalize=settings.normalize_components,
        normalizer_momentum=settings.normalizer_momentum,
    )
