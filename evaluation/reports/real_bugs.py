"""The numbers and the report of an evaluation on real bugs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from data.rows.readers import Json
from evaluation.running.bugs import FALSE_ALARM, FOUND, FREEZES, HOLDS, MISSED, NO_COMPILE
from evaluation.running.outcomes import DROPPED, wilson
from evaluation.summary import EXECUTION_RULES, title_of

HUMAN = "human"
APART = "Lang"  # its code is in common training data
REPAIRED = (FREEZES, HOLDS)
VERDICTS = (FOUND, MISSED, FALSE_ALARM, NO_COMPILE)


def summarise_bugs(results: Sequence[Json], systems: Sequence[str]) -> Json:
    """By project, and for all but APART: how many bugs each system finds, of those that the human assertions find.

    ``bugs``: id -> fixed commit, problem (empty: none), and task by task its test and each system's verdict.
    """
    groups: dict[str, list[Json]] = {}
    for result in results:
        project = result["bug"].partition("-")[0]
        groups.setdefault(project, []).append(result)
        groups.setdefault(f"all but {APART}" if project != APART else APART, [])
        if project != APART:
            groups[f"all but {APART}"].append(result)
    return {
        "rules": EXECUTION_RULES,
        "cell_missing": {name: why for result in results for name, why in result.get("cell_missing", {}).items()},
        "groups": {name: _count(group, systems) for name, group in groups.items()},
        "bugs": {
            result["bug"]: {
                "fixed": result["ground"]["fixed"],
                "problem": _find_problem(result),
                "tests": [f"{place[0]}.{place[1]}" for place in result["ground"].get("places", ())],
                "verdicts": {name: [verdict for verdict, _ in found] for name, found in result["verdicts"].items()},
            }
            for result in results
        },
    }


def _finds(result: Json, system: str) -> bool:
    return any(verdict == FOUND for verdict, _ in result["verdicts"].get(system, []))


def _find_problem(result: Json) -> str:
    """Why a bug cannot judge anyone: no task that can tell, or no human assertion of them notices it."""
    if result["problem"] or _finds(result, HUMAN):
        return str(result["problem"])
    reasons = Counter(reason for _, reason in result["verdicts"][HUMAN])
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())


def _count(results: Sequence[Json], systems: Sequence[str]) -> Json:
    stable = [result for result in results if not _find_problem(result)]
    counts: Json = {
        "bugs": len(results),
        "stable": len(stable),
        "left_out": {result["bug"]: problem for result in results if (problem := _find_problem(result))},
        "systems": {},
    }
    for name in systems:
        verdicts = Counter(v for result in stable for v, _ in result["verdicts"][name] if v != DROPPED)
        found = sum(_finds(result, name) for result in stable)
        low, high = wilson(found, len(stable)) if stable else (None, None)
        counts["systems"][name] = {
            "bugs_found": found,
            "rate": found / len(stable) if stable else None,
            "low": low,
            "high": high,
            "tasks": {verdict: verdicts[verdict] for verdict in VERDICTS},
        }
        mended = [item for result in stable for item in result.get("repairs", {}).get(name, ()) if item in REPAIRED]
        if any(name in result.get("repairs", {}) for result in stable):
            freezes = mended.count(FREEZES)
            low, high = wilson(freezes, len(mended)) if mended else (None, None)
            counts["systems"][name]["repair"] = {
                "repaired": len(mended),
                "freezes": freezes,
                "rate": freezes / len(mended) if mended else None,
                "low": low,
                "high": high,
                "bugs_frozen": sum(FREEZES in result.get("repairs", {}).get(name, ()) for result in stable),
            }
    return counts


def make_report(summary: Mapping[str, Json]) -> str:
    """Markdown: one table for each group of bugs."""
    lines = ["# Real bugs", ""]
    lines.append(
        "A bug is found where an assertion passes on the fixed version and fails on the buggy one; without the"
    )
    lines.append("assertion the test passes on both. Only bugs that a human assertion finds count. Wilson intervals.")
    for name, group in summary["groups"].items():
        lines += ["", f"## {name}: {group['stable']} of {group['bugs']} bugs", ""]
        lines.append("| system | bugs found | found | missed | false alarm | does not compile |")
        lines.append("|---|---|---|---|---|---|")
        for system, found in group["systems"].items():
            rate = f"{found['bugs_found']}: {_show(found)}"
            lines.append(
                f"| {_title(system)} | {rate} | " + " | ".join(str(found["tasks"][v]) for v in VERDICTS) + " |"
            )
        lines += _describe_repairs(group["systems"])
        lines += ["", *(f"- {bug} is left out: {reason}" for bug, reason in group["left_out"].items())]
    return "\n".join(lines) + "\n"


def _title(system: str) -> str:
    return "human assertion (control)" if system == HUMAN else title_of(system)


def _show(found: Json) -> str:
    return "–" if found["rate"] is None else f"{found['rate']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _describe_repairs(systems: Mapping[str, Json]) -> Iterator[str]:
    """What repair would do where the bug is still there."""
    mended = {name: found["repair"] for name, found in systems.items() if "repair" in found}
    if not mended:
        return
    yield ""
    yield "Run on the buggy version, with what was observed in place of what was expected:"
    yield ""
    yield "| system | assertions repaired | of these freeze the bug | bugs frozen |"
    yield "|---|---|---|---|"
    for name, found in mended.items():
        yield f"| {_title(name)} | {found['repaired']} | {found['freezes']}: {_show(found)} | {found['bugs_frozen']} |"
