"""The page of an ablation: tables made from the stored results, and the reading of them that stands beside the grid."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import table
from evaluation.significance import (
    bootstrap_sums,
    cluster_sums,
    holm,
    mean_columns,
    mean_statistic,
    paired_difference,
    percentile_interval,
)
from utils.atomic_io import atomic_writer
from utils.errors import UserError

if TYPE_CHECKING:
    from benchmarks.ablation import Grid

MAIN = "code_quality_score"
SHOWN = ("exact_match", "f1", "semantic_similarity", "ast_validity", "token_accuracy", "critical_token_accuracy")
EXECUTED = ("compile_rate", "pass_rate", "nontrivial_rate")
REFERENCE = "gold only"


def per_task(runs: list[dict[str, Any]], metric: str) -> np.ndarray | None:
    """[n]: each task's mean over the seeds, so that tasks are resampled and seeds averaged; None if not measured."""
    if any(metric not in run["per_task"] for run in runs):
        return None
    return np.mean([np.array(run["per_task"][metric], dtype=float) for run in runs], axis=0)


def interval(values: np.ndarray | None, clusters: list[str]) -> str:
    if values is None:
        return "-"
    sums = cluster_sums(mean_columns(values), clusters)
    found = percentile_interval(mean_statistic(sums.sum(0)), mean_statistic(bootstrap_sums(sums)))
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def mean(values: np.ndarray | None) -> float | None:
    return None if values is None else float(np.nanmean(values))


Runs = dict[tuple[int, str], list[dict[str, Any]]]


def load(grid: Grid, suffix: str = "") -> tuple[dict[str, Any], Runs] | None:
    """Baselines, and the runs of each (rows, contender); None where nothing is stored."""

    def read(name: str) -> dict[str, Any]:
        return json.loads(grid.stored(name).read_text(encoding="utf-8"))

    if not grid.stored(f"baselines{suffix}").is_file():
        return None
    runs: Runs = defaultdict(list)
    for task in grid.tasks:
        if grid.stored(f"{task.name}{suffix}").is_file():
            runs[task.rows, task.contender].append(read(task.name) | read(f"{task.name}{suffix}"))
    return read(f"baselines{suffix}"), runs


def tables(found: tuple[dict[str, Any], Runs]) -> list[str]:
    """A table and the aims for each number of rows."""
    baselines, runs = found
    parts = []
    for rows in sorted({rows for rows, _ in runs}):
        chosen = {name: those for (count, name), those in runs.items() if count == rows}
        parts += [
            f"### {rows:,} training rows",
            contender_table(baselines, chosen),
            "\n".join(f"- {line}" for line in aims(baselines, chosen)),
            "Share of the predictions, by what is wrong with them first:",
            failure_table(baselines, chosen),
            "\n".join(f"- {line}" for line in examples(chosen)),
        ]
    return parts


def with_baselines(baselines: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {**runs, **{name: [baselines[name]] for name in ("teacher", "retrieval", "trivial")}}


def contender_table(baselines: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> str:
    """One line a contender: scores, and the difference from the reference contender with its adjusted p-value."""
    clusters = baselines["clusters"]
    reference = per_task(runs[REFERENCE], MAIN) if REFERENCE in runs else None
    differences = {}
    for name, found in runs.items():
        values = per_task(found, MAIN)
        if reference is not None and values is not None and name != REFERENCE:
            sums = [cluster_sums(mean_columns(v), clusters) for v in (values, reference)]
            differences[name] = paired_difference(*sums)
    adjusted = dict(zip(differences, holm([d.p_value for d in differences.values()]), strict=True))
    everybody = with_baselines(baselines, runs)
    metrics = [*SHOWN, *(m for m in EXECUTED if any(per_task(found, m) is not None for found in everybody.values()))]
    columns = ["contender", "seeds", "M parameters", MAIN, "seed s.d.", f"minus {REFERENCE}", "p (Holm)", *metrics]
    columns += ["s", "MB"]
    rows = []
    for name, found in everybody.items():
        scores = [mean(per_task([run], MAIN)) for run in found]
        difference = differences.get(name)
        parameters = found[0].get("parameters")
        rows.append([
            name, len(found) if name in runs else None, parameters / 1e6 if parameters else None,
            interval(per_task(found, MAIN), clusters),
            float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})" if difference else "-",
            adjusted.get(name), *(mean(per_task(found, metric)) for metric in metrics),
            *(float(np.mean([run[key] for run in found])) / unit if name in runs else None
              for key, unit in (("train_seconds", 1), ("data_bytes", 1e6))),
        ])  # fmt: skip
    return table(columns, rows)


def failure_table(baselines: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> str:
    """One line a contender: the share of each kind of failure, over all seeds."""
    everybody = with_baselines(baselines, runs)
    counts = {
        name: sum((Counter({kind: one["tasks"] for kind, one in run["failures"].items()}) for run in found), Counter())
        for name, found in everybody.items()
    }
    kinds = [kind for kind, _ in sum(counts.values(), Counter()).most_common()]
    rows = [[name, *(f"{count[kind] / count.total():.1%}" for kind in kinds)] for name, count in counts.items()]
    return table(["contender", *kinds], rows)


def examples(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What the best contender (its first seed) wrote: the first task of each kind of failure."""
    name = best(runs)
    kinds = sorted(runs[name][0]["failures"].items(), key=lambda item: -item[1]["tasks"])
    return [
        f"{name}, {kind}: ``{one['example']['prediction'] or ' '}`` for ``{one['example']['reference']}``"
        for kind, one in kinds
    ]


def best(runs: dict[str, list[dict[str, Any]]]) -> str:
    return max(runs, key=lambda name: mean(per_task(runs[name], MAIN)) or 0.0)


def aims(baselines: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The aim of the project, computed for the contender with the best score."""
    clusters = baselines["clusters"]
    name = best(runs)
    own, of_teacher = per_task(runs[name], MAIN), per_task([baselines["teacher"]], MAIN)
    if own is None or of_teacher is None:
        return [f"Without {MAIN} (it needs a text encoder) the aims cannot be computed."]
    lines = [f"The contender with the best {MAIN} is **{name}**."]
    sizes = runs[name][0]["parameters"], baselines["teacher"]["parameters"]
    if all(sizes):
        lines.append(f"It has {sizes[0] / sizes[1]:.0%} of the teacher's parameters (aim: at most 30 %).")
    lines.append(f"It keeps {mean(own) / mean(of_teacher):.1%} of the teacher's {MAIN} (aim: 95 %).")
    # Retrieval has no token accuracy, so no code quality score.
    against = [("nearest-neighbour retrieval", [baselines["retrieval"]], "f1")]
    if REFERENCE in runs and name != REFERENCE:
        against.append(("the same student on gold labels only", runs[REFERENCE], MAIN))
    for other, others, metric in against:
        sums = (cluster_sums(mean_columns(per_task(found, metric)), clusters) for found in (runs[name], others))
        difference = paired_difference(*sums)
        verdict = "reached" if difference.low > 0 else "missed"
        lines.append(
            f"{metric} against {other}: {difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}); "
            f"to be ahead is {verdict}."
        )
    return lines


def write_page(grid: Grid, path: Path) -> None:
    """docs/results.md and its like. Raises UserError where nothing is stored."""
    found = load(grid)
    if found is None:
        raise UserError(f"{grid.results}: no stored results; run the grid first")
    clusters = found[0]["clusters"]
    reading = grid.path.with_suffix(".reading.md")
    command = f"python benchmarks/ablation.py {grid.path} --report {path}"
    parts = [
        "# Results",
        f"Made by `{command}` from the results stored in `{grid.results}/`; no number in the tables is typed by hand.",
        grid.settings["about"],
        "## Held-out classes",
        f"Tasks judged: {len(clusters)}, of {len(set(clusters))} test classes that no training row comes from. "
        "Intervals are 95 %, by resampling classes, each score averaged over the seeds; p-values are of a paired "
        "permutation test over classes, adjusted by Holm. s: seconds of training steps; MB: the file that the "
        "student learned from.",
        *tables(found),
    ]
    elsewhere = load(grid, ".held_out")
    if elsewhere is not None:
        clusters = elsewhere[0]["clusters"]
        parts += [
            "## A held-out library",
            f"Tasks judged: {len(clusters)}, of {len(set(clusters))} test classes of a library that nothing was "
            "trained on, compiled and run. A contender stands here with those of its seeds that were judged.",
            *tables(elsewhere),
        ]
    if reading.is_file():
        parts += ["## Reading", reading.read_text(encoding="utf-8").strip()]
    with atomic_writer(path, "w") as handle:
        handle.write("\n\n".join(parts) + "\n")
