"""LoRA: nothing changes at first, little is trained, and what leaves the run is a plain model."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from models.training.adapters import add_adapters, merge_adapters, plain_state
from tests.helpers.commands import SMALL, make_rows, write_rows
from tests.helpers.faults import table
from tests.helpers.forked import run
from tests.helpers.model_families import make_family


@pytest.mark.parametrize("family", ["t5_v1.1", "bart"])
def test_merged_adapters_are_the_model_that_was_trained(family, tmp_path):
    folder = make_family(family, tmp_path / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    names = {name: value.shape for name, value in model.state_dict().items()}
    batch = {"input_ids": torch.tensor([[5, 9, 12, 2]]), "labels": torch.tensor([[7, 8, 2]])}
    before = model(**batch).logits
    add_adapters(model, 4)
    torch.testing.assert_close(model(**batch).logits, before, atol=1e-5, rtol=1e-5)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained and all(".lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    first = model(**batch).loss.item()
    for _ in range(8):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model(**batch)
    assert after.loss.item() < first

    state = plain_state(model)
    assert state is not None and {name: value.shape for name, value in state.items()} == names
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(**batch).logits, after.logits, atol=1e-4, rtol=1e-4)
    merged = copy.deepcopy(model)
    merge_adapters(merged)
    assert {name: value.shape for name, value in merged.state_dict().items()} == names
    torch.testing.assert_close(merged(**batch).logits, after.logits, atol=1e-4, rtol=1e-4)
    assert plain_state(merged) is None


def test_a_teacher_with_adapters_learns_resumes_exactly_and_is_plain(tmp_path):
    rows = write_rows(tmp_path / "train.jsonl", make_rows(32, 1)), write_rows(tmp_path / "val.jsonl", make_rows(8, 2))
    model = make_family("t5_v1.1", tmp_path / "model")

    def train(folder, *more):
        run("train_codet5_assertions.py", "--train_data_path", rows[0], "--val_data_path", rows[1], "--model_name",
            model, "--output_dir", tmp_path / folder, "--lora_rank", 4, "--lr", "1e-2", "--warmup_ratio", 0,
            "--no_create_distillation_dataset", *SMALL, "--no_run_report", "--use_enhanced_metrics", "false",
            "--epochs", 2, *more)  # fmt: skip

    train("whole")
    train("parts", "--max_steps", 1)
    train("parts", "--resume", "auto")
    whole, parts = ((tmp_path / name / "final_model" / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    losses = [float(row["loss_total"]) for row in table(tmp_path / "whole" / "step_metrics.csv")]
    assert losses[-1] < losses[0]
    trained = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole" / "final_model").state_dict()
    start = AutoModelForSeq2SeqLM.from_pretrained(model).state_dict()
    assert trained.keys() == start.keys()
    changed = {name for name in start if not torch.equal(start[name], trained[name])}
    assert changed and not any("shared" in name or "norm" in name or "lm_head" in name for name in changed)


def without_peft() -> None:
    """Called in the child."""
    import config.checks

    config.checks.find_spec = lambda name: None  # type: ignore[assignment]


def test_what_adapters_do_not_go_with(raw_data):
    words = ["--train_data_path", raw_data[0], "--val_data_path", raw_data[1], "--lora_rank", 4]
    script = "train_codet5_assertions.py"
    assert "--lora_rank does not work with --fsdp" in run(script, *words, "--fsdp", code=2)
    assert "error: --lora_rank needs peft; pip install peft" in run(script, *words, code=2, fault=without_peft)
