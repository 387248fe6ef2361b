"""Distillation files as the published writer makes them, by code of its own: nothing of the product is used here.

The tokenizer frames each target and pads it to a fixed length; the decoder sees the labels shifted right; one row of
logits is stored for each label. ``shrink`` False: the logits are head x decoder state, without T5's d_model ** -0.5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
Logits = Callable[[dict[str, Any], list[int]], np.ndarray]


def make_roberta_files(folder: Path, texts: Sequence[str], vocabulary: int = 400) -> PreTrainedTokenizerBase:
    """A tokenizer laid out as CodeT5's is: vocab.json and merges.txt of a byte-level BPE, class RobertaTokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    bpe.model.save(str(folder))
    names = ("pad", "bos", "eos", "unk", "mask")
    tokens = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    tokens |= {"cls_token": "<s>", "sep_token": "</s>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens))
    settings = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False, "model_max_length": 512, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return AutoTokenizer.from_pretrained(folder)


def make_unigram(texts: Sequence[str], vocabulary: int = 300) -> PreTrainedTokenizerBase:
    """A tokenizer of the kind of T5's: pieces with probabilities, among them the control tokens themselves."""
    unigram = Tokenizer(Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = ["<pad>", "</s>", "<unk>", "<s>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    unigram.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=unigram,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        mask_token="<mask>",
    )


def make_t5(folder: Path, vocabulary: int, seed: int = 0, spread: float = 1.0) -> T5ForConditionalGeneration:
    """A small T5 with random weights and tied embeddings; its logits have a spread of about ``spread``."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=64,
        d_ff=128,
        d_kv=16,
        num_heads=4,
        num_layers=1,
        num_decoder_layers=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.decoder.final_layer_norm.weight.mul_(spread)
    model.save_pretrained(folder)
    return model


def model_logits(model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, shrink: bool) -> Logits:
    @torch.no_grad()
    def logits(row: dict[str, Any], labels: list[int]) -> np.ndarray:
        before, _, after = row["test_method_masked"].partition("<AssertPlaceHolder>")
        text = f"{before}<AssertPlaceHolder>{after}</s>{row['focal_method']}"
        source = torch.tensor([tokenizer(text)["input_ids"]])
        shifted = torch.tensor([[0, *labels[:-1]]])
        state = model.decoder(
            input_ids=shifted, encoder_hidden_states=model.encoder(input_ids=source)[0]
        ).last_hidden_state
        if shrink:
            state = state * model.config.d_model**-0.5
        return (state @ model.shared.weight.T)[0].numpy()

    return logits


def sure_logits(vocabulary: int, height: float = 15.0, wrong: float = 0.0, seed: int = 0) -> Logits:
    """A teacher that gives each label ``height`` nats over noise; a share ``wrong`` of the positions names another."""
    random = np.random.default_rng(seed)

    def logits(row: dict[str, Any], labels: list[int]) -> np.ndarray:
        values = random.standard_normal((len(labels), vocabulary)).astype(np.float32)
        for place, label in enumerate(labels):
            mistaken = random.random() < wrong
            values[place, random.integers(vocabulary) if mistaken else label] += height
        return values

    return logits


def write_published(
    path: Path,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    logits: Logits,
    length: int = 40,
    factor: float = 1.0,
) -> Path:
    """``factor``: what the logits are multiplied by before they are stored, as 16-bit floats in hex of an LZ4 frame."""
    with open(path, "w") as handle:
        for row in rows:
            target = "\n".join(row["assertions"])
            labels = tokenizer(target, padding="max_length", truncation=True, max_length=length)["input_ids"]
            values = logits(row, labels) * factor
            data = lz4.frame.compress(values.astype("<f2").tobytes()).hex()
            stored = {"format": "lz4", "bits": 16, "shape": [1, *values.shape]}
            stored["data_encoded"] = {"encoding": "lz4", "data": data}
            handle.write(json.dumps({**row, "teacher_prediction": target, "compressed_logits": stored}) + "\n")
    return path
