"""Which loss component moves the student: shares of the gradient over time, and what would balance them.

A component pulls with the norm of its gradient on the logits times its weight (and its normaliser, where there is one);
its share is its pull over the sum of all pulls. Norms add up to more than the norm of the sum where components pull in
different directions, so a share says how hard a component pulls, not how far the student went its way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.logging_utils import components_of

LOW_SHARE = 0.05  # below it a component hardly steers
HIGH_SHARE = 0.75  # above it a component steers alone
GROWTH = 10.0  # of the raw gradient, from the first to the last third; and past all components at first: exploding
DECAY = 1e-3  # of the same: vanishing, whatever the others do
FEW_BROKEN = 0.05  # share of values that are not finite up to which the rest speaks for the run
FEWEST = 6  # measurements below which no verdict is given


@dataclass
class ComponentScaling:
    """What one component did in the first and in the last third of the measurements: mean shares, median norms.

    ``gradient_*``: norm of the raw component's gradient; ``pull_*``: the same times the weight in force.
    """

    verdict: str  # active | dominant | dominated | vanishing | exploding | silent | scheduled out | too short
    reason: str
    share_first: float
    share_last: float
    share_mean: float
    gradient_first: float
    gradient_last: float
    pull_last: float
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
    basis, notes = "gradient", []
    gradients = {name: steps.get(f"grad_norm_{name}", missing) for name in names}
    measured = np.any([~np.isnan(values) for values in gradients.values()], axis=0)
    if not measured.any():
        basis = "weighted loss"
        notes.append(
            "no gradient norms per component were recorded (see --grad_norm_steps): shares of the weighted "
            "loss are shown instead; they say what the loss consists of, not what moves the student"
        )
        gradients = {name: np.abs(steps[f"{name}_loss_raw"]) for name in names}
        measured = np.any([~np.isnan(values) for values in gradients.values()], axis=0)
        if not measured.any():
            raise UserError("the columns of the loss components are empty")
    factors = {name: _factor(steps, name, missing)[measured] for name in names}
    weights = {name: steps.get(f"{name}_weight", missing)[measured] for name in names}
    gradients = {name: values[measured] for name, values in gradients.items()}
    at = steps["step"][measured]
    pulls = {name: np.nan_to_num(values * factors[name], nan=0.0, posinf=0.0) for name, values in gradients.items()}
    total = np.sum(list(pulls.values()), axis=0)
    shares = {
        name: np.divide(values, total, out=np.zeros_like(values), where=total > 0) for name, values in pulls.items()
    }

    third = max(1, len(at) // 3)
    first, last = slice(0, third), slice(len(at) - third, len(at))
    leader = max(names, key=lambda name: float(np.mean(shares[name][last])))
    mean_pull = float(np.mean([_middle(values[last]) for values in pulls.values()]))
    components = {}
    for name in names:
        raw = steps[f"{name}_loss_raw"]
        if broken := int(np.sum(~np.isfinite(raw))):
            notes.append(f"{name}: not finite in {broken} of {len(raw)} steps; such a step is left out")
        pull, weight = _middle(pulls[name][last]), _middle(weights[name][last])
        rises = pull > _middle(total[first])
        verdict, reason = _verdict(name, leader, raw, gradients[name], weights[name], shares, first, last, rises)
        components[name] = ComponentScaling(
            verdict,
            reason,
            float(np.mean(shares[name][first])),
            float(np.mean(shares[name][last])),
            float(np.mean(shares[name])),
            _middle(gradients[name][first]),
            _middle(gradients[name][last]),
            pull,
            weight,
            weight * mean_pull / pull if pull > 0 and weight > 0 else None,
        )
    result = LossScaling(
        basis,
        [int(step) for step in at],
        {name: values.tolist() for name, values in shares.items()},
        components,
        notes=notes,
    )
    semantic = components.get("semantic")
    if semantic is not None and len(names) > 1 and semantic.pull_last > 0:
        others = np.mean([one.pull_last for name, one in components.items() if name != "semantic"])
        if semantic_loss_scale is None:
            notes.append(
                "the semantic scale β of this run is not known (no run_config.json beside it): a balancing "
                f"scale is {others / semantic.pull_last:.3g} times the present one"
            )
        else:
            result.semantic_loss_scale = semantic_loss_scale
            result.balanced_semantic_loss_scale = float(semantic_loss_scale * others / semantic.pull_last)
    return result


def _factor(steps: dict[str, np.ndarray], name: str, missing: np.ndarray) -> np.ndarray:
    """What the raw value is multiplied by in the total: the weight, and the normaliser where there is one."""
    raw, weighted = steps[f"{name}_loss_raw"], steps.get(f"{name}_loss_weighted", missing)
    ratio = np.divide(weighted, raw, out=np.full_like(raw, np.nan), where=np.isfinite(raw) & (raw != 0))
    return np.where(np.isfinite(ratio), np.abs(ratio), steps.get(f"{name}_weight", missing))


def _middle(values: np.ndarray) -> float:
    """Median of the finite values; their mean where most are 0 (as of ast, once predictions parse); 0 for none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite) or np.mean(finite)) if len(finite) else 0.0


def _verdict(
    name: str,
    leader: str,
    raw: np.ndarray,
    gradients: np.ndarray,
    weights: np.ndarray,
    shares: dict[str, np.ndarray],
    first: slice,
    last: slice,
    rises: bool,
) -> tuple[str, str]:
    """``rises``: it now pulls harder than all components together did at first (one that began near 0 may grow)."""
    count, broken, not_finite = len(shares), int(np.sum(~np.isfinite(raw))), int(np.sum(~np.isfinite(gradients)))
    # At the end even one counts: a run that does not recover stops there.
    if not np.isfinite(raw[-1]) or broken > FEW_BROKEN * len(raw) or not_finite > FEW_BROKEN * len(gradients):
        return "exploding", f"not finite: its value in {broken} steps, its gradient in {not_finite} measurements"
    if len(gradients) < FEWEST:
        return "too short", f"only {len(gradients)} measurements; {FEWEST} are needed for a verdict"
    if not gradients.any():
        return "silent", "its gradient is exactly 0: it teaches nothing"
    weight_first, weight_last = _middle(weights[first]), _middle(weights[last])
    if np.isfinite(weights).any() and weight_last == 0:
        return "scheduled out", "its weight is 0 in the last third"
    before, after = _middle(gradients[first]), _middle(gradients[last])
    change = after / before if before else None
    share_first, share = float(np.mean(shares[name][first])), float(np.mean(shares[name][last]))
    if change is not None and change > GROWTH and rises:
        return "exploding", f"its gradient grew {change:.3g} times from the first to the last third"
    if change is not None and change < DECAY:
        return "vanishing", f"its gradient fell to {change:.1g} of what it was"
    if count > 1 and share < LOW_SHARE:
        if weight_last < weight_first / 3:
            return "scheduled out", f"its weight went from {weight_first:.3g} to {weight_last:.3g}"
        if share_first >= LOW_SHARE and share < share_first / 3:
            return "vanishing", f"its share fell from {share_first:.0%} to {share:.1%}"
        return "dominated", f"it has {share:.1%} of the pull, {leader} has {np.mean(shares[leader][last]):.0%}"
    if count > 1 and share > HIGH_SHARE:
        return "dominant", f"it has {share:.0%} of the pull"
    return "active", f"it has {share:.0%} of the pull"
