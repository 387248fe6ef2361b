"""--semantic_gradient_share against a plain computation: each term alone, sequence by sequence, in float64."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor

from data.distillation.signal import DenseSignal
from models.loss_functions import LossResources
from models.losses.ast_spans import SpanFinder
from models.multi_component_loss import Denominators, LossProgress
from tests.helpers import loss_helpers as helpers
from tests.helpers.fixed_loss import fixed_loss

TEXTS = helpers.assertion_texts()[:8]
PROGRESS = LossProgress(temperature=1.5)
WEIGHTS = {"focal": 0.3, "semantic": 0.7, "jsd": 0.35, "contrastive": 0.2, "pans": 0.1}
SHARE = 0.3


@cache
def soft():
    return helpers.soft_encoder(copy.deepcopy(helpers.minilm()).double())


def loss_of(weights, semantic_gradient_share=0.0, **flags):
    tokenizer = helpers.java_tokenizer()
    resources = LossResources(
        not_text=helpers.not_text(), semantic=soft(), contrastive=soft(), spans=SpanFinder(tokenizer)
    )
    flags |= {"semantic_gradient_share": semantic_gradient_share, "contrastive_queue_size": 0}
    return fixed_loss(weights, resources, **flags)


@cache
def batch() -> tuple[dict, Tensor, Denominators]:
    """Eight sequences, of which the later ones are learned better: their token terms pull less."""
    labels = helpers.labels_of(TEXTS)
    shape = (*labels.shape, len(helpers.java_tokenizer()))
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    gold = torch.nn.functional.one_hot(labels.clamp(min=0), shape[-1])
    learned = torch.arange(8, dtype=torch.float64).view(-1, 1, 1) * 2
    signal = DenseSignal((noise[0] + 8 * gold)[labels != -100])
    rows = {"labels": labels, "teacher": signal, "references": TEXTS}
    return rows, noise[1] + learned * gold, Denominators(float((labels != -100).sum()), 8.0)


def gradient_of(weights, source: Tensor | None = None, **flags) -> Tensor:
    rows, logits, denominators = batch()
    leaf = (logits if source is None else source).clone().requires_grad_()
    output = loss_of(weights, **flags)(leaf, rows, PROGRESS, denominators)
    output.total.backward()
    return leaf.grad


@cache
def alone() -> dict[str, Tensor]:
    return {name: gradient_of({name: weight}) for name, weight in WEIGHTS.items()}


def capped_by_hand(share: float) -> dict[str, Tensor]:
    """Each term's gradient alone; semantic and contrastive times min(1, share |tokens| / |itself|) of each sequence."""
    found = {name: gradient.clone() for name, gradient in alone().items()}
    tokens = found["focal"] + found["jsd"]
    for name in ("semantic", "contrastive"):
        for row in range(len(TEXTS)):
            limit = share * float(tokens[row].norm())
            found[name][row] *= min(1.0, limit / float(found[name][row].norm()))
    return found


@pytest.mark.parametrize("share", [1e-3, SHARE])
def test_what_is_applied_is_the_sum_of_the_capped_terms(share):
    expected = sum(capped_by_hand(share).values())
    free = gradient_of(WEIGHTS)
    found = gradient_of(WEIGHTS, semantic_gradient_share=share)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)
    moved = [bool((found[row] - free[row]).norm() > 1e-9 * free[row].norm()) for row in range(8)]
    assert all(moved) if share == 1e-3 else any(moved) and not all(moved)


def test_the_reported_loss_is_the_formula_and_the_reported_norms_are_those_left():
    rows, logits, denominators = batch()
    leaf = logits.clone().requires_grad_()
    plain, capped = (loss_of(WEIGHTS, semantic_gradient_share=share) for share in (0.0, SHARE))
    before, after = (loss(leaf, rows, PROGRESS, denominators) for loss in (plain, capped))
    assert after.total.item() == before.total.item()
    assert (after.raw, after.weighted, after.weights) == (before.raw, before.weighted, before.weights)
    with torch.no_grad():
        assert capped(logits, rows, PROGRESS, denominators).total.item() == before.total.item()
    norms = capped.gradient_norms(logits.float(), rows, PROGRESS, denominators)
    assert list(norms) == list(WEIGHTS)
    for name, gradient in capped_by_hand(SHARE).items():
        assert norms[name].item() * WEIGHTS[name] == pytest.approx(gradient.norm().item(), rel=1e-4)


def test_micro_batches_and_rows_without_padding_change_nothing():
    weights = {name: WEIGHTS[name] for name in ("focal", "jsd", "semantic")}
    whole = gradient_of(weights, semantic_gradient_share=SHARE)
    rows, logits, denominators = batch()
    mask = rows["labels"] != -100
    loss = loss_of(weights, semantic_gradient_share=SHARE)
    packed = logits[mask].unsqueeze(0).requires_grad_()
    loss(packed, rows, PROGRESS, denominators).total.backward()
    torch.testing.assert_close(packed.grad[0], whole[mask], rtol=1e-7, atol=1e-12)
    start = 0
    for part in (slice(0, 3), slice(3, 8)):
        count = int(mask[part].sum())
        signal = DenseSignal(rows["teacher"].logits[start : start + count])
        start += count
        few = {"labels": rows["labels"][part], "teacher": signal, "references": TEXTS[part]}
        leaf = logits[part].clone().requires_grad_()
        # As DDP does: times the number of processes, which it divides by again.
        (loss(leaf, few, PROGRESS, denominators).total * 2).backward()
        torch.testing.assert_close(leaf.grad / 2, whole[part], rtol=1e-7, atol=1e-12)


def test_half_precision_keeps_small_gradients_under_a_loss_scale():
    rows, logits, denominators = batch()
    weights = {name: WEIGHTS[name] for name in ("focal", "jsd", "semantic")}
    half = logits.half()
    exact = gradient_of(weights, half.double(), semantic_gradient_share=SHARE)
    leaf = half.clone().requires_grad_()
    loss = loss_of(weights, semantic_gradient_share=SHARE)
    scale = 2.0**16
    (loss(leaf, rows, PROGRESS, denominators).total * scale).backward()
    assert (leaf.grad.double() / scale - exact).norm() < 2e-3 * exact.norm()


def test_without_a_token_term_or_its_weight_nothing_is_capped():
    for weights in ({"semantic": 0.7, "pans": 0.1}, {"focal": 0.0, "semantic": 0.7}):
        assert torch.equal(gradient_of(weights, semantic_gradient_share=SHARE), gradient_of(weights))
    assert loss_of({"focal": 0.3, "semantic": 0.7}, SHARE).capped == ["semantic"]
    assert not loss_of({"semantic": 0.7, "pans": 0.1}, SHARE).capped


def test_a_learned_sequence_and_one_without_semantic_pull_stay_finite():
    """A semantic weight of 0, as at the start of its schedule; token terms whose gradient underflows to 0."""
    assert torch.equal(
        gradient_of({"focal": 0.3, "semantic": 0.0}, semantic_gradient_share=SHARE), gradient_of({"focal": 0.3})
    )
    labels = batch()[0]["labels"]
    sure = 5000.0 * torch.nn.functional.one_hot(labels.clamp(min=0), batch()[1].shape[-1]).double()
    found = gradient_of({"focal": 0.3, "semantic": 0.7}, sure, semantic_gradient_share=SHARE)
    assert found.isfinite().all()
