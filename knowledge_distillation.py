#!/usr/bin/env python
"""Train a student on the knowledge of a teacher: parse, build, run, evaluate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError, run_main
from utils.seeding import fix_hash_seed

# The packages that take seconds to import wait until the command line has been checked.
if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from config.defaults import StudentConfig
    from config.schedules import AlphaController
    from data.dataset import AssertionDataset
    from models.multi_component_loss import MultiComponentLoss
    from models.teacher.forward import LiveTeacher
    from models.text_encoder.encoders import Encoder
    from models.training.run import Run
    from models.training.start_screen import RunFacts

DESCRIPTION = "Train a small model to write the assertion that a Java test lacks, from a teacher's knowledge."


def main(argv: list[str] | None = None) -> int:
    """The whole road of a student; returns the exit code (85: stopped by a signal, continue with --resume)."""
    from config.command_line import parse_config
    from config.defaults import StudentConfig
    from models.training.run_folder import choose_folder

    config = parse_config(StudentConfig, argv, description=DESCRIPTION)
    train, validation = find_data(config)
    choose_folder(config, config.model.model_name)  # refused before seconds of imports, and again under the lock
    from data.distillation.legacy import LegacyOptions

    legacy = LegacyOptions(config.distillation.legacy_offset, config.distillation.legacy_logit_scale)

    from config.schedules import temperature_at
    from evaluation.validation import add_validation
    from models.losses.critical_tokens import find_critical_tokens
    from models.seq2seq.agreement import choose_text_format
    from models.teacher.legacy import teacher_factor
    from models.training.run import open_run
    from models.training.stages import announce, build_engine, dry_run, finish_model, open_datasets

    run = open_run(config, "knowledge_distillation.py")
    tokenizer, model = load_student(config, train, run.logger.warning)
    live = load_live_teacher(config, run, tokenizer, model)
    vocab_size = model.config.vocab_size
    train_set, validation_set = open_datasets(
        run,
        tokenizer,
        vocab_size,
        teacher=live is None,
        train=train,
        validation=validation,
        teacher_format=live.text_format if live else None,
        legacy=replace(legacy, measure=teacher_factor),
        text_format=choose_text_format(model, tokenizer, config.model.model_name, run.checkpoint),
    )
    has_teacher = live is not None or (train_set.has_teacher and validation_set.has_teacher)
    warn_of_teacher_data(config, run, train_set, validation_set, has_teacher)
    alpha = choose_alpha(config)
    loss = build_student_loss(config, run, tokenizer, vocab_size, train_set, has_teacher)
    temperature = partial(temperature_at, config.distillation.temperature, config.distillation.temperature_final)
    encoder = load_metric_encoder(config, run.accelerator.device)
    engine = build_engine(
        run, model, tokenizer, loss, train_set, temperature=temperature, alpha=alpha, live_teacher=live
    )
    critical = find_critical_tokens(tokenizer).mask(vocab_size)
    add_validation(run, engine, validation_set, encoder=encoder, critical=critical, live_teacher=live)
    announce(run, engine, train_set, validation_set, describe_distillation(config, tokenizer, loss, train_set))
    if config.output.dry_run:
        return dry_run(run, engine)
    code = engine.run()
    if not code:
        finish_model(run, engine, tokenizer)
        finish(config, run, train, validation)
    run.leave()
    return code


def find_data(config: StudentConfig) -> tuple[Path, Path]:
    """The two data files; UserError where one is missing or both are the same."""
    from data.rows.files import HOW_TO_MAKE, require_two_files

    return require_two_files(config.data.train_data_path, config.data.val_data_path, HOW_TO_MAKE)


def load_student(
    config: StudentConfig, train: Path, say: Callable[[str], None]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and model of the student: loaded, cut to fewer layers, or built here for the teacher's vocabulary."""
    from data.distillation.file import name_tokenizer, read_header
    from models.seq2seq.loading import (
        build_scratch,
        copy_layers,
        is_scratch,
        load_model,
        load_tokenizer,
        read_vocab_size,
        scratch_size,
    )

    settings, cut = config.model, config.student
    if not is_scratch(settings.model_name):
        model = load_model(
            settings.model_name, dropout_rate=settings.dropout_rate, attention=settings.attention, say=say
        )
        if cut.student_encoder_layers or cut.student_decoder_layers:
            model = copy_layers(model, cut.student_encoder_layers, cut.student_decoder_layers)
        return load_tokenizer(settings.tokenizer_name or settings.model_name), model
    if cut.student_encoder_layers or cut.student_decoder_layers:
        raise UserError(f"--model_name {settings.model_name}: has no trained layers to copy; name a trained model")
    size = scratch_size(settings.model_name)
    header = read_header(train)
    name = settings.tokenizer_name or config.distillation.teacher_model or name_tokenizer(train)
    if name is None:
        raise UserError(f"--model_name {settings.model_name}: {train} names no teacher; give --tokenizer_name")
    tokenizer = load_tokenizer(name, "--tokenizer_name")
    # Logits fit a student alone that has the teacher's padded vocabulary too.
    live = config.distillation.teacher_model
    vocab_size = read_vocab_size(live, "--teacher_model") if live else header.vocab_size if header else None
    model = build_scratch(
        size,
        tokenizer,
        dropout_rate=settings.dropout_rate,
        attention=settings.attention,
        seed=config.hardware.seed,
        copying=settings.scratch_copying,
        vocab_size=vocab_size,
        say=say,
    )
    return tokenizer, model


def load_live_teacher(
    config: StudentConfig, run: Run, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> LiveTeacher | None:
    """The teacher of --teacher_model, asked during training; None without the flag."""
    name = config.distillation.teacher_model
    if name is None:
        return None
    from data.rows.tokenization import tokenizer_fingerprint
    from models.seq2seq.agreement import check_positions, settle_special_ids
    from models.seq2seq.loading import load_model, load_tokenizer
    from models.teacher.forward import LiveTeacher

    if tokenizer_fingerprint(load_tokenizer(name, "--teacher_model")) != tokenizer_fingerprint(tokenizer):
        raise UserError(f"--teacher_model {name}: its tokenizer differs from the student's")
    teacher = load_model(name, flag="--teacher_model", attention=config.model.attention, say=run.logger.warning)
    if teacher.config.vocab_size != model.config.vocab_size:
        raise UserError(
            f"--teacher_model {name}: vocabulary of {teacher.config.vocab_size},"
            f" the student has {model.config.vocab_size}"
        )
    for note in settle_special_ids(teacher, tokenizer, f"--teacher_model {name}"):
        run.logger.warning(note)
    check_positions(teacher, config.data.max_input_len, config.data.max_output_len, f"--teacher_model {name}")
    return LiveTeacher(teacher.to(run.accelerator.device))


def warn_of_teacher_data(
    config: StudentConfig, run: Run, train_set: AssertionDataset, validation_set: AssertionDataset, has_teacher: bool
) -> None:
    """Say where one file lacks the teacher's logits, and where the teacher cut its targets.

    Raises UserError where the loss needs what only one of the files has.
    """
    from config.schedules import component_names
    from models.loss_functions import COMPONENTS

    if train_set.has_teacher != validation_set.has_teacher:
        full, empty = (train_set, validation_set) if train_set.has_teacher else (validation_set, train_set)
        flag = "--train_data_path" if train_set is empty else "--val_data_path"
        needing = [name for name in component_names(config.loss) if "teacher" in COMPONENTS[name].needs]
        if needing:
            raise UserError(
                f"{flag} {empty.path}: raw rows without the teacher's logits, beside {full.path}, which has them; give"
                f" the file that train_codet5_assertions.py wrote, or leave {', '.join(needing)} out of the loss"
            )
        run.logger.warning(f"{empty.path} holds no teacher logits, {full.path} does: training goes without a teacher")
    header = train_set.header
    if has_teacher and header and header.max_output_len < config.data.max_output_len:
        run.logger.warning(
            f"{train_set.path}: the teacher cut its targets at {header.max_output_len} tokens, so they are no longer"
            f" than that here either, whatever --max_output_len {config.data.max_output_len} says"
        )


def choose_alpha(config: StudentConfig) -> AlphaController | None:
    """Alpha, where the loss function has one."""
    from config.defaults import MULTI_COMPONENT
    from config.schedules import AlphaController

    if config.loss.loss_function == MULTI_COMPONENT:
        return None
    return AlphaController(config.distillation, config.loss.enable_dynamic_weighting)


def build_student_loss(
    config: StudentConfig,
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    train_set: AssertionDataset,
    has_teacher: bool,
) -> MultiComponentLoss:
    """The loss of --loss_function."""
    from models.loss_functions import LossSettings
    from models.multi_component_loss import build_loss
    from models.text_encoder.bridge import target_texts

    settings = LossSettings(
        config.loss, config.semantic, config.distillation, config.token_weighting, config.validation
    )
    # The main process first: it fits the bridge, the others find it in the cache.
    with run.accelerator.main_process_first():
        return build_loss(
            settings,
            tokenizer,
            vocab_size,
            target_texts(train_set),
            run.accelerator.device,
            teacher_available=has_teacher,
            progress=run.accelerator.is_main_process and sys.stderr.isatty(),
            log=run.logger.info,
        )


def load_metric_encoder(config: StudentConfig, device: torch.device) -> Encoder | None:
    """The text encoder of the semantic metric; None where nothing asks for it.

    It is loaded now even if only the final evaluation needs it: what is missing must be said before hours of training.
    """
    from models.text_encoder.encoders import resolve_encoder

    settings = config.validation
    if settings.embedding_model == "none" or not (settings.use_enhanced_metrics or settings.final_evaluation):
        return None
    return resolve_encoder(settings.embedding_model, device)


def describe_distillation(
    config: StudentConfig, tokenizer: PreTrainedTokenizerBase, loss: MultiComponentLoss, train_set: AssertionDataset
) -> RunFacts:
    """For the first screen: the teacher, both ends of the schedules, and how many critical tokens are known."""
    from config.defaults import MULTI_COMPONENT
    from models.losses.critical_tokens import find_critical_tokens
    from models.multi_component_loss import LossProgress

    settings, header = config.distillation, train_set.header
    start, end = (loss.weights(LossProgress(fraction, alpha=settings.alpha)) for fraction in (0.0, 1.0))
    facts: RunFacts = {
        "teacher": settings.teacher_model or (header.teacher if header else None),
        "teacher_parameters": header.teacher_parameters if header else None,
        "weights": {name: (start[name], end[name]) for name in loss.components},
        "temperature": (settings.temperature, settings.temperature_final),
        "alpha": settings.alpha if config.loss.loss_function != MULTI_COMPONENT else None,
    }
    if loss.capped:
        share = config.semantic.semantic_gradient_share
        facts["gradient_limit"] = f"{' and '.join(loss.capped)} at most {share:g} × the pull of the token terms"
    if not config.token_weighting.enable_token_weighting:
        return facts
    found = find_critical_tokens(tokenizer, config.token_weighting.critical_token_categories).found
    ways = {token: how for tokens in found.values() for token, how in tokens.items()}
    missing = [token for token, how in ways.items() if how is None]
    return {
        **facts,
        "critical_tokens_total": len(ways),
        "critical_tokens_mapped": len(ways) - len(missing),
        "critical_tokens_unmapped": missing,
    }


def finish(config: StudentConfig, run: Run, train: Path, validation: Path) -> None:
    """Evaluation of the final model, report and model card; the main process alone."""
    if run.accelerator.is_main_process:
        if config.validation.final_evaluation:
            from evaluation.evaluation import evaluate
            from evaluation.request import EvaluationRequest

            request = EvaluationRequest(
                teacher_data=str(validation),
                train_data=str(train),
                teacher_limit=config.data.max_val_samples,
                student_limit=config.data.max_val_samples,
                student_model_path=str(run.final_model),
                teacher_model=config.distillation.teacher_model,
                embedding_model=config.validation.embedding_model,
                device=str(run.accelerator.device),
                num_beams=config.validation.num_beams,
                max_input_len=config.data.max_input_len,
                max_output_len=config.data.max_output_len,
                allow_other_context=config.data.allow_other_context,
                output_dir=str(run.folder),
                resume=True,
                max_reject_rate=config.data.max_reject_rate,
                legacy_offset=config.distillation.legacy_offset,
                legacy_logit_scale=config.distillation.legacy_logit_scale,
            )
            print(evaluate(request, run.lock).text())
        run.logger.info(f"final model: {run.final_model}")
        run.logger.close()
        from evaluation.reports.model_card import write_model_card
        from evaluation.reports.run_report import try_write_report

        write_model_card(run.folder)
        run.publish()
        if config.output.run_report:
            try_write_report(run.folder, run.logger.warning)
            print(f"training report: {run.folder / 'run_report.html'}")
    run.accelerator.wait_for_everyone()


if __name__ == "__main__":
    fix_hash_seed()
    run_main(main)
