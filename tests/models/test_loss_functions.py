"""ce, focal, kl, jsd and pans against plain float64 compositions written here, for every kind of teacher signal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from config.defaults import LossConfig
from data.distillation.signal import DenseSignal, HiddenSignal, TeacherSignal, TopKSignal
from evaluation.scores.text import pans as hard_pans
from models.loss_functions import COMPONENTS, LossResources, LossSettings
from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss
from tests.helpers.fixed_loss import fixed_loss
from utils.errors import UserError

TOKEN_LOSSES = ("ce", "focal", "kl", "jsd")
ONE = Denominators(1.0, 1.0)


def topk_signal(dense: Tensor, k: int, shape: Tensor | None = None) -> TopKSignal:
    """An exact top-k signal of dense float64 logits: the tail's mass is known at the nodes of 1/T."""
    dense = dense - dense.amax(1, keepdim=True)
    values, ids = dense.topk(k, dim=1)
    nodes = 1.0 + torch.cos((2 * torch.arange(24.0, dtype=torch.float64) + 1) * math.pi / 48)
    nodes = nodes.sort().values
    tail = dense.scatter(1, ids, -torch.inf)
    mass = torch.stack([torch.logsumexp(tail * b, 1) for b in nodes.tolist()], dim=1)
    return TopKSignal(ids, values, mass, nodes, dense.shape[1], shape)


def batch_of(labels: Tensor, teacher: TeacherSignal | None = None, references=()) -> dict:
    return {"labels": labels, "teacher": teacher, "references": list(references)}


def random_labels(batch: int, length: int, vocab: int, seed: int = 0, ignored: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, vocab, (batch, length), generator=generator)
    labels[torch.rand(batch, length, generator=generator) < ignored] = -100
    labels[0, 0] = 1
    return labels


def naive(
    name: str, logits: Tensor, labels: Tensor, teacher: Tensor | None, temperature: float, weights=None
) -> Tensor:
    """Sum over targets, in the most direct form. teacher: log-probabilities at the temperature, per target."""
    kept = labels != -100
    rows, targets = logits[kept], labels[kept]
    token_weights = torch.ones(len(rows), dtype=rows.dtype) if weights is None else weights[targets]
    log_p = torch.log_softmax(rows, 1)[torch.arange(len(rows)), targets]
    if name == "ce":
        return -(token_weights * log_p).sum()
    if name == "focal":
        return -(token_weights * 0.25 * (1 - log_p.exp()) ** 2.0 * log_p).sum()
    q = torch.softmax(rows / temperature, 1)
    p = teacher.exp()
    if name == "kl":
        return temperature**2 * (torch.xlogy(p, p) - p * q.log()).sum()
    m = (p + q) / 2
    return temperature**2 / 2 * ((p * (p / m).log()).sum() + (q * (q / m).log()).sum())


def value_and_gradient(function, logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = function(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


def component(name: str, batch: dict, temperature: float, **options):
    loss = fixed_loss({name: 1.0}, **options)
    return lambda logits: loss(logits, batch, LossProgress(temperature=temperature), ONE).total


@pytest.mark.parametrize("temperature", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 7, 11), (2, 5, 301), (4, 3, 37)])
@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_dense_equals_naive_float64(name, shape, temperature):
    torch.manual_seed(1)
    labels = random_labels(*shape)
    logits = torch.randn(shape, dtype=torch.float64) * 3
    teacher = torch.randn(int((labels != -100).sum()), shape[2], dtype=torch.float64) * 3
    weights = 1 + torch.rand(shape[2], dtype=torch.float64)
    expected = value_and_gradient(
        lambda x: naive(name, x, labels, torch.log_softmax(teacher / temperature, 1), temperature, weights), logits
    )
    found = value_and_gradient(
        component(
            name, batch_of(labels, DenseSignal(teacher)), temperature, resources=LossResources(token_weights=weights)
        ),
        logits,
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert not found[1][labels == -100].any()


@pytest.mark.parametrize("temperature", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("name", ["kl", "jsd"])
def test_hidden_equals_the_logits_it_stands_for(name, temperature):
    torch.manual_seed(2)
    labels = random_labels(20, 14, 23, ignored=0.1)  # more targets than one block of the head
    count = int((labels != -100).sum())
    assert count > 128
    signal = HiddenSignal(torch.randn(count, 8, dtype=torch.float64), torch.randn(23, 8, dtype=torch.float64))
    logits = torch.randn(20, 14, 23, dtype=torch.float64)
    target = torch.log_softmax(signal.hidden @ signal.head.T / temperature, 1)
    expected = value_and_gradient(lambda x: naive(name, x, labels, target, temperature), logits)
    found = value_and_gradient(component(name, batch_of(labels, signal), temperature), logits)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def naive_bucket(name: str, logits: Tensor, labels: Tensor, dense: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """The divergence on k + 1 symbols: probabilities of the full distributions, the rest summed."""
    total = logits.new_zeros(())
    for row, teacher, kept in zip(logits[labels != -100], dense, ids, strict=True):
        rest = torch.ones(len(row), dtype=torch.bool)
        rest[kept] = False
        p, q = (torch.softmax(x / temperature, 0) for x in (teacher, row))
        p, q = (torch.cat([x[kept], x[rest].sum()[None]]) for x in (p, q))
        m = (p + q) / 2
        if name == "kl":
            total = total + temperature**2 * (p * (p / q).log()).sum()
        else:
            total = total + temperature**2 / 2 * ((p * (p / m).log()).sum() + (q * (q / m).log()).sum())
    return total


@pytest.mark.parametrize("temperature", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("name", ["kl", "jsd"])
def test_topk_bucket_is_the_divergence_on_its_symbols(name, temperature):
    torch.manual_seed(3)
    labels = random_labels(3, 6, 41)
    dense = torch.randn(int((labels != -100).sum()), 41, dtype=torch.float64) * 2
    signal = topk_signal(dense, 5)
    logits = torch.randn(3, 6, 41, dtype=torch.float64) * 2
    expected = value_and_gradient(lambda x: naive_bucket(name, x, labels, dense, signal.ids, temperature), logits)
    found = value_and_gradient(component(name, batch_of(labels, signal), temperature), logits)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("name", ["kl", "jsd"])
def test_topk_shaped_tail(name, temperature):
    torch.manual_seed(4)
    labels = random_labels(3, 6, 41)
    dense = torch.randn(int((labels != -100).sum()), 41, dtype=torch.float64) * 2
    shape = dense.mean(0)
    signal = topk_signal(dense, 5, shape)
    target = torch.softmax(dense / temperature, 1)
    for row, kept in zip(target, signal.ids, strict=True):
        rest = torch.ones(41, dtype=torch.bool)
        rest[kept] = False
        row[rest] = row[rest].sum() * torch.softmax(shape[rest] / temperature, 0)
    logits = torch.randn(3, 6, 41, dtype=torch.float64) * 2
    expected = value_and_gradient(lambda x: naive(name, x, labels, target.log(), temperature), logits)
    found = value_and_gradient(component(name, batch_of(labels, signal), temperature, topk_tail="shaped"), logits)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_shaped_tail_without_a_shape_is_refused():
    labels = torch.tensor([[1, 2]])
    signal = topk_signal(torch.randn(2, 9, dtype=torch.float64), 3)
    with pytest.raises(UserError, match="topk_tail"):
        component("kl", batch_of(labels, signal), 2.0, topk_tail="shaped")(torch.randn(1, 2, 9))


def test_topk_of_the_whole_vocabulary_equals_dense():
    torch.manual_seed(5)
    labels = torch.randint(0, 12, (2, 4))
    dense = torch.randn(8, 12, dtype=torch.float64)
    logits = torch.randn(2, 4, 12, dtype=torch.float64)
    for name in ("kl", "jsd", "ce"):
        full = value_and_gradient(component(name, batch_of(labels, topk_signal(dense, 12)), 2.0), logits)
        reference = value_and_gradient(component(name, batch_of(labels, DenseSignal(dense)), 2.0), logits)
        torch.testing.assert_close(full, reference)


@pytest.mark.parametrize("signal", ["dense", "topk", "hidden", "shaped"])
def test_one_pass_for_all_equals_each_alone(signal):
    torch.manual_seed(6)
    labels = random_labels(3, 6, 29)
    count = int((labels != -100).sum())
    hidden, head = torch.randn(count, 7, dtype=torch.float64), torch.randn(29, 7, dtype=torch.float64)
    dense = hidden @ head.T
    teacher = {
        "dense": DenseSignal(dense),
        "topk": topk_signal(dense, 4),
        "shaped": topk_signal(dense, 4, dense.mean(0)),
        "hidden": HiddenSignal(hidden, head),
    }[signal]
    options = {"topk_tail": "shaped" if signal == "shaped" else "bucket"}
    names = [*TOKEN_LOSSES, "pans"]
    logits = torch.randn(3, 6, 29, dtype=torch.float64)
    batch = batch_of(labels, teacher)
    together = fixed_loss(dict.fromkeys(names, 1.0), **options)
    value, gradient = value_and_gradient(lambda x: together(x, batch, LossProgress(temperature=3.0), ONE).total, logits)
    alone = [value_and_gradient(component(name, batch, 3.0, **options), logits) for name in names]
    torch.testing.assert_close(value, sum(v for v, _ in alone))
    torch.testing.assert_close(gradient, sum(g for _, g in alone))


@pytest.mark.parametrize("name", [*TOKEN_LOSSES, "pans"])
@pytest.mark.parametrize("signal", ["dense", "topk"])
def test_gradcheck(name, signal):
    torch.manual_seed(7)
    labels = torch.tensor([[1, 4, 2], [3, 3, -100]])
    dense = torch.randn(5, 6, dtype=torch.float64)
    teacher = DenseSignal(dense) if signal == "dense" else topk_signal(dense, 2)
    logits = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(component(name, batch_of(labels, teacher), 1.7), (logits,))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_second_backward_pass_gives_the_same_gradient(dtype):
    """The first one may use up what the forward pass kept."""
    torch.manual_seed(11)
    labels = random_labels(3, 6, 29)
    count = int((labels != -100).sum())
    names = ["focal", "jsd", "kl"]
    loss = fixed_loss(dict.fromkeys(names, 1.0))
    hidden = HiddenSignal(torch.randn(count, 7).to(dtype), torch.randn(29, 7).to(dtype))
    logits = torch.randn(3, 6, 29).to(dtype).requires_grad_()
    before = logits.detach().clone()
    total = loss(logits, batch_of(labels, hidden), LossProgress(temperature=3.0), ONE).total
    first = torch.autograd.grad(total, logits, retain_graph=True)[0].clone()
    second = torch.autograd.grad(2 * total, logits, retain_graph=True)[0].clone()
    third = torch.autograd.grad(total, logits)[0]
    torch.testing.assert_close(second, 2 * first)
    torch.testing.assert_close(third, first)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("temperature", [1.0, 1.5, 4.0])
def test_bounds_and_zero_for_equal_inputs(temperature):
    torch.manual_seed(8)
    labels = torch.randint(0, 50, (4, 8))
    for scale in (0.1, 3.0, 100.0):
        logits = torch.randn(4, 8, 50) * scale
        other = DenseSignal(torch.randn(32, 50) * scale)
        value = component("jsd", batch_of(labels, other), temperature)(logits) / 32
        assert 0 < value <= temperature**2 * math.log(2) * (1 + 1e-6)
        for name in ("kl", "jsd"):
            for same in (DenseSignal(logits.reshape(32, 50)), topk_signal(logits.reshape(32, 50).double(), 8)):
                value, gradient = value_and_gradient(component(name, batch_of(labels, same), temperature), logits)
                assert abs(value) / 32 < 2e-5 * temperature**2
                assert gradient.abs().max() < 1e-4 * temperature
    # disjoint supports reach the bound
    far = torch.full((1, 1, 4), -torch.inf)
    far[..., 0] = 0
    teacher = DenseSignal(far[0].roll(1, dims=1))
    value = component("jsd", batch_of(torch.zeros(1, 1, dtype=torch.long), teacher), temperature)(far)
    assert value == pytest.approx(temperature**2 * math.log(2), rel=1e-6)


HARD_ROWS = {
    "one-hot": [0.0, -torch.inf, -torch.inf, -torch.inf, -torch.inf],
    "some -inf": [1.0, 2.0, -torch.inf, 0.5, -torch.inf],
    "fp16 range": [65504.0, -65504.0, 0.0, 1.0, 2.0],
    "underflow": [0.0, -300.0, -800.0, -5000.0, -1.0],
    "equal": [2.0] * 5,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("student", HARD_ROWS)
@pytest.mark.parametrize("teacher", HARD_ROWS)
def test_hard_rows_give_no_nan(student, teacher, dtype):
    labels = torch.arange(5).view(1, 5)
    logits = torch.tensor(HARD_ROWS[student]).expand(1, 5, 5).to(dtype)
    dense = torch.tensor(HARD_ROWS[teacher]).expand(5, 5).contiguous()
    for signal in (DenseSignal(dense.to(dtype)), topk_signal(dense.double(), 2)):
        for name in [*TOKEN_LOSSES, "pans"]:
            value, gradient = value_and_gradient(component(name, batch_of(labels, signal), 2.0), logits)
            assert not value.isnan(), (name, signal)
            assert gradient.isfinite().all(), (name, signal)
            if name in ("jsd", "pans"):
                assert value.isfinite()


@pytest.mark.parametrize("name", ["kl", "jsd"])
def test_float16_logits_keep_the_tail_of_the_gradient(name):
    """A loss scaler lifts it into float16's range; it must not have been rounded to that range before."""
    generator = torch.Generator().manual_seed(12)
    logits = torch.randn(1, 2, 32_100, generator=generator).half()
    teacher = logits[0].double() + 0.01 * torch.randn(2, 32_100, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[1, 2]])
    scaled = component(name, batch_of(labels, DenseSignal(teacher.float())), 1.0)
    _, gradient = value_and_gradient(lambda leaf: scaled(leaf) * 2.0**16, logits)
    _, exact = value_and_gradient(component(name, batch_of(labels, DenseSignal(teacher)), 1.0), logits.double())
    assert (gradient.double() / 2.0**16 - exact).norm() < 0.01 * exact.norm()


def test_large_logits_keep_their_exact_value():
    """A student 65,504 nats away from the teacher's token: no infinity, no clamp."""
    labels = torch.tensor([[1]])
    logits = torch.tensor([[[65504.0, -65504.0, 0.0]]])
    teacher = DenseSignal(torch.tensor([[0.0, 300.0, 0.0]]))
    assert component("ce", batch_of(labels), 1.0)(logits) == pytest.approx(131008.0)
    assert component("kl", batch_of(labels, teacher), 4.0)(logits) == pytest.approx(131008.0 * 4)
    bucket = topk_signal(teacher.logits.double(), 1)
    assert component("kl", batch_of(labels, bucket), 4.0)(logits) == pytest.approx(131008.0 * 4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_at_certainty(gamma):
    logits = torch.tensor([[[0.0, -torch.inf], [0.0, -torch.inf], [0.3, 0.1]]])
    labels = torch.tensor([[0, 1, 0]])
    value, gradient = value_and_gradient(component("focal", batch_of(labels), 1.0, focal_gamma=gamma), logits)
    assert value == torch.inf  # the label is impossible, as for cross-entropy
    assert gradient.isfinite().all()


def test_focal_without_gamma_is_scaled_cross_entropy():
    torch.manual_seed(9)
    labels = random_labels(3, 5, 17)
    logits = torch.randn(3, 5, 17)
    found = component("focal", batch_of(labels), 1.0, focal_gamma=0.0, focal_alpha=0.7)(logits)
    assert found == pytest.approx(0.7 * F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item())


def test_pans_of_one_hot_predictions_is_the_hard_score():
    generator = np.random.default_rng(0)
    for trial in range(60):
        length = int(generator.integers(1, 12))
        vocab = int(generator.integers(2, 9))
        reference = torch.tensor(generator.integers(0, vocab, length))
        prediction = torch.tensor(generator.integers(0, vocab, length))
        if trial % 3 == 0:
            prediction = reference.clone()
        logits = torch.full((1, length, vocab), -1e4, dtype=torch.float64)
        logits[0, torch.arange(length), prediction] = 0.0
        value = component("pans", batch_of(reference[None]), 1.0)(logits)
        words = [[str(i) for i in ids.tolist()] for ids in (prediction, reference)]
        assert value.item() == pytest.approx(1 - hard_pans(*words), abs=1e-9)
        assert -1e-12 <= value.item() <= 1


def test_pans_gains_nothing_from_repetition_and_skips_the_end():
    end = 0
    not_text = torch.tensor([True, False, False, False])
    reference = torch.tensor([[1, 2, 3, end]])

    def score(prediction):
        logits = torch.nn.functional.one_hot(torch.tensor([prediction]), 4).double() * 1e4
        resources = LossResources(not_text=not_text)
        return component("pans", batch_of(reference), 1.0, resources=resources)(logits).item()

    assert score([1, 2, 3, end]) == pytest.approx(0.0, abs=1e-12)
    assert score([1, 2, 3, 1]) == pytest.approx(0.0, abs=1e-12)  # the end is no part of the text
    # "1 1 1" collects what one unigram may, of 3 + 2 + 1 n-grams
    assert score([1, 1, 1, end]) == pytest.approx(1 - 1 / 6)


def test_pans_of_a_reference_without_text_is_zero():
    resources = LossResources(not_text=torch.tensor([True, False, False]))
    batch = batch_of(torch.tensor([[0, -100], [1, 0]]))
    logits = torch.zeros(2, 2, 3, dtype=torch.float64)
    value, gradient = value_and_gradient(component("pans", batch, 1.0, resources=resources), logits)
    assert value == pytest.approx(1 - 1 / 3)
    assert gradient.isfinite().all() and not gradient[0].any()


@pytest.mark.parametrize("name", [*TOKEN_LOSSES, "pans"])
def test_minimising_it_alone_improves_what_it_is_named_after(name):
    torch.manual_seed(10)
    labels = torch.randint(0, 30, (4, 9))
    dense = torch.randn(36, 30) * 3
    batch = batch_of(labels, DenseSignal(dense))
    logits = torch.randn(4, 9, 30, requires_grad=True)
    objective = component(name, batch, 2.0)

    def quality():
        guess = logits.detach().argmax(-1)
        if name in ("ce", "focal"):
            return (guess == labels).float().mean().item()
        if name == "pans":
            pairs = zip(guess.tolist(), labels.tolist(), strict=True)
            return float(np.mean([hard_pans([*map(str, a)], [*map(str, b)]) for a, b in pairs]))
        return (guess.flatten() == dense.argmax(1)).float().mean().item()  # agreement with the teacher

    before = quality()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = objective(logits)
        loss.backward()
        assert logits.grad.isfinite().all()
        assert logits.grad.abs().sum() > 0
        optimizer.step()
    assert before < 0.3
    # a lone n-gram objective also has optima where a neighbour's token earns its share
    assert quality() > (0.7 if name == "pans" else 0.9)


def test_teacher_of_another_shape_is_refused():
    labels = torch.tensor([[1, 2, -100]])
    logits = torch.randn(1, 3, 9)
    with pytest.raises(UserError, match="have the same vocabulary"):
        component("kl", batch_of(labels, DenseSignal(torch.randn(2, 8))), 2.0)(logits)
    with pytest.raises(UserError, match="3 target positions, the labels 2"):
        component("kl", batch_of(labels, DenseSignal(torch.randn(3, 9))), 2.0)(logits)
    with pytest.raises(UserError, match="no teacher logits"):
        component("kl", batch_of(labels), 2.0)(logits)
    with pytest.raises(UserError, match="--temperature"):
        component("ce", batch_of(labels), 0.0)(logits)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4),
    length=st.integers(1, 7),
    vocab=st.integers(2, 40),
    temperature=st.floats(0.6, 8.0),
    ignored=st.floats(0.0, 0.9),
    scale=st.floats(0.0, 30.0),
    seed=st.integers(0, 10**6),
    weight=st.floats(0.0, 5.0),
)
def test_property_any_shape_mask_temperature_weight(batch, length, vocab, temperature, ignored, scale, seed, weight):
    torch.manual_seed(seed)
    labels = random_labels(batch, length, vocab, seed, ignored)
    count = int((labels != -100).sum())
    logits = torch.randn(batch, length, vocab, dtype=torch.float64) * scale
    dense = torch.randn(count, vocab, dtype=torch.float64) * scale
    resources = LossResources(token_weights=torch.rand(vocab, dtype=torch.float64) * weight)
    names = [*TOKEN_LOSSES, "pans"]
    for signal in (DenseSignal(dense), topk_signal(dense, min(3, vocab))):
        loss = fixed_loss(dict.fromkeys(names, weight), resources)
        leaf = logits.clone().requires_grad_()
        output = loss(leaf, batch_of(labels, signal), LossProgress(temperature=temperature), Denominators(count, batch))
        output.total.backward()
        assert output.total.isfinite() and leaf.grad.isfinite().all()
        assert not leaf.grad[labels == -100].any()
        # a softmax does not feel a constant added to its logits, so each row of a gradient sums to 0
        assert leaf.grad.sum(-1).abs().max() < 1e-9 * max(1.0, weight)
        assert all(value > -1e-6 for value in output.raw.values())
        assert output.raw["jsd"] <= temperature**2 * math.log(2) + 1e-9
        assert output.raw["pans"] <= 1 + 1e-9
        for name in ("ce", "focal"):
            expected = naive(name, logits, labels, None, temperature, resources.token_weights) / count
            assert output.raw[name].item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
        torch.testing.assert_close(output.total.detach(), sum(output.weighted.values()))


def test_registry_names_the_eight():
    assert list(COMPONENTS) == ["ce", "focal", "kl", "jsd", "semantic", "contrastive", "pans", "ast"]


@pytest.mark.parametrize("padded", [False, True])
def test_smoothed_ce_is_that_of_torch(padded):
    labels = random_labels(3, 6, 20)
    kept = labels != -100
    logits = torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 3
    settings = LossSettings(LossConfig(loss_components=["ce"], loss_weights=[1.0]), label_smoothing=0.1)
    loss = MultiComponentLoss(settings)
    given = logits if padded else logits[kept].unsqueeze(0)
    found = value_and_gradient(lambda leaf: loss(leaf, batch_of(labels), LossProgress(), ONE).total, given)

    def smoothed(leaf: Tensor) -> Tensor:
        rows = leaf[kept] if padded else leaf[0]
        return F.cross_entropy(rows, labels[kept], label_smoothing=0.1, reduction="sum")

    for mine, expected in zip(found, value_and_gradient(smoothed, given), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
