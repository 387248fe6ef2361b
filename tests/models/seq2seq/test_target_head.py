"""The head at the target positions alone gives the loss and the gradients of the whole [B, T, V]."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from data.distillation.signal import DenseSignal
from models.multi_component_loss import Denominators, LossProgress
from models.seq2seq.inputs import shift_right
from models.seq2seq.target_head import TargetHead, target_rows
from tests.helpers.fixed_loss import fixed_loss


def small_model() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=31,
        d_model=16,
        d_kv=4,
        d_ff=32,
        num_heads=4,
        num_layers=1,
        num_decoder_layers=2,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    return T5ForConditionalGeneration(config).double()


LABELS = {
    "padded": torch.tensor([[4, 5, 6, 1], [7, 1, -100, -100], [9, 8, 1, -100]]),
    "full": torch.tensor([[4, 1], [7, 1]]),
    "one sample": torch.tensor([[4, 5, 1, -100, -100]]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_loss_and_gradients_are_those_of_the_whole_logits(labels):
    model = small_model()
    head = TargetHead(model)
    count = int((labels != -100).sum())
    teacher = DenseSignal(torch.randn(count, 31, dtype=torch.float64))
    batch = {"labels": labels, "teacher": teacher, "references": ["x"] * len(labels)}
    loss = fixed_loss({"focal": 0.3, "jsd": 0.7, "pans": 0.2})
    inputs = {"input_ids": torch.arange(6).repeat(len(labels), 1) + 2, "decoder_input_ids": shift_right(model, labels)}

    def run(logits):
        model.zero_grad()
        total = loss(logits, batch, LossProgress(temperature=2.0), Denominators(float(count), float(len(labels)))).total
        total.backward()
        return [total.detach(), *(p.grad.clone() for p in model.parameters())]

    whole = model(**inputs).logits
    assert whole.shape == (*labels.shape, 31)
    expected = run(whole)
    with head.only(target_rows(labels)):
        few = model(**inputs).logits
    assert few.shape == (1, count, 31)
    torch.testing.assert_close(few[0], whole[labels != -100])
    torch.testing.assert_close(run(few), expected)
    assert model(**inputs).logits.shape == (*labels.shape, 31)


def test_logits_that_fit_neither_are_refused():
    loss = fixed_loss({"ce": 1.0})
    labels = LABELS["padded"]
    with pytest.raises(ValueError, match="do not fit"):
        loss(torch.zeros(1, 8, 31), {"labels": labels}, LossProgress(), Denominators(1.0, 1.0))
