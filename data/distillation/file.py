"""The distillation file: a header line, then raw rows with the teacher's prediction and its encoded logits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from data.distillation.signal import DenseSignal, HiddenSignal, TeacherSignal, TopKSignal
from data.rows.readers import HEADER_KEY, Json, RowError
from data.rows.tokenization import TextFormat, labels_hash
from utils.atomic_io import atomic_writer, fsync_directory
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
MAX_HEADER_BYTES = 1 << 24


@dataclass(frozen=True)
class Header:
    """What a file says of itself. ``encoding``: topk, hidden or dense; ``shared_sha256``: of its shared tensors."""

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
    text_format: TextFormat = field(default_factory=TextFormat)
    fold_teachers: list[str] = field(default_factory=list)  # of --cross_fit: each row's ``fold`` counts them from 1

    def to_json(self) -> Json:
        values = {**vars(self), "text_format": self.text_format.to_json()}
        if not self.fold_teachers:  # as programs without them wrote it
            del values["fold_teachers"]
        return values

    def line(self) -> str:
        return json.dumps({HEADER_KEY: self.to_json()}) + "\n"


def shared_path(path: str | Path) -> Path:
    """The tensors that a whole file shares: the output head (hidden), the mean logits (topk). Moves with the file."""
    return Path(path).with_name(Path(path).name + ".shared.safetensors")


def tokenizer_path(path: str | Path) -> Path:
    """The folder of the teacher's tokenizer, which lies beside a file and moves with it."""
    return Path(path).with_name(Path(path).name + ".tokenizer")


def name_tokenizer(path: str | Path) -> str | None:
    """Where a file's tokenizer can be loaded from: beside the file, else with its teacher; None where nobody tells."""
    beside = tokenizer_path(path)
    if beside.is_dir():
        return str(beside)
    header = read_header(path)
    return header.teacher if header else None


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
        header = Header(**{**value, "text_format": TextFormat.read(value.get("text_format"))})
    except (TypeError, AttributeError):
        raise UserError(f"{path}: the header has unknown or missing fields; write the file again") from None
    if header.version != VERSION:
        raise UserError(f"{path}: written in version {header.version}, this program reads version {VERSION}")
    return header


def check_header(
    header: Header, path: str | Path, fingerprint: str, vocab_size: int, text_format: TextFormat | None = None
) -> None:
    """Refuse a file whose teacher used another tokenizer, vocabulary or frame than the student; says which.

    Whether it saw another context is for ``ContextChoice`` to say.
    """
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
    if text_format is not None and header.text_format.frame != text_format.frame:
        raise UserError(
            f"{path}: the teacher's texts have the frame {header.text_format.frame}, the student's"
            f" {text_format.frame}; use data of one frame"
        )


@contextmanager
def publishing(tensors: dict[str, Tensor], path: str | Path) -> Iterator[str]:
    """Around the writing of the distillation file ``path``: gives the hash of its shared tensors, for its header.

    Until the file itself is in place the tensors have another name, which ``load_shared`` also tries. So the file that
    is there, old or new, has its tensors whenever the process is killed. They are removed if it is not written.
    """
    if not tensors:
        yield ""
        return
    place = shared_path(path)
    waiting = _waiting_path(place)
    with atomic_writer(waiting, "wb") as handle:
        handle.write(save(tensors))
    digest = file_sha256(waiting)
    try:
        yield digest
    finally:
        header = read_header(path) if Path(path).is_file() else None
        if header is not None and header.shared_sha256 == digest:
            os.replace(waiting, place)
            fsync_directory(place.parent)
        else:
            waiting.unlink(missing_ok=True)


def _waiting_path(place: Path) -> Path:
    return place.with_name(place.name + ".new")


def load_shared(path: str | Path, header: Header) -> dict[str, Tensor]:
    """The shared tensors of a file: {"mean_logits": [V]} (topk), {"head": [V, d]} (hidden), {} (dense)."""
    if header.encoding == "dense":
        return {}
    place = shared_path(path)
    found = [candidate for candidate in (place, _waiting_path(place)) if candidate.is_file()]
    if not found:
        raise UserError(f"{place}: missing; it belongs to {Path(path).name}, copy both")
    for candidate in found:
        if file_sha256(candidate) == header.shared_sha256:
            try:
                return load_file(candidate)
            except SafetensorError as error:
                raise UserError(f"{candidate}: damaged ({error})") from None
    raise UserError(f"{place}: does not belong to {Path(path).name} (another hash); copy both from one place")


def of_encoding(rows: Rows, header: Header) -> bool:
    """Whether a row's logits are of the encoding that the header names. A batch cannot hold rows of two encodings."""
    if isinstance(rows, TopKRows):
        return header.encoding == "topk" and rows.ids.shape[1] == header.topk
    return header.encoding == ("hidden" if isinstance(rows, HiddenRows) else "dense")


def decode_teacher(
    row: Json,
    labels: list[int],
    vocab_size: int,
    keep: int | None = None,
    align: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> Rows | None:
    """The teacher's rows for the first ``keep`` of these labels (all: None); None where the row has no logits.

    ``labels`` are those the teacher saw, cut where it cut them. ``align``: in a file without a header, the rows that
    predict so many labels, from all. Raises RowError with a short reason.
    """
    rows: Rows
    try:
        if row.get("teacher_logits_compressed") is not None:
            if row.get("labels_hash") != labels_hash(labels):
                raise RowError("labels differ from those the teacher saw")
            rows = unpack(row["teacher_logits_compressed"], len(labels))
        elif row.get("compressed_logits") is not None:
            if not isinstance(row["compressed_logits"], dict):
                raise RowError("compressed_logits is not an object")
            # Published files pad the logits to a fixed length; what follows the labels is padding. The first row may
            # predict a begin token that is not among the labels.
            logits = decompress_logits(row["compressed_logits"], len(labels) + 1)
            rows = DenseRows(align(logits, len(labels)) if align else logits[: len(labels)])
            if len(rows.logits) != len(labels):
                raise RowError("teacher logits do not cover the labels")
        else:
            return None
    except CompressionError as error:
        raise RowError(str(error)) from None
    width = rows.vocab_size if isinstance(rows, TopKRows) else vocab_size
    if isinstance(rows, DenseRows):
        width = rows.logits.shape[1]
    if width != vocab_size:
        raise RowError("teacher logits are of another vocabulary")
    if keep is None or keep >= len(labels):
        return rows
    arrays = {name: part[:keep] for name, part in vars(rows).items() if isinstance(part, np.ndarray)}
    return replace(rows, **arrays)  # type: ignore[arg-type]


def build_signal(parts: list[Rows], shared: dict[str, Tensor] | None = None) -> TeacherSignal:
    """One signal for the rows of a batch, in their order. All parts are of one kind.

    shared: the tensors that the file shares. A batch that still has to pass from a worker to the main process goes
    without them; ``attach_shared`` puts them in there.
    """
    first = parts[0]

    def stack(name: str, dtype: type[np.generic] = np.float32) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(part, name) for part in parts], dtype=dtype))

    signal: TeacherSignal
    if isinstance(first, TopKRows):
        signal = TopKSignal(
            ids=stack("ids", np.int64),
            logits=stack("logits"),
            tail_log_mass=stack("tail_log_mass"),
            inverse_temperatures=torch.from_numpy(TAIL_GRID),
            full_vocab_size=first.vocab_size,
        )
    elif isinstance(first, HiddenRows):
        hidden = stack("hidden")
        signal = HiddenSignal(hidden, hidden.new_empty(0, hidden.shape[1]))
    else:
        return DenseSignal(stack("logits"))
    return attach_shared(signal, shared) if shared else signal


def attach_shared(signal: TeacherSignal, shared: dict[str, Tensor]) -> TeacherSignal:
    """The signal with the tensors of its file; they are not copied."""
    if isinstance(signal, TopKSignal):
        return replace(signal, tail_shape=shared.get("mean_logits"))
    if isinstance(signal, HiddenSignal):
        return replace(signal, head=shared["head"])
    return signal
