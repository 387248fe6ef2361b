"""What teacher and student runs have in common, from the parsed configuration to the finished folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel

from config.checks import without_effect
from config.defaults import RunConfig
from data.batches.loader import JsonlTrainingData
from data.dataset import AssertionDataset, EpochSamplingDataset, Rejected
from data.rows.rejected import RejectedRows
from models.multi_component_loss import MultiComponentLoss
from models.seq2seq.loading import count_parameters, load_model, save_model
from models.training.checkpoint import drop_later, find_resume, read_state
from models.training.engine import WRITE_ERRORS, TrainingEngine
from models.training.run_folder import RUN_CONFIG, check_same_run, choose_folder, prepare_folder, write_run_config
from models.training.start_screen import RunFacts, start_screen, warnings_that_matter
from utils.device import adopt_srun, build_accelerator
from utils.errors import UserError
from utils.folder_lock import NO_LOCKS, FolderLock
from utils.logging_utils import DistillationLogger
from utils.seeding import seed_everything
from utils.training_utils import count_default_workers

LENGTH_PROBE = 200


@dataclass
class Run:
    """An opened run: its folder, processes, log, and the checkpoint it continues from (None: a new one)."""

    config: RunConfig
    folder: Path
    accelerator: Accelerator
    logger: DistillationLogger
    checkpoint: Path | None
    lock: FolderLock | None = None

    @cached_property
    def scratch(self) -> str:
        """A folder of this process alone, gone when it ends."""
        self._scratch = TemporaryDirectory(prefix="distil-")
        return self._scratch.name

    def rejected_rows(self, dataset: AssertionDataset) -> RejectedRows:
        """The record of the bad rows of ``dataset``."""
        data = self.config.data
        return RejectedRows(
            None if self.config.output.dry_run else self.folder / "rejected.jsonl",
            dataset.path,
            len(dataset),
            data.max_reject_rate,
            data.strict,
            tidy=self.accelerator.is_main_process,
        )

    @property
    def final_model(self) -> Path:
        return self.folder / "final_model"

    def leave(self) -> None:
        """Close the log, then the group of processes: a thread of it that outlives Python would abort the process."""
        self.logger.close()
        self.accelerator.end_training()
        if self.lock is not None:
            self.lock.release()


def open_run(config: RunConfig, script: str) -> Run:
    """Choose device and folder, seed everything, find the checkpoint. Raises UserError in one line."""
    hardware = config.hardware
    adopt_srun()
    accelerator, notes = build_accelerator(
        hardware.device, fp16=hardware.fp16, bf16=hardware.bf16, tf32=hardware.tf32, cpu_threads=hardware.cpu_threads
    )
    if hardware.fsdp and accelerator.num_processes == 1:
        raise UserError("--fsdp: there is one process only; start several (torchrun --nproc_per_node N)")
    if hardware.fsdp and accelerator.mixed_precision == "fp16":
        raise UserError("--fsdp: works with --bf16 or fp32, not with --fp16")
    # The name holds the time: all processes take the main one's.
    from accelerate.utils import broadcast_object_list

    chosen: list[Any] = [None]
    lock = None
    if accelerator.is_main_process:
        try:
            folder = choose_folder(config, config.model.model_name)
            if not config.output.dry_run:
                lock = prepare_folder(folder, config)
                if not lock.held:
                    notes.append(f"{folder}: {NO_LOCKS}")
            chosen = [str(folder)]
        except UserError as error:
            chosen = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(chosen)
    if isinstance(chosen[0], UserError):
        raise chosen[0]
    folder = Path(chosen[0])
    seed_everything(hardware.seed, hardware.deterministic)
    checkpoint = find_resume(config.output.resume, folder)
    if checkpoint is not None:
        notes += check_same_run(read_state(checkpoint), config, accelerator.num_processes)
    is_main, files = accelerator.is_main_process, not config.output.dry_run
    logger = DistillationLogger(folder, tensorboard=config.output.tensorboard, main_process=is_main, files=files)
    for note in (*notes, *without_effect(config)):
        logger.warning(note)
    if is_main and files and not (checkpoint and (folder / RUN_CONFIG).exists()):
        write_run_config(folder, config, script)
    return Run(config, folder, accelerator, logger, checkpoint, lock)


def open_datasets(
    run: Run, tokenizer: Any, vocab_size: int, *, teacher: bool, train: str | Path, validation: str | Path
) -> tuple[AssertionDataset, AssertionDataset]:
    """Training and validation data, by the flags."""
    data, loading = run.config.data, run.config.loading
    open_file = partial(
        AssertionDataset,
        tokenizer=tokenizer,
        max_input_len=data.max_input_len,
        max_output_len=data.max_output_len,
        vocab_size=vocab_size,
        teacher=teacher,
    )
    train_set: AssertionDataset
    if loading.enable_epoch_sampling and data.max_train_samples is not None:
        train_set = EpochSamplingDataset(
            train,
            samples_per_epoch=data.max_train_samples,
            sampling_seed=loading.sampling_seed,
            **open_file.keywords,
        )
    else:
        train_set = open_file(train, max_samples=data.max_train_samples)
    return train_set, open_file(validation, max_samples=data.max_val_samples, flag="--val_data_path")


def _lengths(dataset: AssertionDataset) -> tuple[dict[str, Any], dict[str, int]]:
    """Lengths and truncation of a sample of rows, and why some of them are unusable."""
    rows = np.linspace(0, len(dataset) - 1, min(LENGTH_PROBE, len(dataset))).astype(int)
    items = [dataset[int(row)] for row in np.unique(rows)]
    bad: dict[str, int] = {}
    for item in items:
        if isinstance(item, Rejected):
            bad[item.reason] = bad.get(item.reason, 0) + 1
    good = [item for item in items if not isinstance(item, Rejected)]
    if not good:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in bad.items())
        raise UserError(f"{dataset.path}: none of {len(items)} rows looked at can be used ({reasons})")
    inputs = np.array([len(item.input_ids) for item in good])
    targets = np.array([len(item.labels) for item in good])
    cut = np.array([item.labels[-1] != dataset.tokenizer.eos_token_id for item in good])

    def three(values: np.ndarray) -> tuple[float, float, float]:
        return float(np.median(values)), float(np.percentile(values, 95)), float(values.max())

    return {
        "input_lengths": three(inputs),
        "target_lengths": three(targets),
        "truncated_inputs": float((inputs >= dataset.max_input_len).mean()),
        "truncated_targets": float(cut.mean()),
    }, bad


def announce(
    run: Run, engine: TrainingEngine, train_set: AssertionDataset, validation_set: AssertionDataset, **more: Any
) -> None:
    """The one screen at the start, and the warnings that matter."""
    config = run.config
    optim, loading = config.optimization, config.loading
    lengths, bad = _lengths(train_set)
    _lengths(validation_set)  # raises where no row can be used: now, not after an epoch
    facts: RunFacts = {
        "output_dir": str(run.folder),
        "resumed_from": str(run.checkpoint) if run.checkpoint else None,
        "train_rows": len(train_set),
        "val_rows": len(validation_set),
        "samples_per_epoch": len(train_set.rows_of_epoch(0)),
        "max_input_len": config.data.max_input_len,
        "max_output_len": config.data.max_output_len,
        "student": config.model.model_name,
        "student_parameters": count_parameters(engine.bare_model),
        "batch_size": optim.batch_size,
        "gradient_accumulation_steps": optim.gradient_accumulation_steps,
        "processes": run.accelerator.num_processes,
        "epochs": optim.epochs,
        "total_steps": engine.total_steps,
        "warmup_steps": engine.warmup_steps,
        "lr": optim.lr,
        "lr_end": optim.lr * optim.lr_floor_ratio,
        "device": str(run.accelerator.device),
        "precision": run.accelerator.mixed_precision.replace("no", "fp32"),
        "num_workers": count_default_workers() if loading.num_workers is None else loading.num_workers,
        "seed": config.hardware.seed,
    }
    facts.update(lengths)  # type: ignore[typeddict-item]
    facts.update(more)  # type: ignore[typeddict-item]
    if bad:
        facts["rejected"] = bad
    run.logger.info(start_screen(facts))
    for warning in warnings_that_matter(facts):
        run.logger.warning(warning)


def build_engine(
    run: Run,
    model: PreTrainedModel,
    tokenizer: Any,
    loss: MultiComponentLoss,
    train_set: AssertionDataset,
    *,
    alpha: Any = None,
    live_teacher: Callable | None = None,
) -> TrainingEngine:
    """The engine with its data, restored where the run continues; it has no validation yet."""
    config, accelerator = run.config, run.accelerator
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
    engine = TrainingEngine(config, accelerator, model, tokenizer, loss, data, run.folder, run.logger, alpha=alpha)
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
    engine._train_step(next(engine._windows()))
    if engine.validate is not None:
        engine.validate.one_batch_only()
        engine.validate(engine.whole_model().to(run.accelerator.device), 0)
    run.logger.info(
        f"dry run: everything fits together; one step took {engine.progress.seconds:.1f} s, "
        f"{engine.total_steps} steps would follow. Nothing was written."
    )
    run.leave()
    return 0


def finish_model(run: Run, engine: TrainingEngine, tokenizer: Any) -> PreTrainedModel:
    """Write ``final_model``: the best one of the run where validation chose one, else the last."""
    if engine.progress.best_value is not None:
        model = load_model(str(run.folder / "best_model"), attention=run.config.model.attention)
    else:
        model = engine.whole_model()
    model.to(run.accelerator.device)
    if run.accelerator.is_main_process:
        try:
            save_model(model, tokenizer, run.final_model)
        except WRITE_ERRORS as error:
            raise UserError(
                f"{run.final_model}: cannot be written ({error}); training is done and its checkpoints stand: make room"
                " or mend the permissions, then --resume"
            ) from None
    run.accelerator.wait_for_everyone()
    return model
