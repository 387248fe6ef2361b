"""The distillation file: a header line, then raw rows with the teacher's prediction and its encoded logits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from data.readers import RowError
from models.teacher_signal import DenseSignal, HiddenSignal, TeacherSignal, TopKSignal
from utils.compress import (
    TAIL_GRID,
    CompressionError,
    DenseRows,
    HiddenRows,
    Rows,
    TopKRows,
    decompress_logits,
    unpack,
)
from utils.errors import UserError

VERSION = 1
HEADER_KEY = "distillation_header"
MAX_HEADER_BYTES = 1 << 24


@dataclass(frozen=True)
class Header:
    """What a file says of itself. ``encoding``: topk, hidden or dense; ``shared_sha256``: of the tensors beside it."""

    teacher: str
    tokenizer_fingerprint: str
    vocab_size: int
    encoding: str
    topk: int | None
    bits: int
    max_output_len: int
    shared_sha256: str
    teacher_parameters: int
    version: int = VERSION

    def line(self) -> str:
        return json.dumps({HEADER_KEY: asdict(self)}, ensure_ascii=False) + "\n"


def shared_path(path: str | Path) -> Path:
    """The tensors that a whole file shares: the output head (hidden), the mean logits (topk). Moves with the file."""
    return Path(path).with_name(Path(path).name + ".shared.safetensors")


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_header(path: str | Path) -> Header | None:
    """The header in the first line, None where there is none. Raises UserError for one that cannot be understood."""
    with open(path, "rb") as handle:
        first = handle.readline(MAX_HEADER_BYTES)
    try:
        value = json.loads(first)[HEADER_KEY]
    except (ValueError, KeyError, TypeError):
        return None
    try:
        header = Header(**value)
    except TypeError:
        raise UserError(f"{path}: the header has unknown or missing fields; write the file again") from None
    if header.version != VERSION:
        raise UserError(f"{path}: written in version {header.version}, this program reads version {VERSION}")
    return header


def check_header(header: Header, path: str | Path, fingerprint: str, vocab_size: int) -> None:
    """Refuse a file whose teacher used another tokenizer or vocabulary than the student; says which."""
    if header.vocab_size != vocab_size:
        raise UserError(
            f"{path}: the teacher ({header.teacher}) has a vocabulary of {header.vocab_size}, the student of"
            f" {vocab_size}; use a student of the teacher's vocabulary"
        )
    if header.tokenizer_fingerprint != fingerprint:
        raise UserError(
            f"{path}: made with another tokenizer ({header.tokenizer_fingerprint}) than the student's ({fingerprint});"
            f" use a student with the tokenizer of {header.teacher}"
        )


def load_shared(path: str | Path, header: Header) -> dict[str, Tensor]:
    """The shared tensors of a file: {"mean_logits": [V]} (topk), {"head": [V, d]} (hidden), {} (dense)."""
    if header.encoding == "dense":
        return {}
    place = shared_path(path)
    if not place.is_file():
        raise UserError(f"{place}: missing; it belongs to {Path(path).name}, copy both")
    if file_sha256(place) != header.shared_sha256:
        raise UserError(f"{place}: does not belong to {Path(path).name} (another hash); copy both from one place")
    try:
        return load_file(place)
    except SafetensorError as error:
        raise UserError(f"{place}: damaged ({error})") from None


def decode_teacher(row: dict[str, Any], labels: list[int], labels_hash: str, vocab_size: int) -> Rows | None:
    """The teacher's rows for these labels; None where the row has none. Raises RowError with a short reason."""
    try:
        if row.get("teacher_logits_compressed") is not None:
            if row.get("labels_hash") != labels_hash:
                raise RowError("labels differ from those the teacher saw")
            rows = unpack(row["teacher_logits_compressed"])
        elif row.get("compressed_logits") is not None:
            if not isinstance(row["compressed_logits"], dict):
                raise RowError("compressed_logits is not an object")
            rows = DenseRows(decompress_logits(row["compressed_logits"]))
        else:
            return None
    except CompressionError as error:
        raise RowError(str(error)) from None
    if isinstance(rows, TopKRows):
        positions, width = len(rows.ids), rows.vocab_size
    elif isinstance(rows, HiddenRows):
        positions, width = len(rows.hidden), vocab_size
    else:
        # Published files are padded to a fixed length: what stands behind the labels is padding.
        rows = DenseRows(rows.logits[: len(labels)])
        positions, width = rows.logits.shape
    if width != vocab_size:
        raise RowError("teacher logits are of another vocabulary")
    if positions != len(labels):
        raise RowError("teacher logits do not cover the labels")
    return rows


def build_signal(parts: list[Rows], shared: dict[str, Tensor]) -> TeacherSignal:
    """One signal for the rows of a batch, in their order. All parts are of one kind."""
    first = parts[0]

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(part, name) for part in parts]))

    if isinstance(first, TopKRows):
        return TopKSignal(
            ids=stack("ids"),
            logits=stack("logits"),
            tail_log_mass=stack("tail_log_mass"),
            inverse_temperatures=torch.from_numpy(TAIL_GRID),
            full_vocab_size=first.vocab_size,
            tail_shape=shared.get("mean_logits"),
        )
    if isinstance(first, HiddenRows):
        return HiddenSignal(stack("hidden"), shared["head"].float())
    return DenseSignal(stack("logits"))
