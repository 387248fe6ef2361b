"""What an exported folder holds: the engine's files, the tokenizer, a card, and export.json, which is written last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.rows.readers import Json
from models.seq2seq.folders import EXPORT_NOTE
from utils.atomic_io import write_json
from utils.errors import UserError

WEIGHTS_FILE = "model.bin"
VOCABULARY_FILE = "shared_vocabulary.json"


@dataclass(frozen=True)
class ExportNote:
    """What a writer must know beside the engine's files.

    ``positions``: how many tokens inputs and outputs may have (None: any number); ``text_format``: as in the model's
    config.json; ``files``: name -> bytes, by which an incomplete copy is known; ``agreement``: with the original
    (evaluation/reports/agreement.py).
    """

    engine: str
    quantization: str
    source: str
    parameters: int
    vocab_size: int
    start_id: int
    positions: list[int | None]
    text_format: Json
    max_input_len: int
    max_output_len: int
    files: dict[str, int] = field(default_factory=dict)
    agreement: Json = field(default_factory=dict)


def is_exported(folder: Path) -> bool:
    """Whether the folder holds an export, or part of one."""
    return (folder / EXPORT_NOTE).is_file() or (folder / WEIGHTS_FILE).is_file()


def write_note(folder: Path, note: ExportNote) -> None:
    """Write export.json, with the sizes of the files that are there."""
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.name != EXPORT_NOTE}
    write_json(folder / EXPORT_NOTE, asdict(note) | {"files": sizes})


def read_note(folder: Path, name: str, flag: str) -> ExportNote:
    """What export.json says. Raises UserError where it or another file is missing or not whole."""
    again = "copy the whole folder again, or export it again with scripts/export_student.py"
    if not (folder / EXPORT_NOTE).is_file():
        raise UserError(f"{flag} {name}: half an export, {EXPORT_NOTE} is missing; {again}")
    try:
        note = ExportNote(**json.loads((folder / EXPORT_NOTE).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise UserError(f"{flag} {name}: {EXPORT_NOTE} cannot be read; {again}") from None
    for file, size in note.files.items():
        found = (folder / file).stat().st_size if (folder / file).is_file() else None
        if file != "README.md" and found != size:  # people may add to the card
            state = "is missing" if found is None else f"has {found:,} bytes"
            raise UserError(f"{flag} {name}: half an export, {file} {state} instead of {size:,}; {again}")
    return note
