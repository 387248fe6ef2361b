"""Let every system of an evaluation write: the teacher, the student, the model without a teacher, and the baselines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.distillation.file import name_tokenizer, read_header
from data.rows.context_choice import ContextChoice
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder
from evaluation.progress import show_progress
from evaluation.request import EvaluationRequest
from evaluation.suggesting.pool import fill_pools
from evaluation.suggesting.student import Student
from evaluation.summary import POOL, STUDENT, TEACHER, TITLES, Metrics
from evaluation.systems.baselines import FALSE, TRIVIAL, count_leaks, retrieve, strip_assertion
from evaluation.systems.models import ModelRunner, System, place_forced_metrics
from evaluation.systems.nearest_sibling import copy_nearest
from evaluation.systems.predictions import read_predictions
from evaluation.systems.teacher_logits import measure_closeness, open_stored_logits
from evaluation.tasks import Tasks
from models.decoding.generate import GenerationOptions, Writer
from models.losses.critical_tokens import find_critical_tokens
from models.seq2seq.loading import load_tokenizer
from models.seq2seq.teacher_forced import score_stored_teacher
from utils.errors import UserError
from utils.metrics import FORCED_METRICS


@dataclass
class Collected:
    """``systems`` by name; ``missing``: name -> why it is not judged; ``closeness`` of the student to the teacher's
    logits; ``inputs_seen``: how many tasks have the input of a training row (None: not known)."""

    systems: dict[str, System] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    closeness: Metrics = field(default_factory=dict)
    inputs_seen: int | None = None


def build_runner(request: EvaluationRequest, device: str, folder: Path) -> ModelRunner:
    """What makes systems of the request's models; ``folder`` keeps their texts while they are made."""
    options = GenerationOptions(
        max_input_len=request.max_input_len,
        max_output_len=request.max_output_len,
        batch_size=request.batch_size,
        num_beams=request.num_beams,
        num_return_sequences=request.num_return_sequences,
        latency_samples=request.latency_samples,
        decoding=request.decoding,
    )
    choice = ContextChoice(request.context, request.max_context_tokens, request.allow_other_context)
    return ModelRunner(options, device, folder, request.resume, choice)


def collect_systems(
    request: EvaluationRequest,
    tasks: Tasks,
    why_no_teacher: str | None,
    training: Sequence[Sample],
    device: str,
    progress_folder: Path,
) -> Collected:
    """Every system that the request names, in the order of the reports.

    ``why_no_teacher``: why the teacher cannot be judged (None: it can). ``training``: the rows of ``--train_data``.
    ``progress_folder`` keeps what the models wrote until the evaluation is complete.
    """
    runner = build_runner(request, device, progress_folder)
    found = Collected()
    teacher_tasks, student_tasks = tasks.first(request.teacher_limit), tasks.first(request.student_limit)
    if not (request.student_model_path or request.baseline_model_path or request.student_limit):
        student_tasks = teacher_tasks  # the baselines stand beside the teacher alone
    given = read_predictions(request.predictions, student_tasks)  # a fault there should show before models write

    pooled: dict[str, System] = {}

    def probe(writer: Writer, encoder: TaskEncoder) -> None:
        found.closeness = measure_closeness(request, student_tasks, writer)
        if request.pool:
            student = Student(writer, replace(runner.options, num_return_sequences=request.num_beams), encoder)
            samples, texts = student_tasks.samples, []
            with show_progress(f"{TITLES[POOL]}: ranking", len(samples)) as count:
                for start in range(0, len(samples), request.batch_size):
                    pools = fill_pools(samples[start : start + request.batch_size], student)
                    texts += [pool[0].text if pool else "" for pool in pools]
                    count(len(pools))
            pooled[POOL] = System(TITLES[POOL], texts)

    if request.teacher_model:
        found.systems[TEACHER] = runner.run(
            TITLES[TEACHER], request.teacher_model, "--teacher_model", teacher_tasks.samples
        )
    elif why_no_teacher:
        found.missing[TEACHER] = why_no_teacher
    else:
        found.systems[TEACHER] = read_stored_teacher(request, teacher_tasks)
    for name, path, flag, measure in (
        (STUDENT, request.student_model_path, "--student_model_path", probe),
        ("no_teacher", request.baseline_model_path, "--baseline_model_path", None),
    ):
        if path:
            found.systems[name] = runner.run(TITLES[name], path, flag, student_tasks.samples, measure)
        else:
            found.missing[name] = f"no {flag} was given"
    found.systems |= pooled
    add_baselines(found, request, student_tasks.samples, training)
    found.systems |= {name: System(name, texts) for name, texts in given.items()}
    return found


def add_baselines(
    found: Collected, request: EvaluationRequest, samples: Sequence[Sample], training: Sequence[Sample]
) -> None:
    """What needs no model: assertions of the nearest tests, and what must never be judged non-trivial."""
    if any(sample.context.get("siblings") for sample in samples):
        found.systems["nearest_sibling"] = System("nearest_sibling", [copy_nearest(sample) for sample in samples])
    else:
        found.missing["nearest_sibling"] = "the rows hold no siblings"
    if training:
        nearest = retrieve(training, samples)
        found.systems["retrieval"] = System("retrieval", nearest.predictions)
        found.systems["retrieval"].facts["mean_similarity"] = float(nearest.similarity.mean())
        found.inputs_seen = count_leaks(training, samples)
    else:
        found.missing["retrieval"] = "no --train_data was given"
    controls = {
        "trivial": [TRIVIAL] * len(samples),
        "false": [FALSE] * len(samples),
        "bare_call": [strip_assertion(sample.target) for sample in samples],
    }
    for name, predictions in controls.items():
        if request.no_controls:
            found.missing[name] = "left out by --no_controls"
        else:
            found.systems[name] = System(name, predictions)


def read_stored_teacher(request: EvaluationRequest, tasks: Tasks) -> System:
    """The teacher as its data file shows it: the stored predictions, and the accuracies of the stored logits.

    The logits can be read with the tokenizer of any model that has the teacher's vocabulary: the first that fits.
    """
    system = System(TEACHER, [sample.teacher_prediction or "" for sample in tasks.samples])
    header = read_header(request.teacher_data)
    reason = "no tokenizer to read the teacher's logits with; give --student_model_path or --teacher_model"
    named = (request.student_model_path, request.baseline_model_path, request.teacher_model)
    for name in (*named, name_tokenizer(request.teacher_data)):
        if not name:
            continue
        try:
            tokenizer = load_tokenizer(name)
        except UserError:
            continue
        vocab_size = header.vocab_size if header else len(tokenizer)
        stored = open_stored_logits(request, tasks.rows, tokenizer, vocab_size)
        if isinstance(stored, str):
            reason = stored
            continue
        forced = score_stored_teacher(
            stored, find_critical_tokens(tokenizer).mask(vocab_size), len(stored.dataset.encoder.begin)
        )
        system.measured = place_forced_metrics(forced, len(tasks.samples))
        break
    else:
        system.reasons = dict.fromkeys(FORCED_METRICS, reason)
        if header:
            print(
                f"warning: {', '.join(FORCED_METRICS)} of the stored teacher are not known: {reason}; name the"
                " teacher's folder with --teacher_model",
                file=sys.stderr,
            )
    if header:
        system.facts |= {"path": header.teacher, "parameters": header.teacher_parameters}
    return system
