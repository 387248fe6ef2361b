"""Is it worth training longer? The recent slope of the validation metric with its interval, and advice from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evaluation.reports.run_data import Columns

LONGER = 0.25  # the question asked: what would a quarter more training bring?
WORTH = 0.005  # the smallest gain worth the steps: half a point on a scale of 0 to 1, or 0.5 % of a loss
CONFIDENCE = 0.9
FEWEST = 4  # validations for a slope with an interval
LABELS = {
    "code_quality_score": "Code Quality Score",
    "val_loss": "validation loss",
    "exact_match": "share of exact matches",
}


@dataclass
class Outlook:
    """``gain`` is the improvement that a quarter more steps would bring at the fitted slope (positive is better), and
    ``low`` to ``high`` its interval. ``trend``: steps, fitted values and their bounds, to the end of that quarter.
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


def choose_metric(validations: Columns, preferred: str = "auto") -> str | None:
    """The metric that early stopping looks at (``--validation_metric``); auto: Code Quality Score, else the loss."""
    wanted = {"auto": ("code_quality_score", "val_loss"), "loss": ("val_loss",)}.get(preferred, (preferred, "val_loss"))
    return next((name for name in wanted if name in validations and np.isfinite(validations[name]).any()), None)


def judge_outlook(validations: Columns, preferred: str = "auto") -> Outlook:
    """Fit a line through the later half of the validations (at least 4) and extend it by a quarter of the steps.

    The interval is the 90 % t-interval of the slope, from the scatter of the validations around the line.
    """
    metric = choose_metric(validations, preferred)
    if metric is None:
        return Outlook("unknown", "There was no validation, so nothing can be said; set --validation_frequency 1.")
    known = np.isfinite(validations[metric])
    # Where a step was validated several times, the last one counts: two at one step have no slope.
    steps, places = np.unique(validations["step"][known][::-1], return_index=True)
    values = validations[metric][known][::-1][places]
    sign = -1.0 if metric == "val_loss" else 1.0
    best = int(np.argmax(sign * values))
    found = Outlook("unknown", "", metric=metric, best_step=int(steps[best]), best_value=float(values[best]))
    found.evidence = (
        f"The best {LABELS[metric]} was {values[best]:.4f}, at step {found.best_step:,} of {int(steps[-1]):,}."
    )
    if len(values) < FEWEST:
        found.advice = _advise_on_few(LABELS[metric], values, best)
        return found
    count = max(FEWEST, len(values) // 2)
    ahead = LONGER * float(steps[-1])
    line = _fit_line(steps[-count:], sign * values[-count:])
    found.gain, found.low, found.high = (ahead * one for one in (line.slope, *line.slope_interval()))
    worth = WORTH * (abs(float(np.median(values[-count:]))) if metric == "val_loss" else 1.0)
    found.verdict, found.advice = _advise(found, worth, f"over the last {count} of {len(values)} evaluations")
    found.evidence += (
        f" Over the last {count} validations it {'improves' if found.gain > 0 else 'worsens'} by {abs(found.gain):.4f} "
        f"per {ahead:,.0f} steps ({CONFIDENCE:.0%} interval {found.low:+.4f} to {found.high:+.4f}; positive is better)."
    )
    first, last = float(steps[-count]), float(steps[-1])
    ends = np.array([first, line.x_mean, last, last + ahead])
    fitted, spread = sign * line.predict(ends), line.margin * np.abs(ends - line.x_mean)
    found.trend = (ends.tolist(), fitted.tolist(), (fitted - spread).tolist(), (fitted + spread).tolist())
    return found


@dataclass
class _Line:
    """A least-squares line; ``margin`` is half the width of the t-interval of its slope."""

    slope: float
    margin: float
    x_mean: float
    y_mean: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.y_mean + self.slope * (x - self.x_mean)

    def slope_interval(self) -> tuple[float, float]:
        return self.slope - self.margin, self.slope + self.margin


def _fit_line(x: np.ndarray, y: np.ndarray) -> _Line:
    from scipy.stats import t

    away, count = x - x.mean(), len(x)
    slope = float(away @ y / (away @ away))
    scatter = y - y.mean() - slope * away
    error = np.sqrt(scatter @ scatter / (count - 2) / (away @ away))
    return _Line(slope, float(t.ppf((1 + CONFIDENCE) / 2, count - 2) * error), x.mean(), y.mean())


def _advise(found: Outlook, worth: float, over: str) -> tuple[str, str]:
    """Verdict and advice from the gain and its interval; a gain below ``worth`` is not worth the steps."""
    assert found.metric is not None
    label = LABELS[found.metric]
    if found.low > 0 and found.gain >= worth:
        return "worth it", (
            f"Yes: {over} the {label} was still improving; a quarter more steps should "
            f"{'lower' if found.metric == 'val_loss' else 'raise'} it by about {found.gain:.4f}, less if the curve "
            "flattens."
        )
    if found.high < 0 and -found.gain >= worth:
        return "getting worse", (
            f"No: {over} the {label} got worse. Keep best_model/; use more data, more dropout or fewer epochs."
        )
    if found.high < worth:
        return "converged", (
            f"No: {over} the {label} hardly moved; a quarter more steps would improve it by less than "
            f"{worth:.4f}. To get further, change the data, the losses or the size of the student."
        )
    return "undecided", (
        f"Undecided: {over} the {label} scattered as much as it moved. Validate on more samples, or train a quarter "
        "longer and look again."
    )


def _advise_on_few(label: str, values: np.ndarray, best: int) -> str:
    """What one to three evaluations can tell."""
    needed = f"{FEWEST} evaluations are needed to say by how much (--validation_frequency, --eval_steps)"
    if len(values) == 1:
        return f"Unknown: there was one evaluation, which shows no trend; {needed}."
    moved = f"the {label} went from {values[0]:.4f} to {values[-1]:.4f} over {len(values)} evaluations"
    if best == len(values) - 1:
        return f"Probably: {moved} and was still improving at the last one; {needed}."
    return f"Unclear: {moved} and was best before the last one; {needed}."
