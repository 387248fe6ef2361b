"""Loads, builds, shrinks and saves seq2seq models and tokenizers.

Weights are read as safetensors or as plain tensors; no code that comes with a model is run.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from data.rows.readers import PLACEHOLDER
from utils.atomic_io import atomic_directory
from utils.cache import cache_dir
from utils.errors import DISK_ERRORS, UserError

# Their progress bars, for reads of milliseconds, would break the bar of the training.
transformers_logging.disable_progress_bar()

SCRATCH_PREFIX = "scratch:"
# d_model, d_ff, heads, encoder layers, decoder layers, vocabulary. base has the shape of t5-small.
SCRATCH_SHAPES = {
    "tiny": (96, 256, 3, 1, 1, 2048),
    "small": (128, 512, 4, 2, 2, 2048),
    "medium": (192, 768, 3, 3, 3, 4096),
    "base": (512, 2048, 8, 6, 6, 32100),
}
# What training programs store beside the weights.
NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "random_states", "custom_checkpoint")
_TEXT_FILES = ["*.json", "*.txt", "*.model"]


def is_scratch(name: str) -> bool:
    return name.startswith(SCRATCH_PREFIX)


def scratch_size(name: str) -> str:
    """The size in ``scratch:size``; UserError where there is no such size."""
    size = name.removeprefix(SCRATCH_PREFIX)
    if size not in SCRATCH_SHAPES:
        known = ", ".join(SCRATCH_PREFIX + known for known in SCRATCH_SHAPES)
        raise UserError(f"--model_name {name}: unknown size; allowed: {known}")
    return size


def _download(name: str, patterns: list[str], flag: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError:
        raise UserError(f"{flag} {name}: no such folder, and not a hub name (owner/model)") from None
    except RepositoryNotFoundError:
        raise UserError(f"{flag} {name}: no such folder, and the hub has no model of that name") from None
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS and (error.filename or error.errno == 28):
            where = error.filename or "the cache"
            raise UserError(
                f"{flag} {name}: the download cannot be written ({where}: {error.strerror}); fix this, or set HF_HOME"
                " to a folder with room"
            ) from None
        offline = f" or {SCRATCH_PREFIX}small" if flag == "--model_name" else ""
        raise UserError(
            f"{flag} {name}: not on disk and the hub cannot be reached; download it where there is a network "
            f"(hf download {name}) or use a local folder{offline}"
        ) from None


def _find_weight_files(folder: Path, suffix: str) -> list[Path]:
    return sorted(file for file in folder.glob(f"*{suffix}") if not file.name.startswith(NO_WEIGHTS))


def _convert_to_safetensors(folder: Path) -> Path:
    """A copy, in the cache, of a folder of .bin weights as safetensors; read so that no code in it runs."""
    weights = _find_weight_files(folder, ".bin")
    # A text encoder keeps its pooling in a folder of its own.
    others = [file for pattern in (*_TEXT_FILES, "*/config.json") for file in sorted(folder.glob(pattern))]
    others = [file for file in others if "index" not in file.name]
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for file in (*weights, *others):
        digest.update(f"{file.name}{file.stat().st_size}{file.stat().st_mtime_ns}".encode())
    target = cache_dir("safetensors") / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    state: dict[str, torch.Tensor] = {}
    for file in weights:
        try:
            # Cloned: what is tied shares its memory, which safetensors refuses.
            loaded = torch.load(file, map_location="cpu", weights_only=True)
            state |= {name: tensor.contiguous().clone() for name, tensor in loaded.items()}
        except Exception as error:
            message = f"{file}: not loadable as plain weights ({type(error).__name__}: {error})"
            raise UserError(message.split("\n")[0]) from None
    with atomic_directory(target) as temporary:
        save_file(state, temporary / "model.safetensors", {"format": "pt"})
        for file in others:
            copy = temporary / file.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(file, copy)
    return target


def find_model_folder(name: str, flag: str = "--model_name", weights: bool = True) -> Path:
    """The folder that holds model ``name`` (a folder or a hub name), downloaded if necessary.

    Raises UserError in one line: no such model, not on disk and no network, nothing but unsafe weights.
    """
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if not local:
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(f"{flag} {name}: no such folder")
        folder = _download(name, [*_TEXT_FILES, *(["*.safetensors"] if weights else [])], flag)
    if not (folder / "config.json").is_file():
        raise UserError(f"{flag} {name}: the folder holds no config.json, so it is not a Hugging Face model")
    if weights and not _find_weight_files(folder, ".safetensors"):
        if not local:
            folder = _download(name, [*_TEXT_FILES, "*.bin"], flag)
        if not _find_weight_files(folder, ".bin"):
            raise UserError(f"{flag} {name}: neither .safetensors nor .bin weights in {folder}")
        folder = _convert_to_safetensors(folder)
    return folder


def load_tokenizer(name: str, flag: str = "--model_name") -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name."""
    folder = Path(name).expanduser()
    if not (folder.is_dir() and (folder / "tokenizer_config.json").is_file()):
        folder = find_model_folder(name, flag, weights=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{flag} {name}: no usable tokenizer ({str(error).splitlines()[0]})") from None
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise UserError(f"{flag} {name}: the tokenizer lacks an end-of-sequence or a padding token")
    return tokenizer


def load_model(
    name: str, *, dropout_rate: float | None = None, attention: str = "sdpa", flag: str = "--model_name"
) -> PreTrainedModel:
    """An encoder-decoder model in fp32 from a folder or hub name. Raises UserError in one line."""
    folder = find_model_folder(name, flag)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if dropout_rate is not None:
            for key in ("dropout_rate", "dropout"):
                if hasattr(config, key):
                    setattr(config, key, dropout_rate)
        model, found = AutoModelForSeq2SeqLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{flag} {name}: cannot be loaded as a seq2seq model ({str(error).splitlines()[0]})") from None
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise UserError(f"{flag} {name}: {len(missing)} weights are missing, for instance {missing[0]}")
    return model


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
    size: str, tokenizer: PreTrainedTokenizerBase, *, dropout_rate: float, attention: str, seed: int
) -> PreTrainedModel:
    """A T5 of a small shape with random weights, drawn from ``seed`` alone."""
    d_model, d_ff, heads, encoder_layers, decoder_layers, _ = SCRATCH_SHAPES[size]
    config = T5Config(  # type: ignore[call-arg]
        vocab_size=len(tokenizer),
        d_model=d_model,
        d_ff=d_ff,
        d_kv=d_model // heads,
        num_heads=heads,
        num_layers=encoder_layers,
        num_decoder_layers=decoder_layers,
        dropout_rate=dropout_rate,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        attn_implementation=attention,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(config)


def space_evenly(kept: int, total: int) -> list[int]:
    """``kept`` of ``total`` layer numbers, evenly spaced, first and last among them (one: the first)."""
    if kept == 1:
        return [0]
    return [round(i * (total - 1) / (kept - 1)) for i in range(kept)]


def copy_layers(
    model: PreTrainedModel, encoder_layers: int | None, decoder_layers: int | None, attention: str = "sdpa"
) -> PreTrainedModel:
    """A smaller T5 of evenly spaced layers of ``model``; ``config.layer_mapping`` keeps which layers these are.

    Source of the scheme: Shleifer and Rush, Pre-trained Summarization Distillation, 2020 (shrink and fine-tune).
    """
    config = model.config
    if not hasattr(config, "num_decoder_layers"):
        raise UserError("--student_encoder_layers, --student_decoder_layers: only T5-shaped models have layers to copy")
    totals = {"encoder": config.num_layers, "decoder": config.num_decoder_layers}
    mapping: dict[str, list[int]] = {}
    for part, kept in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        kept = kept or totals[part]
        if kept > totals[part]:
            raise UserError(f"--student_{part}_layers {kept}: the model has {totals[part]} {part} layers")
        mapping[part] = space_evenly(kept, totals[part])
    values = config.to_dict() | {"num_layers": len(mapping["encoder"]), "num_decoder_layers": len(mapping["decoder"])}
    small_config = type(config).from_dict(values, attn_implementation=attention)
    small_config.layer_mapping = mapping
    small = type(model)(small_config)
    number = {part: {old: new for new, old in enumerate(kept)} for part, kept in mapping.items()}
    state = {}
    for key, value in model.state_dict().items():
        part, *rest = key.split(".")
        if part in number and rest[0] == "block":
            if int(rest[1]) not in number[part]:
                continue
            key = ".".join([part, "block", str(number[part][int(rest[1])]), *rest[2:]])
        state[key] = value
    small.load_state_dict(state)
    small.tie_weights()
    return small


def count_parameters(model: torch.nn.Module) -> int:
    """Number of weights, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a Hugging Face folder (safetensors and tokenizer), whole or not at all."""
    with atomic_directory(folder) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
