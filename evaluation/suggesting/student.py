"""The student as the pool needs it: it writes candidates, scores those of others, and shows what it saw."""

from __future__ import annotations

from collections.abc import Sequence

from data.java.scope import JavaScope
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder
from models.decoding.generate import GenerationOptions, Writer, generate_candidates
from models.decoding.likelihood import score_texts


class Student:
    """A trained model that is asked about tasks, whatever runs it."""

    def __init__(self, writer: Writer, options: GenerationOptions, encoder: TaskEncoder | None = None) -> None:
        """``encoder``: what shows it a task, where that is not what it was trained with."""
        self.writer, self.options = writer, options
        self.encoder = encoder or TaskEncoder(writer.tokenizer, writer.text_format)

    def _encode(self, samples: Sequence[Sample]) -> list[list[int]]:
        return [self.encoder.source(sample, self.options.max_input_len) for sample in samples]

    def write(self, samples: Sequence[Sample], scopes: Sequence[JavaScope | None] = ()) -> list[list[str]]:
        """For each task its texts, best first. ``scopes``: what can be named at its place, where that is known.

        A writer that does not steer is not given them; the pool leaves out what does not fit.
        """
        return generate_candidates(
            self.writer, self._encode(samples), self.options, scopes if self.writer.steers else ()
        )

    def score(self, samples: Sequence[Sample], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """For each task the mean log-likelihood of a token of each of these texts."""
        targets = [[self.encoder.target(text, self.options.max_output_len) for text in found] for found in texts]
        return [
            score_texts(self.writer, row, found, len(self.encoder.begin))
            for row, found in zip(self._encode(samples), targets, strict=True)
        ]

    def show(self, sample: Sample) -> str:
        """Exactly the text that the model sees of a task."""
        return self.encoder.show(self.encoder.source(sample, self.options.max_input_len))
