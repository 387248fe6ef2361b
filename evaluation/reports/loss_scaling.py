"""Which loss component moves the student: shares of the gradient over time, and weights that would balance them.

The pull of a component is the norm of its gradient on the logits times its weight (and its normaliser, where there is
one); its share is its pull over the sum of all pulls. Components that pull in different directions partly cancel, so a
share says how hard a component pulls, not how far it moved the student.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from utils.errors import UserError
from utils.logging_utils import components_of

LOW_SHARE = 0.05  # a component with a smaller share has hardly any influence
HIGH_SHARE = 0.75  # a component with a larger share decides alone
GROWTH = 10.0  # of the raw gradient from the first to the last third; more than this may be an explosion
DECAY = 1e-3  # of the same; less than this is vanishing
FEW_BROKEN = 0.05  # up to this share of values that are not finite, the others are judged
NO_GRADIENTS = (
    "no gradient norms per component were recorded (see --grad_norm_steps): shares of the weighted loss are shown "
    "instead; they say what the loss consists of, not what moves the student"
)
FEWEST = 6  # measurements below which no verdict and no advice is given


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


@dataclass
class _Pull:
    """One component over the measurements (arrays of one length): what it pulled with, and its share of all pulls."""

    raw: np.ndarray  # its raw loss in every step, measured or not
    gradients: np.ndarray
    weights: np.ndarray
    pulls: np.ndarray
    shares: np.ndarray = field(init=False)


@dataclass
class _Thirds:
    """The first and the last third of the measurements, and what holds for all components in them."""

    first: slice
    last: slice
    first_total: float  # median pull of all components together in the first third
    leader: str  # the component with the largest share of the last third
    leader_share: float
    count: int  # of components


def analyse(
    steps: dict[str, np.ndarray], semantic_loss_scale: float | None = None, gradient_share: float = 0.0
) -> LossScaling:
    """Analyse the columns of step_metrics.csv.

    ``semantic_loss_scale`` is the run's β, needed to suggest a better one; ``gradient_share`` its
    --semantic_gradient_share. Raises UserError where no component is recorded.
    """
    basis, measured, components = _measure(steps)
    at = steps["step"][measured]
    total = np.sum([one.pulls for one in components.values()], axis=0)
    for one in components.values():
        one.shares = np.divide(one.pulls, total, out=np.zeros_like(one.pulls), where=total > 0)

    third = max(1, len(at) // 3)
    first, last = slice(0, third), slice(len(at) - third, len(at))
    last_shares = {name: float(np.mean(one.shares[last])) for name, one in components.items()}
    leader = max(last_shares, key=lambda name: last_shares[name])
    thirds = _Thirds(first, last, _middle(total[first]), leader, last_shares[leader], len(components))
    mean_pull = float(np.mean([_middle(one.pulls[last]) for one in components.values()]))
    result = LossScaling(
        basis,
        [int(step) for step in at],
        {name: one.shares.tolist() for name, one in components.items()},
        {name: _scale(name, one, thirds, mean_pull) for name, one in components.items()},
        notes=[NO_GRADIENTS] if basis != "gradient" else [],
    )
    for name, one in components.items():
        if broken := int(np.sum(~np.isfinite(one.raw))):
            result.notes.append(f"{name}: not finite in {broken} of {len(one.raw)} steps; such a step is left out")
    if not gradient_share:
        _balance_semantic(result, semantic_loss_scale)
    elif {"semantic", "contrastive"} & components.keys():
        result.notes.append(
            f"semantic and contrastive are measured as --semantic_gradient_share {gradient_share:g} leaves them: change"
            " that, their weights and scale move them only below it"
        )
    return result


def _measure(steps: dict[str, np.ndarray]) -> tuple[str, np.ndarray, dict[str, _Pull]]:
    """The basis, the steps that were measured as a mask, and the components there."""
    names = components_of(steps)
    if not names:
        raise UserError("no loss component in this file: it has no column <component>_loss_raw")
    missing = np.full(len(steps["step"]), np.nan)
    basis = "gradient"
    gradients = {name: steps.get(f"grad_norm_{name}", missing) for name in names}
    measured = np.any([~np.isnan(values) for values in gradients.values()], axis=0)
    if not measured.any():
        basis = "weighted loss"
        gradients = {name: np.abs(steps[f"{name}_loss_raw"]) for name in names}
        measured = np.any([~np.isnan(values) for values in gradients.values()], axis=0)
        if not measured.any():
            raise UserError("the columns of the loss components are empty")
    components = {}
    for name in names:
        norms = gradients[name][measured]
        pulls = np.nan_to_num(norms * _factor(steps, name, missing)[measured], nan=0.0, posinf=0.0)
        weights = steps.get(f"{name}_weight", missing)[measured]
        components[name] = _Pull(steps[f"{name}_loss_raw"], norms, weights, pulls)
    return basis, measured, components


def _scale(name: str, one: _Pull, thirds: _Thirds, mean_pull: float) -> ComponentScaling:
    """Sum up one component; ``mean_pull`` is the mean over all of the median pull in the last third."""
    first, last = thirds.first, thirds.last
    pull, weight = _middle(one.pulls[last]), _middle(one.weights[last])
    verdict, reason = _judge(name, one, thirds)
    return ComponentScaling(
        verdict,
        reason,
        float(np.mean(one.shares[first])),
        float(np.mean(one.shares[last])),
        float(np.mean(one.shares)),
        _middle(one.gradients[first]),
        _middle(one.gradients[last]),
        pull,
        weight,
        weight * mean_pull / pull if pull > 0 and weight > 0 and len(one.pulls) >= FEWEST else None,
    )


def _balance_semantic(result: LossScaling, semantic_loss_scale: float | None) -> None:
    """Add the semantic scale β at which semantic would pull as hard as the others do on average."""
    semantic = result.components.get("semantic")
    if len(result.steps) < FEWEST or semantic is None or len(result.components) == 1 or semantic.pull_last <= 0:
        return
    others = np.mean([one.pull_last for name, one in result.components.items() if name != "semantic"])
    if semantic_loss_scale is None:
        result.notes.append(
            "the semantic scale β of this run is not known (its folder has no run_config.json): a balancing scale is "
            f"{others / semantic.pull_last:.3g} times the present one"
        )
    else:
        result.semantic_loss_scale = semantic_loss_scale
        result.balanced_semantic_loss_scale = float(semantic_loss_scale * others / semantic.pull_last)


def _factor(steps: dict[str, np.ndarray], name: str, missing: np.ndarray) -> np.ndarray:
    """What the raw value is multiplied by in the total: the weight, and the normaliser where there is one."""
    raw, weighted = steps[f"{name}_loss_raw"], steps.get(f"{name}_loss_weighted", missing)
    ratio = np.divide(weighted, raw, out=np.full_like(raw, np.nan), where=np.isfinite(raw) & (raw != 0))
    return np.where(np.isfinite(ratio), np.abs(ratio), steps.get(f"{name}_weight", missing))


def _middle(values: np.ndarray) -> float:
    """Median of the finite values; their mean where most are 0 (as of ast, once predictions parse); 0 for none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite) or np.mean(finite)) if len(finite) else 0.0


def _judge(name: str, one: _Pull, thirds: _Thirds) -> tuple[str, str]:
    """The verdict on a component, and the reason."""
    raw = one.raw
    gradients = one.gradients
    weights = one.weights
    first = thirds.first
    last = thirds.last
    broken, not_finite = int(np.sum(~np.isfinite(raw))), int(np.sum(~np.isfinite(gradients)))
    # In the last step one such value is enough: a run that does not recover stops there.
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
    share_first, share = float(np.mean(one.shares[first])), float(np.mean(one.shares[last]))
    # A component that began near 0 may grow; it explodes where it pulls harder than all together did at first.
    if change is not None and change > GROWTH and _middle(one.pulls[last]) > thirds.first_total:
        return "exploding", f"its gradient grew {change:.3g} times from the first to the last third"
    if change is not None and change < DECAY:
        return "vanishing", f"its gradient fell to {change:.1g} of what it was"
    if thirds.count > 1 and share < LOW_SHARE:
        if weight_last < weight_first / 3:
            return "scheduled out", f"its weight went from {weight_first:.3g} to {weight_last:.3g}"
        if share_first >= LOW_SHARE and share < share_first / 3:
            return "vanishing", f"its share fell from {share_first:.0%} to {share:.1%}"
        return "dominated", f"it has {share:.1%} of the pull, {thirds.leader} has {thirds.leader_share:.0%}"
    if thirds.count > 1 and share > HIGH_SHARE:
        return "dominant", f"it has {share:.0%} of the pull"
    return "active", f"it has {share:.0%} of the pull"
