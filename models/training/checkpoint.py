"""Checkpoints: a folder that exists whole or not at all, and how to find the newest."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import NotRequired  # in typing from Python 3.11 on

from config.schedules import AlphaState
from models.training.adapters import plain_state
from utils.atomic_io import atomic_directory, fsync_directory
from utils.errors import UserError
from utils.logging_utils import LoggerState

NAME = re.compile(r"checkpoint-(\d+)")
BEST_STEP = "best_step.json"
StateDict = dict[str, Any]  # what a ``state_dict`` method gives


class RunState(TypedDict):
    """state.json: where the run stands, and what it was started with."""

    progress: StateDict  # the fields of models.training.engine.Progress
    alpha: AlphaState | None
    logger: LoggerState
    processes: int
    steps_per_epoch: list[int]
    rows: NotRequired[str]  # see TrainingData.fingerprint
    config: StateDict
    interval: tuple[list[float], int]  # see StepLog.state


class Tensors(TypedDict):
    """training_state.pt: all that holds tensors, but for the weights."""

    optimizer: StateDict
    scaler: StateDict | None  # of --fp16
    loss: list[StateDict]  # one a process


def checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def save_checkpoint(
    run: Path,
    step: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tensors: Tensors,
    state: RunState,
    limit: int,
) -> Path:
    """Write ``checkpoint-<step>`` and drop the oldest beyond ``limit``.

    The folder is a Hugging Face model folder as well: safetensors and tokenizer.
    """
    path = run / f"checkpoint-{step:07d}"
    with atomic_directory(path) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        torch.save(tensors, folder / "training_state.pt")
        (folder / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    drop(checkpoints(run)[:-limit])
    return path


def save_best(run: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, step: int) -> None:
    """Write ``best_model``, and from which step it comes."""
    with atomic_directory(run / "best_model") as folder:
        model.save_pretrained(folder, state_dict=plain_state(model), safe_serialization=True)
        tokenizer.save_pretrained(folder)
        (folder / BEST_STEP).write_text(json.dumps(step), encoding="utf-8")


def read_best_step(run: Path) -> int | None:
    """The step that ``best_model`` comes from; None where there is no such folder, or no run wrote it."""
    try:
        return json.loads((run / "best_model" / BEST_STEP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def drop(folders: list[Path]) -> None:
    """Delete checkpoints."""
    for old in folders:
        # Renamed first: a folder that is half deleted must not look like a checkpoint.
        doomed = old.with_name(f".{old.name}.{os.getpid()}.tmp")
        old.rename(doomed)
        fsync_directory(old.parent)
        shutil.rmtree(doomed)


def drop_later(path: Path) -> list[str]:
    """Delete the checkpoints after ``path``, since the run now continues from there; returns their names."""
    found = checkpoints(path.parent)
    later = found[found.index(path) + 1 :] if path in found else []
    drop(later)
    return [old.name for old in later]


def read_state(path: Path) -> RunState:
    """The checkpoint's JSON. Raises UserError where it is missing or damaged."""
    try:
        return json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return UserError(f"--resume {path}: not a usable checkpoint ({reason}); name an earlier one")


def load_checkpoint(path: Path, model: nn.Module) -> tuple[Tensors, RunState]:
    """Put the weights into ``model``; return the tensors and the state. Raises UserError where something is missing."""
    try:
        weights = load_file(path / "model.safetensors")
        tensors = torch.load(path / "training_state.pt", map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unusable(path, error) from None
    state = read_state(path)
    names = dict(model.named_parameters())
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
        same = not unexpected and not any(name in names for name in missing)
    except RuntimeError:  # shapes that do not fit
        same = False
    if not same:
        raise UserError(f"--resume {path}: its weights belong to another model than flags and data give now")
    return tensors, state


def find_resume(resume: str | None, run: Path) -> Path | None:
    """The checkpoint that ``--resume`` means: a checkpoint folder, a run folder, or auto (None where there is none)."""
    if resume is None:
        return None
    if resume == "auto":
        found = checkpoints(run)
        return found[-1] if found else None
    path = Path(resume)
    if NAME.fullmatch(path.name) and path.is_dir():
        return path
    found = checkpoints(path)
    if not found:
        raise UserError(f"--resume {resume}: no checkpoint there; --resume auto starts a new run where there is none")
    return found[-1]
