"""Loads micro-batches: those of an epoch for training, from any of them on, and those of a validation."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import wait

import numpy as np
import torch
from torch.utils.data import DataLoader

from config.defaults import RunConfig
from data.batches.collate import Batch, Collator
from data.batches.sampling import micro_batches, share_of_rank
from data.dataset import AssertionDataset, EpochSamplingDataset
from data.distillation.file import attach_shared
from data.distillation.signal import TeacherSignal
from data.rows.rejected import RejectedRows
from utils.signals import heed_parent_alone
from utils.training_utils import count_default_workers


class _Plan:
    """The rows of each batch of the epoch at hand; loader processes that stay ask for another at each epoch."""

    def __init__(self, batches: list[list[int]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _start_worker(number: int) -> None:
    heed_parent_alone()


class JsonlTrainingData:
    """Micro-batches of a dataset for one process of several. See ``models.training.engine.TrainingData``.

    device: where the file's shared tensors stay, so that they are neither copied nor converted with each batch.
    """

    def __init__(
        self,
        dataset: AssertionDataset,
        config: RunConfig,
        rejected: RejectedRows,
        *,
        rank: int = 0,
        world: int = 1,
        live_teacher: Callable[[Batch], TeacherSignal] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset = dataset
        self.config = config
        self.rejected = rejected
        self.rank, self.world = rank, world
        self.live_teacher = live_teacher
        self._shared = {name: tensor.to(device) for name, tensor in dataset.shared.items()}
        self._seen = 0  # rows read so far
        self._plan = _Plan([])
        self._loader: DataLoader | None = None  # the one whose processes stay from epoch to epoch
        self._reading = False
        self._workers: list = []

    def micro_batches(self, epoch: int) -> int:
        """How many micro-batches an epoch has, over all processes."""
        optim = self.config.optimization
        if optim.max_batch_tokens is not None:
            return len(self._all_batches(epoch))
        return -(-len(self.dataset.rows_of_epoch(epoch)) // optim.batch_size)

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Of every row: tokens where batches are filled by tokens, else bytes, which cost nothing to know."""
        if self.config.optimization.max_batch_tokens is None:
            return self.dataset.byte_lengths()
        return self.dataset.token_lengths()

    def _all_batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of each micro-batch of an epoch, over all processes."""
        optim, loading = self.config.optimization, self.config.loading
        return micro_batches(
            self.dataset.rows_of_epoch(epoch),
            self._lengths,
            optim.batch_size,
            seed=self.config.hardware.seed,
            epoch=epoch,
            window=loading.length_group_window,
            group=loading.length_grouping,
            max_tokens=optim.max_batch_tokens,
        )

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This process's micro-batches of an epoch, from number ``start`` on."""
        loading = self.config.loading
        everything = self._all_batches(epoch)
        mine = share_of_rank(len(everything), self.rank, self.world)
        plan = [everything[number].tolist() for number in mine[start:]]
        if self._reading:  # a second reader beside the first
            yield from self._read(self._make_loader(_Plan(plan), 0), start, len(everything))
            return
        if self._loader is None:
            workers = loading.num_workers if loading.num_workers is not None else count_default_workers()
            self._loader = self._make_loader(self._plan, min(workers, len(mine)))
        self._plan.batches, self._reading = plan, True
        try:
            yield from self._read(self._loader, start, len(everything))
        finally:
            self._reading = False

    def _make_loader(self, plan: _Plan, workers: int) -> DataLoader:
        loading = self.config.loading
        return DataLoader(
            self.dataset,
            batch_sampler=plan,
            collate_fn=Collator(self.dataset.tokenizer.pad_token_id),
            num_workers=workers,
            prefetch_factor=loading.prefetch_factor if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
            pin_memory=loading.pin_memory and torch.cuda.is_available(),
        )

    def _read(self, loader: DataLoader, start: int, total: int) -> Iterator[Batch]:
        others = set(multiprocessing.active_children())
        batches = iter(loader)
        self._workers += set(multiprocessing.active_children()) - others
        for number, batch in enumerate(batches, start):
            if number * self.world + self.rank < total:  # else repeated, and counted where it is not
                self._seen += len(batch["labels"]) + len(batch["rejected"])
                self.rejected.add(batch["rejected"], self._seen)
            if "input_ids" in batch:
                if self.live_teacher:
                    batch["teacher"] = self.live_teacher(batch)
                elif (stored := batch["teacher"]) is not None:
                    batch["teacher"] = attach_shared(stored, self._shared)
            yield batch

    def fingerprint(self) -> str:
        """What tells these training rows from others (AssertionDataset.fingerprint)."""
        return self.dataset.fingerprint()

    def lost_worker(self, patience: float = 1.0) -> str | None:
        """How a loader process ended that should not have, if there is one; waits ``patience`` seconds for its end."""
        if not self._workers:
            return None
        with suppress(RuntimeError):  # torch's signal handler raises it wherever the news of a dead process arrives
            ended = wait([worker.sentinel for worker in self._workers], patience)
            for worker in self._workers:
                if worker.sentinel in ended:
                    worker.join()  # its pipe breaks before it has an exit code
        codes = [worker.exitcode for worker in self._workers if worker.exitcode]
        return f"killed by signal {-codes[0]}" if codes and codes[0] < 0 else f"exit code {codes[0]}" if codes else None

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """What to report at the end of an epoch: with sampling, the share of all rows that was used so far."""
        if isinstance(self.dataset, EpochSamplingDataset):
            return {"coverage": self.dataset.coverage(epoch + 1)}
        return {}


def validation_batches(
    dataset: AssertionDataset,
    batch_size: int,
    rejected: RejectedRows,
    *,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
) -> Callable[[], Iterator[Batch]]:
    """A function that yields this process's share of all rows, longest first, the same at every call."""
    order = np.argsort(-dataset.byte_lengths(), kind="stable")
    chunks = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)][rank::world]
    shared = {name: tensor.to(device) for name, tensor in dataset.shared.items()}
    collator = Collator(dataset.tokenizer.pad_token_id, shared)

    def batches() -> Iterator[Batch]:
        for chunk in chunks:
            batch = collator([dataset[row] for row in chunk])
            rejected.add(batch["rejected"], len(dataset))
            if "input_ids" in batch:
                yield batch

    return batches
