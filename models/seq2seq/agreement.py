"""Whether tokenizer, model and texts fit together (special ids, vocabulary, frame), checked before any training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from data.rows.readers import Sample
from data.rows.tokenization import UNKNOWN_REFUSED, TaskEncoder, TextFormat, share_unknown
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPECIAL_IDS = {"bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"}
# Settings that do not decide which tokens are written.
NO_CHOICE = {"cache_implementation", "transformers_version", "use_cache", "_from_model_config"}
NO_CHOICE |= {"output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"}
# Above these shares of unknown input tokens, and of targets that do not come back from their ids.
UNKNOWN_TOLD, LOST_REFUSED = 0.001, 0.5


def settle_special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, flag: str) -> list[str]:
    """Make the tokenizer's end and padding those of the model, and its generation ours; returns what was set aside.

    Labels end as the tokenizer says, so generation must. The settings of a folder (no_repeat_ngram_size, min_length,
    ...) would change what is written without a word. Raises UserError where the tokenizer has ids that the model's
    embedding lacks.
    """
    embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    rows = embedding.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise UserError(
            f"{flag}: the tokenizer has ids up to {largest}, the model's embedding only {rows} rows; the tokenizer is"
            " not this model's, or tokens were added without model.resize_token_embeddings"
        )
    config, old = model.config, model.generation_config
    told = []
    for name in ("eos", "pad"):
        key, own = f"{name}_token_id", getattr(tokenizer, f"{name}_token_id")
        others = [getattr(config, key, None), getattr(old, key, None)]
        known = [other for other in others if other is not None]
        if any(own != other and other != [own] for other in known):
            told.append(f"{flag}: the model names {key} {known[0]}, the tokenizer {own}: the tokenizer's is used")
        setattr(config, key, own)
    start = config.decoder_start_token_id
    aside = {
        key: value
        for key, value in (old.to_diff_dict() if old else {}).items()
        if key not in SPECIAL_IDS | NO_CHOICE and value is not None
    }
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=start,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        cache_implementation=getattr(old, "cache_implementation", None),
    )
    if aside:
        named = ", ".join(f"{key} {value}" for key, value in sorted(aside.items()))
        told.append(f"{flag}: the folder's generation settings are set aside: {named}")
    return told


def count_positions(model: PreTrainedModel) -> list[int | None]:
    """How many tokens its inputs and its outputs may have (BART: 1024); None where it has no such limit (T5)."""
    found: list[int | None] = []
    for side in (model.get_encoder(), model.get_decoder()):
        table = getattr(side, "embed_positions", None)
        found.append(table.num_embeddings - getattr(table, "offset", 0) if isinstance(table, nn.Embedding) else None)
    return found


def check_lengths(positions: Sequence[int | None], longest: Sequence[int], flag: str) -> None:
    """Raises UserError where the flags allow longer texts than the model has positions for: the first long row of a run
    would end it."""
    for name, length, limit in zip(("max_input_len", "max_output_len"), longest, positions, strict=True):
        if limit is not None and length > limit:
            raise UserError(
                f"--{name} {length}: {flag} has positions for {limit} tokens; give at most --{name} {limit}"
            )


def check_positions(model: PreTrainedModel, max_input_len: int, max_output_len: int, flag: str) -> None:
    """``check_lengths`` of a model in torch."""
    check_lengths(count_positions(model), (max_input_len, max_output_len), flag)


def check_texts(encoder: TaskEncoder, samples: Sequence[Sample], where: str) -> list[str]:
    """Whether the tokenizer can write these texts; returns what it cannot. UserError where that is most of them."""
    share = share_unknown(encoder.tokenizer, *(f"{sample.test}\n{sample.focal}" for sample in samples))
    if share > UNKNOWN_REFUSED:
        raise UserError(f"{where}: the tokenizer knows {1 - share:.0%} of the input's tokens; it is not one for Java")
    backs = [(sample.target, _back(encoder, sample.target)) for sample in samples]
    lost = [text for text, back in backs if "".join(back.split()) != "".join(text.split())]
    if len(lost) > LOST_REFUSED * len(samples):
        raise UserError(
            f"{where}: {len(lost)} of {len(samples)} targets do not come back from their token ids, for instance"
            f" {lost[0]!r}; use a tokenizer that can write Java"
        )
    told = []
    if share > UNKNOWN_TOLD:
        told.append(f"{where}: {share:.1%} of the input tokens are unknown to the tokenizer")
    # Also a blank more or less: in a literal it changes what is asserted. How many blanks is left alone.
    if changed := [(text, back) for text, back in backs if back.split() != text.split()]:
        text, back = changed[0]
        count = f"{len(changed)} of {len(samples)} targets"
        told.append(f"{where}: {count} cannot be written with this tokenizer; {text!r}, say, comes back as {back!r}")
    return told


def _back(encoder: TaskEncoder, text: str) -> str:
    """What the tokenizer reads back of a text that it has written."""
    ids = encoder.plain(text)
    return str(encoder.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def choose_text_format(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, checkpoint: Path | None
) -> TextFormat:
    """The format of texts for a run whose data tell none; what it says of a context is what was seen before.

    A run that goes on, and a model that was trained here, keep theirs. For others the frame is the tokenizer's own,
    where that has a begin token which does not start the decoder anyway: so the model was pre-trained.
    """
    if checkpoint is not None:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        return TextFormat.read(config.get("text_format"))
    of_a_run = (Path(name).expanduser() / ".." / "run_config.json").is_file()
    if of_a_run or getattr(model.config, "text_format", None) is not None:
        return TextFormat.of_model(model)
    begin = TaskEncoder(tokenizer, TextFormat("tokenizer")).begin
    return TextFormat("tokenizer" if len(begin) == 1 and begin[0] != model.config.decoder_start_token_id else "end")
