"""How likely a model finds texts that it did not write."""

from __future__ import annotations

from collections.abc import Sequence

from models.decoding.generate import Writer


def score_texts(writer: Writer, row: Sequence[int], texts: Sequence[Sequence[int]], begin: int = 0) -> list[float]:
    """The mean log-likelihood of a token of each text, end token included, for the input ids ``row``.

    ``texts``: target ids; ``begin``: so many ids before each text are the same everywhere and not counted.
    """
    found = writer.log_likelihoods(row, texts)
    return [sum(of_text[begin:]) / len(of_text[begin:]) for of_text in found]
