"""Decoding that writes what can be read as Java: its grammar, and where javac knows the place also names in scope,
members that the receiver has, and arities that fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import LongTensor, Tensor
from transformers import LogitsProcessor

from data.java.scope import JavaScope
from models.decoding.constraints.frames import UNWANTED
from models.decoding.constraints.grammar import Grammar
from models.decoding.constraints.kept import Kept
from models.decoding.constraints.offered import Offered
from models.decoding.constraints.reading import Reading

BREADTHS = (32, 512, 10**9)  # how many of the likeliest tokens are tried, and how many where none of them fits


class ReadableConstraint(LogitsProcessor):
    """Gives the score -inf to tokens after which a text is no Java, or cannot compile at its place.

    The likeliest tokens are tried until as many fit as the search can take, so a step costs little and no table is
    needed. ``scopes`` [B]: what can be named at the place of each text; None: that is not known, so all names fit.
    One object serves one batch, each text continued in ``beams`` adjacent rows. Called with ids [B * beams, written],
    start token first, and scores [B * beams, V].
    """

    def __init__(
        self,
        texts: Sequence[str],
        ends: Sequence[int],
        scopes: Sequence[JavaScope | None],
        beams: int,
        offered: Sequence[Offered] = (),
        wanted: int = 0,
    ) -> None:
        """``texts`` [V]: of the tokens; ``ends``: those that end a text; ``offered`` [B]: what each is kept to, if it
        is; ``wanted``: how many tokens are kept at each step (0: as many as the search of ``beams`` needs)."""
        self.texts, self.ends = texts, frozenset(ends)
        # The strictest first: where it leads nowhere, the next one is followed.
        self._begun: list[tuple[Reading, ...]] = [
            (Reading(scope),) if scope is not None else (Kept(offered[index]), Grammar()) if offered else (Grammar(),)
            for index, scope in enumerate(scopes)
        ]
        self.rows = [index for index in range(len(scopes)) for _ in range(beams)]
        self.wanted = wanted or (1 if beams == 1 else 2 * beams)
        self._readings: dict[tuple[int, int, tuple[int, ...]], Reading | None] = {}

    def keep(self, rows: Tensor) -> None:
        """Continue with these rows only."""
        self.rows = [self.rows[row] for row in rows.tolist()]

    def _read(self, index: int, level: int, ids: tuple[int, ...]) -> Reading | None:
        """Where a text stops; None behind what was refused."""
        key = index, level, ids
        if key not in self._readings:
            before = self._read(index, level, ids[:-1]) if ids else None
            if ids:
                self._readings[key] = before.after(self.texts[ids[-1]]) if before is not None else None
            else:
                self._readings[key] = self._begun[index][level]
        return self._readings[key]

    def _fits(self, index: int, level: int, ids: tuple[int, ...], token: int) -> bool:
        if ids and not self.texts[token] and token not in self.ends:
            return False  # padding would fit anywhere
        if token in self.ends:
            reading = self._read(index, level, ids)
            return reading is not None and reading.may_end()
        return self._read(index, level, (*ids, token)) is not None

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        written = [tuple(ids[1:]) for ids in input_ids.tolist()]
        tried = scores.topk(min(BREADTHS[0], scores.shape[1]), dim=1)
        best, values = tried.indices.tolist(), tried.values.tolist()
        allowed = torch.full_like(scores, -torch.inf)
        for row, (index, ids) in enumerate(zip(self.rows, written, strict=True)):
            allowed[row] = self._allow(row, index, ids, best[row], values[row], scores)
        return allowed

    def _allow(
        self, row: int, index: int, ids: tuple[int, ...], best: list[int], values: list[float], scores: Tensor
    ) -> Tensor:
        """The scores of a row, with those tokens alone that may come next; any may where no reading goes on."""
        last = len(self._begun[index]) - 1
        for level in range(last + 1):
            if self._read(index, level, ids) is None:
                continue
            found = self._choose(index, level, ids, best, values)
            for breadth in BREADTHS[1:]:
                if not found:
                    wider = scores[row].topk(min(breadth, scores.shape[1]))
                    found = self._choose(index, level, ids, wider.indices.tolist(), wider.values.tolist())
            # Where a text must end, all but its ending is unwanted twice: a reading that refuses the ending gives way.
            if found and (level == last or values[0] - scores[row, found].max() < 2 * UNWANTED):
                allowed = torch.full_like(scores[row], -torch.inf)
                allowed[found] = scores[row, found] - UNWANTED * level  # other beams come first
                return allowed
        return scores[row] - UNWANTED * (last + 1)

    def _choose(
        self, index: int, level: int, ids: tuple[int, ...], tokens: Sequence[int], values: Sequence[float]
    ) -> list[int]:
        found: list[int] = []
        for token, score in zip(tokens, values, strict=True):
            if score == -torch.inf or len(found) == self.wanted:
                break
            if self._fits(index, level, ids, token):
                found.append(token)
        return found
