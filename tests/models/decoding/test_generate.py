"""Text from a model, against one sample at a time."""

import numpy as np
import pytest

from models.decoding.generate import (
    GenerationOptions,
    generate_candidates,
    generate_predictions,
    latency_per_assertion,
)
from models.decoding.torch_writer import TorchWriter
from tests.helpers.random_models import model_without_ties

VOCAB = 40


class NumberTokenizer:
    """Shows ids as numbers to be added, any of which may follow any other in Java; 0 pads and starts, 1 ends."""

    pad_token_id = 0

    def batch_decode(self, rows, skip_special_tokens, clean_up_tokenization_spaces):
        return ["".join(f"+{int(i)}" for i in row if i > 1) for row in rows]


@pytest.fixture(scope="module")
def writer():
    return TorchWriter(model_without_ties(VOCAB, seed=3), NumberTokenizer())


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    return [[*generator.integers(2, VOCAB, length).tolist(), 1] for length in (3, 9, 1, 30, 9, 14, 2)]


def test_a_row_gets_the_same_text_alone_and_in_a_batch(writer, rows):
    def written(rows, size):
        return generate_predictions(writer, rows, GenerationOptions(max_output_len=8, batch_size=size))

    alone = [written([row], 1)[0] for row in rows]
    assert len(set(alone)) > 3
    for size in (2, 7):
        assert written(rows, size) == alone


def test_length_limit_and_no_rows(writer, rows):
    options = GenerationOptions(max_output_len=3)
    assert all(text.count("+") <= 3 for text in generate_predictions(writer, rows, options))
    assert generate_predictions(writer, [], options) == []


def test_beams_are_distinct_and_best_first(writer, rows):
    writer.model.train()
    options = GenerationOptions(max_output_len=6, num_beams=4, num_return_sequences=3, batch_size=3)
    candidates = generate_candidates(writer, rows, options)
    assert writer.model.training
    writer.model.eval()
    assert [len(texts) for texts in candidates] == [3] * len(rows)
    assert all(len(set(texts)) == 3 for texts in candidates)
    best = generate_predictions(writer, rows, GenerationOptions(max_output_len=6, num_beams=4))
    assert best == [texts[0] for texts in candidates]


def test_on_batch_gets_the_texts_of_each_batch_with_their_places(writer, rows):
    seen = {}
    texts = generate_candidates(
        writer,
        rows,
        GenerationOptions(max_output_len=2, batch_size=3),
        on_batch=lambda places, found: seen.update(zip(places, found, strict=True)),
    )
    assert [seen[index] for index in range(len(rows))] == texts


def test_latency_is_measured_for_each_row(writer, rows):
    seconds = latency_per_assertion(writer, rows[:3], GenerationOptions(max_output_len=4))
    assert len(seconds) == 3
    assert all(value > 0 for value in seconds)
