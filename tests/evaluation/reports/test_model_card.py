"""The model card: its facts are those of the run, and the way to load the model works as printed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from evaluation.reports.model_card import write_model_card
from tests.helpers.synthetic_run import write_run

ROOT = Path(__file__).resolve().parents[3]
DATA = {
    "train_data_path": "/home/somebody/secret/train.jsonl",
    "val_data_path": "val.jsonl",
    "max_train_samples": 1000,
    "enable_epoch_sampling": True,
    "max_input_len": 64,
    "max_output_len": 8,
}


@pytest.fixture
def card(tmp_path: Path) -> str:
    weights = {"focal": (0.3, 0.3), "jsd": (0.7, 0.35), "semantic": (0.0, 0.35)}
    write_run(tmp_path, weights=weights, steps=50, config={**DATA, "model_name": "Salesforce/codet5p-220m"})
    return write_model_card(tmp_path).read_text(encoding="utf-8")


def test_card_names_data_losses_scores_and_origin(card):
    assert card.startswith("---\nlibrary_name: transformers\nbase_model: Salesforce/codet5p-220m\n")
    for fact in (
        "160 samples, drawn again each epoch",  # what was seen in the first of five epochs, whatever the flag allows
        "`train.jsonl`",
        "800 in 50 steps",
        "Jensen-Shannon",
        "0.6",
        "0.532 (0.502 to 0.562)",
        "| `pass_rate` | not computed: no JDK |",
        "on 200 samples",
        "0123456789abcdef",
        "torch 2.0",
        "seed 0",
        "student without a teacher",
    ):
        assert fact in card, fact
    assert re.search(r"\| jsd \| .* \| 0\.69\d* → 0\.35 \|", card)
    assert "/home/somebody" not in card and "retrieval" not in card  # that baseline was not judged


def test_a_folder_is_not_published_as_base_model(tmp_path):
    write_run(tmp_path, steps=5, config={**DATA, "model_name": str(tmp_path)})
    text = write_model_card(tmp_path, role="teacher").read_text()
    assert "base_model" not in text and str(tmp_path.parent) not in text.replace(os.path.relpath(tmp_path), "")
    assert "fine-tuned as a teacher" in text


def test_a_run_without_evaluation_says_so(tmp_path):
    write_run(tmp_path, steps=5, config=DATA)
    (tmp_path / "metrics_summary_final.json").unlink()
    assert "Not evaluated yet." in write_model_card(tmp_path).read_text()


def test_the_printed_way_to_load_the_model_works(tmp_path, monkeypatch, capsys):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    words = Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "list": 3, "add": 4}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    shape = T5Config(vocab_size=5, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    write_run(tmp_path, steps=5, config=DATA)
    T5ForConditionalGeneration(shape).save_pretrained(tmp_path / "final_model")
    tokenizer.save_pretrained(tmp_path / "final_model")
    card = write_model_card(tmp_path).read_text()
    program = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    monkeypatch.chdir(ROOT)
    exec(compile(program.replace(os.path.relpath(tmp_path), str(tmp_path)), "card", "exec"), {})
    assert capsys.readouterr().out.endswith("\n")
