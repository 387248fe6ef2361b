"""Exact and near duplicates among tests: MinHash over token shingles, candidates verified by their true Jaccard."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

SHINGLE = 5
BANDS, ROWS = 32, 4  # two documents of Jaccard 0.8 (0.6) meet in a band with probability 1 - 5e-8 (0.99)
SEED = 20
KIN = 0.6  # tests that are this much alike are both kept, but stay on one side of a split


def shingles(tokens: Sequence[str]) -> frozenset[int]:
    """Hashes of the runs of ``SHINGLE`` tokens; a shorter text is one shingle."""
    runs = (tokens[i : i + SHINGLE] for i in range(max(1, len(tokens) - SHINGLE + 1)))
    return frozenset(
        int.from_bytes(hashlib.blake2b("\0".join(run).encode(), digest_size=8).digest(), "little") for run in runs
    )


def jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    common = len(left & right)
    return common / (len(left) + len(right) - common)


class NearDuplicates:
    """Remembers the documents that were kept. Of two that are alike, the one that is added first stays."""

    def __init__(self, threshold: float = 0.8) -> None:
        self.threshold = threshold
        odd, shift = np.random.default_rng(SEED).integers(0, 1 << 63, size=(2, BANDS * ROWS, 1), dtype=np.uint64)
        self._odd, self._shift = odd * np.uint64(2) + np.uint64(1), shift
        self._kept: list[frozenset[int]] = []
        self._bands: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(BANDS)]

    def signature(self, document: frozenset[int]) -> np.ndarray:
        """[BANDS, ROWS] uint32: minima of multiply-shift hashes (arithmetic modulo 2^64 is meant)."""
        values = np.fromiter(document, dtype=np.uint64, count=len(document))
        hashed = (values[None, :] * self._odd + self._shift) >> np.uint64(32)
        return hashed.min(axis=1).astype(np.uint32).reshape(BANDS, ROWS)

    def add(self, tokens: Sequence[str]) -> list[int] | None:
        """Keep a document, unless its Jaccard similarity to a kept one reaches the threshold: then return None.

        Otherwise return the numbers, in the order of keeping, of the kept documents with a similarity of at least
        ``KIN``. Pairs far below 0.8 are found with a lower probability.
        """
        document = shingles(tokens)
        keys = [row.tobytes() for row in self.signature(document)]
        candidates = {index for band, key in zip(self._bands, keys, strict=True) for index in band.get(key, ())}
        alike = {index: jaccard(document, self._kept[index]) for index in candidates}
        if any(value >= self.threshold for value in alike.values()):
            return None
        for band, key in zip(self._bands, keys, strict=True):
            band[key].append(len(self._kept))
        self._kept.append(document)
        return sorted(index for index, value in alike.items() if value >= KIN)
