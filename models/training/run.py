"""An opened run: device, folder, log, seeds, and the checkpoint that it continues from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from config.checks import without_effect
from config.defaults import RunConfig
from data.dataset import AssertionDataset
from data.rows.rejected import RejectedRows
from models.training.checkpoint import find_resume, read_state
from models.training.run_folder import RUN_CONFIG, check_same_run, choose_folder, prepare_folder, write_run_config
from utils.device import adopt_srun, build_accelerator
from utils.errors import UserError
from utils.folder_lock import NO_LOCKS, FolderLock
from utils.hub import check_hub, publish
from utils.logging_utils import DistillationLogger
from utils.seeding import seed_everything
from utils.trackers import PACKAGES


@dataclass
class Run:
    """An opened run: its folder, processes, log, and the checkpoint it continues from (None: a new one)."""

    config: RunConfig
    folder: Path
    accelerator: Accelerator
    logger: DistillationLogger
    checkpoint: Path | None = None
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

    def publish(self) -> None:
        """Put the finished model on the hub, where --push_to_hub wants that; in the main process."""
        if self.config.output.push_to_hub:
            publish(self.config.output.push_to_hub, self.final_model, print)

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
    folder, lock = _agree_on_folder(config, accelerator)
    if lock is not None and not lock.held:
        notes.append(f"{folder}: {NO_LOCKS}")
    notes += seed_everything(hardware.seed, hardware.deterministic, accelerator.device.type)
    checkpoint = find_resume(config.output.resume, folder)
    if checkpoint is not None:
        notes += check_same_run(read_state(checkpoint), config, accelerator.num_processes)
    is_main, files = accelerator.is_main_process, not config.output.dry_run
    output = config.output
    logger = DistillationLogger(
        folder,
        tensorboard=output.tensorboard and "tensorboard" in output.report_to,
        main_process=is_main,
        files=files,
        report_to=[name for name in output.report_to if name in PACKAGES],
        parameters=config.flat(),
    )
    for note in (*notes, *without_effect(config)):
        logger.warning(note)
    if is_main and files and not (checkpoint and (folder / RUN_CONFIG).exists()):
        write_run_config(folder, config, script)
    return Run(config, folder, accelerator, logger, checkpoint, lock)


def _agree_on_folder(config: RunConfig, accelerator: Accelerator) -> tuple[Path, FolderLock | None]:
    """The run folder, prepared and locked by the main process; the others take its word, since the name holds the time.

    Where the main process cannot use the folder, every process raises its UserError.
    """
    chosen: list[str | UserError | None] = [None]
    lock = None
    if accelerator.is_main_process:
        try:
            folder = choose_folder(config, config.model.model_name)
            if config.output.push_to_hub:
                check_hub(config.output.push_to_hub)
            if not config.output.dry_run:
                lock = prepare_folder(folder, config)
            chosen = [str(folder)]
        except UserError as error:
            chosen = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(chosen)
    if isinstance(chosen[0], UserError):
        raise chosen[0]
    return Path(str(chosen[0])), lock
