"""Distillation files without a header: which row of logits predicts which token, and on what scale the logits are.

The writers of such files let the tokenizer frame a target (``<s> ... </s>`` with CodeT5's), so that the first row often
predicts the begin token, and some took the logits from the output head without T5's factor d_model ** -0.5. Both are
found out from a sample of rows; where they stay in doubt, UserError asks for the flags.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.rows.readers import Json, RowError, Sample, parse_sample
from data.rows.tokenization import TaskEncoder, TextFormat
from utils.compress import CompressionError, decompress_logits
from utils.errors import UserError

SAMPLED_ROWS, SAMPLED_POSITIONS = 32, 24  # rows looked at, and positions of each
# The spread of a row of logits over the vocabulary: half the distance between its 16th and 84th percentile, which a few
# high logits do not change, so that a teacher is not taken for a scaled one because it is sure. Trained models have 1
# to 6; multiplied by 22 or more (d_model 512 and up) they have more than 25.
USUAL_SPREAD, SCALED_SPREAD, LEAST_SPREAD = 7.0, 25.0, 0.5
# The temperature that fits logits to the labels best: an overconfident model needs 2 or 3, a scaled one 20 or more.
USUAL_TEMPERATURE, WRONG_POSITIONS = 3.0, 10
LEAST_AGREEMENT = 0.1  # of a teacher with its own labels; chance can give some hundredths
TELLING_POSITIONS = 200  # so many would show an agreement, if there were one
BEGIN_SHARE = 0.2  # of the rows must predict the begin token first; by chance it would be one in the vocabulary
CONFIGURATIONS = ("", "final_model", "best_model")  # where a teacher's config.json lies, seen from its data

Measure = Callable[[str, TaskEncoder, "Evidence"], tuple[float | None, str]]


@dataclass(frozen=True)
class LegacyOptions:
    """--legacy_offset (auto, 0, 1) and --legacy_logit_scale (auto, none, a number). Raises UserError for others.

    ``measure``: tells from a teacher's folder how many times too large the logits are, by its own forward pass, and a
    line about it; asked where the scale stays in doubt and the data lie in that folder.
    """

    offset: str = "auto"
    logit_scale: str = "auto"
    measure: Measure | None = None

    def __post_init__(self) -> None:
        if self.offset not in ("auto", "0", "1"):
            raise UserError(f"--legacy_offset {self.offset}: allowed: auto, 0, 1")
        try:
            usable = self.logit_scale in ("auto", "none") or 0 < float(self.logit_scale) < math.inf
        except ValueError:
            usable = False
        if not usable:
            raise UserError(f"--legacy_logit_scale {self.logit_scale}: allowed: auto, none, a number above 0")


@dataclass(frozen=True)
class LogitLayout:
    """How to read the stored rows. offset: the row that predicts the first token of the text; scale: how many times too
    large the logits are; text_format: that of the teacher."""

    offset: int = 0
    scale: float = 1.0
    text_format: TextFormat = field(default_factory=TextFormat)

    def align(self, logits: np.ndarray, count: int, encoder: TaskEncoder) -> np.ndarray:
        """[count, V]: the rows that predict ``count`` labels of ``encoder``, on their right scale; maybe fewer."""
        start = self.offset - len(encoder.begin)
        if start < 0:
            raise RowError("no teacher logits for the begin token")
        rows = logits[start : start + count]
        return rows / np.float32(self.scale) if self.scale != 1.0 else rows


@dataclass
class SampledRow:
    """The first rows of logits [R, V] of a row, its sample, and the ids of its target with the end token."""

    logits: np.ndarray
    sample: Sample
    ids: list[int]


@dataclass
class Evidence:
    """What a sample of rows shows. Shares are between 0 and 1.

    agreement: share of the positions where the first choice is the label, for the offsets 0 and 1; begins: share of the
    rows whose first choice in row 0 is the begin token; the other values hold at ``offset``: spread (see USUAL_SPREAD);
    temperature: the one that fits the labels best, None where too few first choices are wrong to tell; entropy in nats.
    """

    rows: list[SampledRow]
    positions: int
    agreement: tuple[float, float]
    begins: float
    offset: int | None
    spread: float = 0.0
    temperature: float | None = None
    entropy: float = 0.0


def sample_rows(rows: Iterable[Json], encoder: TaskEncoder) -> list[SampledRow]:
    """The first SAMPLED_ROWS usable rows with dense logits."""
    found: list[SampledRow] = []
    for row in rows:
        stored = row.get("compressed_logits")
        if not isinstance(stored, dict):
            continue
        try:
            sample = parse_sample(row)
            ids = encoder.plain(sample.target)
            logits = decompress_logits(stored, 1 + SAMPLED_POSITIONS)
        except (RowError, CompressionError):
            continue
        found.append(SampledRow(logits, sample, [*ids, encoder.tokenizer.eos_token_id][:SAMPLED_POSITIONS]))
        if len(found) == SAMPLED_ROWS:
            break
    return found


def examine(rows: list[SampledRow], encoder: TaskEncoder, options: LegacyOptions | None = None) -> Evidence:
    """Agreement at both offsets, the offset that follows (or that ``options`` give), and the values there."""
    own = TaskEncoder(encoder.tokenizer, TextFormat("tokenizer")).begin
    right = [0, 0]
    positions = begins = 0
    for row in rows:
        top = row.logits.argmax(1)
        count = min(len(row.ids), len(top) - 1)
        positions += count
        begins += len(own) == 1 and top[0] == own[0]
        for offset in (0, 1):
            right[offset] += int((top[offset : offset + count] == row.ids[:count]).sum())
    shares = (right[0] / max(1, positions), right[1] / max(1, positions))
    evidence = Evidence(rows, positions, shares, begins / max(1, len(rows)), None)
    given = options.offset if options else "auto"
    evidence.offset = _find_offset(right, positions, evidence.begins, bool(own)) if given == "auto" else int(given)
    if evidence.offset is not None and positions:
        _measure_scale(evidence)
    return evidence


def _find_offset(right: list[int], positions: int, begins: float, has_begin: bool) -> int | None:
    """The offset at which the teacher agrees clearly more often; else what the begin token says; None: in doubt."""
    difference = right[1] - right[0]
    clear = abs(difference) > 3 * math.sqrt(sum(right)) and max(right) >= LEAST_AGREEMENT * positions
    by_agreement = int(difference > 0) if clear else None
    if not has_begin:
        # A teacher that agrees nowhere has another tokenizer, or its logits belong to other texts.
        return None if by_agreement is None and positions >= TELLING_POSITIONS else by_agreement or 0
    by_token = 1 if begins >= BEGIN_SHARE else None
    if by_agreement == 0 and by_token == 1:
        return None
    return by_token if by_agreement is None else by_agreement


def _measure_scale(evidence: Evidence) -> None:
    offset = evidence.offset or 0
    parts, labels = [], []
    for row in evidence.rows:
        count = min(len(row.ids), len(row.logits) - offset)
        parts.append(row.logits[offset : offset + count])
        labels += row.ids[:count]
    logits, target = np.concatenate(parts), np.array(labels)
    finite = np.where(np.isfinite(logits), logits, np.nan)
    low, high = np.nanpercentile(finite[:: max(1, len(finite) // 64)], (16, 84), axis=1)
    evidence.spread = float(np.median(high - low) / 2)
    wrong = logits.argmax(1) != target
    lifted = logits - logits.max(1, keepdims=True)
    evidence.entropy = float(np.mean([_entropy(row) for row in lifted[:: max(1, len(lifted) // 64)]]))
    if wrong.sum() < WRONG_POSITIONS:
        return
    chosen = np.arange(0, len(lifted), max(1, len(lifted) // 128))
    shown, gold = lifted[chosen], lifted[chosen, target[chosen]]
    grid = 2.0 ** np.arange(-3, 8, 0.5)
    losses = [float(np.mean(np.log(np.exp(shown / t).sum(1)) - gold / t)) for t in grid]
    evidence.temperature = float(grid[int(np.argmin(losses))])


def _entropy(lifted: np.ndarray) -> float:
    p = np.exp(lifted)
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum())


def find_factor(evidence: Evidence, factor: float | None) -> float | None:
    """How many times too large the logits are, 1.0 or ``factor``; None: in doubt.

    ``factor``: the square root of the teacher's d_model; 1.0 where its output head is not tied, so that nothing can be
    missing; None: not known, so that only 1.0 can be found.
    """
    spread, temperature = evidence.spread, evidence.temperature
    if factor == 1.0 or (temperature is not None and temperature <= USUAL_TEMPERATURE):
        return 1.0
    if spread <= min(USUAL_SPREAD, LEAST_SPREAD * (factor or math.inf)):
        return 1.0
    if factor is not None and spread >= SCALED_SPREAD and LEAST_SPREAD <= spread / factor <= USUAL_SPREAD:
        return factor
    return None


def head_factor(config: Json) -> float | None:
    """What a T5 configuration says: the square root of d_model, 1.0 where the head is not tied, None: not a T5."""
    if not isinstance(config.get("d_model"), int) or config.get("model_type") != "t5":
        return None
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    return math.sqrt(config["d_model"]) if scaled else 1.0


def _factor_beside(path: Path, vocab_size: int) -> tuple[float | None, Path | None]:
    """``head_factor`` of a teacher in whose folder the data lie, and its configuration."""
    for name in CONFIGURATIONS:
        place = path.parent / name / "config.json"
        try:
            config = json.loads(place.read_text(encoding="utf-8"))
            if config["vocab_size"] == vocab_size and (factor := head_factor(config)) is not None:
                return factor, place
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None, None


def settle_layout(
    path: Path, evidence: Evidence, encoder: TaskEncoder, options: LegacyOptions, factor: float | None = None
) -> tuple[LogitLayout, str]:
    """How to read a file without a header, and a line that says so; UserError where it is in doubt.

    ``factor``: how many times too large the logits may be, where a teacher tells; else a config.json beside the file
    may.
    """
    first, second = evidence.agreement
    seen = f"over {evidence.positions} positions the first choice is the label in {first:.2f} at offset 0"
    seen += f", in {second:.2f} at offset 1"
    if evidence.offset is None:
        raise UserError(
            f"{path}: no header, and it stays in doubt which row of logits predicts the first token ({seen}). If it"
            " agrees nowhere, the tokenizer is not the teacher's; else give --legacy_offset 0, or 1 if the first row"
            " predicts the tokenizer's begin token"
        )
    where = said = ""
    if options.logit_scale == "none":
        scale: float | None = 1.0
    elif options.logit_scale != "auto":
        scale = float(options.logit_scale)
    else:
        beside: Path | None = None
        if factor is None:
            factor, beside = _factor_beside(path, evidence.rows[0].logits.shape[1] if evidence.rows else 0)
            where = f" by {beside}" if beside else ""
        scale = find_factor(evidence, factor)
        if scale is None and beside and options.measure:
            try:
                scale, said = options.measure(str(beside.parent), encoder, evidence)
            except UserError as error:
                said = str(error)
            scale, said = scale if said else None, f"; {said}" if said else ""
    spread = f"spread {evidence.spread:.3g} (trained models: 1 to {USUAL_SPREAD:.0f})"
    if evidence.temperature is not None:
        spread += f", they fit the labels best at temperature {evidence.temperature:.3g}"
    if scale is None:
        raise UserError(
            f"{path}: no header, and its logits may lack T5's factor d_model ** -0.5: {spread}{said}. Give"
            " --legacy_logit_scale none if they are as the model gives them, or how many times too large they are: the"
            " square root of the teacher's d_model (27.7 for 768, 32 for 1024). scripts/convert_distillation_data.py"
            " --teacher FOLDER finds out"
        )
    own = TaskEncoder(encoder.tokenizer, TextFormat("tokenizer")).begin
    framed = evidence.offset == 1 and len(own) == 1 and (evidence.begins >= BEGIN_SHARE or options.offset == "1")
    layout = LogitLayout(evidence.offset, scale, TextFormat("tokenizer" if framed else "end"))
    what = "as they are" if scale == 1.0 else f"divided by {scale:.4g}{where}"
    return layout, (
        f"{path}: no header; row {layout.offset} of the logits predicts the first token of the text ({seen}); logits"
        f" {what} ({spread}{said}); frame {layout.text_format.frame}"
    )
