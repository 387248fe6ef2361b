"""Which rows make which micro-batch. It depends on seed and epoch alone, not on the number of processes."""

from __future__ import annotations

import numpy as np


def micro_batches(
    rows: np.ndarray, lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, window: int, group: bool = True
) -> list[np.ndarray]:
    """The epoch's micro-batches in their global order; each row is in exactly one.

    rows [n]: row numbers; lengths: byte length of every row of the file. The rows are shuffled; with ``group``, rows
    are sorted by length among ``window`` batches, and the batches of a window are shuffled again.
    """
    generator = np.random.default_rng((seed, epoch, 1))
    order = rows[generator.permutation(len(rows))]
    batches: list[np.ndarray] = []
    span = batch_size * window if group else len(order)
    for start in range(0, len(order), max(1, span)):
        part = order[start : start + span]
        if group:
            part = part[np.argsort(lengths[part], kind="stable")]
        cut = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        if group:
            # The short last batch stays last, so that all others of the epoch are full.
            last = cut.pop() if len(cut[-1]) < batch_size else None
            cut = [cut[i] for i in generator.permutation(len(cut))] + ([last] if last is not None else [])
        batches.extend(cut)
    return batches


def share_of_rank(count: int, rank: int, world: int) -> list[int]:
    """Numbers of the micro-batches that a process works on: every ``world``-th, the same count for each process.

    Where they do not divide evenly, a process without a real one repeats the first; its engine gives it no weight.
    """
    per_rank = -(-count // world)
    numbers = [j * world + rank for j in range(per_rank)]
    return [number if number < count else 0 for number in numbers]
