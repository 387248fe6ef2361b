"""Is it worth training longer? The recent slope of the validation metric, with its uncertainty, as a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evaluation.reports.run_data import Columns

LONGER = 0.25  # the question asked: what would a quarter more training bring?
WORTH = 0.005  # a gain below half a point on a scale of 0 to 1 (or 0.5 % of a loss) is not worth it
CONFIDENCE = 0.9
LABELS = {
    "code_quality_score": "Code Quality Score",
    "val_loss": "validation loss",
    "exact_match": "share of exact matches",
}


@dataclass
class Outlook:
    """``gain``, ``low``, ``high``: what a quarter more steps at this slope would bring; positive is better.

    ``trend``: steps, fitted values and their lower and upper bounds, to the end of that quarter.
    """

    verdict: str  # worth it | converged | getting worse | undecided | unknown
    advice: str
    evidence: str = ""
    metric: str | None = None
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    best_step: int | None = None
    best_value: float = math.nan
    trend: tuple[list[float], list[float], list[float], list[float]] | None = None


def chosen_metric(validations: Columns, preferred: str = "auto") -> str | None:
    """The metric that early stopping looks at (``--validation_metric``); auto: Code Quality Score, else the loss."""
    wanted = {"auto": ("code_quality_score", "val_loss"), "loss": ("val_loss",)}.get(preferred, (preferred, "val_loss"))
    return next((name for name in wanted if name in validations and np.isfinite(validations[name]).any()), None)


def outlook(validations: Columns, preferred: str = "auto") -> Outlook:
    """Fit a line through the later half of the validations (at least 4) and carry it on for a quarter more steps.

    The interval is the 90 % t-interval of the slope, from the scatter of the validations around the line.
    """
    metric = chosen_metric(validations, preferred)
    if metric is None:
        return Outlook("unknown", "There was no validation, so nothing can be said; set --validation_frequency 1.")
    known = np.isfinite(validations[metric])
    # Where a step was validated several times, the last one counts: two at one step have no slope.
    steps, places = np.unique(validations["step"][known][::-1], return_index=True)
    values = validations[metric][known][::-1][places]
    sign = -1.0 if metric == "val_loss" else 1.0
    best = int(np.argmax(sign * values))
    label, best_step = LABELS[metric], int(steps[best])
    seen = f"The best {label} was {values[best]:.4f}, at step {best_step:,} of {int(steps[-1]):,}."
    if len(values) < 4:
        return Outlook(
            "unknown", _few(label, values, best), seen, metric, best_step=best_step, best_value=float(values[best])
        )
    from scipy.stats import t

    count = max(4, len(values) // 2)
    recent, scores = steps[-count:], sign * values[-count:]
    away = recent - recent.mean()
    slope = float(away @ scores / (away @ away))
    scatter = scores - scores.mean() - slope * away
    margin = float(t.ppf((1 + CONFIDENCE) / 2, count - 2) * np.sqrt(scatter @ scatter / (count - 2) / (away @ away)))
    ahead = LONGER * float(steps[-1])
    gain, low, high = (ahead * one for one in (slope, slope - margin, slope + margin))
    over = f"over the last {count} of {len(values)} evaluations"
    worth = WORTH * (abs(float(np.median(values[-count:]))) if metric == "val_loss" else 1.0)
    trend = (
        f"Over the last {count} validations it {'improves' if gain > 0 else 'worsens'} by {abs(gain):.4f} per "
        f"{ahead:,.0f} steps ({CONFIDENCE:.0%} interval {low:+.4f} to {high:+.4f}; positive is better)."
    )
    if low > 0 and gain >= worth:
        verdict = "worth it"
        advice = (
            f"Yes: {over} the {label} was still improving; a quarter more steps should "
            f"{'lower' if sign < 0 else 'raise'} it by about {gain:.4f}, less if the curve flattens."
        )
    elif high < 0 and -gain >= worth:
        verdict = "getting worse"
        advice = f"No: {over} the {label} got worse. Keep best_model/; use more data, more dropout or fewer epochs."
    elif high < worth:
        verdict = "converged"
        advice = (
            f"No: {over} the {label} hardly moved; a quarter more steps would improve it by less than "
            f"{worth:.4f}. To get further, change the data, the losses or the size of the student."
        )
    else:
        verdict = "undecided"
        advice = (
            f"Not decided: {over} the {label} scattered as much as it moved. Validate on more samples, or train "
            "a quarter longer and look again."
        )
    ends = np.array([recent[0], recent.mean(), recent[-1], steps[-1] + ahead])
    line, spread = sign * (scores.mean() + slope * (ends - recent.mean())), margin * np.abs(ends - recent.mean())
    drawn = (ends.tolist(), line.tolist(), (line - spread).tolist(), (line + spread).tolist())
    return Outlook(verdict, advice, f"{seen} {trend}", metric, gain, low, high, best_step, float(values[best]), drawn)


def _few(label: str, values: np.ndarray, best: int) -> str:
    """What one to three evaluations allow to say."""
    needed = "4 evaluations are needed to say by how much (--validation_frequency, --eval_steps)"
    if len(values) == 1:
        return f"Unknown: there was one evaluation, which tells no trend; {needed}."
    moved = f"the {label} went from {values[0]:.4f} to {values[-1]:.4f} over {len(values)} evaluations"
    if best == len(values) - 1:
        return f"Probably: {moved} and was still improving at the last one; {needed}."
    return f"Unclear: {moved} and was best before the last one; {needed}."
