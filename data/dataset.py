"""Rows of a JSONL file as tokenised items, read by seek: memory does not grow with the file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from data.distillation.file import check_header, decode_teacher, load_shared, of_encoding, read_header
from data.distillation.legacy import SAMPLED_ROWS, LegacyOptions, LogitLayout, examine, sample_rows, settle_layout
from data.rows.answer import IN_TEST, find_answer
from data.rows.files import HOW_TO_MAKE, require_rows
from data.rows.index import RowReader, open_index
from data.rows.readers import HEADER_KEY, Json, RowError, Sample, is_header, parse_json_line, parse_sample
from data.rows.tokenization import TaskEncoder, TextFormat, tokenizer_fingerprint
from utils.compress import Rows
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A quote inside a text of the row would be escaped, so this is the key itself.
ANSWER_PLACE = re.compile(rb'"answer_in_input":\s*"(\w+)"')


@dataclass
class Item:
    """One usable row: input ids, label ids, the sample, and the teacher's rows where the file holds them."""

    row_id: int
    input_ids: list[int]
    labels: list[int]
    sample: Sample
    teacher: Rows | None


@dataclass
class Rejected:
    """A row that cannot be used, and why."""

    row_id: int
    reason: str


class AssertionDataset(Dataset):
    """Rows of a raw or distillation file; ``dataset[i]`` is an Item, or a Rejected where the row is bad.

    teacher: whether stored logits are decoded. text_format: by default that of the file. legacy: how to read logits
    of a file without a header; ``note`` says how that was done. drop_answer_in_test: leave the rows out of every epoch
    whose assertion also stands elsewhere in their test. Raises UserError where the file is missing, holds no usable
    row, was made with another tokenizer, vocabulary or format, or has no header and leaves its layout in doubt.
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_input_len: int = 512,
        max_output_len: int = 128,
        max_samples: int | None = None,
        vocab_size: int | None = None,
        teacher: bool = True,
        text_format: TextFormat | None = None,
        legacy: LegacyOptions | None = None,
        drop_answer_in_test: bool = False,
        flag: str = "--train_data_path",
    ) -> None:
        self.path = require_rows(path, flag, HOW_TO_MAKE)
        self.tokenizer = tokenizer
        self.max_input_len, self.max_output_len = max_input_len, max_output_len
        self.vocab_size = vocab_size if vocab_size is not None else len(tokenizer)
        self.teacher = teacher
        self.index = open_index(self.path)
        self._read = RowReader(self.index)
        self.header = read_header(self.path)
        stored_format = self.header.text_format if self.header else TextFormat()
        self.encoder = TaskEncoder(tokenizer, text_format or stored_format)
        self.shared: dict[str, Tensor] = {}
        if self.header is not None and teacher:
            check_header(self.header, self.path, tokenizer_fingerprint(tokenizer), self.vocab_size, text_format)
            # Once in float32: the product with the head is done in it.
            self.shared = {name: tensor.float() for name, tensor in load_shared(self.path, self.header).items()}
        self._refuse_joined_files()
        self.first_row = self._first_sample_row()
        available = len(self.index) - self.first_row
        self.size = min(available, max_samples or available)
        self.chosen = self._without_answer_in_test() if drop_answer_in_test else np.arange(self.size)
        if not len(self.chosen):
            raise UserError(
                f"--drop_answer_in_test: the answers of all {self.size} rows of {self.path} stand in the test"
            )
        self.has_teacher = teacher and self._rows_have("teacher_logits_compressed", "compressed_logits")
        if self.has_teacher and self.header is None and self._rows_have("teacher_logits_compressed"):
            raise UserError(
                f"{self.path}: its first line is not the header that its logits need; was the file cut, sorted or"
                " shuffled? Take the whole file as it was written"
            )
        self._layout: LogitLayout | None = None
        self.note: str | None = None
        if self.has_teacher and self.header is None:
            self._layout, self.note = self._read_layout(legacy or LegacyOptions())
            self.encoder = TaskEncoder(tokenizer, text_format or self._layout.text_format)
        # The target is first cut where the teacher cut it, or its hash would differ; then where the student cuts.
        stored = self.header if self.has_teacher else None
        self._stored_output_len = stored.max_output_len if stored else max_output_len

    def __getstate__(self) -> dict[str, object]:
        """Without the shared tensors, which worker processes do not need: the main process adds them to the batches."""
        return {**self.__dict__, "shared": {}}

    def _read_layout(self, options: LegacyOptions) -> tuple[LogitLayout, str | None]:
        """How to read logits that no header describes, from rows all over the file."""

        def spread_rows() -> Iterator[Json]:
            last = len(self.index) - 1
            for row in np.unique(np.linspace(self.first_row, last, 2 * SAMPLED_ROWS).astype(int)):
                try:
                    yield parse_json_line(self._read(int(row)))
                except RowError:
                    continue

        rows = sample_rows(spread_rows(), self.encoder)
        if not rows:
            return LogitLayout(), None  # each row will say what is wrong with it
        return settle_layout(self.path, examine(rows, self.encoder, options), self.encoder, options)

    def _align(self, logits: np.ndarray, count: int) -> np.ndarray:
        assert self._layout is not None
        return self._layout.align(logits, count, self.encoder)

    def _refuse_joined_files(self) -> None:
        """A second header means that the rows behind it belong to another teacher. Only lines as short are read."""
        if self.header is None:
            return
        lengths = self.index.lengths
        for row in np.flatnonzero(lengths <= 2 * lengths[0])[1:].tolist():
            try:
                second = HEADER_KEY in parse_json_line(self._read(row))
            except RowError:
                continue
            if second:
                raise UserError(f"{self.path}: row {row} is a second header: files were joined; give each its own run")

    def _first_sample_row(self) -> int:
        for row in range(len(self.index)):
            try:
                if not is_header(parse_json_line(self._read(row))):
                    return row
            except RowError:
                return row
        return len(self.index)

    def _without_answer_in_test(self) -> np.ndarray:
        """The rows whose assertion does not stand elsewhere in their test: as the miner says, else by looking."""
        kept = []
        for row in range(self.size):
            line = self.raw(row)
            if (said := ANSWER_PLACE.search(line)) is not None:
                in_test = said.group(1) == IN_TEST.encode()
            else:
                try:
                    sample = parse_sample(parse_json_line(line))
                    in_test = find_answer(sample.assertions, sample.test, ()) == IN_TEST
                except RowError:
                    in_test = False  # it is counted and reported when it is used
            if not in_test:
                kept.append(row)
        return np.array(kept, dtype=np.int64)

    def _rows_have(self, *keys: str) -> bool:
        """Whether any of the first 1,000 rows has one of the keys. One row is not enough: it may have lost its own."""
        for row in range(self.first_row, min(len(self.index), self.first_row + 1000)):
            line = self._read(row)
            if not any(f'"{key}"'.encode() in line for key in keys):
                continue  # a row may be megabytes of logits, so it is parsed only where that can tell something
            try:
                value = parse_json_line(line)
            except RowError:
                continue
            if any(value.get(key) not in (None, {}) for key in keys):
                return True
        return False

    @property
    def has_context(self) -> bool:
        return self._rows_have("context")

    @property
    def stored_format(self) -> TextFormat | None:
        """The text format of the teacher whose logits the file holds; None where no teacher is known."""
        if self.header is not None:
            return self.header.text_format
        return self._layout.text_format if self._layout else None

    def fingerprint(self) -> str:
        """A hash of the lengths of the chosen rows in their order: another file has others, were it of as many rows."""
        lengths = self.index.lengths[self.first_row + self.chosen]
        return hashlib.sha256(np.ascontiguousarray(lengths, dtype="<i8").tobytes()).hexdigest()

    def __len__(self) -> int:
        return self.size

    def byte_lengths(self) -> np.ndarray:
        """[n] bytes of each row without its stored logits, as a stand-in for its length in tokens; nothing is read."""
        return self.index.text_lengths[self.first_row : self.first_row + self.size]

    def token_lengths(self) -> np.ndarray:
        """[n] input tokens of each row, as the model sees it. Every row is read and tokenised, so this takes time."""
        lengths = np.ones(self.size, dtype=np.int64)  # a bad row has none, but takes a place
        for row in self.chosen:
            try:
                lengths[row] = len(self.encoder.source(self.sample(int(row)), self.max_input_len))
            except RowError:
                continue
        return lengths

    def raw(self, index: int) -> bytes:
        """The bytes of row ``index``."""
        return self._read(self.first_row + index)

    def sample(self, index: int) -> Sample:
        """The parsed row. Raises RowError."""
        return parse_sample(parse_json_line(self.raw(index)))

    def __getitem__(self, index: int) -> Item | Rejected:
        try:
            row = parse_json_line(self.raw(index))
            if is_header(row):
                raise RowError("a header inside the file: files were joined; give each its own run")
            sample = parse_sample(row)
            labels = self.encoder.target(sample.target, self._stored_output_len)
            if len(labels) < len(self.encoder.begin) + 2:
                raise RowError("target has no tokens")
            rows = None
            if self._layout is not None and self.encoder.spells_control(sample.target):
                raise RowError("the target spells a control token, which the old writer took for one")
            if self.has_teacher:
                align = self._align if self._layout else None
                rows = decode_teacher(row, labels, self.vocab_size, self.max_output_len, align)
            if self.has_teacher and rows is None:
                raise RowError("missing teacher logits")
            if rows is not None and self.header and not of_encoding(rows, self.header):
                raise RowError("teacher logits are of another encoding than the header says")
        except RowError as error:
            cut_off = self.index.cut_off and self.first_row + index == len(self.index) - 1
            return Rejected(int(index), "last line is cut off" if cut_off else str(error))
        input_ids = self.encoder.source(sample, self.max_input_len)
        return Item(int(index), input_ids, labels[: self.max_output_len], sample, rows)

    def rows_of_epoch(self, epoch: int) -> np.ndarray:
        """Row numbers that the epoch uses."""
        return self.chosen


class EpochSamplingDataset(AssertionDataset):
    """Another random ``samples_per_epoch`` rows each epoch, drawn from ``sampling_seed`` and the epoch number.

    Only the rows that are drawn are read, and nothing of them is kept.
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        samples_per_epoch: int,
        sampling_seed: int,
        **options: Any,
    ) -> None:
        super().__init__(path, tokenizer, max_samples=None, **options)
        self.samples_per_epoch = min(samples_per_epoch, len(self.chosen))
        self.sampling_seed = sampling_seed

    def rows_of_epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.sampling_seed, epoch))
        return np.sort(self.chosen[generator.choice(len(self.chosen), size=self.samples_per_epoch, replace=False)])

    def coverage(self, epochs: int) -> float:
        """Share of the file's rows that the first ``epochs`` epochs have used."""
        seen = np.zeros(self.size, dtype=bool)
        for epoch in range(epochs):
            seen[self.rows_of_epoch(epoch)] = True
        return float(seen.mean())
