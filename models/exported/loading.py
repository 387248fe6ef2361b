"""Open a trained model to let it write, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.decoding.generate import Writer
from models.decoding.torch_writer import TorchWriter
from models.seq2seq.agreement import check_positions, settle_special_ids
from models.seq2seq.folders import find_model_folder, weight_files
from models.seq2seq.loading import count_parameters, load_model, load_tokenizer, warn


@dataclass(frozen=True)
class Opened:
    """A model that writes, and what is known of its files. ``weights``: those that hold the ``parameters`` weights."""

    writer: Writer
    folder: Path
    weights: list[Path]
    parameters: int

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.weights)


def open_model(name: str, flag: str, device: str, longest: tuple[int, int]) -> Opened:
    """The model ``name`` (a folder or hub name, given by ``flag``) on a device; ``longest``: how many tokens inputs and
    outputs may have. Raises UserError in one line."""
    tokenizer = load_tokenizer(name, flag)
    model = load_model(name, flag=flag)
    for note in settle_special_ids(model, tokenizer, f"{flag} {name}"):
        warn(note)
    check_positions(model, *longest, f"{flag} {name}")
    writer = TorchWriter(model, tokenizer)
    writer.to(device)
    folder = find_model_folder(name, flag)
    return Opened(writer, folder, weight_files(folder), count_parameters(model))
