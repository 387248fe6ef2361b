"""run_report.html and training_curves.png: what happened in a run, what follows from it and what to do next."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.reports.loss_scaling import LossScaling, analyse
from evaluation.reports.outlook import LABELS, Outlook, judge_outlook
from evaluation.reports.run_data import Columns, Json, RunData, load_run
from utils.atomic_io import atomic_writer
from utils.errors import UserError
from utils.logging_utils import LOG_FILE, SamplePrediction
from utils.metrics import EXECUTION_METRICS, TRAINING_METRICS
from utils.pages.html_page import (
    callout,
    chips,
    code,
    details,
    escape,
    format_number,
    format_seconds,
    grid,
    interval,
    page,
    paragraph,
    section,
    table,
)
from utils.pages.plots import can_draw
from utils.pages.svg_charts import Series, bar_chart, line_chart, stacked_bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOMENTS = 6  # predictions shown of each sample
TOGETHER = 0.05  # two components whose mean shares differ by less than this are both named as drivers
FAULTS = ("exploding", "vanishing", "silent", "dominant", "dominated")
MEANING = {
    "exploding": "its gradient grows without bound: lower its weight, the learning rate, or --max_grad_norm",
    "vanishing": "it no longer has any influence: raise its weight, or drop it and save its time",
    "silent": "it has no gradient at all and only costs time",
    "dominated": "it has hardly any influence: raise its weight (or its scale), or drop it",
    "dominant": "it decides alone: the other components hardly count",
}


def write_report(folder: str | Path) -> list[Path]:
    """Write run_report.html and, with matplotlib, training_curves.png into a run folder; return their paths.

    UserError: not a run.
    """
    data = load_run(folder)
    html, curves = data.folder / "run_report.html", data.folder / "training_curves.png"
    with atomic_writer(html) as handle:
        handle.write(render_report(data))
    if not data.steps or not can_draw():
        return [html]
    draw_curves(data, curves)
    return [html, curves]


def try_write_report(folder: str | Path, warn: Callable[[str], None]) -> None:
    """``write_report`` at the end of a run: where it fails, warn, since the run itself succeeded."""
    try:
        write_report(folder)
    except Exception as error:
        warn(
            f"run_report.html could not be written ({type(error).__name__}: {error}); the run itself is complete; "
            f"write the report later with: python scripts/make_run_report.py {folder}"
        )


def render_report(data: RunData) -> str:
    """The whole HTML document."""
    scaling, problem = _analyse(data)
    view = judge_outlook(data.rows("validation"), data.config.get("validation_metric", "auto"))
    parts = [
        ("glance", "At a glance", _render_glance(data, scaling, problem, view)),
        ("drove", f"What drove the {data.role}", _render_drivers(data, scaling, problem)),
        ("longer", "Is it worth training longer?", _render_outlook(data, view)),
        ("scores", "Final scores", _render_scores(data)),
        ("curves", "Curves", _render_curves(data)),
        ("validation", "Validation metrics", _render_validation(data)),
        ("samples", "Sample predictions over time", _render_samples(data)),
        ("configuration", "Configuration", _render_configuration(data)),
    ]
    kept = [(anchor, title, body) for anchor, title, body in parts if body]
    subtitle = ", ".join(filter(None, [str(data.config.get("model_name", "")), _name_code(data)]))
    return page(
        f"Run {data.name}",
        "".join(section(title, body, anchor) for anchor, title, body in kept),
        subtitle,
        [(anchor, title) for anchor, title, _ in kept],
    )


def _analyse(data: RunData) -> tuple[LossScaling | None, str]:
    if not data.steps:
        return None, "No step was recorded."
    try:
        return analyse(
            data.steps, data.config.get("semantic_loss_scale"), data.config.get("semantic_gradient_share", 0.0)
        ), ""
    except UserError as error:
        return None, str(error)


def _name_code(data: RunData) -> str:
    git = data.run.get("git") or {}
    commit = str(git.get("commit") or "")[:10]
    return f"code {commit}{' with uncommitted changes' if git.get('modified') else ''}" if commit else ""


def _find_last(columns: Columns, name: str) -> float | None:
    values = columns.get(name, np.array([]))
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else None


# ---------------------------------------------------------------------------------------------------------- at a glance


def _render_glance(data: RunData, scaling: LossScaling | None, problem: str, view: Outlook) -> str:
    facts = []
    if data.steps:
        seconds = float(np.nansum(data.steps["seconds"])) if "seconds" in data.steps else 0.0
        facts += [
            ("optimiser steps", format_number(int(data.steps["step"][-1]))),
            ("epochs", format_number(round(_find_last(data.steps, "epoch") or 0.0, 2))),
        ]
        facts += [("time in steps", format_seconds(seconds))] if seconds else []
        if (memory := _find_peak(data.steps, "memory_mb")) is not None:
            facts.append(("peak memory", f"{memory / 1024:.2f} GiB"))
    for who in ("student", "teacher"):
        metric = data.summary.get(who, {}).get("code_quality_score")
        if metric and metric.get("value") is not None:
            facts.append((f"{who}'s Code Quality Score", interval(metric)))
    if view.best_step is not None and view.metric:
        facts.append((f"best {LABELS[view.metric]}", f"{view.best_value:.4f} at step {view.best_step:,}"))
    body = callout(_name_driver(data, scaling, problem), lead=f"What drove the {data.role}?")
    kinds = {"worth it": "good", "getting worse": "bad", "undecided": "warn"}
    body += callout(view.advice, kinds.get(view.verdict, ""), lead="Worth training longer?")
    body += chips(facts)
    for component, one in scaling.components.items() if scaling else ():
        if one.verdict in FAULTS:
            kind = "bad" if one.verdict in ("exploding", "silent") else "warn"
            body += callout(f"{component} is {one.verdict}: {one.reason}. That means {MEANING[one.verdict]}.", kind)
    if gap := _warn_of_overfitting(data):
        body += callout(gap, "warn")
    warnings = _read_warnings(data.folder / LOG_FILE)
    if warnings:
        items = "".join(f"<li>{escape(text)}</li>" for text in warnings[:20])
        body += details(f"Warnings in the log: {len(warnings)}", f"<ul>{items}</ul>", opened=len(warnings) <= 3)
    return body


def _name_driver(data: RunData, scaling: LossScaling | None, problem: str) -> str:
    """One sentence: which component held which share, on average and at the end."""
    if scaling is None:
        return f"Unknown: {problem}"
    what = "gradient" if scaling.basis == "gradient" else "weighted loss (gradients were not recorded)"
    shares = {name: one.share_mean for name, one in scaling.components.items()}
    first, *others = sorted(shares, key=lambda name: -shares[name])
    if not others:
        return f"{first} alone: it was the only component."
    rest = ", ".join(f"{name} {shares[name]:.0%}" for name in others)
    if shares[first] - shares[others[0]] < TOGETHER:
        text = f"{first} and {others[0]} about equally: on average over the run {first} held {shares[first]:.0%}"
    else:
        text = f"{first}: on average over the run it held {shares[first]:.0%}"
    last = {name: one.share_last for name, one in scaling.components.items()}
    latest = max(last, key=lambda name: last[name])
    return f"{text} of the {what} ({rest}); in the last third {latest} led with {last[latest]:.0%}."


def _find_peak(columns: Columns, name: str) -> float | None:
    values = columns.get(name, np.array([]))
    return float(np.nanmax(values)) if np.isfinite(values).any() else None


def _warn_of_overfitting(data: RunData) -> str:
    """A sentence where the validation loss rises clearly from its lowest value while the training loss still falls."""
    losses, training = data.rows("validation").get("val_loss", np.array([])), data.rows("step").get("train_loss")
    losses = losses[np.isfinite(losses)]
    if len(losses) < 4 or training is None or len(training) < 4:
        return ""
    lowest = int(np.argmin(losses))
    half = training[len(training) // 2 :]
    if lowest < len(losses) - 2 and losses[-1] > 1.05 * losses[lowest] and half[-1] < half[0]:
        return (
            f"The validation loss has risen by {losses[-1] / losses[lowest] - 1:.0%} since its lowest value while "
            f"the training loss went on falling: the {data.role} is overfitting (learning the training data by heart)."
        )
    return ""


def _read_warnings(log: Path) -> list[str]:
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return list(dict.fromkeys(line.split(" WARNING ", 1)[1] for line in lines if " WARNING " in line[:32]))


# ------------------------------------------------------------------------------------------------ what drove the model


def _render_drivers(data: RunData, scaling: LossScaling | None, problem: str) -> str:
    if scaling is None:
        return paragraph(problem)
    body = paragraph(_name_leaders(scaling))
    norms = data.steps.get("grad_norm_total", np.array([]))
    if (limit := data.config.get("max_grad_norm")) and np.isfinite(norms).any():
        clipped = float(np.mean(norms[np.isfinite(norms)] > limit))
        body += paragraph(f"The gradient was clipped to {limit:g} in {clipped:.0%} of the steps.")
    figures = [_draw_shares(scaling)]
    if scaling.basis == "gradient":
        columns = {name: f"grad_norm_{name}" for name in scaling.components}
        figures.append(_draw_chart("Gradient norm per component, unweighted", data.steps, columns))
    body += grid(*figures) + _tabulate_components(scaling)
    if scaling.balanced_semantic_loss_scale is not None:
        body += paragraph(
            f"For semantic to pull as hard as the others: --semantic_loss_scale "
            f"{scaling.balanced_semantic_loss_scale:.3g} (now {scaling.semantic_loss_scale:g})."
        )
    caution = (
        "A share says how hard a component pulled, not whether it pulled in the right direction: compare runs with and "
        "without it (scripts/compare_runs.py) before you keep or drop it."
    )
    return body + "".join(paragraph(note, soft=True) for note in (*scaling.notes, caution))


def _name_leaders(scaling: LossScaling) -> str:
    """A sentence: which component led in the first and in the last third of the run."""
    parts = scaling.components
    if len(parts) == 1:
        return f"{next(iter(parts))} is the only component."
    leader_first = max(parts, key=lambda name: parts[name].share_first)
    leader_last = max(parts, key=lambda name: parts[name].share_last)
    first, last = parts[leader_first].share_first, parts[leader_last].share_last
    what = "pull (weight × gradient norm on the logits)" if scaling.basis == "gradient" else "weighted loss"
    if leader_first == leader_last:
        return (
            f"{leader_first} led from start to end: {first:.0%} of the {what} in the first third of the run, "
            f"{last:.0%} in the last."
        )
    return (
        f"{leader_first} led at first with {first:.0%} of the {what}; in the last third {leader_last} led with "
        f"{last:.0%}."
    )


def _draw_shares(scaling: LossScaling) -> str:
    """The mean shares in up to six windows of the run."""
    shares = [np.array(values) for values in scaling.shares.values()]
    windows = np.array_split(np.arange(len(scaling.steps)), min(6, len(scaling.steps)))
    rows = [
        (f"steps {scaling.steps[w[0]]:,} to {scaling.steps[w[-1]]:,}", [float(share[w].mean()) for share in shares])
        for w in windows
    ]
    return stacked_bars(f"Share of the {scaling.basis}", rows, list(scaling.shares))


def _tabulate_components(scaling: LossScaling) -> str:
    headers = ["component", "first third", "last third", "weight", "balancing weight", "verdict"]
    rows = [
        [
            name,
            f"{one.share_first:.0%}",
            f"{one.share_last:.0%}",
            format_number(one.weight_last, 3),
            format_number(one.balanced_weight, 3),
            f"{one.verdict}: {one.reason}",
        ]
        for name, one in scaling.components.items()
    ]
    return table(headers, rows, numeric=range(1, 5))


# ------------------------------------------------------------------------------------------------------ longer, scores


def _render_outlook(data: RunData, view: Outlook) -> str:
    body = paragraph(view.advice) + paragraph(view.evidence)
    if view.metric:
        series = _select_series(data.rows("validation"), {"validation": view.metric}, marks=True)
        note = ""
        if view.trend:
            steps, values, low, high = view.trend
            series.append(Series("trend, a quarter longer", steps, values, low, high, colour=1))
            note = "with its 90 % interval"
        body += grid(
            line_chart(LABELS[view.metric], series, note=note, log=False),
            _draw_chart("Learning rate", data.steps, {"learning rate": "learning_rate"}, log=False),
        )
    rate, peak = _find_last(data.steps, "learning_rate"), _find_peak(data.steps, "learning_rate")
    if rate and peak and rate < 0.5 * peak and view.verdict in ("worth it", "undecided"):
        body += paragraph(
            f"The learning rate had come down from {peak:.2g} to {rate:.2g}. To train longer, start a new run "
            "with more --epochs, so that it falls later, instead of continuing at the floor.",
            soft=True,
        )
    return body


def _render_scores(data: RunData) -> str:
    scored = data.systems()
    if not scored:
        return paragraph("This run has not been evaluated yet (evaluation/evaluate_assertions.py).")
    names = [n for n in (*TRAINING_METRICS, *EXECUTION_METRICS) if any(n in metrics for metrics in scored.values())]
    rows = [[name.replace("_", " "), *(interval(metrics.get(name)) for metrics in scored.values())] for name in names]
    figures = []
    for name in ("code_quality_score", "exact_match", "pass_rate"):
        known = {who: values.get(name) or {} for who, values in scored.items()}
        metrics = {who: metric for who, metric in known.items() if metric.get("value") is not None}
        if metrics:
            figures.append(
                bar_chart(
                    name.replace("_", " "),
                    [(who, one["value"]) for who, one in metrics.items()],
                    maximum=1.0,
                    intervals=[_find_ends(metric) for metric in metrics.values()],
                    colours=[list(scored).index(who) for who in metrics],
                )
            )
    return (
        grid(*figures)
        + table(["metric", *scored], rows, numeric=())
        + paragraph("In brackets: 95 % intervals over the evaluated samples.", soft=True)
    )


def _find_ends(metric: Json) -> tuple[float, float] | None:
    low, high = metric.get("low"), metric.get("high")
    return None if low is None or high is None else (low, high)


# --------------------------------------------------------------------------------------------------------------- curves


def _select_series(columns: Columns, names: dict[str, str], marks: bool = False) -> list[Series]:
    """Columns (label -> column) as curves, without those that hold no value."""
    series = []
    for index, (label, column) in enumerate(names.items()):
        values = columns.get(column, np.array([]))
        recorded = ~np.isnan(values)
        if recorded.any():
            series.append(
                Series(label, columns["step"][recorded].tolist(), values[recorded].tolist(), colour=index, marks=marks)
            )
    return series


def _draw_chart(
    caption: str,
    columns: Columns,
    names: dict[str, str],
    *,
    note: str = "",
    log: bool | None = None,
    marks: bool = False,
    y_range: tuple[float, float] | None = None,
) -> str:
    """A line chart of columns (label -> column); an empty string where none of them holds a value."""
    series = _select_series(columns, names, marks)
    return line_chart(caption, series, note=note, log=log, y_range=y_range) if series else ""


def _render_curves(data: RunData) -> str:
    names = data.components
    if not data.steps:
        return paragraph("No step was recorded.")
    return grid(
        *filter(
            None,
            [
                _draw_chart("Total loss", data.steps, {"loss": "loss_total"}),
                _draw_chart("Components, raw", data.steps, {n: f"{n}_loss_raw" for n in names}),
                _draw_chart("Components, weighted", data.steps, {n: f"{n}_loss_weighted" for n in names}),
                _draw_chart("Weights", data.steps, {n: f"{n}_weight" for n in names}, log=False),
                _draw_chart("Temperature", data.steps, {"temperature": "temperature"}, log=False),
                _draw_chart("Alpha", data.steps, {"alpha": "alpha"}, log=False, y_range=(0.0, 1.0)),
                _draw_chart("Learning rate", data.steps, {"learning rate": "learning_rate"}, log=False),
                _draw_chart(
                    "Gradient norm",
                    data.steps,
                    {"total": "grad_norm_total", "encoder": "grad_norm_encoder", "decoder": "grad_norm_decoder"},
                ),
                _draw_chart("Memory", data.steps, {"MiB": "memory_mb"}, note="MiB", log=False),
                _draw_chart(
                    "Speed",
                    data.rows("step"),
                    {"samples per second": "samples_per_second"},
                    note="samples per second",
                    log=False,
                ),
                _draw_chart(
                    "Coverage of the training file",
                    data.training,
                    {"coverage": "coverage"},
                    log=False,
                    y_range=(0.0, 1.0),
                ),
            ],
        )
    ) + paragraph(
        "A line is the mean over neighbouring steps, the band around it their smallest and largest value.", soft=True
    )


def _render_validation(data: RunData) -> str:
    rows = data.rows("validation")
    figures = [_draw_chart("Loss on the validation data", rows, {"validation loss": "val_loss"}, marks=True)]
    for name in TRAINING_METRICS:
        title = name.replace("_", " ")
        figures.append(_draw_chart(title, rows, {title: name}, marks=True, log=False))
    kept = [figure for figure in figures if figure]
    return grid(*kept) if kept else paragraph("There was no validation.")


# -------------------------------------------------------------------------------------------- samples and configuration


def _render_samples(data: RunData) -> str:
    by_id: dict[int | None, list[SamplePrediction]] = {}
    for row in data.samples:
        by_id.setdefault(row.get("id"), []).append(row)
    blocks = []
    for number, rows in enumerate(by_id.values(), 1):
        reference = str(rows[-1].get("reference", ""))
        body = "<h3>What a person wrote</h3>" + code(reference)
        if teacher := rows[-1].get("teacher_prediction"):
            body += "<h3>What the teacher writes</h3>" + code(str(teacher))
        moments = _select_changes(rows)
        body += f"<h3>What the {data.role} wrote</h3>" + table(
            ["from step", "prediction"],
            [
                [f"{row['step']:,}", code(str(row.get("prediction", ""))) + _mark_match(row, reference)]
                for row in moments
            ],
            numeric=[0],
            html=True,
        )
        right = _is_right(rows[-1], reference)
        blocks.append(
            details(
                f"Sample {number}: {'right at the end' if right else 'not the reference (yet)'}",
                body,
                opened=number <= 2,
            )
        )
    return "".join(blocks)


def _select_changes(rows: list[SamplePrediction]) -> list[SamplePrediction]:
    """The rows where the prediction changed, thinned to MOMENTS; the first and the last are always there."""
    changed = [
        row
        for index, row in enumerate(rows)
        if index == 0 or row.get("prediction") != rows[index - 1].get("prediction")
    ]
    if len(changed) <= MOMENTS:
        return changed
    return [changed[round(i * (len(changed) - 1) / (MOMENTS - 1))] for i in range(MOMENTS)]


def _is_right(row: SamplePrediction, reference: str) -> bool:
    match = row.get("exact_match")
    return bool(match) if match is not None else str(row.get("prediction", "")).split() == reference.split()


def _mark_match(row: SamplePrediction, reference: str) -> str:
    return '<span class="good-text">✓ matches</span>' if _is_right(row, reference) else ""


def _render_configuration(data: RunData) -> str:
    if not data.config:
        return ""
    known = [(name, value) for name, value in data.config.items() if value is not None]
    body = table(["parameter", "value"], [[name, _as_text(value)] for name, value in known])
    versions = data.run.get("versions") or {}
    if versions:
        body += table(["library", "version"], [[name, str(value)] for name, value in versions.items()])
    return details(f"{len(known)} parameters", body)


def _as_text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


# ------------------------------------------------------------------------------------------------------------------ PNG


def draw_curves(data: RunData, path: Path) -> None:
    """training_curves.png: six panels, for a paper, a slide or a terminal without a browser."""
    from utils.pages.plots import create_figure, save_figure

    names, rows = data.components, data.rows("validation")
    drawing, axes = create_figure(2, 3, width=4.6)

    def panel(place: Axes, title: str, columns: Columns, labels: dict[str, str], log: bool = False) -> None:
        drawn = False
        for label, column in labels.items():
            values = columns.get(column, np.array([]))
            shown = np.isfinite(values) & (values > 0 if log else True)
            if shown.any():
                drawn = True
                place.plot(
                    columns["step"][shown],
                    values[shown],
                    label=label,
                    linewidth=1,
                    marker="o" if shown.sum() < 40 else None,
                    markersize=3,
                )
        place.set(title=title, xlabel="step")
        if drawn and log:
            place.set_yscale("log")
        if drawn and len(labels) > 1:
            place.legend(fontsize=7)

    positive = all(np.nanmin(data.steps[f"{n}_loss_raw"], initial=math.inf) > 0 for n in names)
    panel(axes[0, 0], "components, raw", data.steps, {n: f"{n}_loss_raw" for n in names}, log=positive)
    panel(axes[0, 1], "components, weighted", data.steps, {n: f"{n}_loss_weighted" for n in names})
    panel(axes[0, 2], "weights", data.steps, {n: f"{n}_weight" for n in names})
    panel(
        axes[1, 0],
        "gradient norm",
        data.steps,
        {"total": "grad_norm_total", "encoder": "grad_norm_encoder", "decoder": "grad_norm_decoder"},
        log=True,
    )
    panel(
        axes[1, 1],
        "validation",
        rows,
        {n.replace("_", " "): n for n in ("exact_match", "f1", "code_quality_score", "semantic_similarity")},
    )
    panel(axes[1, 2], "learning rate", data.steps, {"learning rate": "learning_rate"})
    drawing.suptitle(data.name)
    save_figure(drawing, path)
