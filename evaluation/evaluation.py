"""One evaluation, from what is asked to the files that hold the answer."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.rows.oddities import count_oddities, tell_oddities
from evaluation.progress import show_progress
from evaluation.request import EvaluationRequest
from evaluation.summary import SUMMARY_FILE, RunFacts, Summary, title_of
from evaluation.tasks import Tasks, limit_classes, read_samples, read_tasks
from utils.errors import UserError
from utils.folder_lock import NO_LOCKS, FolderLock
from utils.signals import exit_on_signal

if TYPE_CHECKING:
    from evaluation.collect import Collected
    from evaluation.evaluators import TextEncoder
    from evaluation.reports.results import Judged
    from evaluation.running.outcomes import Outcome

MIN_TASKS_FOR_PROCESSES = 300  # below, starting processes takes longer than they save
PROGRESS_FOLDER = ".progress"


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation: its folder, and the summary that is among its files."""

    folder: Path
    summary: Summary

    def text(self) -> str:
        """For the terminal: metrics by systems, and where the report is."""
        from evaluation.reports.pages import make_text_table

        return f"{make_text_table(self.summary)}\n\nevaluation report: {self.folder / 'report.html'}"


def evaluate(request: EvaluationRequest, run_lock: FolderLock | None = None) -> Evaluated:
    """Judge every system that the request names, and write the files of the evaluation into its folder.

    ``run_lock``: the lock of the training run that evaluates its model in its own folder; the run keeps it. Raises
    UserError where something that is asked for is missing or cannot work, before hours are spent on the rest.
    """
    folder, lock = open_folder(request, run_lock)
    started = time.monotonic()
    tasks, why_no_teacher = read_tasks(request)
    odd = count_oddities(tasks.samples)
    for sentence in tell_oddities(request.teacher_data, odd, f"{len(tasks.samples)} rows"):
        print(f"warning: {sentence}", file=sys.stderr)
    rows_in_file = len(tasks.samples)
    if request.max_per_class:
        tasks = limit_classes(tasks, request.max_per_class)
    check_temperature(request)
    exit_on_signal()
    class_path = None
    if request.project:
        from evaluation.running.run_systems import prepare_project

        class_path = prepare_project(request, tasks.samples)
    training = []
    if request.train_data:
        training = read_samples(request.train_data, "--train_data", request.max_reject_rate).samples

    # torch and transformers take seconds to load: only now, when the data are known to be usable.
    from evaluation.collect import collect_systems
    from evaluation.reports.files import write_results
    from evaluation.reports.results import build_summary, make_task_rows
    from evaluation.reports.strata import build_strata, place_answers
    from utils.device import resolve_device

    device = resolve_device(request.device)
    encoder = load_encoder(request, device)
    found = collect_systems(request, tasks, why_no_teacher, training, device, folder / PROGRESS_FOLDER)
    facts: RunFacts = {"rows_odd": odd}
    if found.inputs_seen is not None:
        facts["inputs_seen_in_training"] = found.inputs_seen
    outcomes: dict[str, list[Outcome]] = {}
    if class_path is not None:
        from evaluation.running.run_systems import run_systems

        outcomes, ran = run_systems(request, found.systems, tasks.samples, class_path)
        facts |= ran
    judged = judge_systems(request, found, tasks, encoder, outcomes)
    run: RunFacts = {
        **describe_tasks(request, found, tasks, rows_in_file),
        "arguments": asdict(request),
        "device": device,
        "seconds": round(time.monotonic() - started, 1),
        **facts,
    }
    places = place_answers(tasks.samples[: run["tasks"]], found.systems)
    summary = build_summary(judged, found.missing, run, found.closeness, build_strata(judged, places))
    write_results(folder, summary, make_task_rows(tasks.samples, judged, places))
    shutil.rmtree(folder / PROGRESS_FOLDER, ignore_errors=True)
    if lock is not run_lock:
        lock.release()
    return Evaluated(folder, summary)


def open_folder(request: EvaluationRequest, run_lock: FolderLock | None) -> tuple[Path, FolderLock]:
    """The folder of the evaluation, and the lock on it. Raises UserError where it may not or cannot be written."""
    folder = Path(request.output_dir or f"results/{time.strftime('%Y-%m-%d_%H-%M-%S')}_evaluation")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = run_lock or FolderLock(folder)
    except OSError as error:
        raise UserError(f"--output_dir {folder}: cannot be written ({error.strerror})") from None
    if (folder / SUMMARY_FILE).exists() and not (request.overwrite or request.resume):
        lock.release()
        raise UserError(f"--output_dir {folder}: holds an evaluation; give --overwrite, --resume or another folder")
    if run_lock is None and not lock.held:  # a run has said so itself
        print(f"warning: {folder}: {NO_LOCKS}", file=sys.stderr)
    return folder, lock


def check_temperature(request: EvaluationRequest) -> None:
    """Raise UserError where the stored logits do not reach down to ``--temperature``."""
    from data.distillation.file import read_header
    from data.distillation.signal import MAX_INVERSE_TEMPERATURE

    header, lowest = read_header(request.teacher_data), 1 / MAX_INVERSE_TEMPERATURE
    if header and header.encoding == "topk" and request.temperature < lowest:
        raise UserError(f"--temperature {request.temperature}: top-k teacher data covers temperatures from {lowest} up")


def load_encoder(request: EvaluationRequest, device: str) -> TextEncoder | None:
    """The text encoder of the semantic similarity; None where the request leaves it out."""
    import transformers

    from models.text_encoder.encoders import resolve_encoder

    transformers.utils.logging.disable_progress_bar()
    return None if request.embedding_model == "none" else resolve_encoder(request.embedding_model, device)


def judge_systems(
    request: EvaluationRequest,
    found: Collected,
    tasks: Tasks,
    encoder: TextEncoder | None,
    outcomes: Mapping[str, list[Outcome]],
) -> dict[str, Judged]:
    """The scores of every system, task by task; ``outcomes``: of those whose predictions were run."""
    from evaluation.reports.results import judge

    workers = request.workers if len(tasks.samples) >= MIN_TASKS_FOR_PROCESSES else 0
    reasons = {"semantic_similarity": "left out by --embedding_model none"} if encoder is None else {}
    judged = {}
    for name, system in found.systems.items():
        with show_progress(f"{title_of(name)}: scoring", len(system.predictions)):
            judged[name] = judge(system, tasks.samples, encoder, workers, outcomes.get(name), reasons)
    return judged


def describe_tasks(request: EvaluationRequest, found: Collected, tasks: Tasks, rows_in_file: int) -> RunFacts:
    """On what the systems were judged."""
    judged = tasks.samples[: max(len(system.predictions) for system in found.systems.values())]
    return {
        "teacher_data": request.teacher_data,
        "tasks": len(judged),
        "tasks_in_file": rows_in_file,
        "rows_left_out": dict(tasks.rejected),
        "test_classes": len({sample.source.get("test_class") for sample in judged} - {None}),
    }
