"""Tiny models of each family, with weights and files laid out as the hub has them and their real tokenizer classes."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedModel

from tests.helpers.commands import make_rows

LAYERS = 3
TEXTS = [
    text for row in make_rows(60, 3) for text in (row["focal_method"], row["test_method_masked"], *row["assertions"])
]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CODET5 = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]


# -- tokenizers --------------------------------------------------------------------------------------------------------


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _roberta(folder: Path, special: list[str]) -> None:
    """vocab.json and merges.txt, as BART and CodeT5 have them."""
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.model.save(str(folder))
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512})


def _sentencepiece(folder: Path, name: str, tokenizer_class: str, **ids: int) -> None:
    """A SentencePiece model of the kind that T5 (Unigram) and PLBART have."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=written,
        vocab_size=300,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
        **ids,
    )
    (folder / name).write_bytes(written.getvalue())
    _write(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer_class})


def _gemma(folder: Path) -> None:
    """tokenizer.json: BPE over characters with bytes for the others, a blank as ▁."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bpe = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[*special, *bytes_], show_progress=False)
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False}
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    _write(folder / "tokenizer_config.json", config | names)


# -- models ------------------------------------------------------------------------------------------------------------


def _t5(vocab_size: int, family: str = "T5", own_head: bool = False, **more: object) -> PreTrainedModel:
    settings = {
        "vocab_size": vocab_size,
        "d_model": 32,
        "d_ff": 64,
        "d_kv": 8,
        "num_heads": 4,
        "num_layers": LAYERS,
        "num_decoder_layers": LAYERS,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    config = getattr(transformers, f"{family}Config")(**settings | more)
    model = getattr(transformers, f"{family}ForConditionalGeneration")(config)
    if own_head:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(vocab_size, 32) * 0.1)
    return model


def _bart(vocab_size: int, family: str, **more: object) -> PreTrainedModel:
    settings = {
        "vocab_size": vocab_size,
        "d_model": 32,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 160,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    config = getattr(transformers, f"{family}Config")(**settings | more)
    return getattr(transformers, f"{family}ForConditionalGeneration")(config)


def _t5gemma(vocab_size: int) -> PreTrainedModel:
    side = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "max_position_embeddings": 160,
        "sliding_window": 32,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    config = transformers.T5GemmaConfig(encoder=dict(side), decoder=dict(side), vocab_size=vocab_size)
    return transformers.T5GemmaForConditionalGeneration(config)


# -- folders -----------------------------------------------------------------------------------------------------------


def _save(folder: Path, build: Callable[[int], PreTrainedModel], padding: int = 0, plain: bool = False) -> None:
    """The model of ``build``; its vocabulary is ``padding`` larger than the tokenizer's. plain: fp16 in a .bin file."""
    vocab_size = len(transformers.AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    model = build(vocab_size + padding)
    model.save_pretrained(folder)
    if plain:
        torch.save({name: value.half() for name, value in model.state_dict().items()}, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


def _edit_config(folder: Path, drop: tuple[str, ...] = (), **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    _write(path, {key: value for key, value in config.items() if key not in drop})


def _t5_family(family: str, converted: bool = False, **more: object) -> Callable[[Path], None]:
    """converted: with tokenizer.json beside spiece.model, as the hub has it."""

    def make(folder: Path) -> None:
        _sentencepiece(folder, "spiece.model", "T5Tokenizer", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
        if converted:
            transformers.T5Tokenizer.from_pretrained(folder).save_pretrained(folder)
        _save(folder, lambda vocab_size: _t5(vocab_size, family, **more), padding=28)

    return make


def _codet5(folder: Path) -> None:
    _roberta(folder, CODET5)
    names = {"bos_token_id": 1, "eos_token_id": 2}
    _save(folder, lambda vocab_size: _t5(vocab_size, **names), plain=True)
    _edit_config(folder, task_specific_params={"summarization": {"min_length": 30, "no_repeat_ngram_size": 3}})


def _codet5p(folder: Path) -> None:
    _roberta(folder, CODET5)
    _save(folder, lambda vocab_size: _t5(vocab_size, bos_token_id=1, eos_token_id=2), padding=60, plain=True)


def _bart_folder(folder: Path) -> None:
    _roberta(folder, ROBERTA)
    _save(folder, lambda vocab_size: _bart(vocab_size, "Bart", forced_eos_token_id=2))
    settings = {"early_stopping": True, "no_repeat_ngram_size": 3, "num_beams": 4, "forced_bos_token_id": 0}
    path = folder / "generation_config.json"
    _write(path, json.loads(path.read_text()) | settings)


def _plbart(folder: Path) -> None:
    """Its configuration says nowhere what the decoder begins with."""
    _sentencepiece(folder, "sentencepiece.bpe.model", "PLBartTokenizer", model_type="bpe")
    _save(folder, lambda vocab_size: _bart(vocab_size, "PLBart"))
    _edit_config(folder, drop=("decoder_start_token_id",))
    (folder / "generation_config.json").unlink()


def _t5gemma_folder(folder: Path) -> None:
    _gemma(folder)
    _save(folder, _t5gemma)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "t5": _t5_family("T5"),
    "t5_v1.1": _t5_family("T5", own_head=True, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "codet5": _codet5,
    "codet5p": _codet5p,
    "mt5": _t5_family("MT5", own_head=True),
    "umt5": _t5_family("UMT5", converted=True, own_head=True),
    "longt5": _t5_family("LongT5", own_head=True, encoder_attention_type="transient-global"),
    "bart": _bart_folder,
    "plbart": _plbart,
    "t5gemma": _t5gemma_folder,
}


@cache
def _made(name: str) -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix=f"{name}-")
    FAMILIES[name](Path(folder.name))
    return folder


def make_family(name: str, folder: Path) -> Path:
    """Write the tiny model ``name`` into ``folder``; it is made once a session."""
    return Path(shutil.copytree(_made(name).name, folder))
