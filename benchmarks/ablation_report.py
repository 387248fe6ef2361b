"""The page of an ablation: tables made from the stored results, and the reading of them that stands beside the grid."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import table
from evaluation.significance import (
    Difference,
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


def per_task(runs: list[Run], metric: str) -> np.ndarray | None:
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


Run = dict[str, Any]
Runs = dict[tuple[int, str], list[Run]]


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


def tables(grid: Grid, found: tuple[dict[str, Any], Runs]) -> list[str]:
    """A table, the aims and the answers to the grid's questions for each number of rows."""
    baselines, runs = found
    parts = []
    for rows in sorted({rows for rows, _ in runs}):
        chosen = {name: those for (count, name), those in runs.items() if count == rows}
        parts += [
            f"### {rows:,} training rows",
            contender_table(baselines, chosen),
            "\n".join(f"- {line}" for line in aims(baselines, chosen)),
            *question_table(grid.settings.get("questions", []), baselines["clusters"], chosen),
            "Share of the predictions, by what is wrong with them first:",
            failure_table(baselines, chosen),
            "\n".join(f"- {line}" for line in examples(chosen)),
        ]
    return parts


def difference(first: list[Run], second: list[Run], metric: str, clusters: list[str]) -> Difference:
    sums = (cluster_sums(mean_columns(per_task(found, metric)), clusters) for found in (first, second))
    return paired_difference(*sums)


def of_common_seeds(first: list[Run], second: list[Run], metric: str, clusters: list[str]) -> Difference | None:
    """Difference of two contenders over the seeds that both have; None where there is none, or no such score."""
    seeds = {run["seed"] for run in first} & {run["seed"] for run in second}
    pair = [[run for run in found if run["seed"] in seeds] for found in (first, second)]
    if not seeds or any(per_task(found, metric) is None for found in pair):
        return None
    return difference(*pair, metric, clusters)


def shown(found: Difference) -> str:
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def question_table(questions: list[dict[str, Any]], clusters: list[str], runs: dict[str, list[Run]]) -> list[str]:
    """One line for each question of the grid that has an answer here: two contenders, one score, over common seeds."""
    answers = []
    for one in questions:
        pair = [runs.get(one[key], []) for key in ("contender", "against")]
        for metric in one["metrics"]:
            if found := of_common_seeds(*pair, metric, clusters):
                seeds = len({run["seed"] for run in pair[0]} & {run["seed"] for run in pair[1]})
                answers.append((one["question"], one["contender"], one["against"], seeds, metric, found))
    if not answers:
        return []
    adjusted = holm([found.p_value for *_, found in answers])
    rows = [[*words, shown(found), p] for (*words, found), p in zip(answers, adjusted, strict=True)]
    return [
        "The grid's questions, over the seeds that both have (p adjusted by Holm over this table):",
        table(["question", "contender", "against", "seeds", "score", "difference", "p (Holm)"], rows),
    ]


def with_baselines(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> dict[str, list[Run]]:
    return {**runs, **{name: [baselines[name]] for name in ("teacher", "retrieval", "trivial")}}


def contender_table(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> str:
    """One line a contender: scores, and the difference from the reference contender with its adjusted p-value."""
    clusters = baselines["clusters"]
    differences = {}
    for name, found in runs.items():
        if name != REFERENCE and (one := of_common_seeds(found, runs.get(REFERENCE, []), MAIN, clusters)):
            differences[name] = one
    adjusted = dict(zip(differences, holm([d.p_value for d in differences.values()]), strict=True))
    everybody = with_baselines(baselines, runs)
    metrics = [*SHOWN, *(m for m in EXECUTED if any(per_task(found, m) is not None for found in everybody.values()))]
    columns = ["contender", "seeds", "M parameters", MAIN, "seed s.d.", f"minus {REFERENCE}", "p (Holm)", *metrics]
    columns += ["s", "MB"]
    rows = []
    for name, found in everybody.items():
        scores = [mean(per_task([run], MAIN)) for run in found]
        parameters = found[0].get("parameters")
        rows.append([
            name, len(found) if name in runs else None, parameters / 1e6 if parameters else None,
            interval(per_task(found, MAIN), clusters),
            float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            shown(differences[name]) if name in differences else "-",
            adjusted.get(name), *(mean(per_task(found, metric)) for metric in metrics),
            *(float(np.mean([run[key] for run in found])) / unit if name in runs else None
              for key, unit in (("train_seconds", 1), ("data_bytes", 1e6))),
        ])  # fmt: skip
    return table(columns, rows)


def failure_table(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> str:
    """One line a contender: the share of each kind of failure, over all seeds."""
    everybody = with_baselines(baselines, runs)
    counts = {
        name: sum((Counter({kind: one["tasks"] for kind, one in run["failures"].items()}) for run in found), Counter())
        for name, found in everybody.items()
    }
    kinds = [kind for kind, _ in sum(counts.values(), Counter()).most_common()]
    rows = [[name, *(f"{count[kind] / count.total():.1%}" for kind in kinds)] for name, count in counts.items()]
    return table(["contender", *kinds], rows)


def examples(runs: dict[str, list[Run]]) -> list[str]:
    """What the best contender (its first seed) wrote: the first task of each kind of failure."""
    name = best(runs)
    kinds = sorted(runs[name][0]["failures"].items(), key=lambda item: -item[1]["tasks"])
    return [
        f"{name}, {kind}: ``{one['example']['prediction'] or ' '}`` for ``{one['example']['reference']}``"
        for kind, one in kinds
    ]


def best(runs: dict[str, list[Run]]) -> str:
    return max(runs, key=lambda name: mean(per_task(runs[name], MAIN)) or 0.0)


def aims(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> list[str]:
    """The aim of the project, computed for the contender with the best score."""
    clusters = baselines["clusters"]
    name = best(runs)
    if any(per_task(found, MAIN) is None for found in (runs[name], [baselines["teacher"]])):
        return [f"Without {MAIN} (it needs a text encoder) the aims cannot be computed."]
    lines = [f"The contender with the best {MAIN} is **{name}**."]
    sizes = runs[name][0]["parameters"], baselines["teacher"]["parameters"]
    if all(sizes):
        lines.append(f"It has {sizes[0] / sizes[1]:.0%} of the teacher's parameters (aim: at most 30 %).")
    for metric in (MAIN, "pass_rate"):
        pair = [mean(per_task(found, metric)) for found in (runs[name], [baselines["teacher"]])]
        if None not in pair and pair[1]:
            lines.append(f"It keeps {pair[0] / pair[1]:.1%} of the teacher's {metric} (aim: 95 %).")
    # Retrieval has no token accuracy, so no code quality score.
    against = [("nearest-neighbour retrieval", "f1", difference(runs[name], [baselines["retrieval"]], "f1", clusters))]
    if name != REFERENCE and (found := of_common_seeds(runs[name], runs.get(REFERENCE, []), MAIN, clusters)):
        against.append(("the same student on gold labels only", MAIN, found))
    for other, metric, found in against:
        verdict = "reached" if found.low > 0 else "missed"
        lines.append(f"{metric} against {other}: {shown(found)}; to be ahead is {verdict}.")
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
        f"# {grid.settings['title']}",
        f"Made by `{command}` from the results stored in `{grid.results}/`; no number in the tables is typed by hand.",
        grid.settings["about"],
        "## Held-out classes",
        f"Tasks judged: {len(clusters)}, of {len(set(clusters))} test classes that no training row comes from. "
        "Intervals are 95 %, by resampling classes, each score averaged over the seeds; p-values are of a paired "
        "permutation test over classes, adjusted by Holm. s: seconds of training steps; MB: the file that the "
        "student learned from.",
        *tables(grid, found),
    ]
    elsewhere = load(grid, ".held_out")
    if elsewhere is not None:
        clusters = elsewhere[0]["clusters"]
        parts += [
            "## A held-out library",
            f"Tasks judged: {len(clusters)}, of {len(set(clusters))} test classes of a library that nothing was "
            "trained on, compiled and run. A contender stands here with those of its seeds that were judged.",
            *tables(grid, elsewhere),
        ]
    if reading.is_file():
        parts += ["## Reading", reading.read_text(encoding="utf-8").strip()]
    with atomic_writer(path, "w") as handle:
        handle.write("\n\n".join(parts) + "\n")
