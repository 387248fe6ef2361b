"""Which loss component moves the student: shares of the gradient over time, and what would balance them.

The share of a component is its gradient norm over the sum of the components' gradient norms. Norms add up to more than
the norm of the sum where components pull in different directions, so a share says how hard a component pulls, not how
far the student went its way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.logging_utils import components_of

LOW_SHARE = 0.05  # below it a component hardly steers
HIGH_SHARE = 0.8  # above it a component steers alone
GROWTH = 10.0  # of the gradient per unit of weight, from the first to the last third: exploding
DECAY = 1e-3  # of the same: vanishing, whatever the others do
FEWEST = 6  # measurements below which no verdict is given


@dataclass
class ComponentScaling:
    """What one component did. Gradients are medians of norms over the first and the last third of the measurements."""

    verdict: str  # balanced | dominant | dominated | vanishing | exploding | silent | scheduled out | too short
    reason: str
    share_first: float
    share_last: float
    share_mean: float
    gradient_first: float
    gradient_last: float
    weight_last: float
    balanced_weight: float | None


@dataclass
class LossScaling:
    """The analysis of a run. ``basis`` is "gradient", or "weighted loss" where no gradient norms were recorded."""

    basis: str
    steps: list[int]
    shares: dict[str, list[float]]
    components: dict[str, ComponentScaling]
    semantic_loss_scale: float | None = None
    balanced_semantic_loss_scale: float | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def driver(self) -> tuple[str, float]:
        """The component with the largest mean share, and that share."""
        return max(((name, one.share_mean) for name, one in self.components.items()), key=lambda pair: pair[1])


def analyse(steps: dict[str, np.ndarray], semantic_loss_scale: float | None = None) -> LossScaling:
    """Analyse the columns of step_metrics.csv.

    ``semantic_loss_scale`` is the run's β, needed to name a better one. Raise UserError where no component is recorded.
    """
    names = components_of(steps)
    if not names:
        raise UserError("no loss component in this file: it has no column <component>_loss_raw")
    missing = np.full(len(steps["step"]), np.nan)
    pulls = {name: steps.get(f"grad_norm_{name}", missing) for name in names}
    measured = np.any([~np.isnan(values) for values in pulls.values()], axis=0)
    basis, notes = "gradient", []
    if not measured.any():
        basis = "weighted loss"
        notes.append("no gradient norms per component were recorded (see --grad_norm_steps): shares of the weighted "
                     "loss are shown instead; they say what the loss consists of, not what moves the student")
        pulls = {name: np.abs(steps.get(f"{name}_loss_weighted", missing)) for name in names}
        measured = np.any([~np.isnan(values) for values in pulls.values()], axis=0)
        if not measured.any():
            raise UserError("the columns of the loss components are empty")
    pulls = {name: values[measured] for name, values in pulls.items()}
    weights = {name: steps.get(f"{name}_weight", missing)[measured] for name in names}
    at = steps["step"][measured]
    finite = {name: np.where(np.isfinite(values), values, 0.0) for name, values in pulls.items()}
    total = np.sum(list(finite.values()), axis=0)
    shares = {name: np.divide(values, total, out=np.zeros_like(values), where=total > 0)
              for name, values in finite.items()}

    third = max(1, len(at) // 3)
    first, last = slice(0, third), slice(len(at) - third, len(at))
    leader = max(names, key=lambda name: float(np.median(shares[name][last])))
    mean_pull = float(np.mean([np.median(values[last]) for values in finite.values()]))
    components = {}
    for name in names:
        broken = int(np.sum(~np.isfinite(steps[f"{name}_loss_raw"])))
        verdict, reason = _verdict(name, leader, broken, pulls[name], weights[name], shares, first, last)
        pull, weight = float(np.median(finite[name][last])), float(np.nanmedian(_known(weights[name][last])))
        components[name] = ComponentScaling(
            verdict, reason, float(np.median(shares[name][first])), float(np.median(shares[name][last])),
            float(np.mean(shares[name])), float(np.median(finite[name][first])), pull, weight,
            weight * mean_pull / pull if pull > 0 and weight > 0 else None,
        )
    result = LossScaling(basis, [int(step) for step in at], {name: values.tolist() for name, values in shares.items()},
                         components, notes=notes)
    semantic = components.get("semantic")
    if semantic is not None and len(names) > 1 and semantic.gradient_last > 0:
        others = np.mean([one.gradient_last for name, one in components.items() if name != "semantic"])
        if semantic_loss_scale is None:
            notes.append("the semantic scale β of this run is not known (no run_config.json beside it): a balancing "
                         f"scale is {others / semantic.gradient_last:.3g} times the present one")
        else:
            result.semantic_loss_scale = semantic_loss_scale
            result.balanced_semantic_loss_scale = float(semantic_loss_scale * others / semantic.gradient_last)
    return result


def _known(values: np.ndarray) -> np.ndarray:
    return values if np.isfinite(values).any() else np.zeros(1)


def _per_weight(pulls: np.ndarray, weights: np.ndarray, window: slice) -> float | None:
    """Median gradient per unit of weight: what the component does by itself, schedule aside."""
    pull, weight = pulls[window], weights[window]
    usable = np.isfinite(pull) & (weight > 0)
    return float(np.median(pull[usable] / weight[usable])) if usable.any() else None


def _verdict(name: str, leader: str, broken: int, pulls: np.ndarray, weights: np.ndarray,
             shares: dict[str, np.ndarray], first: slice, last: slice) -> tuple[str, str]:
    count, broken_pulls = len(shares), int(np.sum(~np.isfinite(pulls)))
    if broken or broken_pulls:
        return "exploding", f"not finite: its value in {broken} steps, its gradient in {broken_pulls} measurements"
    if len(pulls) < FEWEST:
        return "too short", f"only {len(pulls)} measurements; {FEWEST} are needed for a verdict"
    weight_first, weight_last = (float(np.nanmedian(_known(weights[window]))) for window in (first, last))
    if np.isfinite(weights).any() and weight_last == 0:
        return "scheduled out", "its weight is 0 in the last third"
    if not pulls.any():
        return "silent", "its gradient is exactly 0: it teaches nothing"
    before, after = _per_weight(pulls, weights, first), _per_weight(pulls, weights, last)
    change = after / before if before and after is not None else None
    share_first, share = float(np.median(shares[name][first])), float(np.median(shares[name][last]))
    if change is not None and change > GROWTH:
        return "exploding", f"per unit of weight it grew {change:.3g} times from the first to the last third"
    if change is not None and change < DECAY:
        return "vanishing", f"per unit of weight it fell to {change:.1g} of what it was"
    if count > 1 and share < LOW_SHARE:
        if weight_last < weight_first / 3:
            return "scheduled out", f"its weight went from {weight_first:.3g} to {weight_last:.3g}"
        if share_first >= LOW_SHARE and share < share_first / 3:
            return "vanishing", f"its share fell from {share_first:.0%} to {share:.1%}"
        return "dominated", f"it has {share:.1%} of the pull, {leader} has {np.median(shares[leader][last]):.0%}"
    if count > 1 and share > HIGH_SHARE:
        return "dominant", f"it has {share:.0%} of the pull"
    return "balanced", f"it has {share:.0%} of the pull"
