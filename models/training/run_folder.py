"""The folder of a run: which one, whether it may be used, and the record that makes the run repeatable."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from config.defaults import RunConfig, fill_defaults, flags_with
from utils.atomic_io import recover, write_json
from utils.errors import UserError
from utils.folder_lock import FolderLock
from utils.logging_utils import STEP_FILE

if TYPE_CHECKING:  # it imports torch; a folder is refused before that
    from models.training.checkpoint import RunState

RUN_CONFIG = "run_config.json"


def choose_folder(config: RunConfig, model_name: str) -> Path:
    """``--output_dir``, the run that ``--resume`` names, or results/<time>_<model>. UserError where it holds a run."""
    output = config.output
    resumed = None
    if output.resume and output.resume != "auto":
        path = Path(output.resume)
        resumed = path.parent if path.name.startswith("checkpoint-") else path
    if output.output_dir:
        folder = Path(output.output_dir)
        if resumed is not None and folder.resolve() != resumed.resolve():
            raise UserError(
                f"--resume {output.resume}: a run goes on in its own folder, not in --output_dir {folder}; to branch"
                " off, copy the folder first"
            )
    elif resumed is not None:
        folder = resumed
    elif output.resume == "auto":
        raise UserError("--resume auto needs --output_dir: the run folder to look in")
    else:
        slug = model_name.rstrip("/").rpartition("/")[2].replace(":", "-")
        folder = Path("results") / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{slug}"
    refuse_another_run(folder, config)
    return folder


def holds_run(folder: Path) -> bool:
    """Whether a run in ``folder`` came as far as its first step: a start that failed leaves nothing worth keeping."""
    if not (folder / RUN_CONFIG).exists():
        return False
    steps = folder / STEP_FILE
    models = [*folder.glob("checkpoint-*"), *folder.glob("*_model")]
    return bool(models) or (steps.exists() and len(steps.read_bytes().splitlines()) > 1)


def refuse_another_run(folder: Path, config: RunConfig) -> None:
    output = config.output
    if holds_run(folder) and not output.resume and not output.overwrite and not output.dry_run:
        raise UserError(f"--output_dir {folder}: holds a run already; give --resume auto, --overwrite or another one")


def prepare_folder(folder: Path, config: RunConfig) -> FolderLock:
    """Create the folder and lock it; with ``--overwrite`` remove what an earlier run wrote into it.

    Raises UserError where the folder cannot be written, or where this run reads what would be removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder)
        refuse_another_run(folder, config)  # another run may have used it while this one waited for the lock
        if config.output.overwrite:
            recover(folder)
            of_a_run = [path for path in folder.iterdir() if path.name.startswith(OF_A_RUN) or path.name in RUN_FILES]
            values = config.flat()
            for name in sorted(flags_with("reads") & values.keys()):
                path = Path(str(values[name])).resolve()
                if values[name] and any(path.is_relative_to(old.resolve()) for old in of_a_run):
                    raise UserError(f"--overwrite: would remove --{name} {path}; write into another --output_dir")
            for path in of_a_run:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        recover(folder)
        return lock
    except OSError as error:
        raise UserError(f"--output_dir {folder}: cannot be written ({error.strerror})") from None


OF_A_RUN = ("checkpoint-", "distillation_data", ".distillation_data")
RUN_FILES = {
    ".progress",
    RUN_CONFIG,
    "final_model",
    "folds",
    "best_model",
    "training_metrics.csv",
    "step_metrics.csv",
    "tensorboard",
    "wandb",
    "metrics.json",
    "distillation_log.txt",
    "sample_predictions.jsonl",
    "predictions_final.jsonl",
    "metrics_summary_final.json",
    "metrics_final.csv",
    "run_report.html",
    "training_curves.png",
    "report.md",
    "report.html",
    "rejected.jsonl",
}


def _git_state() -> dict[str, str | bool | None]:
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return {"commit": git("rev-parse", "HEAD") or None, "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.TimeoutExpired):
        return {"commit": None, "modified": None}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "accelerate", "tokenizers", "sentence-transformers", "numpy", "lz4"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_run_config(folder: Path, config: RunConfig, script: str) -> None:
    """Every parameter, the versions and the state of the code: enough to run it again with ``--config``."""
    write_json(
        folder / RUN_CONFIG,
        {
            "script": script,
            "command": sys.argv,
            "config": config.flat(),
            "versions": _versions(),
            "git": _git_state(),
            "machine": {"platform": platform.platform(), "processor": platform.machine()},
        },
    )


def is_finished(folder: Path, config: RunConfig) -> bool:
    """Whether the run in ``folder`` was started with this very configuration and has written its last file."""
    try:
        stored = json.loads((folder / RUN_CONFIG).read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    once = flags_with("once")
    now = {name: value for name, value in config.flat().items() if name not in once}
    return all(stored.get(name) == value for name, value in now.items()) and (folder / "final_model").is_dir()


def check_same_run(stored: RunState, config: RunConfig, processes: int) -> list[str]:
    """Refuse to continue a run with parameters that would make it another run; returns a note for each other change."""
    now = config.flat()
    changed = {name: old for name, old in fill_defaults(stored["config"]).items() if name in now and now[name] != old}
    once = flags_with("once")
    free = once | flags_with("free_on_resume")
    for name, old in changed.items():
        if name not in free:
            raise UserError(f"--resume: the run was started with --{name} {old}, now it is {now[name]}; use the same")
    before = stored["config"]["gradient_accumulation_steps"] * stored["processes"]
    step = config.optimization.gradient_accumulation_steps * processes
    if step != before:
        raise UserError(
            f"--resume: the run used {before} micro-batches a step (accumulation x processes), now it would be"
            f" {step}; keep their product"
        )
    return [f"--{name} was {old}, now {now[name]}" for name, old in changed.items() if name not in once]
