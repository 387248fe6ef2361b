"""How weights, temperature, alpha and learning rate move. ``progress`` is the share of optimiser steps done, 0 to 1.

Everything but ``AlphaController`` is a pure function of the progress, so a resumed run needs no state for it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from utils.errors import UserError

MODE_COMPONENTS = {
    "traditional": ("ce", "kl"),
    "enhanced": ("ce", "kl", "pans"),
    "ast_enhanced": ("ce", "kl", "pans", "ast"),
}
MULTI_COMPONENT = "multi_component"


def nearest(name: str, known: Iterable[str]) -> str:
    """ ", did you mean X?" where a known name is close, else the empty string."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


def loss_components(loss_function: str, components: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """The components of a loss function; raises UserError for unknown or repeated names and for an empty list."""
    if loss_function in MODE_COMPONENTS:
        return MODE_COMPONENTS[loss_function]
    if loss_function != MULTI_COMPONENT:
        functions = [*MODE_COMPONENTS, MULTI_COMPONENT]
        hint = nearest(loss_function, functions) or f"; known: {' '.join(functions)}"
        raise UserError(f"--loss_function {loss_function}: unknown{hint}")
    known = list(known)
    if not components:
        raise UserError(f"--loss_components: at least one of {' '.join(known)} is needed")
    for name in components:
        if name not in known:
            hint = nearest(name, known) or f"; known: {' '.join(known)}"
            raise UserError(f"--loss_components {name}: unknown component{hint}")
        if list(components).count(name) > 1:
            raise UserError(f"--loss_components {name}: given more than once")
    return tuple(components)


def check_weight(flag: str, value: float) -> None:
    """Raise UserError unless ``value`` is finite and not negative."""
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{flag} {value:g}: a weight must be a finite number of at least 0")


def fixed_weights(components: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """``--loss_weights`` beside ``--loss_components``: one finite, non-negative number each, not all zero."""
    if len(weights) != len(components):
        raise UserError(
            f"--loss_weights: {len(weights)} weights for {len(components)} components ({' '.join(components)}); "
            "give one for each"
        )
    fixed = dict(zip(components, weights, strict=True))
    for name, value in fixed.items():
        check_weight(f"--loss_weights ({name})", value)
    if not any(fixed.values()):
        raise UserError("--loss_weights: all weights are 0, so nothing would be learned")
    return fixed


def loss_weights(
    components: Sequence[str],
    progress: float,
    dynamic: bool,
    overrides: Sequence[float] | None = None,
    table: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """Weight of each component: ``start + progress * (end - start)`` of its own line, never renormalised.

    Without ``dynamic`` the end values hold; ``overrides`` (one weight a component) win over both. ``table`` defaults to
    the Trident and legacy schedules of ``config.defaults`` (their names do not overlap).
    """
    if overrides is not None:
        return fixed_weights(components, overrides)
    if table is None:
        from config.defaults import TRIDENT_WEIGHT_SCHEDULING, WEIGHT_SCHEDULING

        table = {**WEIGHT_SCHEDULING, **TRIDENT_WEIGHT_SCHEDULING}
    moved = min(max(progress, 0.0), 1.0) if dynamic else 1.0
    return {name: table[name][0] + moved * (table[name][1] - table[name][0]) for name in components}


def alpha_weights(loss_function: str, alpha: float, pans_weight: float, ast_weight: float) -> dict[str, float]:
    """Weights of the modes that have an alpha: ``alpha * CE + (1 - alpha) * KL``, with PANS and AST added on top."""
    weights = {"ce": alpha, "kl": 1.0 - alpha, "pans": pans_weight, "ast": ast_weight}
    return {name: weights[name] for name in MODE_COMPONENTS[loss_function]}


def temperature_at(initial: float, final: float, progress: float) -> float:
    """``T0 * (T1 / T0) ** progress``: exponential decay from ``initial`` to ``final``, both > 0."""
    for flag, value in (("--temperature", initial), ("--temperature_final", final)):
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{flag} {value:g}: a temperature must be a finite number above 0")
    return initial * (final / initial) ** min(max(progress, 0.0), 1.0)


def warmup_step_count(total_steps: int, warmup_steps: int | None, warmup_ratio: float) -> int:
    """Optimiser steps of warm-up; an explicit number wins over the ratio."""
    return warmup_steps if warmup_steps is not None else math.ceil(total_steps * warmup_ratio)


def lr_lambda(total_steps: int, warmup_steps: int, floor_ratio: float) -> Callable[[int], float]:
    """Factor on the learning rate at optimiser step ``step`` (from 0): linear warm-up, linear decay to ``floor_ratio``.

    The first step already has a share of the rate (1 / (warmup + 1)), so that no step is spent at lr 0.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        decayed = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 1.0 + decayed * (floor_ratio - 1.0)

    return factor


class AlphaController:
    """Alpha of the modes that have one: constant, or falling once the hard loss has stopped improving.

    Feed every optimiser step's hard loss (cross-entropy, mean a token; a tensor is not read before the window closes)
    to ``observe`` and call ``close_window`` at each validation. With ``dynamic``, once the mean of a window improves on
    the one before by less than ``convergence`` (a share), alpha is ``max(minimum, alpha - drop * progress)``.
    """

    def __init__(
        self, alpha: float, dynamic: bool, *, minimum: float = 0.3, drop: float = 0.2, convergence: float = 0.01
    ) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise UserError(f"--alpha {alpha:g}: must lie between 0 and 1")
        self.alpha = alpha
        self.dynamic = dynamic
        self.minimum, self.drop, self.convergence = minimum, drop, convergence
        self.converged = False
        self._sum: Any = 0.0
        self._count = 0
        self._previous: float | None = None

    def observe(self, hard_loss: Any) -> None:
        """One optimiser step's hard loss, a number or a tensor of no dimension."""
        self._sum = self._sum + hard_loss
        self._count += 1

    def close_window(self) -> bool:
        """End a validation window; True once the hard loss has converged."""
        if self._count:
            mean = float(self._sum) / self._count
            if self._previous is not None and self._previous - mean < self.convergence * abs(self._previous):
                self.converged = True
            self._previous, self._sum, self._count = mean, 0.0, 0
        return self.converged

    def value(self, progress: float) -> float:
        """Alpha at ``progress``; it never rises, so one that starts below the minimum stays."""
        if not (self.dynamic and self.converged):
            return self.alpha
        return min(self.alpha, max(self.minimum, self.alpha - self.drop * min(max(progress, 0.0), 1.0)))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; numbers only."""
        return {
            "converged": self.converged,
            "sum": float(self._sum),
            "count": self._count,
            "previous": self._previous,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self.converged = state["converged"]
        self._sum, self._count, self._previous = state["sum"], state["count"], state["previous"]
