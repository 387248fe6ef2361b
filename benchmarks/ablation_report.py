"""The page of an ablation: tables made from the stored results. People write its section "Reading"; it is kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.ablation_statistics import (
    Estimate,
    SeedSpread,
    adjust_p_values,
    compare,
    count_effective_clusters,
    estimate_mean,
    get_scores,
    mean_score,
    pair_seeds,
    pool_seed_spread,
    share_of_teacher,
    show_estimate,
    show_score,
)
from benchmarks.grid import (
    BASELINES,
    EXECUTED,
    MAIN,
    METRICS,
    SHOWN,
    Baselines,
    Budget,
    Grid,
    Json,
    Measured,
    Outcome,
    Run,
)
from benchmarks.measuring import table
from utils.atomic_io import atomic_writer
from utils.errors import UserError

READING, CLASSES = "## Reading", "## Held-out classes"
REFERENCE = "gold only"
MAX_SHARE = 0.3  # of the teacher's parameters: the project aims at a small student
MIN_KEPT = 0.95  # of the teacher's score

Runs = dict[Budget, dict[str, list[Run]]]


def load_results(grid: Grid, libraries: Sequence[str]) -> tuple[Baselines, Runs] | None:
    """Baselines, and the runs of each contender by their budget; None where nothing is stored.

    Of several libraries: the tasks of all, and the runs that all have judged.
    """
    known = {library: found for library in libraries if (found := grid.read_baselines(library))}
    if not known:
        return None
    runs: Runs = defaultdict(lambda: defaultdict(list))
    for task in grid.tasks:
        run, parts = grid.read_run(task), [grid.read_run(task, library) for library in known]
        if run and all(parts):
            runs[grid.get_budget(task)][task.contender].append(run | merge_parts(parts))
    everybody = (run for found in runs.values() for those in found.values() for run in those)
    teachers = {run["teacher"] for run in everybody if "teacher" in run}
    if len(teachers) > 1:  # the oldest results do not name theirs
        raise UserError(f"{grid.store.folder}: holds students of several teachers; remove those of all but one")
    baselines: Baselines = {name: merge_parts([found[name] for found in known.values()]) for name in BASELINES}
    baselines["clusters"] = [f"{library}/{name}" for library, found in known.items() for name in found["clusters"]]
    return baselines, runs


def merge_parts(parts: Sequence[Measured]) -> Measured:
    """What was measured of one system on several sets of tasks, as if it were one set."""
    scores = [part["per_task"] for part in parts]
    common = [metric for metric in scores[0] if all(metric in score for score in scores)]
    counted: dict[str, dict[str, Outcome]] = {}
    for key in ("failures", "executions"):
        kinds: dict[str, Outcome] = {}
        for kind, one in (item for part in parts for item in part.get(key, {}).items()):
            before = kinds.setdefault(kind, {"tasks": 0, "example": one["example"]})
            before["tasks"] += one["tasks"]
        counted[key] = kinds
    together = {metric: [value for score in scores for value in score[metric]] for metric in common}
    return parts[0] | {"per_task": together} | counted


def make_tables(grid: Grid, found: tuple[Baselines, Runs]) -> list[str]:
    """All tables of each number of rows and passes, the largest first."""
    baselines, runs = found
    parts: list[str] = []
    budgets = sorted(runs, reverse=True)
    for rows, passes in budgets:
        chosen = runs[rows, passes]
        parts += [
            f"### {rows:,} training rows, {passes} {'pass' if passes == 1 else 'passes'}",
            tabulate_contenders(baselines, chosen),
            # The teacher and retrieval always have all rows, so a student with fewer is not held to the aims.
            *(judge_aims(baselines, chosen) if rows == budgets[0][0] else []),
            *tabulate_scores(baselines, chosen),
            *tabulate_questions(grid.settings.get("questions", []), baselines["clusters"], chosen),
            *tabulate_outcomes("failures", "What is wrong first:", baselines, chosen),
            *tabulate_outcomes("executions", "What running showed:", baselines, chosen),
        ]
    return parts


def compare_with_reference(runs: dict[str, list[Run]], clusters: list[str]) -> dict[str, Estimate]:
    spread, reference = pool_seed_spread(runs, MAIN), runs.get(REFERENCE, [])
    others = {name: found for name, found in runs.items() if name != REFERENCE}
    return {name: one for name, found in others.items() if (one := compare(found, reference, MAIN, clusters, spread))}


def compare_with_retrieval(baselines: Baselines, runs: dict[str, list[Run]]) -> dict[str, Estimate]:
    """In F1: retrieval has no token accuracy, so no code quality score."""
    clusters, spread = baselines["clusters"], pool_seed_spread(runs, "f1")
    theirs = get_scores([baselines["retrieval"]], "f1")
    return {name: estimate_mean(get_scores(found, "f1") - theirs, clusters, spread) for name, found in runs.items()}


def tabulate_questions(questions: list[Json], clusters: list[str], runs: dict[str, list[Run]]) -> list[str]:
    """One line for each question of the grid that has an answer here: two contenders, one score, over common seeds."""
    answers = {}
    for one in questions:
        pair = [runs.get(one[key], []) for key in ("contender", "against")]
        for metric in one["metrics"]:
            if found := compare(*pair, metric, clusters, pool_seed_spread(runs, metric)):
                words = (one["question"], one["contender"], one["against"], metric, len(pair_seeds(*pair)))
                answers[words] = found
    if not answers:
        return []
    p_values = adjust_p_values(answers)
    return [
        "Questions:",
        table(
            ["question", "contender", "against", "score", "seeds", "difference", "p (Holm)"],
            [[*words, show_estimate(found, "+"), p_values[words]] for words, found in answers.items()],
        ),
    ]


def add_baselines(baselines: Baselines, runs: dict[str, list[Run]]) -> dict[str, list[Run]]:
    return {**runs, **{name: [baselines[name]] for name in BASELINES}}


def tabulate_contenders(baselines: Baselines, runs: dict[str, list[Run]]) -> str:
    """One line a contender: scores, and the difference from the reference contender with its adjusted p-value."""
    clusters = baselines["clusters"]
    differences = compare_with_reference(runs, clusters)
    p_values = adjust_p_values(differences)
    spread = pool_seed_spread(runs, MAIN)
    everybody = add_baselines(baselines, runs)
    metrics = [*SHOWN, *(m for m in EXECUTED if any(get_scores(found, m) is not None for found in everybody.values()))]
    columns = ["contender", "seeds", "M parameters", MAIN, "seed s.d.", f"minus {REFERENCE}", "p (Holm)", *metrics]
    columns += ["steps", "s", "MB"]
    rows = []
    for name, found in everybody.items():
        score = get_scores(found, MAIN)
        parameters = found[0].get("parameters")
        rows.append(
            [
                name,
                len(found) if name in runs else None,
                parameters / 1e6 if parameters else None,
                "-" if score is None else show_score(score, clusters, spread if name in runs else SeedSpread()),
                None if score is None or len(score) < 2 else float(np.std(np.nanmean(score, axis=1), ddof=1)),
                show_estimate(differences[name], "+") if name in differences else "-",
                p_values.get(name),
                *(mean_score(found, metric) for metric in metrics),
                *(
                    float(np.mean([run[key] for run in found])) / unit if name in runs else None
                    for key, unit in (("steps", 1), ("train_seconds", 1), ("data_bytes", 1e6))
                ),
            ]
        )
    return table(columns, rows)


def tabulate_scores(baselines: Baselines, runs: dict[str, list[Run]]) -> list[str]:
    """Every score of every contender with its interval, and its difference from the reference contender."""
    clusters = baselines["clusters"]
    everybody = add_baselines(baselines, runs)
    reference = runs.get(REFERENCE, [])
    measured = [metric for metric in METRICS if all(get_scores(found, metric) is not None for found in runs.values())]
    scores = [[name] for name in everybody]
    differences = [[name] for name in runs if name != REFERENCE]
    for metric in measured:
        spread = pool_seed_spread(runs, metric)
        for row in scores:
            values = get_scores(everybody[row[0]], metric)
            known = spread if row[0] in runs else SeedSpread()
            row.append("-" if values is None else show_score(values, clusters, known))
        found = {row[0]: compare(runs[row[0]], reference, metric, clusters, spread) for row in differences}
        p_values = adjust_p_values({name: one for name, one in found.items() if one})
        for row in differences:
            one, p_value = found[row[0]], p_values.get(row[0])
            row.append(show_difference(one, p_value))
    parts = ["Every score:"]
    parts.append(table(["contender", *measured], scores))
    if reference and differences:
        parts += [
            f"The same minus {REFERENCE}:",
            table(["contender", *measured], differences),
        ]
    return parts


def tabulate_outcomes(key: str, title: str, baselines: Baselines, runs: dict[str, list[Run]]) -> list[str]:
    """The shares of each outcome, and the first prediction of each in the best contender's first run.

    ``key``: failures or executions. Nothing if it was not measured.
    """
    everybody = add_baselines(baselines, runs)
    if not all(run.get(key) for found in everybody.values() for run in found):
        return []
    counts = {
        name: sum((Counter({kind: one["tasks"] for kind, one in run[key].items()}) for run in found), Counter())
        for name, found in everybody.items()
    }
    kinds = [kind for kind, _ in sum(counts.values(), Counter()).most_common()]
    rows = [[name, *(f"{count[kind] / count.total():.1%}" for kind in kinds)] for name, count in counts.items()]
    name = find_best(runs)
    examples = []
    for kind, one in sorted(runs[name][0][key].items(), key=lambda item: -item[1]["tasks"]):
        written, wanted, why = (
            shorten(one["example"].get(part) or "") for part in ("prediction", "reference", "reason")
        )
        examples.append([kind, f"``{written or ' '}``", f"``{wanted}``", why])
    return [
        title,
        table(["contender", *kinds], rows),
        table([f"example of {name}", "prediction", "reference", "reason"], examples),
    ]


def shorten(text: str) -> str:
    """One line of at most 200 printable characters that can stand in a table."""
    line = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in " ".join(text.split()))
    return (line if len(line) <= 200 else line[:197] + "...").replace("|", "\\|")


def find_best(runs: dict[str, list[Run]]) -> str:
    """Of the contenders with the most seeds, the one with the best score."""
    most = max(len(found) for found in runs.values())
    return max(
        (name for name, found in runs.items() if len(found) == most),
        key=lambda name: mean_score(runs[name], MAIN) or 0.0,
    )


def judge_aims(baselines: Baselines, runs: dict[str, list[Run]]) -> list[str]:
    """The aims of the project, judged for the contender with the best score, of those small enough if any is.

    It was chosen among all, so its p-values are adjusted for as many comparisons as there are contenders.
    """
    clusters, teacher = baselines["clusters"], baselines["teacher"]
    whole = teacher["parameters"]
    small = {name: found for name, found in runs.items() if whole and found[0]["parameters"] <= MAX_SHARE * whole}
    name = find_best(small or runs)
    if any(get_scores(found, MAIN) is None for found in (runs[name], [teacher])):
        return [f"Without {MAIN} (it needs a text encoder) the aims cannot be judged."]
    which = "small enough contenders" if 0 < len(small) < len(runs) else "contenders"
    rows: list[list[str | float | None]] = []
    if whole and (own := runs[name][0]["parameters"]):
        verdict = "reached" if own <= MAX_SHARE * whole else "missed"
        rows.append(
            ["share of the teacher's parameters", f"{own / whole:.0%}", f"at most {MAX_SHARE:.0%}", None, verdict]
        )
    for metric in (MAIN, "pass_rate"):
        if kept := share_of_teacher(runs[name], teacher, metric, clusters):
            share = f"{kept.value:.1%} ({kept.low:.1%} to {kept.high:.1%})"
            verdict = "reached" if kept.value >= MIN_KEPT else "missed"
            rows.append([f"share of the teacher's {metric}", share, f"{MIN_KEPT:.0%}", None, verdict])
    for against, metric, found in (
        ("retrieval", "f1", compare_with_retrieval(baselines, runs)),
        (REFERENCE, MAIN, compare_with_reference(runs, clusters)),
    ):
        if name in found:
            p_value = adjust_p_values(found)[name]
            ahead = found[name].value > 0 and p_value is not None and p_value < 0.05
            verdict = "not judged without more seeds" if p_value is None else "reached" if ahead else "missed"
            rows.append([f"{metric} minus {against}", show_estimate(found[name], "+"), "above 0", p_value, verdict])
    if name == REFERENCE:
        rows.append([f"{MAIN} minus {REFERENCE}", "it is that student", "above 0", None, "missed"])
    return [
        f"The aims, for **{name}**, of the {which} with the most seeds the one with the best {MAIN}:",
        table(["", "measured", "aim", "p (Holm)", "verdict"], rows),
    ]


def tabulate_libraries(grid: Grid, libraries: list[str]) -> list[str]:
    """Means of each library alone, if the other tables pool several."""
    if len(libraries) < 2:
        return []
    metrics = (MAIN, "f1", *EXECUTED)
    rows = []
    for library in libraries:
        baselines, runs = load_results(grid, [library]) or ({}, {})
        for (count, passes), found in sorted(runs.items(), reverse=True):
            for name, those in found.items():
                rows.append([library, name, count, passes, *(mean_score(those, metric) for metric in metrics)])
        for name in BASELINES:
            rows.append([library, name, None, None, *(mean_score([baselines[name]], metric) for metric in metrics)])
    return [
        "### Each library alone",
        table(["library", "contender", "rows", "passes", *metrics], rows),
    ]


def describe_tasks(baselines: Baselines) -> str:
    """How many tasks of how many classes were judged, and how many could be run."""
    clusters = baselines["clusters"]
    worth = count_effective_clusters(clusters)
    text = f"{len(clusters)} tasks of {len(set(clusters))} test classes, worth {worth:.0f} of one size"
    ran = get_scores([baselines["trivial"]], EXECUTED[0])
    if ran is None:
        return f"{text}."
    kept = [cluster for cluster, known in zip(clusters, ~np.isnan(ran[0]), strict=True) if known]
    return f"{text}; {len(kept)} tasks of {len(set(kept))} classes can be run."


def show_difference(found: Estimate | None, p_value: float | None) -> str:
    """A difference with its interval, and a star if it is beyond chance."""
    if found is None:
        return "-"
    return show_estimate(found, "+") + (" *" if p_value is not None and p_value < 0.05 else "")


def find_libraries(grid: Grid) -> list[str]:
    return [library for library in grid.libraries if grid.read_baselines(library)]


def find_reading(page: Path) -> str:
    """The section "Reading" of a page that is there already, without its heading; empty where there is none."""
    if not page.is_file():
        return ""
    _, heading, rest = page.read_text(encoding="utf-8").partition(f"{READING}\n\n")
    return rest.partition(f"\n\n{CLASSES}\n")[0].strip() if heading else ""


def write_page(grid: Grid, path: Path) -> None:
    """A page of docs/results/. Raises UserError if nothing is stored."""
    found = load_results(grid, [""])
    if found is None:
        raise UserError(f"{grid.path}: no stored results; run the grid first")
    if len(set(found[0]["clusters"])) < 2:
        raise UserError(f"{grid.path}: all tasks are of one test class, which allows no interval; judge more")
    command, commands = f"python benchmarks/ablation.py {grid.path} --report {path}", grid.settings.get("commands", [])
    reading = find_reading(path)
    parts = [
        f"# {grid.settings['title']}",
        f"Made from stored results by `{command}`. [How to read the tables](../results.md#how-to-read-the-tables).",
        grid.settings["about"],
        *(["\n".join(["```bash", *commands, "```"])] if commands else []),
        *([READING, reading] if reading else []),
        CLASSES,
        describe_tasks(found[0]),
        *make_tables(grid, found),
    ]
    libraries = find_libraries(grid)
    elsewhere = load_results(grid, libraries)
    if elsewhere is not None:
        parts += [
            f"## Held-out libraries: {' and '.join(libraries)}",
            describe_tasks(elsewhere[0]),
            *tabulate_libraries(grid, libraries),
            *make_tables(grid, elsewhere),
        ]
    with atomic_writer(path, "w") as handle:
        handle.write("\n\n".join(parts) + "\n")
