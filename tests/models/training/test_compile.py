"""--compile: the blocks of the model are compiled once for all lengths, and train as without."""

from __future__ import annotations

import getpass
import os
import tempfile

import pytest
import torch
from accelerate import Accelerator
from torch._inductor.codecache import cache_dir
from transformers import T5Config, T5ForConditionalGeneration

from config.command_line import parse_config
from config.defaults import StudentConfig
from data.batches.buckets import pad_to_buckets
from models.seq2seq.fast_parts import CACHE, compile_blocks, keep_what_is_compiled
from models.training.engine import TrainingEngine
from models.training.run import Run
from tests.helpers.batches import Batches
from tests.helpers.fixed_loss import fixed_loss
from utils.logging_utils import DistillationLogger


def small_t5(layers: int) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=50,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_heads=2,
            num_layers=layers,
            num_decoder_layers=layers,
            dropout_rate=0.0,
            decoder_start_token_id=0,
            pad_token_id=0,
        )
    )


def losses(tmp_path, monkeypatch, compile: bool, layers: int = 3) -> tuple[list[float], int]:
    """The loss of each step of two epochs, and how many graphs were compiled."""
    model = small_t5(layers)
    graphs: list[torch.fx.GraphModule] = []
    compiler = torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def counting(block, **given):
        return compiler(block, **{"backend": backend} | given)

    monkeypatch.setattr(torch, "compile", counting)
    flags = ["--gradient_accumulation_steps", "1", "--epochs", "2", "--lr", "1e-2", "--grad_norm_steps", "0"]
    config = parse_config(StudentConfig, [*flags, "--compile", str(compile)])
    logger = DistillationLogger(tmp_path / f"{compile}{layers}", tensorboard=False, console=False)
    rows: list[float] = []
    monkeypatch.setattr(logger, "step", lambda row: rows.append(row["loss_total"]))
    loss = fixed_loss({"ce": 1.0})
    accelerator = Accelerator(cpu=True)
    engine = TrainingEngine(Run(config, tmp_path, accelerator, logger), model, None, loss, Batches())
    for _ in range(2):
        for window in engine.epoch():
            engine.train_step(window)
    trained = len(graphs)
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.ones(1, 5, dtype=torch.long), decoder_input_ids=torch.ones(1, 3, dtype=torch.long))
    assert len(graphs) == trained, "evaluation compiled"
    return rows, trained


def test_compiled_training_is_the_same_and_compiles_each_kind_of_block_once(tmp_path, monkeypatch):
    plain, none = losses(tmp_path, monkeypatch, compile=False)
    compiled, graphs = losses(tmp_path, monkeypatch, compile=True)
    assert none == 0
    # Encoder and decoder, the first block of each (which makes the position bias) and the others.
    assert graphs == 4
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert losses(tmp_path, monkeypatch, compile=True, layers=6)[1] == graphs


@pytest.mark.parametrize("torchs", [None, "", "/torchinductor_{user}", "/torchinductor_{user}/"])
def test_what_is_compiled_is_kept_where_no_job_empties_it(tmp_path, monkeypatch, torchs):
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path))
    if torchs is None:
        monkeypatch.setenv(CACHE, "")
        monkeypatch.delenv(CACHE)
        cache_dir()  # torch chooses, as it does when it is imported
        assert os.environ[CACHE]
    else:
        monkeypatch.setenv(CACHE, torchs and tempfile.gettempdir() + torchs.format(user=getpass.getuser()))
    keep_what_is_compiled()
    assert os.environ[CACHE] == str(tmp_path / "compiled")


@pytest.mark.parametrize("place", ["/a/place/of/ones/own", "{temporary}/torchinductor_mine"])
def test_what_is_compiled_is_kept_where_the_user_wants_it(tmp_path, monkeypatch, place):
    place = place.format(temporary=tempfile.gettempdir())
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path))
    monkeypatch.setenv(CACHE, place)
    compile_blocks(small_t5(1), deterministic=True)
    assert os.environ[CACHE] == place


def test_buckets_only_add_padding():
    batch = Batches().ready[2] | {"references": ["a", "b"]}
    padded = pad_to_buckets(batch, 0)
    assert padded["input_ids"].shape == padded["attention_mask"].shape == (2, 96)
    assert padded["labels"].shape == (2, 8)
    assert torch.equal(padded["input_ids"][:, :70], batch["input_ids"]) and not padded["input_ids"][:, 70:].any()
    assert torch.equal(padded["attention_mask"].sum(1), batch["attention_mask"].sum(1))
    assert (padded["labels"] != -100).sum() == (batch["labels"] != -100).sum()
    assert padded["references"] == ["a", "b"]
    assert pad_to_buckets(padded, 0)["input_ids"].shape == (2, 96)
