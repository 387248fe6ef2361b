"""Compares runs: groups those of one configuration by seed, names what differs, and sets scores against cost."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from config.defaults import fill_defaults, flags_with
from evaluation.reports.run_data import Json, RunData, load_run
from utils.errors import UserError
from utils.pages.html_page import format_number, format_seconds

# Parameters that name the run or change its speed and its files, but not what it learns.
NOT_COMPARED = flags_with("once") | flags_with("compared", False)
METRICS = (
    "code_quality_score",
    "semantic_similarity",
    "exact_match",
    "f1",
    "codebleu",
    "ast_validity",
    "knowledge_retention_score",
    "compile_rate",
    "pass_rate",
    "nontrivial_rate",
)
CONFIDENCE = 0.95


@dataclass
class Score:
    """A mean over seeds with its 95 % interval: the t-interval over the seeds, but no narrower than the mean interval
    over the evaluated samples, which alone is there for a single seed."""

    value: float
    low: float | None
    high: float | None
    seeds: int

    def as_text(self) -> str:
        shown = f"{self.value:.3f}"
        return shown if self.low is None or self.high is None else f"{shown} ({self.low:.3f} to {self.high:.3f})"


@dataclass
class Group:
    """The runs of one configuration; they differ in their seeds."""

    runs: list[RunData]
    settings: Json
    label: str = ""
    scores: dict[str, Score] = field(default_factory=dict)
    seconds: float | None = None
    parameters: int | None = None
    megabytes: float | None = None

    def minutes_per_point(self, metric: str) -> float | None:
        """Training time in process-minutes per percentage point of the score."""
        score = self.scores.get(metric)
        return self.seconds / 60 / (100 * score.value) if self.seconds and score and score.value > 0 else None


@dataclass
class Comparison:
    """Groups, ranked by ``metric``, the best first; ``differing`` lists the parameters that are not equal."""

    groups: list[Group]
    metric: str
    metrics: list[str]
    differing: list[str]
    notes: list[str]


def average_with_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and 95 % t-interval of independent values; a single value has no interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None, None
    from scipy.stats import t

    margin = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - margin, mean + margin


def compare(folders: Iterable[str | Path], metric: str | None = None) -> Comparison:
    """Read the run folders and compare them. Other paths are skipped with a note; with no run left: UserError."""
    runs, notes = [], []
    for folder in folders:
        try:
            runs.append(load_run(folder))
        except UserError as error:
            notes.append(f"skipped: {error}")
    if not runs:
        raise UserError("none of these is the folder of a run; name folders such as results/run_name")
    groups: dict[str, Group] = {}
    for run in runs:
        settings = {name: value for name, value in fill_defaults(run.config).items() if name not in NOT_COMPARED}
        # Nobody knows whether a run without a configuration equals another one.
        key = json.dumps(settings, sort_keys=True) if settings else run.name
        group = groups.setdefault(key, Group([], settings))
        twin = next((one for one in group.runs if _identify_seed(one) == _identify_seed(run)), None)
        if twin is None:
            group.runs.append(run)
            continue
        kept, other = (run, twin) if _measure_progress(run) > _measure_progress(twin) else (twin, run)
        group.runs[group.runs.index(twin)] = kept
        notes.append(f"{other.name} has the configuration and the seed of {kept.name}: it is not counted again")
    found = list(groups.values())
    names = sorted({name for group in found for name in group.settings})
    # A parameter that only one of the two scripts has is no difference between their runs.
    differing = [
        name
        for name in names
        if len({json.dumps(group.settings[name]) for group in found if name in group.settings}) > 1
    ]
    known = [name for name in METRICS if any(_read_score(run, name) is not None for run in runs)]
    metric = metric or next(iter(known), METRICS[0])
    for group in found:
        _measure(group, [*known, metric])
        kin = [one for one in found if one.runs[0].role == group.runs[0].role]
        named = [name for name in differing if len({json.dumps(one.settings.get(name)) for one in kin}) > 1]
        group.label = _name_group(group, named)
    for label in {group.label for group in found}:  # two groups may differ only in a part that their labels omit
        same = [group for group in found if group.label == label]
        if len(same) > 1:
            for group in same:
                group.label = f"{label} [{group.runs[0].name}]"
    notes += _note_versions(runs)
    notes += [f"{run.name} has no final evaluation" for run in runs if "student" not in run.systems()]
    found.sort(key=lambda g: -g.scores[metric].value if metric in g.scores else math.inf)
    return Comparison(found, metric, known, differing, notes)


def _identify_seed(run: RunData) -> tuple[int | None, int | None, str | None]:
    return run.config.get("seed"), run.config.get("sampling_seed"), None if run.config else run.name


def _measure_progress(run: RunData) -> tuple[int, int]:
    """Number of final scores and of optimiser steps: of two equal runs the one that came further counts."""
    return sum(_read_score(run, name) is not None for name in METRICS), len(run.steps.get("step", ()))


def _read_score(run: RunData, metric: str) -> float | None:
    return (run.summary.get("student", {}).get(metric) or {}).get("value")


def _widen(value: float, low: float | None, high: float | None, own_low: float, own_high: float) -> tuple[float, float]:
    """Widen the interval over seeds to hold the one over samples: two seeds that agree by chance prove nothing."""
    below, above = max(0.0, value - own_low), max(0.0, own_high - value)
    return min(value - below, math.inf if low is None else low), max(value + above, -math.inf if high is None else high)


def _measure(group: Group, metrics: list[str]) -> None:
    for name in metrics:
        scored = [run for run in group.runs if _read_score(run, name) is not None]
        if not scored:
            continue
        values = [run.summary["student"][name]["value"] for run in scored]
        value, low, high = average_with_interval(values)
        ends = [[run.summary["student"][name].get(end) for run in scored] for end in ("low", "high")]
        if not any(end is None for those in ends for end in those):
            low, high = _widen(value, low, high, *(float(np.mean(those)) for those in ends))
        if 0 <= min(values) <= max(values) <= 1 and low is not None and high is not None:
            low, high = max(0.0, low), min(1.0, high)
        group.scores[name] = Score(value, low, high, len(values))
    times = [
        float(np.nansum(run.steps["seconds"])) * run.run.get("processes", 1)
        for run in group.runs
        if "seconds" in run.steps
    ]
    group.seconds = float(np.mean(times)) if times else None
    for run in group.runs:
        files = sorted((run.folder / "final_model").glob("*.safetensors"))
        if files:
            group.megabytes = sum(file.stat().st_size for file in files) / 1e6
            group.parameters = sum(count_parameters(file) for file in files)
            break


def count_parameters(file: Path) -> int:
    """The number of values in a safetensors file, from its header alone."""
    from safetensors import safe_open

    with safe_open(file, "np") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _name_group(group: Group, differing: list[str]) -> str:
    # Of a path only the last two parts, which tell files apart.
    parts = [
        f"{name}={'/'.join(_as_text(group.settings[name]).split('/')[-2:])}"
        for name in differing
        if name in group.settings
    ]
    return ", ".join(parts) or group.runs[0].name


def _as_text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)


def _note_versions(runs: list[RunData]) -> list[str]:
    notes = []
    for what, values in (
        ("code", {run.name: str((run.run.get("git") or {}).get("commit"))[:10] for run in runs}),
        ("versions of libraries", {run.name: json.dumps(run.run.get("versions"), sort_keys=True) for run in runs}),
    ):
        if len(set(values.values())) > 1:
            notes.append(f"the runs were made with different {what}; see their run_config.json")
    return notes


def is_clearly_better(best: Score, other: Score) -> bool:
    """Whether the interval of ``other`` lies below that of ``best``: a cautious test, which may miss a difference."""
    return None not in (best.low, other.high) and other.high < best.low  # type: ignore[operator]


def tabulate(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The headers of the table and its rows, as texts."""
    metric = comparison.metric
    headers = [
        "configuration",
        "seeds",
        *(name.replace("_", " ") for name in comparison.metrics),
        "steps",
        "time",
        "size",
        f"minutes per point of {metric.replace('_', ' ')}",
        "against the best",
    ]
    best = comparison.groups[0].scores.get(metric)
    rows = []
    for index, group in enumerate(comparison.groups):
        score = group.scores.get(metric)
        if best is None or score is None:
            verdict = "not evaluated"
        elif index == 0:
            verdict = "best"
        elif None in (best.low, score.high):
            verdict = f"{score.value - best.value:+.3f}, no interval"
        else:
            verdict = f"{score.value - best.value:+.3f}, " + (
                "clearly worse" if is_clearly_better(best, score) else "intervals overlap"
            )
        size = f"{group.parameters / 1e6:.1f} M, {group.megabytes:.0f} MB" if group.parameters else "–"
        steps = [int(run.steps["step"][-1]) for run in group.runs if len(run.steps.get("step", []))]
        rows.append(
            [
                group.label,
                str(len(group.runs))
                if score is None or score.seeds == len(group.runs)
                else f"{score.seeds} of {len(group.runs)}",
                *(group.scores[name].as_text() if name in group.scores else "–" for name in comparison.metrics),
                format_number(round(float(np.mean(steps)))) if steps else "–",
                format_seconds(group.seconds) if group.seconds else "–",
                size,
                format_number(group.minutes_per_point(metric), 3),
                verdict,
            ]
        )
    return headers, rows


def render_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown: scores, then what differs, then notes."""

    def table(headers: list[str], rows: list[list[str]]) -> str:
        lines = [headers, ["---"] * len(headers), *rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"

    several = any(len(group.runs) > 1 for group in comparison.groups)
    kind = "over seeds, no narrower than over the evaluated samples" if several else "over the evaluated samples"
    text = f"# Comparison of runs\n\n{table(*tabulate(comparison))}\nIn brackets: 95 % intervals, {kind}.\n"
    if comparison.differing:
        rows = [
            [f"`{name}`", *(_as_text(group.settings.get(name)) for group in comparison.groups)]
            for name in comparison.differing
        ]
        heads = [
            f"{index}. {', '.join(run.name for run in group.runs)}" for index, group in enumerate(comparison.groups, 1)
        ]
        text += "\n## What differs\n\n" + table(["parameter", *heads], rows)
    if comparison.notes:
        text += "\n## Notes\n\n" + "".join(f"- {note}\n" for note in comparison.notes)
    return text


def build_csv_rows(comparison: Comparison) -> list[dict[str, str | float | None]]:
    """One row per configuration, numbers as numbers."""
    rows = []
    for group in comparison.groups:
        row: dict[str, str | float | None] = {
            "configuration": group.label,
            "runs": " ".join(run.name for run in group.runs),
            "seeds": len(group.runs),
        }
        for name in comparison.metrics:
            score = group.scores.get(name)
            row |= {
                name: score.value if score else None,
                f"{name}_low": score.low if score else None,
                f"{name}_high": score.high if score else None,
            }
        row |= {
            "seconds": group.seconds,
            "parameters": group.parameters,
            "megabytes": group.megabytes,
            "minutes_per_point": group.minutes_per_point(comparison.metric),
        }
        row |= {name: _as_text(group.settings.get(name)) for name in comparison.differing}
        rows.append(row)
    return rows


def draw(comparison: Comparison, path: Path) -> None:
    """Draw scores with intervals and single seeds, scores against training time, and the validation curves."""
    from evaluation.reports.outlook import choose_metric
    from utils.pages.plots import COLOURS, create_figure, save_figure

    shown = comparison.groups[:12]
    drawing, axes = create_figure(1, 3, width=5.2, height=max(3.4, 0.5 * len(shown) + 1.2))
    scores, cost, curves = axes[0]
    labels = []
    validated = []
    for index, group in enumerate(shown):
        colour = COLOURS[index % len(COLOURS)]
        labels.append("\n".join(textwrap.wrap(group.label, 36, max_lines=3, placeholder=" …")))
        score = group.scores.get(comparison.metric)
        if score is not None:
            low, high = (score.low, score.high) if score.low is not None else (score.value, score.value)
            error = [[max(0.0, score.value - low)], [max(0.0, (high or score.value) - score.value)]]
            scores.errorbar(score.value, index, xerr=error, fmt="o", color=colour, capsize=4)
            singles = [value for run in group.runs if (value := _read_score(run, comparison.metric)) is not None]
            scores.plot(singles, [index + 0.2] * len(singles), "|", color=colour, markersize=8)
            if group.seconds:
                cost.errorbar(group.seconds / 60, score.value, yerr=error, fmt="o", color=colour, capsize=4)
        for run in group.runs:
            rows = run.rows("validation")
            if name := choose_metric(rows, run.config.get("validation_metric", "auto")):
                validated.append(name)
                known = np.isfinite(rows[name])
                curves.plot(rows["step"][known], rows[name][known], color=colour, linewidth=1)
    name = comparison.metric.replace("_", " ")
    scores.set(yticks=range(len(shown)), yticklabels=labels, ylim=(len(shown) - 0.5, -0.5), xlabel=name, title="score")
    cost.set(xlabel="training time, minutes × processes", ylabel=name, title="score and cost")
    cost.set_xlim(0, 1.05 * cost.get_xlim()[1])
    curves.set(xlabel="step", title=", ".join(sorted(set(validated))).replace("_", " ") or "no validations")
    save_figure(drawing, path)
