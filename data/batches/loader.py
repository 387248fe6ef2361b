"""What the engine asks for: the micro-batches of an epoch, from any of them on, and what became of bad rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from config.command_line import Config
from data.batches.collate import Batch, Collator
from data.batches.sampling import micro_batches, share_of_rank
from data.dataset import AssertionDataset, EpochSamplingDataset
from data.distillation.file import attach_shared
from data.distillation.signal import TeacherSignal
from utils.atomic_io import atomic_writer
from utils.errors import UserError
from utils.training_utils import count_default_workers


class RejectedRows:
    """Counts bad rows by reason, lists each once in rejected.jsonl, and stops the run where there are too many.

    Several processes may write to one file, each what it met; ``tidy``: this one removes lines that were cut off.
    """

    def __init__(
        self, path: Path, rows: int, max_rate: float, strict: bool, source: Path, write: bool = True, tidy: bool = True
    ) -> None:
        self.path, self.rows, self.max_rate, self.strict, self.source = path, rows, max_rate, strict, source
        self.write = write
        self.reasons: dict[int, str] = {}
        self.met: set[int] = set()  # by this start of the run, so comparable with the rows that it has seen
        if write and path.exists():
            kept = []
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    if entry["file"] == str(source):
                        self.reasons[entry["row"]] = entry["reason"]
                    else:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    continue  # a line that a killed run left half written
            lines = [json.dumps({"file": str(source), "row": r, "reason": why}) for r, why in self.reasons.items()]
            if tidy:
                with atomic_writer(path) as handle:
                    handle.writelines(x + "\n" for x in kept + lines)

    def add(self, rejected: list[tuple[int, str]], seen_rows: int) -> None:
        """Take in what a batch reports; ``seen_rows`` rows were read so far. Raises UserError when that is too much."""
        if not rejected:
            return
        new = [(row, reason) for row, reason in rejected if row not in self.reasons]
        self.reasons.update(new)
        self.met.update(row for row, _ in rejected)
        if self.write and new:
            with open(self.path, "a", encoding="utf-8") as handle:
                for row, reason in new:
                    handle.write(json.dumps({"file": str(self.source), "row": row, "reason": reason}) + "\n")
        if self.strict:
            row, reason = rejected[0]
            raise UserError(f"{self.source} row {row}: {reason} (--strict ends the run at the first bad row)")
        if len(self.met) > self.max_rate * max(min(200, self.rows), min(seen_rows, self.rows)):
            raise UserError(
                f"{self.source}: {len(self.met)} bad rows among the first {seen_rows} ({self.summary()}), more than"
                f" --max_reject_rate {self.max_rate:g}; mend the file or raise the rate"
            )

    def summary(self) -> str:
        """Reasons with their counts, most frequent first."""
        return ", ".join(f"{count} x {reason}" for reason, count in Counter(self.reasons.values()).most_common(3))


class JsonlTrainingData:
    """Micro-batches of a dataset for one process of several. See ``models.training.engine.TrainingData``.

    device: where the file's shared tensors stay, so that they are neither copied nor converted with each batch.
    """

    def __init__(
        self,
        dataset: AssertionDataset,
        config: Config,
        rejected: RejectedRows,
        *,
        rank: int = 0,
        world: int = 1,
        live_teacher: Callable[[Batch], TeacherSignal] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset, self.config, self.rejected = dataset, config, rejected
        self.rank, self.world, self.live_teacher = rank, world, live_teacher
        self.collator = Collator(dataset.tokenizer.pad_token_id)
        self._shared = {name: tensor.to(device) for name, tensor in dataset.shared.items()}
        self._lengths = dataset.byte_lengths()
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])
        self._seen = 0

    def _batches_of(self, epoch: int) -> list[np.ndarray]:
        if self._plan[0] != epoch:
            loading = self.config.loading
            batches = micro_batches(
                self.dataset.rows_of_epoch(epoch),
                self._lengths,
                self.config.optimization.batch_size,
                seed=self.config.hardware.seed,
                epoch=epoch,
                window=loading.length_group_window,
                group=loading.length_grouping,
            )
            self._plan = (epoch, batches)
        return self._plan[1]

    def micro_batches(self, epoch: int) -> int:
        return -(-len(self.dataset.rows_of_epoch(epoch)) // self.config.optimization.batch_size)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        everything = self._batches_of(epoch)
        mine = share_of_rank(len(everything), self.rank, self.world)[start:]
        loading = self.config.loading
        workers = loading.num_workers if loading.num_workers is not None else count_default_workers()
        workers = min(workers, len(mine))
        loader = DataLoader(
            self.dataset,
            batch_sampler=[everything[number].tolist() for number in mine],
            collate_fn=self.collator,
            num_workers=workers,
            prefetch_factor=loading.prefetch_factor if workers else None,
            pin_memory=loading.pin_memory and torch.cuda.is_available(),
        )
        for number, batch in enumerate(loader, start):
            if number * self.world + self.rank < len(everything):  # else a repeated one, whose process named its rows
                self._seen += len(batch["labels"]) + len(batch["rejected"])
                self.rejected.add(batch["rejected"], self._seen)
            if "input_ids" in batch:
                if self.live_teacher:
                    batch["teacher"] = self.live_teacher(batch)
                elif (stored := batch["teacher"]) is not None:
                    batch["teacher"] = attach_shared(stored, self._shared)
            yield batch

    def end_epoch(self, epoch: int) -> dict[str, float]:
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
