"""Reads the files of a run back: CSV columns as arrays, configuration, evaluation, sample predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.rows.readers import Json
from utils.csv_log import read_csv
from utils.errors import UserError
from utils.logging_utils import SAMPLES_FILE, STEP_FILE, TRAINING_FILE, SamplePrediction, components_of

Columns = dict[str, np.ndarray]


@dataclass
class RunData:
    """A run folder. Columns are float arrays with NaN for empty cells (``kind`` is text); a missing file gives none."""

    folder: Path
    steps: Columns = field(default_factory=dict)
    training: Columns = field(default_factory=dict)
    config: Json = field(default_factory=dict)
    run: Json = field(default_factory=dict)  # the whole run_config.json
    summary: Json = field(default_factory=dict)
    samples: list[SamplePrediction] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def role(self) -> str:
        """What the run trained: "teacher" or "student"."""
        return "teacher" if self.run.get("script") == "train_codet5_assertions.py" else "student"

    @property
    def components(self) -> list[str]:
        return components_of(self.steps)

    def systems(self) -> dict[str, Json]:
        """The metrics of every system that was judged (teacher, student, baselines), by title."""
        facts = self.summary.get("run", {}).get("systems", {})
        named = {who: self.summary.get(who) for who in ("teacher", "student")} | (self.summary.get("baselines") or {})
        return {
            facts.get(who, {}).get("title") or who.replace("_", " "): metrics
            for who, metrics in named.items()
            if metrics and any((metric or {}).get("value") is not None for metric in metrics.values())
        }

    def rows(self, kind: str) -> Columns:
        """The rows of training_metrics.csv of one kind."""
        if not self.training:
            return {}
        chosen = self.training["kind"] == kind
        return {name: values[chosen] for name, values in self.training.items()}


def read_columns(path: Path) -> Columns:
    """A CSV file of a run as columns. Raises UserError where a column is missing or a cell is not a number."""
    try:
        rows = read_csv(path)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file") from None
    columns: Columns = {}
    needed = {"step", "kind"} if path.name == TRAINING_FILE else {"step"}
    if rows and (missing := sorted(needed - rows[0].keys())):
        raise UserError(f"{path} has no column {missing[0]}: no run wrote this file")
    for name in rows[0] if rows else ():
        cells = [row[name] for row in rows]
        if name == "kind":
            columns[name] = np.array(cells)
            continue
        try:
            columns[name] = np.array([float(cell) if cell else np.nan for cell in cells])
        except (ValueError, TypeError):
            wrong = next(i for i, cell in enumerate(cells, 2) if not _is_number(cell))
            raise UserError(f"{path}, line {wrong}: {name} is {cells[wrong - 2]!r}, not a number") from None
    return columns


def _is_number(cell: object) -> bool:
    if not isinstance(cell, str):
        return False
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


def read_json(path: Path) -> Json:
    """A JSON object without the members that are null; {} where there is no file."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return {name: part for name, part in value.items() if part is not None}


def _read_jsonl(path: Path) -> list[SamplePrediction]:
    """The rows of a JSONL file; a last line without its end, as a killed process leaves it, is not a row."""
    text = path.read_text(encoding="utf-8")
    rows = []
    for number, line in enumerate(text[: text.rfind("\n") + 1].split("\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not valid JSON ({error})") from None
        if not isinstance(rows[-1], dict):
            raise UserError(f"{path}, line {number} is not a JSON object")
    return rows


def load_run(folder: str | Path) -> RunData:
    """Read a run folder. Raises UserError where it holds none of the files of a run."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of a run, such as results/run_name")
    run = read_json(folder / "run_config.json")
    data = RunData(
        folder, run=run, config=run.get("config", {}), summary=read_json(folder / "metrics_summary_final.json")
    )
    if (folder / STEP_FILE).exists():
        data.steps = read_columns(folder / STEP_FILE)
    if (folder / TRAINING_FILE).exists():
        data.training = read_columns(folder / TRAINING_FILE)
    if (folder / SAMPLES_FILE).exists():
        data.samples = _read_jsonl(folder / SAMPLES_FILE)
    if not (data.steps or data.training or run or data.summary):
        raise UserError(f"{folder} is not the folder of a run: neither {STEP_FILE} nor run_config.json is in it")
    return data
