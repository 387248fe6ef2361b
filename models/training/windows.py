"""The micro-batches of each optimiser step, for one process of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from data.batches.collate import Batch
from utils.errors import UserError

# The micro-batches of one optimiser step. One that does not count is a stand-in that keeps the processes in step.
Window = list[tuple[Batch, bool]]


class TrainingData(Protocol):
    """Where micro-batches come from. All W processes see the same numbering; each is given every W-th."""

    def micro_batches(self, epoch: int) -> int:
        """Micro-batches of the epoch over all processes."""

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This process's batches of the epoch from its ``start``-th on; as many in each process, the last repeated."""

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """What is known of the data after an epoch (coverage, ...)."""

    def lost_worker(self) -> str | None:
        """How a loader process ended that should not have; None where none did."""

    def fingerprint(self) -> str:
        """What tells the rows from others, for a run that is resumed."""


class Ahead:
    """Windows, of which ``fetch`` can get the next one before it is asked for, its batches moved by ``move``."""

    def __init__(self, windows: Iterator[Window], move: Callable[[Batch], Batch]) -> None:
        self._windows = windows
        self._move = move
        self._next: Window | Exception | None = None

    def fetch(self) -> None:
        """Get the next window. What goes wrong is raised where the window is asked for."""
        if self._next is None:
            try:
                self._next = [(self._move(batch), counts) for batch, counts in next(self._windows)]
            except Exception as error:
                self._next = error

    def __iter__(self) -> Iterator[Window]:
        return self

    def __next__(self) -> Window:
        self.fetch()
        found, self._next = self._next, None
        if isinstance(found, Exception):
            raise found
        assert found is not None
        return found


class Windows:
    """Groups the batches of this process into optimiser steps of ``accumulation`` micro-batches, fewer at the end."""

    def __init__(self, data: TrainingData, accumulation: int, rank: int, world: int) -> None:
        self.data = data
        self.accumulation = accumulation
        self.rank = rank
        self.world = world
        self._spare: Batch | None = None

    def steps(self, epoch: int) -> int:
        """Optimiser steps of an epoch."""
        return math.ceil(self.data.micro_batches(epoch) / (self.accumulation * self.world))

    def of_epoch(self, epoch: int, done: int) -> Iterator[Window]:
        """The optimiser steps of ``epoch`` that follow the first ``done``."""
        total = self.data.micro_batches(epoch)
        first = done * self.accumulation
        batches = self.data.batches(epoch, first)
        for start in range(first, math.ceil(total / self.world), self.accumulation):
            found = list(islice(batches, self.accumulation))
            usable = [batch for batch in found if "input_ids" in batch]
            if self.world == 1:
                yield [(batch, True) for batch in usable]
                continue
            spare = self._stand_in(usable, epoch, start)
            yield [
                (batch, j * self.world + self.rank < total) if "input_ids" in batch else (spare, False)
                for j, batch in enumerate(found, start)
            ]

    def _stand_in(self, usable: list[Batch], epoch: int, start: int) -> Batch:
        """A batch to take the place of one whose rows are all bad: the last usable one, else one that comes later."""
        if usable:
            self._spare = usable[-1]
        if self._spare is None:
            later = self.data.batches(epoch, start + self.accumulation)
            self._spare = next((batch for batch in later if "input_ids" in batch), None)
        if self._spare is None:
            raise UserError("a process found no usable row; see rejected.jsonl, start again with fewer processes")
        return self._spare
