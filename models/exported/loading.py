"""Open a trained model to let it write, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.decoding.generate import Writer
from models.exported.folder import WEIGHTS_FILE, is_exported, read_note
from models.exported.writer import ExportedWriter
from models.seq2seq.agreement import check_lengths, count_positions, settle_special_ids
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
    """The model ``name`` (a folder, of an exported model too, or a hub name, given by ``flag``) on a device.

    ``longest``: how many tokens inputs and outputs may have. Raises UserError in one line.
    """
    folder, given = Path(name).expanduser(), f"{flag} {name}"
    if is_exported(folder):
        note = read_note(folder, name, flag)
        check_lengths(note.positions, longest, given)
        exported = ExportedWriter(folder, note, load_tokenizer(name, flag), device, given)
        return Opened(exported, folder, [folder / WEIGHTS_FILE], note.parameters)
    from models.decoding.torch_writer import TorchWriter  # seconds of imports that an exported model does without

    tokenizer = load_tokenizer(name, flag)
    model = load_model(name, flag=flag)
    for told in settle_special_ids(model, tokenizer, given):
        warn(told)
    check_lengths(count_positions(model), longest, given)
    writer = TorchWriter(model, tokenizer)
    writer.to(device)
    folder = find_model_folder(name, flag)
    return Opened(writer, folder, weight_files(folder), count_parameters(model))
