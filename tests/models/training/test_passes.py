"""--bf16 computes on a copy of the weights: losses near fp32, exact resume, and files as before; errors of a step."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration

from config.command_line import parse_config
from config.defaults import StudentConfig
from models.seq2seq.fast_parts import DroppedMix, ReluDropout, use_fast_parts
from models.training.engine import TrainingEngine
from models.training.passes import SplitPass
from models.training.run import Run
from models.training.windows import Ahead
from tests.helpers.batches import Batches
from tests.helpers.fixed_loss import fixed_loss
from utils.errors import UserError
from utils.logging_utils import DistillationLogger


class NoTokenizer:
    def save_pretrained(self, folder) -> None:
        """These models need none."""


def small_t5(dropout: float = 0.1) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_heads=2,
        num_layers=2,
        num_decoder_layers=2,
        dropout_rate=dropout,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def engine_of(folder, *flags: str, dropout: float = 0.1, data=None) -> TrainingEngine:
    words = ["--gradient_accumulation_steps", "1", "--epochs", "50", "--lr", "1e-3", "--grad_norm_steps", "0"]
    config = parse_config(StudentConfig, [*words, *flags])
    accelerator = Accelerator(cpu=True)
    accelerator.state._mixed_precision = "bf16" if config.hardware.bf16 else "no"
    logger = DistillationLogger(folder, tensorboard=False, console=False)
    run = Run(config, folder, accelerator, logger)
    return TrainingEngine(run, small_t5(dropout), NoTokenizer(), fixed_loss({"ce": 1.0}), data or Batches())


def train(engine: TrainingEngine, steps: int) -> list[float]:
    losses: list[float] = []
    record = engine.logger.step
    engine.logger.step = lambda row: (losses.append(row["loss_total"]), record(row))
    while engine.progress.step < steps:
        for window in engine.epoch():
            engine.train_step(window)
            if engine.progress.step == steps:
                break
    return losses


def test_bf16_follows_fp32_and_keeps_fp32_weights(tmp_path):
    exact = train(engine_of(tmp_path / "fp32", dropout=0.0), 120)
    engine = engine_of(tmp_path / "bf16", "--bf16", "True", dropout=0.0)
    half = train(engine, 120)
    assert half[0] == pytest.approx(exact[0], rel=5e-3) and half[0] != exact[0]
    assert sum(half[-8:]) == pytest.approx(sum(exact[-8:]), rel=2e-2)
    assert sum(exact[-8:]) < 0.9 * sum(exact[:8])
    # A step of 1e-3 moves a weight of 1 by less than bfloat16 can tell: only fp32 sums such steps up.
    stored = engine.bare_model.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in stored.values())
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in stored.values())


@pytest.mark.parametrize("accumulation", ["1", "2"])
def test_bf16_resumes_to_the_same_bytes(tmp_path, accumulation):
    flags = ("--bf16", "True", "--gradient_accumulation_steps", accumulation)
    whole = engine_of(tmp_path / "whole", *flags)
    train(whole, 10)
    first = engine_of(tmp_path / "parts", *flags)
    train(first, 5)
    first.save()
    second = engine_of(tmp_path / "parts", *flags)
    second.restore(next((tmp_path / "parts").glob("checkpoint-*")))
    train(second, 10)
    second.save()
    weights = load_file(tmp_path / "parts" / "checkpoint-0000010" / "model.safetensors")
    expected = whole.bare_model.state_dict()
    assert weights and all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())


def test_a_split_model_has_the_gradients_of_the_whole(tmp_path):
    """In fp32, head and all below it apart, over two micro-batches."""
    model = small_t5(dropout=0.0)
    whole, accelerator = copy.deepcopy(model), Accelerator(cpu=True)
    split = SplitPass(accelerator, model, model, print, adds_up=True)
    for batch in Batches().ready[:2]:
        loss = torch.nn.functional.cross_entropy
        labels = batch["labels"]
        logits = split.logits(split.prepare(batch))
        split.backward(loss(logits[0], labels[labels != -100]))
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        whole(**inputs).loss.backward()
    for (name, mine), theirs in zip(model.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text
        )
    split.zero()
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_fast_parts_compute_what_the_plain_ones_do():
    plain = small_t5(dropout=0.0)
    fast = copy.deepcopy(plain)
    use_fast_parts(fast)
    batch = Batches().ready[2]
    batch["attention_mask"][1, 50:] = 0
    results = []
    for model in (plain, fast):
        out = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
        out.loss.backward()
        results.append([out.logits, *(p.grad for p in model.parameters())])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert all(type(module).__name__ != "T5LayerNorm" for module in fast.modules())
    assert {block.layer[0].SelfAttention.config._attn_implementation for block in fast.decoder.block} == {"biased"}


def test_dropout_that_keeps_less_has_the_gradients_of_the_plain_one():
    torch.manual_seed(1)
    inner, gradient = torch.randn(40, 30, requires_grad=True), torch.randn(40, 30)
    results = []
    for function in (lambda: ReluDropout.apply(inner, 0.3), lambda: functional.dropout(inner.relu(), 0.3)):
        torch.manual_seed(2)
        out = function()
        results.append([out, *torch.autograd.grad(out, inner, gradient)])
    torch.testing.assert_close(*results)
    assert 0.6 < (results[0][1] == 0.0).float().mean() < 0.7  # half are not positive, of the others 0.3 are dropped


def test_attention_that_keeps_less_has_the_gradients_of_the_plain_one():
    torch.manual_seed(1)
    weights = torch.randn(2, 3, 7, 5).softmax(-1).requires_grad_()
    value = torch.randn(2, 5, 3, 4, requires_grad=True)
    gradient, results = torch.randn(2, 7, 3, 4), []
    for mix in (
        lambda: DroppedMix.apply(weights, value.transpose(1, 2), 0.3),
        lambda: torch.native_dropout(weights, 0.3, True)[0] @ value.transpose(1, 2),
    ):
        torch.manual_seed(2)
        out = mix().transpose(1, 2)
        results.append([out, *torch.autograd.grad(out, (weights, value), gradient)])
    torch.testing.assert_close(*results)


def test_fast_parts_keep_one_copy_of_the_large_tensors_for_backward():
    model = small_t5(dropout=0.1).train()
    use_fast_parts(model)
    batch = Batches().ready[2]
    rows, source = batch["input_ids"].shape
    kept: dict[int, torch.Tensor] = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
    sizes = Counter(
        (tensor.dtype, tensor.untyped_storage().nbytes() // tensor.element_size()) for tensor in kept.values()
    )
    layers, heads, d_ff = 2, 2, 32
    assert sizes[torch.float32, rows * heads * source * source] == layers  # the weights of the encoder's attention
    assert sizes[torch.bool, rows * heads * source * source] == layers  # what was dropped of them
    assert sizes[torch.float32, rows * source * d_ff] == layers  # the inner states of its feed-forward
    assert not sizes[torch.bool, rows * source * d_ff]


@pytest.mark.parametrize(
    ("error", "lost", "told"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed"), "killed by signal 9", "a data worker died (killed by"),
        (EOFError(), "exit code 1", "a data worker died (exit code 1)"),
        (
            RuntimeError("put_ does not have a deterministic implementation, but you set"),
            None,
            "step 1: put_ does not have a deterministic implementation; --no_deterministic",
        ),
        (
            torch._dynamo.exc.InternalTorchDynamoError("backend='inductor' raised:\nRuntimeError: no compiler found"),
            None,
            "torch.compile failed (RuntimeError: no compiler found); leave out --compile",
        ),
    ],
)
def test_an_error_of_a_step_is_told_with_its_cause(tmp_path, monkeypatch, error, lost, told):
    data = Batches()
    data.lost_worker = lambda: lost
    engine = engine_of(tmp_path, data=data)
    monkeypatch.setattr(engine, "step", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(UserError) as raised:
        engine.run()
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_another_error_is_no_dead_worker(tmp_path, monkeypatch):
    engine = engine_of(tmp_path)
    monkeypatch.setattr(engine, "step", lambda *_: (_ for _ in ()).throw(RuntimeError("DataLoader worker: a joke")))
    with pytest.raises(RuntimeError, match="a joke"):
        engine.run()


def test_windows_are_fetched_once_and_errors_wait_until_asked_for():
    def windows():
        yield [({"row": 0}, True)]
        yield [({"row": 1}, True)]
        raise UserError("the third is bad")

    moved: list[int] = []
    ahead = Ahead(windows(), lambda batch: (moved.append(batch["row"]), batch)[1])
    assert next(ahead)[0][0]["row"] == 0
    ahead.fetch()
    ahead.fetch()
    assert moved == [0, 1]
    assert next(ahead)[0][0]["row"] == 1
    ahead.fetch()
    with pytest.raises(UserError, match="third"):
        next(ahead)
