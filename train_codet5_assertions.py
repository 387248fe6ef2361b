#!/usr/bin/env python
"""Fine-tune a teacher on assertions, then write what it knows: parse, build, train, distil."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError, run_main
from utils.seeding import fix_hash_seed

# The packages that take seconds to import wait until the command line has been checked.
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from config.defaults import TeacherConfig
    from models.text_encoder.encoders import Encoder
    from models.training.run import Run

SPLIT_TOLERANCE = 0.02
DESCRIPTION = "Fine-tune a CodeT5-family teacher to write assertions, and store its predictions and logits."


def main(argv: list[str] | None = None) -> int:
    """The whole road of a teacher; returns the exit code (85: stopped by a signal, continue with --resume)."""
    from config.command_line import parse_config
    from config.defaults import TeacherConfig
    from models.training.run_folder import choose_folder

    config = parse_config(TeacherConfig, argv, description=DESCRIPTION)
    train, validation = find_data(config)
    settings = config.teacher_data
    if settings.fold:
        output = replace(config.output, resume=config.output.resume or "auto")
        folder = choose_folder(replace(config, output=output), config.model.model_name)
        return run_fold(config, folder, settings.fold, *find_split(config, folder, train, validation))
    choose_folder(config, config.model.model_name)  # refused before seconds of imports, and again under the lock
    code, folder = train_teacher(config, train, validation)
    if code or settings.fold == 0 or config.output.dry_run or not settings.create_distillation_dataset:
        return code
    if settings.cross_fit is None:
        return 0
    return cross_fit(config, folder, *find_split(config, folder, train, validation))


def train_teacher(config: TeacherConfig, train: Path, validation: Path, unseen: Path | None = None) -> tuple[int, Path]:
    """Train, and write the distillation data; returns the exit code and the run's folder.

    unseen: the rows of a fold, which get the logits in place of those in ``train``.
    """
    from config.defaults import LossConfig
    from evaluation.validation import add_validation
    from models.loss_functions import LossSettings
    from models.multi_component_loss import MultiComponentLoss
    from models.seq2seq.agreement import choose_text_format
    from models.training.adapters import add_adapters
    from models.training.run import open_run
    from models.training.stages import announce, build_engine, dry_run, finish_model, open_datasets

    run = open_run(config, "train_codet5_assertions.py")
    settings = config.teacher_data
    if settings.cross_fit and settings.fold is None and run.accelerator.num_processes > 1:
        raise UserError(
            "--cross_fit: several processes train one fold at a time: start --fold 0 to the last, then one process"
            " with --resume auto, which joins them (docs/teacher.md)"
        )
    if config.teacher_data.data_path:
        train, validation = split_file(config, run)
    tokenizer, model = load_teacher(config, train, run.checkpoint, run.logger.warning)
    train_set, validation_set = open_datasets(
        run,
        tokenizer,
        model.config.vocab_size,
        teacher=False,
        train=train,
        validation=validation,
        text_format=choose_text_format(model, tokenizer, config.model.model_name, run.checkpoint),
    )
    if settings.lora_rank:
        add_adapters(model, settings.lora_rank)
    plain = LossConfig(loss_components=["ce"], loss_weights=[1.0])
    loss = MultiComponentLoss(LossSettings(plain, label_smoothing=settings.label_smoothing))
    engine = build_engine(run, model, tokenizer, loss, train_set)
    add_validation(run, engine, validation_set, encoder=load_metric_encoder(config, run))
    announce(run, engine, train_set, validation_set, {})
    if config.output.dry_run:
        return dry_run(run, engine), run.folder
    code = engine.run()
    if not code:
        model = finish_model(run, engine, tokenizer)
        if settings.create_distillation_dataset:
            files = {"training": train, "validation": validation}
            if unseen is not None:
                files = {"training": unseen}
            elif settings.cross_fit:
                del files["training"]
            code = distil(config, run, model, tokenizer, files)
        if not code:
            finish(config, run)
    run.leave()
    return code, run.folder


def find_split(config: TeacherConfig, folder: Path, train: Path, validation: Path) -> tuple[Path, Path]:
    """The training and validation file of a run that has begun: with --data_path those that it was split into."""
    if not config.teacher_data.data_path:
        return train, validation
    return folder / "split_training.jsonl", folder / "split_validation.jsonl"


def run_fold(config: TeacherConfig, folder: Path, number: int, train: Path, validation: Path) -> int:
    """Train the teacher of one fold and write its rows; one that is finished is left as it is."""
    from models.seq2seq.loading import is_scratch
    from models.teacher.folds import Fold, config_of_fold, write_fold
    from models.training.run_folder import is_finished
    from utils.folder_lock import FolderLock

    assert config.teacher_data.cross_fit
    fold = Fold(folder, number, config.teacher_data.cross_fit)
    tokenizer = str(folder / "final_model") if is_scratch(config.model.model_name) else None
    for needed in (train, validation, *([Path(tokenizer)] if tokenizer else [])):
        if not needed.exists():
            raise UserError(f"--fold {number}: {needed} is missing; --fold 0 writes it, so run that to its end first")
    own = config_of_fold(config, fold, validation, tokenizer)
    fold.folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(fold.folder.parent)  # processes of one fold write the same files
    try:
        same = write_fold(fold, train, config.teacher_data.max_distill_samples)
    finally:
        lock.release()
    if same and fold.result.is_file() and is_finished(fold.folder, own):
        return 0
    return train_teacher(own, fold.seen, validation, fold.unseen)[0]


def cross_fit(config: TeacherConfig, folder: Path, train: Path, validation: Path) -> int:
    """Run all folds that are not finished, and join their rows to distillation_data_training.jsonl."""
    from models.teacher.folds import Fold, merge_folds
    from utils.folder_lock import FolderLock
    from utils.signals import exit_on_signal

    count = config.teacher_data.cross_fit
    assert count
    for number in range(1, count + 1):
        exit_on_signal("continue with --resume auto")  # while the next fold is not yet training
        print(f"fold {number} of {count}: {Fold(folder, number, count).folder}", flush=True)
        if code := run_fold(config, folder, number, train, validation):
            return code
    exit_on_signal("continue with --resume auto")
    output = Path(config.teacher_data.distillation_dir or folder) / "distillation_data_training.jsonl"
    lock = FolderLock(folder)
    try:
        rows = merge_folds(
            [Fold(folder, number, count) for number in range(1, count + 1)], output, folder / "final_model"
        )
    finally:
        lock.release()
    print(f"{output}: {rows} rows, each with the logits of a teacher that did not train on it")
    return 0


def find_data(config: TeacherConfig) -> tuple[Path, Path]:
    """The data files, which must exist; with --data_path both are that one file, which is split later."""
    from data.rows.files import require_rows, require_two_files

    how = "make one with scripts/mine_assertions.py (docs/data.md)"
    if config.teacher_data.data_path:
        path = require_rows(config.teacher_data.data_path, "--data_path", how)
        return path, path
    return require_two_files(config.data.train_data_path, config.data.val_data_path, how)


def split_file(config: TeacherConfig, run: Run) -> tuple[Path, Path]:
    """Split --data_path by --validation_split and --seed, keeping each test class on one side."""
    from data.mining.file_split import split_rows

    settings, folder = config.teacher_data, run.folder
    assert settings.data_path
    if run.checkpoint is None or not (folder / "split_validation.jsonl").exists():
        if config.output.dry_run:  # leaves nothing behind, least of all another split in the folder of a run
            folder = Path(run.scratch)
        if run.accelerator.is_main_process or config.output.dry_run:
            parts = [folder / f"split_{part}.jsonl" for part in ("training", "validation")]
            asked = settings.validation_split
            share = split_rows(settings.data_path, parts[0], parts[1], asked, config.hardware.seed)
            if abs(share - asked) > SPLIT_TOLERANCE:
                run.logger.warning(
                    f"--validation_split {asked:g}: {share:.1%} of the rows validate, since each test class stays on"
                    " one side; more classes, or another --seed, come closer"
                )
    run.accelerator.wait_for_everyone()
    return folder / "split_training.jsonl", folder / "split_validation.jsonl"


def load_teacher(
    config: TeacherConfig, train: Path, checkpoint: Path | None, say: Callable[[str], None]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and model of the teacher: loaded, or built here with a tokenizer trained on the training data.

    One that was trained is the checkpoint's: other data would give another, whose ids mean something else.
    """
    from data.rows.context import list_items
    from data.rows.readers import RowError, parse_json_line, parse_sample, read_rows
    from models.seq2seq.loading import (
        SCRATCH_SHAPES,
        build_scratch,
        is_scratch,
        load_model,
        load_tokenizer,
        scratch_size,
        train_tokenizer,
    )

    settings = config.model
    if not is_scratch(settings.model_name):
        model = load_model(
            settings.model_name, dropout_rate=settings.dropout_rate, attention=settings.attention, say=say
        )
        return load_tokenizer(settings.tokenizer_name or settings.model_name), model
    size = scratch_size(settings.model_name)
    # Assertions of other tests are targets of their own rows.
    beside = {"style", "fields", "locals", "members", "doc"} if config.data.context != ["none"] else set()

    def texts() -> Iterator[str]:
        for _, line in read_rows(train):
            try:
                sample = parse_sample(parse_json_line(line))
            except RowError:
                continue
            yield from (sample.test, sample.focal, sample.target)
            yield from (item.text for item in list_items(sample.context, beside))

    if settings.tokenizer_name:
        tokenizer = load_tokenizer(settings.tokenizer_name, "--tokenizer_name")
    elif checkpoint is not None:
        tokenizer = load_tokenizer(str(checkpoint), "--resume")
    else:
        tokenizer = train_tokenizer(texts(), settings.scratch_vocab_size or SCRATCH_SHAPES[size][-1])
    model = build_scratch(
        size,
        tokenizer,
        dropout_rate=settings.dropout_rate,
        attention=settings.attention,
        seed=config.hardware.seed,
        copying=settings.scratch_copying,
        say=say,
    )
    return tokenizer, model


def load_metric_encoder(config: TeacherConfig, run: Run) -> Encoder | None:
    """The text encoder of the semantic metric, where validation reports it."""
    if not config.validation.use_enhanced_metrics:
        return None
    from models.text_encoder.encoders import resolve_encoder

    return resolve_encoder(config.validation.embedding_model, run.accelerator.device)


def distil(
    config: TeacherConfig,
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    files: dict[str, Path],
) -> int:
    """Write distillation_data_training.jsonl and ..._validation.jsonl; returns 85 where a signal asked for an end."""
    from tqdm import tqdm

    from data.dataset import AssertionDataset
    from data.rows.tokenization import TextFormat
    from models.teacher.writer import DistillationWriter, Processes, WriterSettings
    from utils.signals import REQUEUE_EXIT_CODE, StopSignal

    settings, accelerator = config.teacher_data, run.accelerator
    signal = StopSignal()
    signal.install()
    target = Path(settings.distillation_dir or run.folder)
    for part, path in files.items():
        dataset = AssertionDataset(
            path,
            tokenizer,
            max_input_len=config.data.max_input_len,
            max_output_len=config.data.max_output_len,
            max_samples=settings.max_distill_samples,
            vocab_size=model.config.vocab_size,
            teacher=False,
            text_format=TextFormat.of_model(model),
        )
        output = target / f"distillation_data_{part}.jsonl"
        writer = DistillationWriter(
            model,
            tokenizer,
            dataset,
            output,
            WriterSettings(
                teacher_name=str(run.final_model),
                encoding=settings.teacher_encoding,
                topk=settings.topk,
                bits=settings.compression_bits,
                num_beams=config.validation.num_beams,
                batch_size=settings.distill_batch_size or 4 * config.optimization.batch_size,
                workers=settings.compression_workers,
                max_reject_rate=config.data.max_reject_rate,
                strict=config.data.strict,
            ),
            Processes(accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone),
        )
        hidden = not (accelerator.is_main_process and sys.stderr.isatty())  # a log has one line a file instead
        with tqdm(total=len(dataset), desc=output.name, unit="row", disable=hidden) as bar:
            counts = writer.run(bar.update, stopped=lambda: signal.received is not None)
        if counts is None:
            run.logger.info(f"{signal.received}: stopped while writing {output}; continue with --resume auto")
            return REQUEUE_EXIT_CODE
        if accelerator.is_main_process:
            rows = counts["rows"]
            size = counts["bytes"]
            rejected = counts["rejected"]
            run.logger.info(f"{output}: {rows} rows, {size:,} bytes, rejected {rejected}")
    return 0


def finish(config: TeacherConfig, run: Run) -> None:
    """Report and model card."""
    if run.accelerator.is_main_process:
        run.logger.info(f"final model: {run.final_model}")
        run.logger.close()
        from evaluation.reports.model_card import write_model_card
        from evaluation.reports.run_report import try_write_report

        write_model_card(run.folder, role="teacher")
        run.publish()
        if config.output.run_report:
            try_write_report(run.folder, run.logger.warning)
    run.accelerator.wait_for_everyone()


if __name__ == "__main__":
    fix_hash_seed()
    run_main(main)
