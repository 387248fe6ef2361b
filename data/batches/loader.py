"""Loads micro-batches: those of an epoch for training, from any of them on, and those of a validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
from utils.training_utils import count_default_workers


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

    def micro_batches(self, epoch: int) -> int:
        """How many micro-batches an epoch has, over all processes."""
        return -(-len(self.dataset.rows_of_epoch(epoch)) // self.config.optimization.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This process's micro-batches of an epoch, from number ``start`` on."""
        loading = self.config.loading
        everything = micro_batches(
            self.dataset.rows_of_epoch(epoch),
            self.dataset.byte_lengths(),
            self.config.optimization.batch_size,
            seed=self.config.hardware.seed,
            epoch=epoch,
            window=loading.length_group_window,
            group=loading.length_grouping,
        )
        mine = share_of_rank(len(everything), self.rank, self.world)[start:]
        workers = loading.num_workers if loading.num_workers is not None else count_default_workers()
        workers = min(workers, len(mine))
        loader = DataLoader(
            self.dataset,
            batch_sampler=[everything[number].tolist() for number in mine],
            collate_fn=Collator(self.dataset.tokenizer.pad_token_id),
            num_workers=workers,
            prefetch_factor=loading.prefetch_factor if workers else None,
            pin_memory=loading.pin_memory and torch.cuda.is_available(),
        )
        for number, batch in enumerate(loader, start):
            if number * self.world + self.rank < len(everything):  # else repeated, and counted where it is not
                self._seen += len(batch["labels"]) + len(batch["rejected"])
                self.rejected.add(batch["rejected"], self._seen)
            if "input_ids" in batch:
                if self.live_teacher:
                    batch["teacher"] = self.live_teacher(batch)
                elif (stored := batch["teacher"]) is not None:
                    batch["teacher"] = attach_shared(stored, self._shared)
            yield batch

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
