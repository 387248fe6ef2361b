"""Teacher-forced scores, against one sample at a time."""

import numpy as np
import pytest
import torch

from data.distillation.signal import DenseSignal, HiddenSignal, TopKSignal
from models.decoding.generate import pad_rows
from models.decoding.torch_writer import TorchWriter
from models.seq2seq.teacher_forced import score_stored_teacher, score_teacher_forced
from tests.helpers.random_models import model_without_ties

VOCAB = 40


@pytest.fixture(scope="module")
def model():
    return model_without_ties(VOCAB, seed=3)


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    return [[*generator.integers(2, VOCAB, length).tolist(), 1] for length in (3, 9, 1, 30, 9, 14, 2)]


def batches_of(rows, labels, size):
    for start in range(0, len(rows), size):
        ids = pad_rows(rows[start : start + size], 0)
        yield {
            "input_ids": ids,
            "attention_mask": (ids != 0).long(),
            "labels": pad_rows(labels[start : start + size], -100),
            "row_ids": torch.arange(start, start + len(ids)),
        }


@pytest.fixture(scope="module")
def labels(rows):
    generator = np.random.default_rng(1)
    return [[*generator.integers(2, VOCAB, length).tolist(), 1] for length in (4, 2, 7, 1, 3, 5, 9)]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_teacher_forced_agrees_with_one_sample_at_a_time(model, rows, labels, size):
    critical = torch.zeros(VOCAB, dtype=torch.bool)
    critical[2:12] = True
    found = score_teacher_forced(TorchWriter(model, None).logits, batches_of(rows, labels, size), critical)
    assert found.row_ids.tolist() == list(range(7))
    for index, (row, wanted) in enumerate(zip(rows, labels, strict=True)):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([row]), labels=torch.tensor([wanted]))
        right = output.logits[0].argmax(-1).numpy() == np.array(wanted)
        marked = np.array([2 <= token < 12 for token in wanted])
        assert found.token_accuracy[index] == right.mean()
        expected = right[marked].mean() if marked.any() else np.nan
        np.testing.assert_equal(found.critical_token_accuracy[index], expected)
        assert found.loss[index] == pytest.approx(output.loss.item(), rel=1e-5)
    total = sum(loss * len(wanted) for loss, wanted in zip(found.loss, labels, strict=True))
    assert found.mean_loss == pytest.approx(total / sum(map(len, labels)))


def test_accuracy_from_a_stored_signal_is_that_of_the_model(model, rows, labels):
    """In each encoding, what the teacher's file says is what its model would."""
    expected = score_teacher_forced(TorchWriter(model, None).logits, batches_of(rows, labels, 3))
    for encode in (
        lambda logits: DenseSignal(logits),
        lambda logits: HiddenSignal(logits, torch.eye(VOCAB)),
        lambda logits: TopKSignal(*reversed(logits.topk(5)), torch.zeros(len(logits), 1), torch.ones(1), VOCAB),
    ):
        batches = list(batches_of(rows, labels, 3))
        for batch in batches:
            with torch.no_grad():
                logits = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).logits
            batch["teacher"] = encode(logits[batch["labels"] != -100])
        found = score_stored_teacher(batches)
        assert found.token_accuracy.tolist() == expected.token_accuracy.tolist()
        assert np.isnan(found.loss).all()
