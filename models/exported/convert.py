"""Turn a trained model into the files of CTranslate2, a small engine without torch."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.decoding.torch_writer import TorchWriter
from models.exported.engine import import_engine, require_quantization
from models.exported.folder import VOCABULARY_FILE, ExportNote, write_note
from models.exported.loading import Opened
from models.seq2seq.agreement import count_positions
from models.seq2seq.loading import shown
from utils.atomic_io import write_json
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def convert(model: Opened, name: str, folder: Path, quantization: str, max_input_len: int, max_output_len: int) -> None:
    """Write the export of ``model``, called ``name``, into ``folder``: all but the card and the agreement.

    Raises UserError for a model that CTranslate2 cannot run, and for a quantisation that this CPU lacks.
    """
    engine = import_engine()
    require_quantization(quantization, "cpu", "--quantization")
    if not isinstance(model.writer, TorchWriter):
        raise UserError(f"MODEL {name}: already an exported model; export the original")
    torch_model, tokenizer = model.writer.model, model.writer.tokenizer
    try:
        converter = make_converter(model.folder, torch_model, tokenizer)
        converter.convert(str(folder), quantization=quantization, force=True)
    except Exception as error:  # what it cannot convert ends in any class
        raise UserError(
            f"MODEL {name}: CTranslate2 {engine.__version__} cannot run a {torch_model.config.model_type} model"
            f" ({shown(error)})"
        ) from None
    tokenizer.save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"MODEL {name}: its tokenizer has no tokenizer.json, which an exported model needs")
    names = name_tokens(tokenizer, model.writer.vocab_size)
    write_json(folder / VOCABULARY_FILE, names)
    start = names[torch_model.config.decoder_start_token_id]
    write_json(
        folder / "config.json",
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        | {
            "layer_norm_epsilon": getattr(torch_model.config, "layer_norm_epsilon", None),
            "decoder_start_token": start,
            "bos_token": start,
            "eos_token": tokenizer.eos_token,
            "unk_token": tokenizer.unk_token or tokenizer.pad_token,
        },
    )
    note = ExportNote(
        engine=f"ctranslate2 {engine.__version__}",
        quantization=quantization,
        source=Path(name).name,
        parameters=model.parameters,
        vocab_size=model.writer.vocab_size,
        start_id=torch_model.config.decoder_start_token_id,
        positions=count_positions(torch_model),
        text_format=model.writer.text_format.to_json(),
        max_input_len=max_input_len,
        max_output_len=max_output_len,
    )
    write_note(folder, note)


def make_converter(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The engine's converter for the model as it was opened, and not as it would read ``folder`` itself."""

    class Converter(import_engine().converters.TransformersConverter):  # type: ignore[misc]
        def load_model(self, *_: Any, **__: Any) -> PreTrainedModel:
            copied = deepcopy(model)  # some of its loaders take the model apart
            config = copied.config
            if config.model_type in ("t5", "mt5"):  # the flag said before whether outputs are scaled: in mT5 never
                config.tie_word_embeddings = getattr(config, "scale_decoder_outputs", False)
            if config.model_type == "bart":  # its norms come after each layer, which the configuration no longer says
                config.normalize_before, config.normalize_embedding = False, True
            return copied

        def load_tokenizer(self, *_: Any, **__: Any) -> PreTrainedTokenizerBase:
            return tokenizer

    return Converter(str(folder))


def name_tokens(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> list[str]:
    """A name of its own for each id [vocab_size]; the converter's may repeat, or skip ids that no token has."""
    known = {index: token for token, index in tokenizer.get_vocab().items()}
    return [known.get(index, f"<unused {index}>") for index in range(vocab_size)]
