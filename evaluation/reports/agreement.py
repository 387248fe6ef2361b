"""How near an exported model is to its original: texts, scores, time and size, on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from data.rows.context_choice import ContextChoice
from data.rows.readers import Sample
from evaluation.evaluators import TextEncoder
from evaluation.reports.results import judge
from evaluation.systems.models import ModelRunner, System
from models.decoding.generate import GenerationOptions

SCORES = ("code_quality_score", "exact_match", "f1", "token_accuracy")
# An export below these bounds is refused: share of equal texts, and loss of Code Quality Score (of F1 where that score
# cannot be computed).
MIN_SAME_TEXTS, MAX_SCORE_LOSS = 0.2, 0.02


class Pair(TypedDict):
    """A number of the original and of the export."""

    original: float
    exported: float


class ScorePair(TypedDict):
    """A score of both; None where no task has one."""

    original: float | None
    exported: float | None


class Agreement(TypedDict):
    """``same_texts``: share of the tasks; ``seconds``: median for one task alone; ``threads``: of the CPU."""

    data: str
    tasks: int
    decoding: str
    num_beams: int
    same_texts: float
    scores: dict[str, ScorePair]
    seconds: Pair
    threads: int
    size_bytes: Pair


def measure_agreement(
    original: str,
    exported: Path,
    data: str,
    samples: Sequence[Sample],
    options: GenerationOptions,
    encoder: TextEncoder | None,
) -> Agreement:
    """Let both models write for ``samples``, which come from the file ``data``, on the CPU."""
    with TemporaryDirectory() as folder:
        runner = ModelRunner(options, "cpu", Path(folder), False, ContextChoice(allow_other=True))
        systems = {
            "original": runner.run("original", original, "MODEL", samples),
            "exported": runner.run("exported", str(exported), "MODEL", samples),
        }
    judged = {name: judge(system, samples, encoder, 0).evaluation.measure(SCORES) for name, system in systems.items()}
    pairs = zip(systems["original"].predictions, systems["exported"].predictions, strict=True)

    def pair(read: str) -> ScorePair:
        return {name: judged[name][read]["value"] for name in systems}  # type: ignore[return-value]

    def seconds(system: System) -> float:
        return round(system.facts["latency"]["cpu"]["median_seconds"], 5)

    return {
        "data": Path(data).name,
        "tasks": len(samples),
        "decoding": options.decoding,
        "num_beams": options.num_beams,
        "same_texts": round(sum(mine == other for mine, other in pairs) / len(samples), 4),
        "scores": {name: pair(name) for name in SCORES},
        "seconds": {"original": seconds(systems["original"]), "exported": seconds(systems["exported"])},
        "threads": systems["exported"].facts["latency"]["cpu"]["threads"] or 1,
        "size_bytes": {
            "original": systems["original"].facts["size_bytes"],
            "exported": systems["exported"].facts["size_bytes"],
        },
    }


def find_shortfall(found: Agreement) -> str | None:
    """What of the bounds the export does not reach; None if it reaches both."""
    if found["same_texts"] < MIN_SAME_TEXTS:
        return f"only {found['same_texts']:.0%} of its texts are those of the original (bound: {MIN_SAME_TEXTS:.0%})"
    for name in ("code_quality_score", "f1"):
        before, after = found["scores"][name]["original"], found["scores"][name]["exported"]
        if before is not None and after is not None:
            if before - after > MAX_SCORE_LOSS:
                return f"its {name} is {after:.3f}, the original's {before:.3f} (bound: {MAX_SCORE_LOSS} less)"
            return None
    return None


def describe_agreement(found: Agreement) -> str:
    """The same as a table in Markdown."""
    lines = [
        f"Over {found['tasks']} tasks of `{found['data']}`, {found['num_beams']} beams, decoding"
        f" {found['decoding']}, {found['threads']} thread(s) of the CPU; of the texts"
        f" {found['same_texts']:.1%} are equal:",
        "",
        "| | original | exported |",
        "|---|---:|---:|",
    ]
    for name, pair in found["scores"].items():
        shown = ["–" if value is None else f"{value:.3f}" for value in (pair["original"], pair["exported"])]
        lines.append(f"| `{name}` | {shown[0]} | {shown[1]} |")
    times, sizes = found["seconds"], found["size_bytes"]
    lines.append(f"| milliseconds for one task | {1e3 * times['original']:.1f} | {1e3 * times['exported']:.1f} |")
    lines.append(f"| size in MB | {sizes['original'] / 1e6:.1f} | {sizes['exported'] / 1e6:.1f} |")
    return "\n".join(lines)
