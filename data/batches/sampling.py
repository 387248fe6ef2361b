"""Which rows make which micro-batch. It depends on seed and epoch alone, not on the number of processes."""

from __future__ import annotations

import numpy as np


def micro_batches(
    rows: np.ndarray,
    lengths: np.ndarray,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    window: int,
    group: bool = True,
    max_tokens: int | None = None,
) -> list[np.ndarray]:
    """The epoch's micro-batches in their global order; each row is in exactly one.

    rows [n]: row numbers; lengths: of every row of the file, in bytes or tokens. The rows are shuffled; with ``group``,
    rows are sorted by length among ``window`` batches, and the batches of a window are shuffled again. ``max_tokens``:
    a batch holds as many rows as it may have tokens once padded, at least one, instead of ``batch_size``.
    """
    generator = np.random.default_rng((seed, epoch, 1))
    order = rows[generator.permutation(len(rows))]
    batches: list[np.ndarray] = []
    span = batch_size * window if group else len(order)
    for start in range(0, len(order), max(1, span)):
        part = order[start : start + span]
        if group:
            part = part[np.argsort(lengths[part], kind="stable")]
        if max_tokens is None:
            cut = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        else:
            cut = fill(part, lengths, max_tokens)
        if group:
            # The short last batch stays last, so that all others of the epoch are full.
            last = cut.pop() if max_tokens is None and len(cut[-1]) < batch_size else None
            cut = [cut[i] for i in generator.permutation(len(cut))] + ([last] if last is not None else [])
        batches.extend(cut)
    return batches


def fill(rows: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Cut ``rows`` into batches of no more than ``max_tokens`` tokens, padding included, or of one row."""
    batches: list[np.ndarray] = []
    start = longest = 0
    for place, length in enumerate(lengths[rows].tolist()):
        longest = max(longest, length)
        if place > start and longest * (place - start + 1) > max_tokens:
            batches.append(rows[start:place])
            start, longest = place, length
    return [*batches, rows[start:]] if len(rows) else batches


def share_of_rank(count: int, rank: int, world: int) -> list[int]:
    """Numbers of the micro-batches that a process works on: every ``world``-th, the same count for each process.

    Where they do not divide evenly, a process without a real one repeats the first; its engine gives it no weight.
    """
    per_rank = -(-count // world)
    numbers = [j * world + rank for j in range(per_rank)]
    return [number if number < count else 0 for number in numbers]
