"""The stages that teacher and student runs share: data, engine, first screen, dry run, final model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from config.schedules import AlphaController
from data.batches.loader import JsonlTrainingData
from data.dataset import AssertionDataset, EpochSamplingDataset, Item, Rejected
from data.distillation.legacy import LegacyOptions
from data.rows.context_choice import ContextChoice, describe
from data.rows.oddities import count_oddities, tell_oddities
from data.rows.tokenization import TaskEncoder, TextFormat
from models.multi_component_loss import MultiComponentLoss
from models.seq2seq.agreement import check_positions, check_texts, settle_special_ids
from models.seq2seq.loading import count_parameters, load_model, save_model
from models.teacher.forward import LiveTeacher
from models.training.adapters import merge_adapters
from models.training.checkpoint import drop_later
from models.training.engine import WRITE_ERRORS, TrainingEngine
from models.training.plan import no_softening
from models.training.run import Run
from models.training.start_screen import RunFacts, start_screen, warnings_that_matter
from utils.errors import UserError
from utils.training_utils import count_default_workers

LENGTH_PROBE = 200  # rows looked at before the start
OWN_PIECES = {"test", "focal method"}


def open_datasets(
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    *,
    teacher: bool,
    train: str | Path,
    validation: str | Path,
    teacher_format: TextFormat | None = None,
    legacy: LegacyOptions | None = None,
    text_format: TextFormat | None = None,
) -> tuple[AssertionDataset, AssertionDataset]:
    """Training and validation data, by the flags; ``teacher``: whether stored logits are read.

    ``teacher_format``: of a teacher that is asked during training. ``legacy``: how to read logits of files without a
    header. ``text_format``: of texts where neither a teacher nor a file tells it. Raises UserError for data of
    another format than the teacher's.
    """
    data, loading = run.config.data, run.config.loading
    open_file = partial(
        AssertionDataset,
        tokenizer=tokenizer,
        max_input_len=data.max_input_len,
        max_output_len=data.max_output_len,
        vocab_size=vocab_size,
        teacher=teacher,
        legacy=legacy,
    )
    train_set: AssertionDataset
    if loading.enable_epoch_sampling and data.max_train_samples is not None:
        train_set = EpochSamplingDataset(
            train,
            samples_per_epoch=data.max_train_samples,
            sampling_seed=loading.sampling_seed,
            drop_answer_in_test=data.drop_answer_in_test,
            **open_file.keywords,
        )
        if train_set.samples_per_epoch == train_set.size:
            run.logger.warning(
                f"--enable_epoch_sampling has no effect: {train_set.path} has {train_set.size} rows, so each epoch"
                f" takes all of them, not a part; lower --max_train_samples {data.max_train_samples}"
            )
    else:
        train_set = open_file(train, max_samples=data.max_train_samples, drop_answer_in_test=data.drop_answer_in_test)
    if data.drop_answer_in_test:
        left_out = len(train_set) - len(train_set.chosen)
        run.logger.info(f"--drop_answer_in_test: {left_out} of {len(train_set)} training rows are left out")
    validation_set = open_file(validation, max_samples=data.max_val_samples, flag="--val_data_path")
    text_format = text_format or TextFormat()
    choice = ContextChoice(data.context, data.max_context_tokens, data.allow_other_context)
    for dataset in (train_set, validation_set):
        known = teacher_format or dataset.stored_format
        who = "the live teacher" if teacher_format else f"the teacher of {dataset.path}"
        chosen = choice.choose(known, who, dataset.has_context, str(dataset.path))
        if teacher_format is None and dataset.header is None and (known is None or run.checkpoint is not None):
            apart = text_format.sets_nearest_apart(chosen.context)
            chosen = replace(chosen, frame=text_format.frame, nearest_apart=apart)
        dataset.encoder = TaskEncoder(tokenizer, chosen)
        text_format = train_set.encoder.format  # the validation data follow, if they can
        if dataset.note:
            run.logger.info(dataset.note)
    if train_set.encoder.format != validation_set.encoder.format:
        one, other = (each.encoder.format for each in (validation_set, train_set))
        raise UserError(
            f"{validation_set.path}: shows {describe(one)} in the frame {one.frame}, the training data"
            f" {describe(other)} in the frame {other.frame}; use data of one format, or name one with --context"
        )
    return train_set, validation_set


def _probe(dataset: AssertionDataset) -> tuple[list[Item], dict[str, int]]:
    """The usable rows of a sample, and why others are not: reason -> rows. Raises UserError where none is usable."""
    rows = np.linspace(0, len(dataset) - 1, min(LENGTH_PROBE, len(dataset))).astype(int)
    items = [dataset[int(row)] for row in np.unique(rows)]
    bad: dict[str, int] = {}
    for item in items:
        if isinstance(item, Rejected):
            bad[item.reason] = bad.get(item.reason, 0) + 1
    good = [item for item in items if isinstance(item, Item)]
    if not good:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in bad.items())
        raise UserError(f"{dataset.path}: none of {len(items)} rows looked at can be used ({reasons})")
    return good, bad


def _describe_lengths(dataset: AssertionDataset, good: list[Item], bad: dict[str, int]) -> RunFacts:
    """Lengths and truncation of the rows looked at, and why some of them are unusable."""
    layouts = [dataset.encoder.lay_out(item.sample, dataset.max_input_len) for item in good]
    pieces = Counter(part for layout in layouts for part in layout.cut)
    inputs = np.array([len(item.input_ids) for item in good])
    targets = np.array([len(item.labels) for item in good])
    cut = np.array([item.labels[-1] != dataset.tokenizer.eos_token_id for item in good])

    def spread(values: np.ndarray) -> tuple[float, float, float]:
        return float(np.median(values)), float(np.percentile(values, 95)), float(values.max())

    facts: RunFacts = {
        "input_lengths": spread(inputs),
        "target_lengths": spread(targets),
        "truncated_inputs": sum(bool(OWN_PIECES & layout.cut.keys()) for layout in layouts) / len(layouts),
        "cut_pieces": {part: count / len(layouts) for part, count in pieces.most_common()},
        "context": describe(dataset.encoder.format),
        "truncated_targets": float(cut.mean()),
    }
    return {**facts, "rejected": bad} if bad else facts


def announce(
    run: Run, engine: TrainingEngine, train_set: AssertionDataset, validation_set: AssertionDataset, more: RunFacts
) -> None:
    """The one screen at the start, and the warnings that matter; ``more``: what the script knows beyond the run."""
    config = run.config
    optim, loading = config.optimization, config.loading
    good, bad = _probe(train_set)
    lengths = _describe_lengths(train_set, good, bad)
    looked_at = {train_set: good, validation_set: _probe(validation_set)[0]}  # raises now, not after an epoch
    facts: RunFacts = {
        "output_dir": str(run.folder),
        "resumed_from": str(run.checkpoint) if run.checkpoint else None,
        "train_rows": len(train_set.chosen),
        "val_rows": len(validation_set),
        "samples_per_epoch": len(train_set.rows_of_epoch(0)),
        "max_input_len": config.data.max_input_len,
        "max_output_len": config.data.max_output_len,
        "student": config.model.model_name,
        "student_parameters": count_parameters(engine.bare_model),
        "batch_size": optim.batch_size,
        "max_batch_tokens": optim.max_batch_tokens,
        "gradient_accumulation_steps": optim.gradient_accumulation_steps,
        "processes": run.accelerator.num_processes,
        "epochs": optim.epochs,
        "total_steps": engine.plan.total_steps,
        "warmup_steps": engine.plan.warmup_steps,
        "lr": optim.lr,
        "lr_end": optim.lr * optim.lr_floor_ratio,
        "device": str(run.accelerator.device),
        "precision": run.accelerator.mixed_precision.replace("no", "fp32"),
        "num_workers": count_default_workers() if loading.num_workers is None else loading.num_workers,
        "seed": config.hardware.seed,
        **lengths,
        **more,
    }
    run.logger.info(start_screen(facts))
    for warning in warnings_that_matter(facts):
        run.logger.warning(warning)
    for dataset, items in looked_at.items():
        for note in check_texts(dataset.encoder, [item.sample for item in items], str(dataset.path)):
            run.logger.warning(note)
        counts = count_oddities([item.sample for item in items])
        for sentence in tell_oddities(dataset.path.name, counts, f"{len(items)} rows looked at"):
            run.logger.warning(sentence)


def build_engine(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    loss: MultiComponentLoss,
    train_set: AssertionDataset,
    *,
    temperature: Callable[[float], float] = no_softening,
    alpha: AlphaController | None = None,
    live_teacher: LiveTeacher | None = None,
) -> TrainingEngine:
    """The engine with its data, restored where the run continues; it has no validation yet."""
    config, accelerator = run.config, run.accelerator
    train_set.encoder.format.store_in(model)
    for note in settle_special_ids(model, tokenizer, f"--model_name {config.model.model_name}"):
        run.logger.warning(note)
    check_positions(
        model, config.data.max_input_len, config.data.max_output_len, f"--model_name {config.model.model_name}"
    )
    rank, world = accelerator.process_index, accelerator.num_processes
    if config.model.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.config.use_cache = False
    if not config.hardware.fsdp:  # which takes its shares from the CPU
        model.to(accelerator.device)
    data = JsonlTrainingData(
        train_set,
        config,
        run.rejected_rows(train_set),
        rank=rank,
        world=world,
        live_teacher=live_teacher,
        device=accelerator.device,
    )
    engine = TrainingEngine(run, model, tokenizer, loss, data, temperature=temperature, alpha=alpha)
    if run.checkpoint is not None:
        engine.restore(run.checkpoint)
        if accelerator.is_main_process and not config.output.dry_run and (later := drop_later(run.checkpoint)):
            run.logger.warning(f"dropped {', '.join(later)}: the run goes on from an earlier checkpoint")
    accelerator.wait_for_everyone()  # rejected.jsonl is tidy before anyone adds to it
    return engine


def dry_run(run: Run, engine: TrainingEngine) -> int:
    """One step and one validation batch, nothing written."""
    if engine.progress.finished:
        run.logger.info("dry run: the run is finished, no step is left. Nothing was written.")
        run.leave()
        return 0
    engine.train_step(next(engine.epoch()))
    if engine.validate is not None:
        engine.validate.one_batch_only()
        engine.validate(engine.whole_model().to(run.accelerator.device), 0)
    run.logger.info(
        f"dry run: everything fits together; one step took {engine.progress.seconds:.1f} s, "
        f"{engine.plan.total_steps} steps would follow. Nothing was written."
    )
    run.leave()
    return 0


def finish_model(run: Run, engine: TrainingEngine, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Write ``final_model``: the best one of the run where validation chose one, else the last."""
    if engine.progress.best_value is not None:
        model = load_model(
            str(run.folder / "best_model"), attention=run.config.model.attention, say=lambda _: None
        )  # it was said at the start
    else:
        model = engine.whole_model()
        merge_adapters(model)
    model.to(run.accelerator.device)
    if run.accelerator.is_main_process:
        try:
            save_model(model, tokenizer, run.final_model)
        except WRITE_ERRORS as error:
            raise UserError(
                f"{run.final_model}: cannot be written ({error}); training is done and its checkpoints stand: make room"
                " or fix the permissions, then --resume"
            ) from None
    run.accelerator.wait_for_everyone()
    return model
