"""How loss weights, temperature, alpha and learning rate change. ``progress`` is the share of optimiser steps done.

Everything except ``AlphaController`` is a pure function of the progress, so a resumed run needs no state for it. The
command line has checked all values (config/checks.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict

from config.defaults import (
    MODE_COMPONENTS,
    TRIDENT_WEIGHT_SCHEDULING,
    WEIGHT_SCHEDULING,
    DistillationConfig,
    LossConfig,
)

if TYPE_CHECKING:
    from torch import Tensor

# No component is in both tables.
SCHEDULED_WEIGHTS = {**WEIGHT_SCHEDULING, **TRIDENT_WEIGHT_SCHEDULING}


def component_names(loss: LossConfig) -> tuple[str, ...]:
    """The components of ``--loss_function``, in order."""
    return MODE_COMPONENTS.get(loss.loss_function) or tuple(loss.loss_components)


def component_weights(loss: LossConfig, progress: float, alpha: float) -> dict[str, float]:
    """The weight of each component at ``progress`` (0 to 1); they are never normalised to add up to 1.

    ``--loss_weights`` stay fixed. The modes with an alpha weigh ``alpha * CE + (1 - alpha) * KL`` and add PANS and AST.
    multi_component moves each weight from start to end on its own line, ``start + progress * (end - start)``; without
    ``--enable_dynamic_weighting`` the end values hold throughout.
    """
    names = component_names(loss)
    if loss.loss_weights is not None:
        return dict(zip(names, loss.loss_weights, strict=True))
    if loss.loss_function in MODE_COMPONENTS:
        weights = {"ce": alpha, "kl": 1.0 - alpha, "pans": loss.pans_weight, "ast": loss.ast_weight}
        return {name: weights[name] for name in names}
    moved = min(max(progress, 0.0), 1.0) if loss.enable_dynamic_weighting else 1.0
    lines = {name: SCHEDULED_WEIGHTS[name] for name in names}
    return {name: start + moved * (end - start) for name, (start, end) in lines.items()}


def temperature_at(initial: float, final: float, progress: float) -> float:
    """``T0 * (T1 / T0) ** progress``: exponential decay from ``initial`` to ``final``, both > 0."""
    return initial * (final / initial) ** min(max(progress, 0.0), 1.0)


def warmup_step_count(total_steps: int, warmup_steps: int | None, warmup_ratio: float) -> int:
    """The number of warm-up steps; an explicit number overrides the ratio."""
    return warmup_steps if warmup_steps is not None else math.ceil(total_steps * warmup_ratio)


def lr_lambda(total_steps: int, warmup_steps: int, floor_ratio: float) -> Callable[[int], float]:
    """Build the factor on the learning rate as a function of the optimiser step, counted from 0.

    The factor rises linearly during warm-up and then falls linearly to ``floor_ratio``. It starts at 1 / (warmup + 1)
    instead of 0, so that the first step is not wasted.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        decayed = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 1.0 + decayed * (floor_ratio - 1.0)

    return factor


class AlphaState(TypedDict):
    """What a resumed run needs of an ``AlphaController``."""

    converged: bool
    sum: float
    count: int
    previous: float | None


class AlphaController:
    """Alpha of the modes that have one: constant, or falling once the hard loss has stopped improving.

    Pass the hard loss of every optimiser step (mean cross-entropy of a token) to ``observe`` and call ``close_window``
    at each validation. With ``dynamic``, once the mean of a window improves on the one before by less than
    ``--alpha_convergence`` (a share), alpha is ``max(alpha_min, alpha - alpha_drop * progress)``.
    """

    def __init__(self, config: DistillationConfig, dynamic: bool) -> None:
        self.config = config
        self.dynamic = dynamic
        self.converged = False
        self._sum: float | Tensor = 0.0
        self._count = 0
        self._previous: float | None = None

    @property
    def alpha(self) -> float:
        """The value that alpha starts from."""
        return self.config.alpha

    def observe(self, hard_loss: float | Tensor) -> None:
        """Add one optimiser step's hard loss. A scalar tensor is not read before the window closes."""
        self._sum = self._sum + hard_loss
        self._count += 1

    def close_window(self) -> bool:
        """End a validation window; return True once the hard loss has converged."""
        if self._count:
            mean = float(self._sum) / self._count
            if self._previous is not None and self._previous - mean < self.config.alpha_convergence * abs(
                self._previous
            ):
                self.converged = True
            self._previous = mean
            self._sum = 0.0
            self._count = 0
        return self.converged

    def value(self, progress: float) -> float:
        """Alpha at ``progress``. It never rises: an alpha that starts below ``--alpha_min`` stays as it is."""
        alpha = self.config.alpha
        if not (self.dynamic and self.converged):
            return alpha
        return min(alpha, max(self.config.alpha_min, alpha - self.config.alpha_drop * min(max(progress, 0.0), 1.0)))

    def state_dict(self) -> AlphaState:
        """Return the state as plain numbers."""
        return {
            "converged": self.converged,
            "sum": float(self._sum),
            "count": self._count,
            "previous": self._previous,
        }

    def load_state_dict(self, state: AlphaState) -> None:
        """Restore what ``state_dict`` returned."""
        self.converged = state["converged"]
        self._sum = state["sum"]
        self._count = state["count"]
        self._previous = state["previous"]
