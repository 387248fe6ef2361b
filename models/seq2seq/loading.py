"""Loads, builds, shrinks and saves seq2seq models and tokenizers.

Weights are read as safetensors or as plain tensors; no code that comes with a model is run.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers import __version__ as transformers_version
from transformers.utils import logging as transformers_logging

from data.rows.readers import PLACEHOLDER
from data.rows.tokenization import PROBE, UNKNOWN_REFUSED, TaskEncoder, TextFormat, share_unknown
from models.seq2seq.copying import start_copying
from models.seq2seq.folders import find_model_folder, refuse_pointers
from utils.atomic_io import atomic_directory
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Their progress bars, for reads of milliseconds, would break the bar of the training.
transformers_logging.disable_progress_bar()

SCRATCH_PREFIX = "scratch:"
# d_model, d_ff, heads, d_kv, encoder layers, decoder layers, vocabulary. The copying circuit (copying.py) uses five
# heads. With one layer on each side it learns fastest.
SCRATCH_SHAPES = {
    "tiny": (128, 256, 5, 32, 1, 1, 2048),
    "small": (128, 512, 5, 32, 2, 2, 2048),
    "medium": (192, 768, 5, 40, 3, 3, 4096),
    "wide": (256, 1024, 5, 56, 1, 1, 4096),
    "deep": (256, 1024, 5, 56, 4, 3, 8192),
    "base": (512, 2048, 8, 64, 6, 6, 32100),
}


# prefix, side, name of its list of layers, number
_LAYER = re.compile(r"(^|.*\.)(encoder|decoder)(\.(?:block|layers)\.)(\d+)\.")
Built = TypeVar("Built")


def is_scratch(name: str) -> bool:
    return name.startswith(SCRATCH_PREFIX)


def scratch_size(name: str) -> str:
    """The size in ``scratch:size``; UserError where there is no such size."""
    size = name.removeprefix(SCRATCH_PREFIX)
    if size not in SCRATCH_SHAPES:
        known = ", ".join(SCRATCH_PREFIX + known for known in SCRATCH_SHAPES)
        raise UserError(f"--model_name {name}: unknown size; allowed: {known}")
    return size


def load_tokenizer(name: str, flag: str = "--model_name") -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name. Raises UserError where it cannot be read, or does not know Java."""
    folder = Path(name).expanduser()
    if folder.is_dir() and (folder / "tokenizer_config.json").is_file():
        refuse_pointers(folder, name, flag)
    else:
        folder = find_model_folder(name, flag, weights=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises this very class
        raise UserError(f"{flag} {name}: no usable tokenizer ({shown(error)})") from None
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise UserError(f"{flag} {name}: the tokenizer lacks an end-of-sequence or a padding token")
    if (unknown := share_unknown(tokenizer, PROBE)) > UNKNOWN_REFUSED:
        raise UserError(
            f"{flag} {name}: the tokenizer knows {1 - unknown:.0%} of the tokens of a line of Java; its files are"
            " missing or belong to another model (tokenizer.json, or vocab.json, merges.txt, tokenizer_config.json)"
        )
    return tokenizer


def shown(error: Exception) -> str:
    """The message of a library's error, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def warn(text: str) -> None:
    """Say on standard error what differs from what was asked for."""
    print(f"warning: {text}", file=sys.stderr)


def _attend(build: Callable[[str], Built], attention: str, name: str, say: Callable[[str], None]) -> Built:
    """What ``build`` makes with this attention kernel, or with the plain one where the model has no other."""
    try:
        return build(attention)
    except ValueError as error:
        if attention == "eager" or "scaled_dot_product_attention" not in str(error):
            raise
    say(f"{name}: has no {attention} attention in transformers {transformers_version}; the slower eager one is used")
    return build("eager")


def load_model(
    name: str,
    *,
    dropout_rate: float | None = None,
    attention: str = "sdpa",
    flag: str = "--model_name",
    say: Callable[[str], None] = warn,
) -> PreTrainedModel:
    """An encoder-decoder model in fp32 from a folder or hub name. Raises UserError in one line.

    ``say`` is told where the attention kernel is another one than asked for.
    """
    from transformers import AutoModelForSeq2SeqLM  # with all that computes in it: seconds

    folder = find_model_folder(name, flag)

    def read(kernel: str) -> tuple[PreTrainedModel, dict]:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "quantization_config", None):
            raise UserError(f"{flag} {name}: its weights are quantised, so they cannot be trained; use the original")
        _set_dropout(config, dropout_rate)
        return AutoModelForSeq2SeqLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=kernel,
            weights_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )

    try:
        model, found = _attend(read, attention, name, say)
    except UserError:
        raise
    except Exception as error:  # a damaged file ends in any class
        raise UserError(f"{flag} {name}: cannot be loaded as a seq2seq model ({shown(error)})") from None
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise UserError(f"{flag} {name}: {len(missing)} weights are missing, for instance {missing[0]}")
    _complete_special_ids(model)
    return model


def read_vocab_size(name: str, flag: str) -> int:
    """The width of a model's logits, from its configuration alone."""
    folder = find_model_folder(name, flag, weights=False)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False).vocab_size
    except Exception as error:
        raise UserError(f"{flag} {name}: its config.json cannot be used ({shown(error)})") from None


def _set_dropout(config: PretrainedConfig, rate: float | None) -> None:
    parts = [part for part in (getattr(config, key, None) for key in ("encoder", "decoder")) if part is not None]
    for part in (config, *parts):  # T5Gemma has a configuration for each side
        for key in ("dropout_rate", "dropout"):
            if rate is not None and hasattr(part, key):
                setattr(part, key, rate)


def _complete_special_ids(model: PreTrainedModel) -> None:
    """Fill in the ids that a folder leaves out: where the decoder starts (PLBART, T5Gemma), how generation ends."""
    config, generation = model.config, model.generation_config
    for key in ("pad_token_id", "eos_token_id"):
        if getattr(generation, key) is None:
            setattr(generation, key, getattr(config, key))
    start = getattr(config, "decoder_start_token_id", None)
    for other in (generation.decoder_start_token_id, getattr(config, "bos_token_id", None), config.eos_token_id):
        start = other if start is None else start
    config.decoder_start_token_id = generation.decoder_start_token_id = start


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``texts``; each digit is a token of its own, so that numbers can be copied."""
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_tokens([AddedToken(PLACEHOLDER, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


def build_scratch(
    size: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dropout_rate: float,
    attention: str,
    seed: int,
    vocab_size: int | None = None,
    copying: bool = True,
    say: Callable[[str], None] = warn,
) -> PreTrainedModel:
    """A T5 of a small shape with random weights, drawn from ``seed`` alone.

    ``copying``: it starts as a copier of the nearest assertion (models/seq2seq/copying.py).
    ``vocab_size``: of a teacher whose vocabulary is padded beyond its tokenizer; default: that of the tokenizer.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    d_model, d_ff, heads, d_kv, encoder_layers, decoder_layers, _ = SCRATCH_SHAPES[size]
    config = T5Config(  # type: ignore[call-arg]
        vocab_size=max(len(tokenizer), vocab_size or 0),
        d_model=d_model,
        d_ff=d_ff,
        d_kv=d_kv,
        num_heads=heads,
        num_layers=encoder_layers,
        num_decoder_layers=decoder_layers,
        dropout_rate=dropout_rate,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )

    def build(kernel: str) -> PreTrainedModel:
        config._attn_implementation = kernel
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = T5ForConditionalGeneration(config)
            if copying:
                start_copying(model, TaskEncoder(tokenizer, TextFormat()).separator, seed)
            return model

    return _attend(build, attention, SCRATCH_PREFIX + size, say)


def space_evenly(kept: int, total: int) -> list[int]:
    """``kept`` of ``total`` layer numbers, evenly spaced, first and last among them (one: the first)."""
    if kept == 1:
        return [0]
    return [round(i * (total - 1) / (kept - 1)) for i in range(kept)]


def _layer_counts(config: PretrainedConfig) -> dict[str, tuple[PretrainedConfig, str]]:
    """Where the configuration keeps the number of layers of each side. Raises UserError where it is not known."""
    if isinstance(getattr(config, "encoder", None), PretrainedConfig):  # T5Gemma
        return {part: (getattr(config, part), "num_hidden_layers") for part in ("encoder", "decoder")}
    for names in (("num_layers", "num_decoder_layers"), ("encoder_layers", "decoder_layers")):
        if all(hasattr(config, name) for name in names):
            return {part: (config, name) for part, name in zip(("encoder", "decoder"), names, strict=True)}
    raise UserError(
        f"--student_encoder_layers, --student_decoder_layers: layers of a {config.model_type} model cannot be copied"
    )


def copy_layers(model: PreTrainedModel, encoder_layers: int | None, decoder_layers: int | None) -> PreTrainedModel:
    """A smaller model of evenly spaced layers of ``model``; ``config.layer_mapping`` keeps which layers these are.

    Everything else is as in ``model`` as it was loaded: which weights are one (embeddings and output head, or not),
    kernels, special ids. Source of the scheme: Shleifer and Rush, Pre-trained Summarization Distillation, 2020 (shrink
    and fine-tune).
    """
    config = copy.deepcopy(model.config)
    wanted, mapping = {"encoder": encoder_layers, "decoder": decoder_layers}, {}
    for part, (place, key) in _layer_counts(config).items():
        total = getattr(place, key)
        kept = wanted[part] or total
        if kept > total:
            raise UserError(f"--student_{part}_layers {kept}: the model has {total} {part} layers")
        mapping[part] = space_evenly(kept, total)
        setattr(place, key, kept)
        if getattr(place, "layer_types", None):
            place.layer_types = [place.layer_types[old] for old in mapping[part]]
    config.layer_mapping = mapping
    small = type(model)(config)

    def original(key: str) -> str:
        return _LAYER.sub(lambda found: f"{found[1]}{found[2]}{found[3]}{mapping[found[2]][int(found[4])]}.", key)

    parameters, buffers = dict(model.named_parameters(remove_duplicate=False)), dict(model.named_buffers())
    copies: dict[int, torch.nn.Parameter] = {}  # one for each weight, so that what was one stays one
    for key, _ in list(small.named_parameters(remove_duplicate=False)):
        old = parameters[original(key)]
        new = copies.setdefault(id(old), torch.nn.Parameter(old.detach().clone()))
        owner, _, name = key.rpartition(".")
        setattr(small.get_submodule(owner), name, new)
    for key, buffer in small.named_buffers():
        buffer.copy_(buffers[original(key)])
    small.generation_config = copy.deepcopy(model.generation_config)
    return small


def count_parameters(model: torch.nn.Module) -> int:
    """Number of weights, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a Hugging Face folder (safetensors and tokenizer), whole or not at all."""
    with atomic_directory(folder) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
