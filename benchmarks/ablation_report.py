"""The page of an ablation: tables made from the stored results, and the reading of them that stands beside the grid."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import table
from evaluation.scores.significance import (
    Interval,
    bootstrap_interval,
    bootstrap_sums,
    cluster_sums,
    constant_interval,
    holm,
    mean_columns,
    mean_statistic,
)
from utils.atomic_io import atomic_writer
from utils.errors import UserError

if TYPE_CHECKING:
    from benchmarks.ablation import Grid

MAIN = "code_quality_score"
SHOWN = ("exact_match", "f1", "semantic_similarity", "ast_validity", "token_accuracy", "critical_token_accuracy")
EXECUTED = ("compile_rate", "pass_rate", "nontrivial_rate")
METRICS = (MAIN, *SHOWN, "codebleu", "bleu", "pans", "token_similarity", *EXECUTED)
REFERENCE = "gold only"
MAX_SHARE = 0.3  # of the teacher's parameters: the aim's small student

Run = dict[str, Any]
Budget = tuple[int, int]  # rows, and passes over them
Runs = dict[Budget, dict[str, list[Run]]]


def per_task(runs: list[Run], metric: str) -> np.ndarray | None:
    """[seeds, n]; None if not measured."""
    if any(metric not in run["per_task"] for run in runs):
        return None
    return np.array([run["per_task"][metric] for run in runs], dtype=float)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and tasks, its 95 % interval, and the two-sided p-value of a mean of 0.

    Without a p-value the spread between seeds is not known, and left out of the interval.
    """

    value: float
    low: float
    high: float
    p_value: float | None


@dataclass(frozen=True)
class SeedSpread:
    """Variance of a contender's mean score between its seeds, pooled over contenders, and its degrees of freedom."""

    variance: float = 0.0
    degrees: int = 0


def seed_spread(runs: dict[str, list[Run]], metric: str) -> SeedSpread:
    """Each contender has too few seeds to tell its own spread; all of a table are taken to have the same."""
    measured = [values for found in runs.values() if (values := per_task(found, metric)) is not None and len(found) > 1]
    degrees = sum(len(values) - 1 for values in measured)
    squares = sum((len(values) - 1) * float(np.var(np.nanmean(values, axis=1), ddof=1)) for values in measured)
    return SeedSpread(squares / degrees, degrees) if degrees else SeedSpread()


def effective_clusters(clusters: list[str]) -> float:
    """How many clusters of one size tell as much as these (Kish, 1965)."""
    sizes = np.array(list(Counter(clusters).values()), dtype=float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def estimate(values: np.ndarray, clusters: list[str], spread: SeedSpread, sides: int = 1) -> Estimate:
    """Of values [seeds, n], NaN left out: Student's t, with clusters of tasks (bootstrap) and seeds a random choice.

    ``sides``: of how many contenders' scores the values are the difference. Degrees of freedom by Satterthwaite (1946),
    those of the clusters from their effective number.
    """
    from scipy.stats import t

    pooled = np.sum([cluster_sums(mean_columns(row), clusters) for row in values], axis=0)
    value = float(mean_statistic(pooled.sum(0)))
    freedom = max(1.0, effective_clusters(clusters) - 1)
    parts = [(float(np.var(mean_statistic(bootstrap_sums(pooled)), ddof=1)), freedom)]
    if spread.degrees:
        parts.append((sides * spread.variance / len(values), spread.degrees))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Estimate(value, value, value, float(value == 0) if spread.degrees else None)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = variance**0.5
    reach = error * float(t.ppf(0.975, freedom))
    p_value = float(2 * t.sf(abs(value) / error, freedom)) if spread.degrees else None
    return Estimate(value, value - reach, value + reach, p_value)


def mean(values: np.ndarray | None) -> float | None:
    return None if values is None else float(np.nanmean(values))


def load(grid: Grid, libraries: Sequence[str]) -> tuple[dict[str, Any], Runs] | None:
    """Baselines, and the runs of each contender by their budget; None where nothing is stored.

    Of several libraries: the tasks of all, and the runs that all have judged.
    """
    known = {library: found for library in libraries if (found := grid.baselines(library))}
    if not known:
        return None
    runs: Runs = defaultdict(lambda: defaultdict(list))
    for task in grid.tasks:
        run, parts = grid.result(task), [grid.result(task, library) for library in known]
        if run and all(parts):
            runs[grid.budget(task)][task.contender].append(run | joined(parts))
    everybody = (run for found in runs.values() for those in found.values() for run in those)
    teachers = {run["teacher"] for run in everybody if "teacher" in run}
    if len(teachers) > 1:  # results from before 2026-11-26 do not tell
        raise UserError(f"{grid.results}: holds students of several teachers; remove those of all but one")
    baselines: dict[str, Any] = {
        name: joined([found[name] for found in known.values()]) for name in ("teacher", "retrieval", "trivial")
    }
    baselines["clusters"] = [f"{library}/{name}" for library, found in known.items() for name in found["clusters"]]
    return baselines, runs


def joined(parts: Sequence[Any]) -> Run:
    """What was measured of one system on several sets of tasks, as if it were one set."""
    scores = [part["per_task"] for part in parts]
    common = [metric for metric in scores[0] if all(metric in score for score in scores)]
    counted: dict[str, Any] = {}
    for key in ("failures", "executions"):
        kinds: dict[str, Any] = {}
        for kind, one in (item for part in parts for item in part.get(key, {}).items()):
            before = kinds.setdefault(kind, {"tasks": 0, "example": one["example"]})
            before["tasks"] += one["tasks"]
        counted[key] = kinds
    together = {metric: [value for score in scores for value in score[metric]] for metric in common}
    return parts[0] | {"per_task": together} | counted


def tables(grid: Grid, found: tuple[dict[str, Any], Runs]) -> list[str]:
    """A table, the aims and the answers to the grid's questions for each number of rows."""
    baselines, runs = found
    parts = []
    budgets = sorted(runs, reverse=True)
    for rows, passes in budgets:
        chosen = runs[rows, passes]
        # Teacher and retrieval have all rows: beside students with fewer, the aim would be another one.
        of_aims = "\n".join(f"- {line}" for line in aims(baselines, chosen))
        parts += [
            f"### {rows:,} training rows, {passes} {'pass' if passes == 1 else 'passes'}",
            contender_table(baselines, chosen),
            of_aims if rows == budgets[0][0] else "Teacher and retrieval have all rows here, too.",
            *score_tables(baselines, chosen),
            *question_table(grid.settings.get("questions", []), baselines["clusters"], chosen),
            *outcome_tables(
                "failures", "Share of the predictions, by what is wrong with them first:", baselines, chosen
            ),
            *outcome_tables("executions", "Share of the predictions, by what running them showed:", baselines, chosen),
        ]
    return parts


def common_seeds(first: list[Run], second: list[Run]) -> list[tuple[Run, Run]]:
    return [(one, other) for one in first for other in second if one["seed"] == other["seed"]]


def difference(
    first: list[Run], second: list[Run], metric: str, clusters: list[str], spread: SeedSpread
) -> Estimate | None:
    """First minus second, task by task, over the seeds that both have; None where there is none, or no such score."""
    pairs = common_seeds(first, second)
    ours, theirs = (per_task([pair[side] for pair in pairs], metric) for side in (0, 1))
    if not pairs or ours is None or theirs is None:
        return None
    return estimate(ours - theirs, clusters, spread, sides=2)


def adjusted(found: Mapping[Any, Estimate]) -> dict[Any, float | None]:
    """Holm's adjustment of the p-values that there are."""
    known = {name: one.p_value for name, one in found.items() if one.p_value is not None}
    return dict.fromkeys(found) | dict(zip(known, holm(list(known.values())), strict=True))


def from_reference(runs: dict[str, list[Run]], clusters: list[str]) -> dict[str, Estimate]:
    spread, reference = seed_spread(runs, MAIN), runs.get(REFERENCE, [])
    others = {name: found for name, found in runs.items() if name != REFERENCE}
    return {
        name: one for name, found in others.items() if (one := difference(found, reference, MAIN, clusters, spread))
    }


def from_retrieval(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> dict[str, Estimate]:
    """In F1: retrieval has no token accuracy, so no code quality score."""
    clusters, spread = baselines["clusters"], seed_spread(runs, "f1")
    theirs = per_task([baselines["retrieval"]], "f1")
    return {name: estimate(per_task(found, "f1") - theirs, clusters, spread) for name, found in runs.items()}


def shown_score(values: np.ndarray, clusters: list[str], spread: SeedSpread) -> str:
    """A score from 0 to 1 with its interval, which ends there; where all tasks agree, Wilson's over the clusters."""
    found = estimate(values, clusters, spread)
    if found.low == found.high:
        wilson = constant_interval(found.value, int(effective_clusters(clusters)))
        low, high = (found.value if end is None else end for end in (wilson.low, wilson.high))
    else:
        low, high = max(0.0, found.low), min(1.0, found.high)
    return shown(Estimate(found.value, low, high, None))


def shown(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


def question_table(questions: list[dict[str, Any]], clusters: list[str], runs: dict[str, list[Run]]) -> list[str]:
    """One line for each question of the grid that has an answer here: two contenders, one score, over common seeds."""
    answers = {}
    for one in questions:
        pair = [runs.get(one[key], []) for key in ("contender", "against")]
        for metric in one["metrics"]:
            if found := difference(*pair, metric, clusters, seed_spread(runs, metric)):
                words = (one["question"], one["contender"], one["against"], metric, len(common_seeds(*pair)))
                answers[words] = found
    if not answers:
        return []
    p_values = adjusted(answers)
    return [
        "The grid's questions, over the seeds that both have (p adjusted by Holm over this table):",
        table(
            ["question", "contender", "against", "score", "seeds", "difference", "p (Holm)"],
            [[*words, shown(found, "+"), p_values[words]] for words, found in answers.items()],
        ),
    ]


def with_baselines(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> dict[str, list[Run]]:
    return {**runs, **{name: [baselines[name]] for name in ("teacher", "retrieval", "trivial")}}


def contender_table(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> str:
    """One line a contender: scores, and the difference from the reference contender with its adjusted p-value."""
    clusters = baselines["clusters"]
    differences = from_reference(runs, clusters)
    p_values = adjusted(differences)
    spread = seed_spread(runs, MAIN)
    everybody = with_baselines(baselines, runs)
    metrics = [*SHOWN, *(m for m in EXECUTED if any(per_task(found, m) is not None for found in everybody.values()))]
    columns = ["contender", "seeds", "M parameters", MAIN, "seed s.d.", f"minus {REFERENCE}", "p (Holm)", *metrics]
    columns += ["steps", "s", "MB"]
    rows = []
    for name, found in everybody.items():
        score = per_task(found, MAIN)
        parameters = found[0].get("parameters")
        rows.append(
            [
                name,
                len(found) if name in runs else None,
                parameters / 1e6 if parameters else None,
                "-" if score is None else shown_score(score, clusters, spread if name in runs else SeedSpread()),
                None if score is None or len(score) < 2 else float(np.std(np.nanmean(score, axis=1), ddof=1)),
                shown(differences[name], "+") if name in differences else "-",
                p_values.get(name),
                *(mean(per_task(found, metric)) for metric in metrics),
                *(
                    float(np.mean([run[key] for run in found])) / unit if name in runs else None
                    for key, unit in (("steps", 1), ("train_seconds", 1), ("data_bytes", 1e6))
                ),
            ]
        )
    return table(columns, rows)


def score_tables(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> list[str]:
    """Every score of every contender with its interval, and its difference from the reference contender."""
    clusters, everybody, reference = baselines["clusters"], with_baselines(baselines, runs), runs.get(REFERENCE, [])
    measured = [metric for metric in METRICS if all(per_task(found, metric) is not None for found in runs.values())]
    scores = [[name] for name in everybody]
    differences = [[name] for name in runs if name != REFERENCE]
    for metric in measured:
        spread = seed_spread(runs, metric)
        for row in scores:
            values = per_task(everybody[row[0]], metric)
            known = spread if row[0] in runs else SeedSpread()
            row.append("-" if values is None else shown_score(values, clusters, known))
        found = {row[0]: difference(runs[row[0]], reference, metric, clusters, spread) for row in differences}
        p_values = adjusted({name: one for name, one in found.items() if one})
        for row in differences:
            one, p_value = found[row[0]], p_values.get(row[0])
            row.append("-" if one is None else shown(one, "+") + " *" * (p_value is not None and p_value < 0.05))
    parts = ["Every score with its interval (bleu: the mean over tasks, not that of the corpus):"]
    parts.append(table(["contender", *measured], scores))
    if reference and differences:
        parts += [
            f"The same minus {REFERENCE}, task by task, over the seeds that both have (*: p below 0.05, adjusted by"
            " Holm over the contenders of a column):",
            table(["contender", *measured], differences),
        ]
    return parts


def outcome_tables(key: str, title: str, baselines: dict[str, Any], runs: dict[str, list[Run]]) -> list[str]:
    """A contender's share of each outcome over all seeds, a line each; of the best one (its first seed) an example of
    each. ``key``: failures or executions. Nothing where it was not measured."""
    everybody = with_baselines(baselines, runs)
    if not all(run.get(key) for found in everybody.values() for run in found):
        return []
    counts = {
        name: sum((Counter({kind: one["tasks"] for kind, one in run[key].items()}) for run in found), Counter())
        for name, found in everybody.items()
    }
    kinds = [kind for kind, _ in sum(counts.values(), Counter()).most_common()]
    rows = [[name, *(f"{count[kind] / count.total():.1%}" for kind in kinds)] for name, count in counts.items()]
    name = best(runs)
    examples = []
    for kind, one in sorted(runs[name][0][key].items(), key=lambda item: -item[1]["tasks"]):
        written, wanted = one["example"]["prediction"], one["example"]["reference"]
        reason = f" ({brief(why)})" if (why := one["example"].get("reason")) else ""
        examples.append(f"- {name}, {kind}: ``{brief(written) or ' '}`` for ``{brief(wanted)}``{reason}")
    return [title, table(["contender", *kinds], rows), "\n".join(examples)]


def brief(text: str) -> str:
    """In one line of at most 200 characters, all of which can be shown."""
    line = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in " ".join(text.split()))
    return line if len(line) <= 200 else line[:197] + "..."


def best(runs: dict[str, list[Run]]) -> str:
    """Of the contenders with the most seeds, the one with the best score."""
    most = max(len(found) for found in runs.values())
    return max(
        (name for name, found in runs.items() if len(found) == most),
        key=lambda name: mean(per_task(runs[name], MAIN)) or 0.0,
    )


def share_of_teacher(found: list[Run], baselines: dict[str, Any], metric: str) -> Interval | None:
    """A contender's score over the teacher's, with its bootstrap interval over clusters; None where either lacks it."""
    ours, theirs = per_task(found, metric), per_task([baselines["teacher"]], metric)
    if ours is None or theirs is None or not np.nansum(theirs):
        return None
    columns = np.concatenate([np.sum([mean_columns(row) for row in ours], axis=0), mean_columns(theirs[0])], axis=1)
    sums = cluster_sums(columns, baselines["clusters"])

    def ratio(drawn: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean_statistic(drawn[..., :2]) / mean_statistic(drawn[..., 2:])

    return bootstrap_interval(sums, ratio)


def aims(baselines: dict[str, Any], runs: dict[str, list[Run]]) -> list[str]:
    """The aim of the project, computed for the contender with the best score, of those small enough if any is.

    It was chosen among all: its p-values are those adjusted for as many comparisons as there are contenders.
    """
    clusters = baselines["clusters"]
    whole = baselines["teacher"]["parameters"]
    small = {name: found for name, found in runs.items() if whole and found[0]["parameters"] <= MAX_SHARE * whole}
    name = best(small or runs)
    if any(per_task(found, MAIN) is None for found in (runs[name], [baselines["teacher"]])):
        return [f"Without {MAIN} (it needs a text encoder) the aims cannot be computed."]
    which = "small enough contenders" if 0 < len(small) < len(runs) else "contenders"
    lines = [f"Of the {which} with the most seeds, the one with the best {MAIN} is **{name}**."]
    sizes = runs[name][0]["parameters"], whole
    if all(sizes):
        lines.append(f"It has {sizes[0] / sizes[1]:.0%} of the teacher's parameters (aim: at most 30 %).")
    for metric in (MAIN, "pass_rate"):
        if kept := share_of_teacher(runs[name], baselines, metric):
            reached = "reached" if kept.value >= 0.95 else "missed"
            lines.append(
                f"It keeps {kept.value:.1%} ({kept.low:.1%} to {kept.high:.1%}) of the teacher's {metric}"
                f" (aim: 95 %; {reached})."
            )
    for against, metric, found in (
        ("nearest-neighbour retrieval", "f1", from_retrieval(baselines, runs)),
        ("the same student on gold labels only", MAIN, from_reference(runs, clusters)),
    ):
        if name in found:
            p_value = adjusted(found)[name]
            ahead = found[name].value > 0 and p_value is not None and p_value < 0.05
            verdict = "not judged without more seeds" if p_value is None else "reached" if ahead else "missed"
            words = f"{metric} against {against}: {shown(found[name], '+')}"
            lines.append(f"{words}, p {'-' if p_value is None else f'{p_value:.2g}'}; to be ahead is {verdict}.")
    if name == REFERENCE:
        lines.append("It is the student on gold labels only: to be ahead of that one is missed.")
    return lines


HOW_TO_READ = (
    "Intervals (95 %) and p-values (adjusted by Holm) are Student's t. The spread between test classes is that of the "
    "bootstrap. The one between seeds, which draw the order of the batches, is pooled over the contenders of a table "
    "and lent to those with one seed; where no contender has two, there is no p-value. Teacher, starting weights and "
    "rows are the same for all seeds: nothing is said of others. s: seconds of training steps; MB: the rows that the "
    "student learned from, with the teacher's logits where its loss reads them."
)


def library_table(grid: Grid, libraries: list[str]) -> list[str]:
    """Each library by itself, where the tables pool several: means over seeds and tasks."""
    if len(libraries) < 2:
        return []
    metrics = (MAIN, "f1", *EXECUTED)
    rows = []
    for library in libraries:
        baselines, runs = load(grid, [library]) or ({}, {})
        for (count, passes), found in sorted(runs.items(), reverse=True):
            for name, those in found.items():
                rows.append([library, name, count, passes, *(mean(per_task(those, metric)) for metric in metrics)])
        for name in ("teacher", "retrieval", "trivial"):
            rows.append([library, name, None, None, *(mean(per_task([baselines[name]], metric)) for metric in metrics)])
    return [
        "### Each library by itself",
        "The tables below pool their tasks, so that each weighs as many as it has of them.",
        table(["library", "contender", "rows", "passes", *metrics], rows),
    ]


def can_tell(baselines: dict[str, Any]) -> str:
    """Rates of execution rest on fewer tasks: those whose test passes with the human assertion."""
    ran = per_task([baselines["trivial"]], EXECUTED[0])
    if ran is None:
        return ""
    kept = [cluster for cluster, known in zip(baselines["clusters"], ~np.isnan(ran[0]), strict=True) if known]
    return f" Run were {len(kept)} of {len(set(kept))} classes: the others' tests cannot tell (docs/execution.md)."


def judged_tasks(clusters: list[str]) -> str:
    number, worth = len(set(clusters)), effective_clusters(clusters)
    return f"Tasks judged: {len(clusters)}, of {number} test classes (worth {worth:.0f} of one size)"


def shown_commands(commands: list[str]) -> list[str]:
    """What makes all of it anew, from the root of the repository."""
    return ["\n".join(["```bash", *commands, "```"])] if commands else []


def write_page(grid: Grid, path: Path) -> None:
    """docs/results.md and its like. Raises UserError where nothing is stored."""
    found = load(grid, [""])
    if found is None:
        raise UserError(f"{grid.results}: no stored results; run the grid first")
    clusters = found[0]["clusters"]
    if len(set(clusters)) < 2:
        raise UserError(f"{grid.results}: all tasks are of one test class, which allows no interval; judge more")
    reading = grid.path.with_suffix(".reading.md")
    command = f"python benchmarks/ablation.py {grid.path} --report {path}"
    parts = [
        f"# {grid.settings['title']}",
        f"Made by `{command}` from the results stored in `{grid.results}/`; no number in the tables is typed by hand.",
        grid.settings["about"],
        *shown_commands(grid.settings.get("commands", [])),
        *(["## Reading", reading.read_text(encoding="utf-8").strip()] if reading.is_file() else []),
        "## Held-out classes",
        f"{judged_tasks(clusters)} that no training row comes from. {HOW_TO_READ}",
        *tables(grid, found),
    ]
    libraries = [library for library in grid.libraries if grid.baselines(library)]
    elsewhere = load(grid, libraries)
    if elsewhere is not None:
        clusters = elsewhere[0]["clusters"]
        names = " and ".join(libraries)
        parts += [
            f"## Held out: {names}",
            f"{judged_tasks(clusters)} of {names}, that nothing was trained on.{can_tell(elsewhere[0])}",
            *library_table(grid, libraries),
            *tables(grid, elsewhere),
        ]
    with atomic_writer(path, "w") as handle:
        handle.write("\n\n".join(parts) + "\n")
