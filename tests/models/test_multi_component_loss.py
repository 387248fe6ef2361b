"""Several components together: how a batch is cut changes nothing, half precision little, schedules as documented."""

from __future__ import annotations

import copy
import sys
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from config import schedules
from config.command_line import parse_config
from config.defaults import DistillationConfig, LossConfig, StudentConfig
from data.distillation.signal import DenseSignal
from models.loss_functions import COMPONENTS, LossResources, LossSettings
from models.losses.ast_spans import SpanFinder
from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss, build_loss
from models.text_encoder.bridge import GoldQueue
from tests.helpers import loss_helpers as helpers
from tests.helpers.fixed_loss import fixed_loss
from utils.errors import UserError

TEXTS = helpers.assertion_texts()[:32]
NEGATIVES = helpers.assertion_texts()[40:60]
PROGRESS = LossProgress(temperature=1.5)


@cache
def double_encoder():
    return copy.deepcopy(helpers.minilm()).double()


def loss_of(names, encoder=None, **options) -> MultiComponentLoss:
    """All weights differ, so that a component in another's place would show; negatives from the queue alone."""
    soft = helpers.soft_encoder(encoder)
    queue = GoldQueue(64, soft.cache)
    queue.push(NEGATIVES)
    queue.end_step()
    tokenizer = helpers.java_tokenizer()
    resources = LossResources(
        not_text=helpers.not_text(),
        semantic=soft,
        contrastive=soft,
        queue=queue,
        spans=SpanFinder(tokenizer),
        token_weights=torch.linspace(0.5, 2.5, len(tokenizer), dtype=torch.float64),
    )
    weights = {name: 0.5 + number / 4 for number, name in enumerate(names)}
    return fixed_loss(weights, resources, contrastive_batch_negatives=False, **options)


@cache
def whole() -> tuple[Tensor, Tensor, Tensor]:
    """labels [32, T], student logits [32, T, V] that are partly right, and the teacher's."""
    labels = helpers.labels_of(TEXTS)
    generator = torch.Generator().manual_seed(0)
    shape = (*labels.shape, len(helpers.java_tokenizer()))
    gold = torch.nn.functional.one_hot(labels.clamp(min=0), shape[-1])
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) * 2 for _ in range(2)]
    return labels, noise[0] + 6 * gold, noise[1] + 8 * gold


def part(rows: slice, padding: int) -> tuple[dict, Tensor]:
    """Samples ``rows`` as a micro-batch, cut to its own longest target and then padded."""
    labels, logits, teacher = whole()
    labels, logits, teacher = labels[rows], logits[rows], teacher[rows]
    length = int((labels != -100).sum(1).max())
    labels, logits = labels[:, :length], logits[:, :length]
    signal = DenseSignal(teacher[:, :length][labels != -100])
    if padding:
        generator = torch.Generator().manual_seed(padding)
        labels = torch.cat([labels, torch.full((len(labels), padding), -100)], 1)
        noise = torch.randn(len(logits), padding, logits.shape[2], generator=generator, dtype=logits.dtype) * 9
        logits = torch.cat([logits, noise], 1)
    return {"labels": labels, "teacher": signal, "references": TEXTS[rows]}, logits


def step_gradient(names, size: int, padding: int, mine=lambda number: True) -> Tensor:
    """Gradient on a scale [V] of the logits after all micro-batches of ``size``, and the accumulated total."""
    labels = whole()[0]
    denominators = Denominators(float((labels != -100).sum()), float(len(labels)))
    loss = loss_of(names, double_encoder())
    scale = torch.ones(whole()[1].shape[-1], dtype=torch.float64, requires_grad=True)
    totals = []
    for number in range(len(labels) // size):
        if mine(number):
            batch, logits = part(slice(number * size, (number + 1) * size), padding)
            output = loss(logits * scale, batch, PROGRESS, denominators)
            output.total.backward()
            totals.append(output.total.detach())
    return torch.cat([scale.grad, torch.stack(totals).sum().view(1)])


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).norm() <= 1e-6 * expected.norm()
    assert expected[:-1].norm() > 0


@cache
def at_once(names) -> Tensor:
    return step_gradient(names, 32, 0)


@pytest.mark.parametrize(
    ("names", "size", "padding"), [*(((name,), 4, 20) for name in COMPONENTS), (tuple(COMPONENTS), 8, 0)]
)
def test_micro_batches_and_padding_do_not_change_the_gradient(names, size, padding):
    assert_same(step_gradient(names, size, padding), at_once(names))


@pytest.mark.parametrize("name", COMPONENTS)
def test_token_losses_weigh_samples_by_length_and_sequence_losses_weigh_them_equally(name):
    def value(rows: slice) -> tuple[float, float]:
        batch, logits = part(rows, 0)
        count = Denominators(float((batch["labels"] != -100).sum()), float(len(batch["labels"])))
        return float(loss_of((name,), double_encoder())(logits, batch, PROGRESS, count).raw[name]), count.tokens

    alone = [value(slice(i, i + 1)) for i in range(6)]
    weights = [tokens if name in {"ce", "focal", "kl", "jsd"} else 1.0 for _, tokens in alone]
    expected = sum(one * weight for (one, _), weight in zip(alone, weights, strict=True)) / sum(weights)
    assert expected > 0 and len({tokens for _, tokens in alone}) > 1
    assert value(slice(0, 6))[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tau", [1.0, 0.7])
def test_the_gradient_through_the_soft_prediction_is_that_of_plain_autograd(tau):
    soft, references = helpers.soft_encoder(double_encoder()), TEXTS[:1]
    labels = helpers.labels_of(references)[:, :-1]  # text alone, so that every row is a soft token
    logits = whole()[1][:1, : labels.shape[1]].clone().requires_grad_()
    resources = LossResources(not_text=helpers.not_text(), semantic=soft)
    loss = fixed_loss({"semantic": 1.0}, resources, semantic_temperature=tau)
    total = loss(logits, {"labels": labels, "references": references}, PROGRESS, Denominators(1.0, 1.0)).total
    tokens = torch.softmax(logits / tau, -1) @ soft.tokens
    plain = 5.0 * (1.0 - soft.embed_soft(tokens, labels >= 0) @ soft.embed_texts(references).T).sum()
    assert total.item() == pytest.approx(plain.item(), rel=1e-9)
    found, expected = (torch.autograd.grad(value, logits)[0] for value in (total, plain))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)


def _rank(rank: int, names, file: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    share = step_gradient(names, 8, 3 * rank, mine=lambda number: number % 2 == rank)
    dist.all_reduce(share)
    if rank == 0:
        torch.save(share, file + ".sum")
    dist.destroy_process_group()


def test_two_ranks_give_the_gradient_of_one(tmp_path):
    names = tuple(COMPONENTS)
    file = str(tmp_path / "rendezvous")
    torch.multiprocessing.start_processes(_rank, args=(names, file), nprocs=2, start_method="fork")
    assert_same(torch.load(file + ".sum", weights_only=True), at_once(names))


# -- mixed precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_autocast_gives_the_same_loss(name, dtype, tolerance):
    """Logits that a linear layer computes under autocast; the loss itself stays in float32."""
    batch, logits = part(slice(0, 8), 2)
    loss = loss_of([name])
    basis = torch.eye(logits.shape[-1])

    def run(enabled: bool) -> tuple[Tensor, Tensor]:
        leaf = logits.float().clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            made = torch.nn.functional.linear(leaf, basis)
            assert made.dtype == (dtype if enabled else torch.float32)
            total = loss(made, batch, PROGRESS, Denominators(100.0, 8.0)).total
        total.backward()
        return total.detach(), leaf.grad

    with torch.autocast("cpu", dtype=dtype):  # float32 logits: no part of the loss itself is rounded
        untouched = loss(logits.float(), batch, PROGRESS, Denominators(100.0, 8.0)).total
    (half, half_gradient), (full, gradient) = run(True), run(False)
    assert untouched.item() == pytest.approx(full.item(), rel=1e-6)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=tolerance, abs=tolerance / 10)
    # A greedy token that rounding turns over moves ast to another token.
    least = 0.9 if name == "ast" else 0.99
    assert torch.cosine_similarity(half_gradient.flatten(), gradient.flatten(), dim=0) > least


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_at_the_end_of_their_range_stay_finite(name, dtype):
    batch, logits = part(slice(0, 4), 0)
    extreme = (logits / logits.abs().max() * 60000).to(dtype).requires_grad_()
    total = loss_of([name])(extreme, batch, PROGRESS, Denominators(100.0, 4.0)).total
    total.backward()
    assert total.isfinite()
    assert extreme.grad.isfinite().all()


# -- weights, normaliser, log ------------------------------------------------------------------------------------------


def weights_at(components, progress, dynamic=True, **options):
    config = LossConfig(loss_components=list(components), enable_dynamic_weighting=dynamic, **options)
    return schedules.component_weights(config, progress, alpha=0.5)


@pytest.mark.parametrize(
    ("components", "start", "end"),
    [
        (("focal", "jsd", "semantic"), (0.3, 0.7, 0.0), (0.3, 0.35, 0.35)),
        (("ce", "kl", "pans", "ast"), (0.35, 0.6, 0.05, 0.0), (0.25, 0.35, 0.25, 0.15)),
        (("contrastive", "jsd", "ce"), (0.1, 0.7, 0.35), (0.15, 0.35, 0.25)),
    ],
)
def test_each_component_takes_its_own_line_of_the_schedule(components, start, end):
    assert weights_at(components, 0.0) == pytest.approx(dict(zip(components, start, strict=True)))
    assert weights_at(components, 1.0) == pytest.approx(dict(zip(components, end, strict=True)))
    middle = [(a + b) / 2 for a, b in zip(start, end, strict=True)]
    assert weights_at(components, 0.5) == pytest.approx(dict(zip(components, middle, strict=True)))
    assert weights_at(components, 0.0, dynamic=False) == weights_at(components, 1.0)
    fixed = dict(zip(components, range(1, 1 + len(components)), strict=True))
    assert weights_at(components, 0.3, loss_weights=list(fixed.values())) == fixed


def test_modes_weigh_by_alpha():
    def weights(**flags):
        return schedules.component_weights(LossConfig(**flags), 0.5, alpha=0.7)

    found = weights(loss_function="ast_enhanced", pans_weight=0.2, ast_weight=0.05)
    assert found == pytest.approx({"ce": 0.7, "kl": 0.3, "pans": 0.2, "ast": 0.05})
    assert set(weights(loss_function="traditional")) == {"ce", "kl"}
    assert set(weights(loss_function="enhanced")) == {"ce", "kl", "pans"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--loss_components focal jsdd", "jsdd.*jsd"),
        ("--loss_components ce ce", "ce.*twice"),
        ("--loss_components", "--loss_components.*at least one"),
        ("--loss_function enhancd", "enhancd.*enhanced"),
        ("--loss_components ce kl --loss_weights 1", "1 values for 2 components"),
        ("--loss_components ce kl --loss_weights 1 -0.5", r"-0\.5"),
        ("--loss_components ce kl --loss_weights 0 0", "not all 0"),
        ("--temperature 0", "--temperature 0"),
        ("--temperature_final -1", "--temperature_final -1"),
        ("--critical_token_weight 0", "--critical_token_weight 0"),
        ("--critical_token_weight -1", "--critical_token_weight -1"),
        ("--critical_token_weight inf", "--critical_token_weight inf"),
        ("--critical_token_categories mockto", "mockto.*mockito"),
    ],
)
def test_bad_settings_are_refused_by_name(words, named):
    with pytest.raises(UserError, match=named) as caught:
        parse_config(StudentConfig, words.split())
    assert "\n" not in str(caught.value)


def built_of(components, *, teacher_available):
    tokenizer = helpers.java_tokenizer()
    settings = LossSettings(LossConfig(loss_components=components))
    return build_loss(settings, tokenizer, len(tokenizer), TEXTS, "cpu", teacher_available=teacher_available)


def test_a_missing_teacher_is_named_before_training():
    with pytest.raises(UserError, match=r"kl.*teacher_model") as caught:
        built_of(["ce", "kl", "jsd"], teacher_available=False)
    assert "\n" not in str(caught.value)


def test_temperature_decays_by_a_constant_factor():
    values = [schedules.temperature_at(4.0, 1.5, progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert (values[0], values[-1]) == pytest.approx((4.0, 1.5))
    ratios = np.diff(np.log(values))
    np.testing.assert_allclose(ratios, ratios[0])


def test_alpha_falls_once_the_hard_loss_has_converged_and_is_restored():
    def fed(controller, windows):
        for window in windows:
            for value in window:
                controller.observe(value)
            controller.close_window()
        return controller

    windows = [(3.0, 2.0), (1.5, 1.0), (1.24, 1.25)]
    controller = fed(schedules.AlphaController(DistillationConfig(alpha=0.5), dynamic=True), windows[:2])
    assert controller.value(0.5) == 0.5
    other = schedules.AlphaController(DistillationConfig(alpha=0.5), dynamic=True)
    controller.observe(1.24)  # a run is interrupted in the middle of a window, too
    other.load_state_dict(controller.state_dict())
    for c in (controller, other):
        c.observe(0.74)
        assert not c.close_window()  # mean 0.99, of both
        c.observe(0.75)
        assert not c.close_window()
        fed(c, [(0.75, 0.75)])
        assert c.value(0.5) == pytest.approx(0.4)
        assert c.value(1.0) == pytest.approx(0.3)
    assert fed(schedules.AlphaController(DistillationConfig(alpha=0.5), dynamic=False), windows).value(1.0) == 0.5
    assert (
        fed(schedules.AlphaController(DistillationConfig(alpha=0.2), dynamic=True), windows).value(1.0) == 0.2
    )  # below the minimum: it stays


def test_output_reports_raw_weighted_and_gradient_norms():
    names = tuple(COMPONENTS)
    loss = loss_of(names, semantic_gradient_share=0.0)  # with it: tests/models/losses/test_gradient_cap.py
    batch, logits = part(slice(0, 8), 1)
    leaf = logits.float().requires_grad_()
    denominators = Denominators(100.0, 8.0)
    output = loss(leaf, batch, PROGRESS, denominators)
    for name in names:
        assert output.weighted[name].item() == pytest.approx(output.weights[name] * output.raw[name].item())
    assert output.total.item() == pytest.approx(sum(value.item() for value in output.weighted.values()), rel=1e-6)
    norms = loss.gradient_norms(leaf, batch, PROGRESS, denominators)
    for name in names:
        alone = loss_of([name])(leaf, batch, PROGRESS, denominators)
        (gradient,) = torch.autograd.grad(alone.total, leaf)
        assert norms[name].item() * alone.weights[name] == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_the_normaliser_brings_components_to_one_size_and_is_restored():
    """Scales are one over the bias-corrected running mean; the first step is not scaled."""
    names = ["ce", "jsd"]
    loss = loss_of(names, normalize_components=True, normalizer_momentum=0.9)
    batch, logits = part(slice(0, 8), 0)
    denominators = Denominators(100.0, 8.0)
    first = loss(logits.float(), batch, PROGRESS, denominators)
    assert first.total.item() == pytest.approx(sum(first.weights[n] * first.raw[n].item() for n in names))
    means = dict.fromkeys(names, 0.0)
    for step in range(1, 4):
        raw = {name: torch.tensor(step * (1.0 if name == "ce" else 0.01)) for name in names}
        loss.end_step(raw)
        loss.end_step({"ce": torch.tensor(5.0), "jsd": torch.tensor(torch.nan)})  # a skipped step changes nothing
        means = {name: 0.9 * means[name] + 0.1 * raw[name].item() for name in names}
    restored = loss_of(names, normalize_components=True, normalizer_momentum=0.9)
    restored.load_state_dict(loss.state_dict())
    for one in (loss, restored):
        output = one(logits.float(), batch, PROGRESS, denominators)
        for name in names:
            expected = output.weights[name] * output.raw[name].item() / (means[name] / (1 - 0.9**3))
            assert output.weighted[name].item() == pytest.approx(expected, rel=1e-5)


def test_validation_leaves_the_queue_alone():
    batch, logits = part(slice(0, 4), 0)
    loss = loss_of(["contrastive"])
    before = loss.state_dict()["queue"]
    with torch.no_grad():
        loss(logits, batch, PROGRESS, Denominators(1.0, 4.0))
    loss.end_step({"contrastive": torch.tensor(1.0)})
    assert loss.state_dict()["queue"] == before
    loss(logits.requires_grad_(), batch, PROGRESS, Denominators(1.0, 4.0))
    loss.end_step({"contrastive": torch.tensor(1.0)})
    assert set(loss.state_dict()["queue"]["texts"]) == {*before["texts"], *TEXTS[:4]}


def test_a_missing_parser_is_named_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "models.losses.ast_spans", None)
    with pytest.raises(UserError, match=r"--loss_components ast: the Java parser is missing.*tree-sitter"):
        built_of(["ce", "ast"], teacher_available=True)
